"""Two and four processes train what one process trains: the same images in the same order, the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"
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
        4,
        ["device.fuse_micro_batches=off", "averaging.name=exponential", "training.mixup_alpha=0.2"],
    ),
    "BN": (4, [*BATCH_NORM, "device.fuse_micro_batches=off", "averaging.name=mean"]),
    "BN, micro-batches run together": (2, BATCH_NORM),
    "PN statistics of each weight update": (
        2,
        ["model.proxy_norm_statistics=per_update", "training.device_iterations=1"],
    ),
    "half precision": (
        2,
        [
            "training.precision=16.16",
            "training.stochastic_rounding=true",
            "device.fuse_micro_batches=off",
            "training.device_iterations=1",
            "training.epochs=1",
            "training.on_divergence=skip",
        ],
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
}
# Float32 sums in another order, through 12 weight updates (float64 gives 1e-14 at the same places); half precision
# doubles what a rounding to 11 bits turns the other way.
TOLERANCE = {"half precision": 2e-2}
PROGRAM = """
import json, sys
from pathlib import Path
from forked_runs import prepare
from forked_processes import difference, in_processes, told

root, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
prepare()
(root / "tiny.yaml").write_text(sys.argv[3])
found = {}
for number, (name, (count, overrides)) in enumerate(cases.items()):
    one, several = root / f"one{number}", root / f"several{number}"
    statuses = in_processes(1, root / "tiny.yaml", one, overrides)
    statuses += in_processes(count, root / "tiny.yaml", several, overrides)
    found[name] = [statuses, difference(one, several), told(several, count)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Exit statuses, differences and what was told of each case: in forks of one process."""
    folder = tmp_path_factory.mktemp("equal")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), json.dumps(CASES), RECIPE],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_what_one_trains(runs, case):
    statuses, apart, told = runs[case]
    assert set(statuses) == {0}, told
    assert apart["other"] == []
    limit = TOLERANCE.get(case, 2e-5)
    assert apart["weights"] <= limit and apart["loss"] <= limit
    assert apart["accuracy"] <= (0 if case not in TOLERANCE else 0.1)
    assert not any(told[1:])  # process 0 speaks
