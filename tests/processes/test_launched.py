"""What launchers say, and what does not fit it: refused in one message that names the place and the way out."""

import pytest

from ipu_train import config
from ipu_train.cli import main
from ipu_train.processes import Launched, LaunchError, launched
from ipu_train.processes.connect import check, check_ipus

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}
POPRUN = {  # as of the SDK's poprun, which starts processes through mpirun
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "POPDIST_NUM_TOTAL_REPLICAS": "8",
    "POPDIST_NUM_LOCAL_REPLICAS": "4",
    "POPDIST_NUM_IPUS_PER_REPLICA": "2",
}


@pytest.fixture
def recipe(tmp_path):
    """Reads a small recipe with overrides."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "model: {name: resnet8}\ndata: {name: generated, length: 64, image_size: 8}\ntraining: {replicas: 8}\n"
    )
    return lambda *overrides: config.load(path, list(overrides))


def test_a_process_knows_itself_by_what_its_launcher_sets():
    assert launched({}) is None
    assert launched(TORCHRUN) == Launched(2, 4, 0, "torchrun")
    assert launched(POPRUN) == Launched(1, 2, 1, "poprun")
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) is None
    alone = dict(POPRUN, OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="1")
    assert launched(alone).launcher == "poprun"  # its device is poprun's to choose


def test_variables_that_no_launcher_sets_are_refused():
    with pytest.raises(LaunchError, match="WORLD_SIZE is 'two'"):
        launched(dict(TORCHRUN, WORLD_SIZE="two"))
    with pytest.raises(LaunchError, match="RANK is 7"):
        launched(dict(TORCHRUN, RANK="7"))


@pytest.mark.parametrize(
    "overrides, processes, reason",
    [
        ((), 3, "training.replicas.*is 8.*torchrun has started 3.*multiple of 3"),
        (
            ("model.norm=sync_batch", "model.proxy_norm=false"),
            4,
            "model.norm.*8 replicas share.*a process has 2 of the 8",
        ),
        (
            ("model.norm=sync_batch", "model.proxy_norm=false", "model.norm_replicas=4"),
            4,
            "model.norm_replicas.*4 replicas share",
        ),
        (("device.replicated_tensor_sharding=true",), 8, "replicated_tensor_sharding.*no effect"),
        (("device.compute=cuda",), 2, "device.compute.*share the GPU"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(recipe, overrides, processes, reason):
    with pytest.raises(config.ConfigError, match=reason) as refused:
        check(recipe(*overrides), Launched(1, processes, 1, "torchrun"), True)
    assert len(str(refused.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "overrides", [("model.norm=sync_batch", "model.proxy_norm=false", "model.norm_replicas=2")]
)
def test_replicas_that_share_within_a_process_may(recipe, overrides):
    check(recipe(*overrides), Launched(0, 4, 0, "torchrun"), True)


def test_what_poprun_has_reserved_must_be_what_the_configuration_takes(recipe, monkeypatch):
    for name, value in POPRUN.items():
        monkeypatch.setenv(name, value)
    found = launched()
    two_ipus = "device.pipeline_splits=[layer3]"
    check(recipe(two_ipus), found, False)
    with pytest.raises(
        config.ConfigError, match="is 4, and poprun has started 2 instances with 8.*--num-replicas 4"
    ):
        check(recipe(two_ipus, "training.replicas=4"), found, False)
    with pytest.raises(config.ConfigError, match="take 1 IPUs.*reserved 2.*--ipus-per-replica 1"):
        check_ipus(recipe())
    check_ipus(recipe("device.pipeline_splits=auto"))  # known once they are found


@pytest.mark.parametrize("index, says", [(0, True), (2, False)])
def test_other_commands_run_in_one_process(index, says, monkeypatch, capsys):
    for name, value in dict(TORCHRUN, RANK=str(index)).items():
        monkeypatch.setenv(name, value)
    assert main(["models"]) == 2
    assert ("runs in one process, and torchrun has started 4" in capsys.readouterr().err) == says
