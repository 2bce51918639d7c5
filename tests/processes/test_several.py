"""Two and four processes train what one process trains: the same images in the same order, the same weights."""

import pytest

from ipu_train.training import checkpoint

from .conftest import difference, told

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 100, image_size: 8, num_classes: 4}
optimizer: {learning_rate: 0.02, momentum: 0.9, weight_decay: 1e-3}
training: {epochs: 2, micro_batch_size: 2, gradient_accumulation: 2, replicas: 4, device_iterations: 2, seed: 5}
checkpoint: {keep: 99}
logging: {progress: false, plots: false, every_steps: 1}
device: {target: emulator, threads: 1}
"""
BATCH_NORM = ["model.norm=batch", "model.norm_groups=null", "model.proxy_norm=false"]
CASES = {  # number of processes, then overrides
    "GN + PN, micro-batches run together": (2, []),
    "GN + PN, one after the other, averaged": (
        2,
        ["device.fuse_micro_batches=off", "averaging.name=exponential", "training.mixup_alpha=0.2"],
    ),
    "BN, one after the other, averaged": (
        2,
        [*BATCH_NORM, "device.fuse_micro_batches=off", "averaging.name=mean"],
    ),
}
LONG = {
    "BN": (4, [*BATCH_NORM, "device.fuse_micro_batches=off"]),
    "BN, micro-batches run together": (2, BATCH_NORM),
    "workers that load": (2, ["data.workers=2"]),
    "PN statistics of each weight update": (
        2,
        ["model.proxy_norm_statistics=per_update", "training.device_iterations=1"],
    ),
    "lars, rolled back where it diverges": (
        4,
        ["optimizer.name=lars", "training.device_iterations=1", "training.on_divergence=rollback"],
    ),
    "synchronised BN within processes": (
        2,
        [
            "model.norm=sync_batch",
            "model.norm_groups=null",
            "model.norm_replicas=2",
            "model.proxy_norm=false",
        ],
    ),
    "powers of every norm": (4, ["logging.inspect_every=1"]),
    "the first divergence ends all": (
        4,
        [
            "model.norm=none",
            "model.norm_groups=null",
            "model.proxy_norm=false",
            "optimizer.learning_rate=1e6",
        ],
    ),
    "half precision": (
        2,
        [
            "training.precision=16.16",
            "training.stochastic_rounding=true",
            "device.fuse_micro_batches=off",
            "training.device_iterations=1",
            "training.on_divergence=skip",
        ],
    ),
}
# Float32 sums in another order, through 12 weight updates, against the largest magnitude of the same tensor; half
# precision doubles what a rounding to 11 bits turns the other way.
FLOAT32 = 2e-5
TOLERANCE = {"half precision": 2e-2}
# one training: two processes, one of which is signalled; four, one of which is killed; then a single one to the end
CHAIN = [
    (2, {1: ("call", 2, "SIGTERM")}),
    (4, {3: ("call", 3, "SIGKILL")}),
    (1, {}),
]
KILLED = [(2, {0: ("call", 4, "SIGKILL")})]  # the first process, which writes the run folder


def trained(run, root, cases, chain=()):
    """What became of the cases, each beside one process, and of the chain."""
    tiny = root / "tiny.yaml"
    tiny.write_text(RECIPE)
    found, ended = {}, []
    for number, (name, (count, overrides)) in enumerate(cases.items()):
        one, several = root / f"one{number}", root / f"several{number}"
        statuses = run(1, tiny, one, overrides) + run(count, tiny, several, overrides)
        found[name] = [statuses, difference(one, several), told(several, count)]
    for count, wires in chain:
        statuses = run(count, tiny, root / "chain", ["checkpoint.every_steps=2"], resume="auto", wires=wires)
        newest = checkpoint.newest(root / "chain" / "checkpoints")
        ended.append([statuses, newest and newest.name, told(root / "chain", 4)])
        for log in root.glob("chain.*.log"):
            log.unlink()
    apart = difference(root / "one0", root / "chain")
    litter = [path.name for path in (root / "chain").glob("run.lock")]
    return [found, ended, apart, litter]


@pytest.fixture(scope="module")
def runs(run, tmp_path_factory):
    return trained(run, tmp_path_factory.mktemp("several"), CASES, CHAIN)


@pytest.fixture(scope="module")
def long_runs(run, tmp_path_factory):
    return trained(run, tmp_path_factory.mktemp("long"), LONG, KILLED)


def check(case, statuses, apart, told):
    if case == "the first divergence ends all":
        assert set(statuses) == {4}, told
        assert sum("not finite at step" in text for text in told) == 1
        return
    assert set(statuses) == {0}, told
    assert apart["other"] == []
    limit = TOLERANCE.get(case, FLOAT32)
    assert apart["weights"] <= limit and apart["loss"] <= limit
    assert apart["accuracy"] <= (0 if case not in TOLERANCE else 0.1)
    assert not any(told[1:])  # process 0 speaks


@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_what_one_trains(runs, case):
    check(case, *runs[0][case])


@pytest.mark.long
@pytest.mark.parametrize("case", LONG)
def test_several_processes_train_what_one_trains_whatever_it_is(long_runs, case):
    check(case, *long_runs[0][case])


def test_a_signal_at_one_process_stops_all_of_them_after_the_same_step(runs):
    statuses, newest, told = runs[1][0]
    assert statuses == [143, 143]
    assert newest == "step_00000004"  # two calls of two weight updates
    assert "process 1 of 0 to 1 has received SIGTERM" in told[0] and "all 4 steps are saved" in told[0]
    assert not any(told[1:])


def test_a_process_that_dies_ends_the_others_with_one_message(runs):
    statuses, newest, told = runs[1][1]
    assert statuses == [5, 5, 5, -9]
    assert newest == "step_00000008"  # its third call was never finished
    assert sum(text.count("another process of this training has ended") for text in told) == 1
    assert "Traceback" not in "".join(told)
    assert "processes: 2 -> 4" in told[0]
    assert ["--resume" in text for text in told].count(True) == 1


@pytest.mark.long
def test_so_does_the_first_one(long_runs):
    statuses, newest, told = long_runs[1][0]
    assert statuses == [-9, 5]
    assert newest in ("step_00000004", "step_00000006")  # it may have died while it wrote the latter
    assert told[1].count("another process of this training has ended") == 1


def test_a_training_resumed_by_other_numbers_of_processes_is_the_same(runs):
    statuses, newest, told = runs[1][2]
    assert statuses == [0] and newest == "step_00000012"
    assert "processes: 4 -> 1" in told[0]
    apart, litter = runs[2:]
    assert apart["other"] == [] and litter == []
    assert apart["weights"] <= FLOAT32 and apart["loss"] <= FLOAT32 and apart["accuracy"] == 0
