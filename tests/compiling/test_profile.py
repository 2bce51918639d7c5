"""``device.profile``: a few steps of one replica, where the reports are, and predictions beside measurements."""

import sys
import types

import pytest

from ipu_train import cli, config
from ipu_train.compiling import reports
from ipu_train.compiling.profile import Row, compared, described, one_replica

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 64, image_size: 8, num_classes: 4}
training: {micro_batch_size: 2, replicas: 4, device_iterations: 2, epochs: 1}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def test_a_profile_trains_nothing_and_says_what_the_emulator_cannot(recipe, tmp_path, capsys):
    assert cli.main(["--config", str(recipe), f"device.profile={tmp_path / 'reports'}"]) == 0
    told = capsys.readouterr().err
    assert "profile of one replica on 1 IPU" in told
    assert "cycles of a weight update" in told and "no report in" in told
    assert not (tmp_path / "runs").exists()


def test_only_one_replica_is_left_and_what_needs_several_goes(recipe):
    several = ["device.sync_pattern=replica_and_ladder", "device.replicated_tensor_sharding=true"]
    several += ["device.output_mode=all", "logging.inspect_every=null"]
    found = one_replica(config.load(recipe, several)).config
    assert (found.training.replicas, found.training.device_iterations) == (1, 1)
    assert found.device.sync_pattern == "full" and not found.device.replicated_tensor_sharding
    assert found.device.output_mode == "sum"
    tiles = one_replica(config.load(recipe, ["device.io_tiles=32"])).config
    assert tiles.training.device_iterations == 2  # something to overlap with


def test_it_goes_with_neither_resume_nor_the_same_options_twice(recipe, tmp_path, capsys):
    profile = f"device.profile={tmp_path / 'reports'}"
    assert cli.main(["--config", str(recipe), profile, "--resume"]) == 2
    assert "trains nothing" in capsys.readouterr().err
    assert cli.main(["--config", str(recipe), profile, "device.engine_options.autoReport.all=true"]) == 2
    assert "is set by device.profile" in capsys.readouterr().err


def test_measured_stands_beside_predicted_on_ipus_only():
    rows = [Row("cycles", 1000, 1500), Row("bytes", 2000, None)]
    cycles, size = described(rows, emulated=False)[1:]
    assert cycles.split() == ["cycles", "1,000", "1,500", "1.50"]
    assert size.split() == ["bytes", "2,000", "-"]
    assert described(rows, emulated=True)[1].split() == ["cycles", "1,000", "-"]


def test_measured_cycles_are_those_of_one_weight_update_and_bytes_those_of_the_fullest_tile():
    """Predicted: a weight update of 2 ms at 1.33 GHz, and two IPUs of which the second is fuller."""
    ipus = [types.SimpleNamespace(memory=types.SimpleNamespace(total_bytes=size)) for size in (500, 700)]
    report = types.SimpleNamespace(
        throughput=types.SimpleNamespace(step_seconds=2e-3),
        target=types.SimpleNamespace(clock_hz=1.33e9),
        ipus=ipus,
        worst_tile_bytes=90,
    )
    cycles, whole, fullest = compared(report, 6_000_000, {"total": 1300, "worst tile": 100}, updates=2)
    assert (cycles.predicted, cycles.measured) == (2_660_000, 3_000_000)
    assert (whole.predicted, whole.measured) == (1200, 1300)
    assert (fullest.predicted, fullest.measured) == (90, 100)


def test_memory_is_read_by_the_sdks_library_from_the_newest_profile(tmp_path, monkeypatch):
    assert reports.memory_of(str(tmp_path)) == ({}, "Poplar wrote no profile.pop")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "profile.pop").write_bytes(b"\0")
    monkeypatch.setitem(sys.modules, "pva", None)  # not installed
    found, why = reports.memory_of(str(tmp_path))
    assert not found and "readable by PopVision and by pva" in why

    def tile(size):
        total = types.SimpleNamespace(excludingGaps=size)
        return types.SimpleNamespace(memory=types.SimpleNamespace(total=total))

    opened = []
    compilation = types.SimpleNamespace(tiles=[tile(100), tile(300)])

    def open_report(path):
        opened.append(path)
        return types.SimpleNamespace(compilation=compilation)

    monkeypatch.setitem(sys.modules, "pva", types.SimpleNamespace(openReport=open_report))
    assert reports.memory_of(str(tmp_path)) == ({"total": 400, "worst tile": 300}, "")
    assert opened == [str(tmp_path / "training" / "profile.pop")]
