"""Pipeline splits of networks: legal, never worse than simple ones, and as good as every other on a small network."""

from itertools import combinations
from pathlib import Path

import pytest
import torch

from ipu_train import cli, config, planning
from ipu_train.ipumodel.target import Target
from ipu_train.planning.partition import equal_count
from ipu_train.planning.settle import ipus_needed, settled, splitter_of
from ipu_train.planning.splits import Splitter
from ipu_train.planning.traces import Traces

TEXT = """
model: {name: NAME, norm: group}
data: {name: synthetic, image_size: 64, num_classes: 100, length: 64}
optimizer: {momentum: 0.9}
training: {micro_batch_size: 2, gradient_accumulation: 32, precision: "16.16"}
device: {target: emulator}
logging: {progress: false, plots: false}
"""


def resolved(name="resnet20", *overrides):
    return config.load_text(TEXT.replace("NAME", name), Path(f"{name}.yaml"), overrides)


@pytest.mark.parametrize("stages", [2, 3])
def test_no_other_splits_of_a_small_network_are_faster(stages):
    splitter = splitter_of(resolved("resnet8"))
    best = splitter.solve(stages)
    assert splitter.fits(best.report)
    every = [tuple(cut.name for cut in chosen) for chosen in combinations(splitter.cuts, stages - 1)]
    every = [splits for i, splits in enumerate(every) if stages == 2 or i % 5 == 0]  # a fifth of the triples
    rates = [splitter.report(splits).images_per_second for splits in every]
    assert len(rates) >= 20
    assert best.report.images_per_second >= max(rates) * 0.995


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "efficientnet_b0_g16"])
@pytest.mark.parametrize("stages", [2, 4])
def test_splits_are_never_slower_than_those_of_equal_count(name, stages):
    splitter = splitter_of(resolved(name))
    best = splitter.solve(stages)
    equal = tuple(splitter.cuts[i - 1].name for i in equal_count(len(splitter.cuts) + 1, stages))
    assert best.report.images_per_second >= splitter.report(equal).images_per_second
    assert len(best.splits) == stages - 1


def test_the_limit_of_memory_is_kept_where_it_can_be():
    free = splitter_of(resolved("resnet50")).solve(4)
    worst = free.report.worst_tile_bytes
    headroom = 1 - 0.97 * worst / Target.named("mk2").bytes_per_tile
    tight = splitter_of(resolved("resnet50"), headroom=headroom).solve(4)
    assert tight.report.worst_tile_bytes <= 0.97 * worst
    assert tight.report.images_per_second <= free.report.images_per_second


def test_split_points_are_modules_in_order_of_execution():
    splitter = splitter_of(resolved("resnet20"))
    names = [cut.name for cut in splitter.cuts]
    assert len(names) == len(set(names))
    assert [n for n in names if n.startswith("layer") and n.count(".") == 1] == [
        f"layer{i}.{j}" for i in (1, 2, 3) for j in (1, 2)
    ]  # block 0 begins where its layer does, which is named
    assert {"layer1", "layer2", "layer3", "fc"} <= set(names)


class Shared(torch.nn.Module):
    """One layer runs twice: no cut may part its weights, nor name it."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8)
        self.twice = torch.nn.Linear(8, 8)
        self.between = torch.nn.Linear(8, 8)
        self.last = torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.last(self.twice(self.between(self.twice(self.first(x)))))


def test_no_cut_parts_shared_weights():
    from ipu_train.ipumodel.tracer import trace
    from ipu_train.planning.cut_points import cut_points

    assert [cut.name for cut in cut_points(trace(Shared(), [torch.zeros(2, 8)]))] == ["last"]


def test_auto_takes_as_many_ipus_as_asked():
    given = resolved("resnet20", "device.pipeline_splits=auto", "device.ipus_per_replica=3")
    assert given.config.ipus_per_replica == 3
    found = settled(given).config
    assert len(found.device.pipeline_splits) == 2
    assert found.ipus_per_replica == 3


def test_who_plans_after_the_splits_were_found_gets_their_plan(monkeypatch):
    """And the same figures as who plans from nothing; other questions are answered anew."""
    given = resolved("resnet20", "device.pipeline_splits=auto", "device.ipus_per_replica=2")
    traces = Traces()
    found = settled(given, traces=traces)
    afresh = planning.predict(found)
    with monkeypatch.context() as patch:
        patch.setattr("ipu_train.planning.prediction.plan", lambda *_: pytest.fail("planned twice"))
        assert planning.predict(found, traces=traces).to_json() == afresh.to_json()
    larger = found.changed(["training.micro_batch_size=16"])
    assert planning.predict(larger, traces=traces).to_json() == planning.predict(larger).to_json()


def test_auto_takes_as_few_ipus_as_hold_the_program():
    assert settled(resolved("resnet20", "device.pipeline_splits=auto")).config.device.pipeline_splits == []
    large = ["training.micro_batch_size=16", "data.image_size=224", "device.chip=mk1"]
    given = resolved("resnet18", "device.pipeline_splits=auto", *large)
    assert not planning.predict(given.changed(["device.pipeline_splits=[]"])).fits
    found = settled(given)
    assert found.config.ipus_per_replica in (2, 4, 8)
    assert planning.predict(found).fits


def test_ipus_are_counted_for_a_pipeline_that_recomputes_its_stages():
    """Whatever the configuration says for one IPU: what micro-batches in flight keep grows with the pipeline."""
    large = [
        "training.micro_batch_size=32",
        "data.image_size=128",
        "device.chip=mk1",
        "training.precision=32.32",
    ]
    given = resolved(
        "resnet8", "model.options.width=0.5", "model.norm_groups=4", "device.recompute=none", *large
    )
    needed = ipus_needed(given)
    assert needed in (2, 4)
    pipeline = ["device.recompute=null", "device.pipeline_splits=auto", f"device.ipus_per_replica={needed}"]
    assert planning.predict(given.changed(pipeline)).fits
    kept = ["device.recompute=none", *pipeline[1:]]
    assert not planning.predict(given.changed(kept)).fits


def test_auto_with_more_ipus_than_the_network_has_parts_is_refused():
    with pytest.raises(config.ConfigError, match="can be split at"):
        settled(resolved("resnet8", "device.pipeline_splits=auto", "device.ipus_per_replica=500"))


def test_ipus_per_replica_must_agree_with_named_splits():
    with pytest.raises(config.ConfigError, match="ipus_per_replica: is 4, and pipeline_splits makes 2"):
        resolved("resnet20", "device.pipeline_splits=[layer2]", "device.ipus_per_replica=4")


def test_auto_trains_and_its_run_folder_names_the_splits(tmp_path):
    path = tmp_path / "auto.yaml"
    path.write_text(TEXT.replace("NAME", "resnet8").replace("image_size: 64", "image_size: 16"))
    run = tmp_path / "run"
    argv = [
        "--config",
        str(path),
        "device.pipeline_splits=auto",
        "device.ipus_per_replica=2",
        "training.epochs=1",
        "training.precision=32.32",
    ]
    assert cli.main([*argv, "model.options.width=0.5", "model.norm_groups=4", f"run_dir={run}"]) == 0
    written = config.load(str(run / "config.yaml")).config
    assert len(written.device.pipeline_splits) == 1
    assert written.ipus_per_replica == 2


def test_list_prints_the_split_points(tmp_path, capsys):
    path = tmp_path / "some.yaml"
    path.write_text(TEXT.replace("NAME", "resnet20"))
    for command in ([], ["plan"]):
        assert cli.main([*command, "--config", str(path), "device.pipeline_splits=list"]) == 0
        printed = capsys.readouterr().out.split("\n")
        assert "  layer2" in printed
        assert "  layer3.1.conv2" in printed
    names = [line.strip() for line in printed[1:] if line.strip()]
    assert names == [cut.name for cut in splitter_of(resolved("resnet20")).cuts]


def test_a_program_at_splits_is_planned_as_the_configuration_with_them():
    whole = resolved("resnet20")
    splitter = Splitter(
        Traces().program(whole, *planning.images_of(whole)), planning.settings_of(whole), Target.named("mk2")
    )
    cut = planning.predict(resolved("resnet20", "device.pipeline_splits=[layer2, layer3.1]"))
    assert splitter.report(("layer2", "layer3.1")).to_json() == cut.to_json()
