"""Several processes: ``popdist`` and ``horovod.torch`` over ``torch.distributed``, ``popart``'s enumerations.

Behaviour after the PopTorch 3.4 user guide ("PopDist and PopRun") and Horovod's API.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from ipu_train.emulator.enums import OutputMode
from ipu_train.emulator.stand_ins import horovod as hvd
from ipu_train.emulator.stand_ins import popart, popdist, popdist_poptorch

VARIABLES = [
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    *("OMPI_COMM_WORLD_LOCAL_RANK", "POPDIST_NUM_LOCAL_REPLICAS", "POPDIST_NUM_TOTAL_REPLICAS"),
    *("POPDIST_NUM_IPUS_PER_REPLICA", "POPDIST_REPLICA_INDEX_OFFSET"),
]


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class TestAlone:
    def test_there_is_one_of_everything(self):
        assert not popdist.isPopdistEnvSet()
        for count in (
            "getNumTotalReplicas",
            "getNumLocalReplicas",
            "getNumInstances",
            "getNumIpusPerReplica",
        ):
            assert getattr(popdist, count)() == 1
        for index in ("getInstanceIndex", "getLocalInstanceIndex", "getReplicaIndexOffset", "getDeviceId"):
            assert getattr(popdist, index)() == 0
        assert popdist.checkNumIpusPerReplica(1) and not popdist.checkNumIpusPerReplica(2)

    def test_there_is_nothing_to_connect(self):
        with pytest.raises(RuntimeError):
            popdist.init()
        hvd.init()

    def test_functions_run_where_they_are_told(self):
        assert popdist.execute_on_instances({0}, lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(ValueError):
            popdist.execute_on_instances({1}, print)

    def test_collectives_are_identities(self):
        x = torch.tensor([1.0, 2.0])
        assert (hvd.rank(), hvd.local_rank(), hvd.size()) == (0, 0, 1)
        for op in (hvd.Sum, hvd.Average):
            assert torch.equal(hvd.allreduce(x, op=op), x)
            assert torch.equal(hvd.grouped_allreduce([x, 2 * x], op=op)[1], 2 * x)
        assert hvd.allreduce(x) is not x
        assert torch.equal(hvd.allgather(x), x)
        assert torch.equal(hvd.broadcast(x, 0), x)
        assert hvd.broadcast_object("o") == "o"
        model = torch.nn.Linear(1, 1)
        before = model.weight.item()
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        assert model.weight.item() == before


class TestOptions:
    def test_alone(self):
        opts = popdist_poptorch.Options(ipus_per_replica=4)
        assert (opts.Distributed.processId, opts.Distributed.numProcesses) == (0, 1)
        assert opts.replication_factor == 1

    @pytest.mark.parametrize(
        "call, name",
        [
            (lambda o: o.useIpuId(1), "useIpuId"),
            (lambda o: o.replicationFactor(2), "replicationFactor"),
            (lambda o: o.Distributed.disable(), "Distributed.disable"),
            (lambda o: o.Distributed.setEnvVarNames("A", "B"), "Distributed.setEnvVarNames"),
            (lambda o: o.Distributed.configureProcessId(0, 2), "Distributed.configureProcessId"),
        ],
    )
    def test_the_launcher_decides(self, call, name):
        opts = popdist_poptorch.Options()
        with pytest.raises(RuntimeError, match=f"Cannot call `{name}` with popdist.poptorch.Options"):
            call(opts)
        with pytest.raises(RuntimeError):
            call(opts.clone())

    def test_everything_else_can_be_set_and_frozen(self):
        opts = popdist_poptorch.Options().deviceIterations(3).outputMode(OutputMode.Sum)
        opts._freeze()
        settings = opts.toDict()
        assert settings["device_iterations"] == 3
        with pytest.raises(AttributeError, match="Can't modify frozen Options"):
            opts.deviceIterations(2)
        assert repr(opts.clone()) == repr(opts)

    def test_the_launchers_replicas(self, monkeypatch):
        monkeypatch.setenv("POPDIST_NUM_LOCAL_REPLICAS", "3")
        monkeypatch.setenv("POPDIST_NUM_IPUS_PER_REPLICA", "2")
        assert popdist_poptorch.Options(ipus_per_replica=2).replication_factor == 3
        with pytest.raises(RuntimeError, match="reserved 2"):
            popdist_poptorch.Options(ipus_per_replica=4)


@pytest.mark.parametrize("prefix", ["", "OMPI_COMM_WORLD_"])
def test_launchers_are_recognised(monkeypatch, prefix):
    size = "WORLD_SIZE" if not prefix else "OMPI_COMM_WORLD_SIZE"
    monkeypatch.setenv(prefix + "RANK", "3")
    monkeypatch.setenv(size, "4")
    monkeypatch.setenv(prefix + "LOCAL_RANK", "1")
    monkeypatch.setenv("POPDIST_NUM_LOCAL_REPLICAS", "2")
    assert popdist.isPopdistEnvSet()
    assert (popdist.getInstanceIndex(), popdist.getLocalInstanceIndex(), popdist.getNumInstances()) == (
        3,
        1,
        4,
    )
    assert (popdist.getNumTotalReplicas(), popdist.getReplicaIndexOffset()) == (8, 6)
    with pytest.raises(RuntimeError, match="init"):
        hvd.allreduce(torch.ones(1))


SCRIPT = """
    import json, os, torch
    from ipu_train import emulator as poptorch
    from ipu_train.emulator.stand_ins import horovod as hvd, popdist, popdist_poptorch

    popdist.init()
    popdist.init()
    rank = popdist.getInstanceIndex()
    result = {"rank": rank}
    result["sum"] = hvd.allreduce(torch.tensor([1.0, 2.0]) * (rank + 1), op=hvd.Sum).tolist()
    result["average"] = hvd.allreduce(torch.tensor([1.0, 2.0], dtype=torch.half) * (rank + 1)).tolist()
    extremes = [(hvd.Max, "most"), (hvd.Min, "least")]
    result.update({said: hvd.allreduce(torch.tensor([rank, -rank]), op=op).tolist() for op, said in extremes})
    result["not averaged"] = hvd.allreduce(torch.tensor([2.0 + rank]), average=False).tolist()
    result["grouped"] = [t.tolist() for t in hvd.grouped_allreduce([torch.tensor(rank), torch.tensor(1)], op=hvd.Sum)]
    result["gathered"] = hvd.allgather(torch.full((rank + 1, 2), rank)).tolist()
    result["broadcast"] = hvd.broadcast(torch.tensor(rank), root_rank=1).item()
    result["object"] = hvd.broadcast_object({"rank": rank}, root_rank=1)
    # limited to process 1, where a collective over all would wait for ever
    result["on one"] = popdist.execute_on_instances({1}, lambda: hvd.allreduce(torch.tensor(5.0), op=hvd.Sum).item())

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1, bias=False)

        def forward(self, x):
            return poptorch.identity_loss(self.layer(x), "sum")

    torch.manual_seed(rank)
    for reduction in ("Mean", "Sum"):
        model = Model()
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        before = model.layer.weight.detach().clone()
        opts = popdist_poptorch.Options()
        opts.Training.gradientAccumulation(2)
        opts.Training.accumulationAndReplicationReductionType(poptorch.ReductionType[reduction])
        training = poptorch.trainingModel(model, opts, poptorch.optim.SGD(model.parameters(), lr=1.0))
        training(torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * (1 + 9 * rank))
        result[reduction] = (before - model.layer.weight.detach()).flatten().tolist()
        result["start " + reduction] = before.sum().item()
        training.destroy()  # the optimizer keeps it, and it the process's device
    with open(os.environ["RESULT"] + str(rank), "w") as file:
        json.dump(result, file)
    hvd.shutdown()
"""


# What the two launchers set. Both pairs of processes are forks of one, so that torch is imported once;
# ``tests/processes/test_torchrun.py`` starts torchrun itself.
LAUNCH = """
    import os, socket, sys, traceback
    import torch
    import ipu_train.emulator
    from ipu_train.emulator.stand_ins import horovod, popdist, popdist_poptorch

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)  # imports much that the forks then share
    code = compile(sys.stdin.read(), "script.py", "exec")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    for launcher in ("torchrun", "mpirun"):  # in turns: both take the devices 0 and 1
        children = []
        for rank in ("0", "1"):
            if launcher == "torchrun":
                own = {"RANK": rank, "WORLD_SIZE": "2", "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1",
                       "MASTER_PORT": port}
            else:  # what Open MPI would set
                own = {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": "2",
                       "OMPI_COMM_WORLD_LOCAL_RANK": rank, "PMIX_NAMESPACE": f"prterun-test-{os.getpid()}"}
            child = os.fork()
            if child == 0:
                os.environ.update(own, RESULT=os.path.join(sys.argv[1], launcher))
                try:
                    exec(code, {"__name__": "__main__"})
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            children.append(child)
        if any([os.waitpid(child, 0)[1] for child in children]):
            sys.exit(launcher + " has failed")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("popdist")
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment.update(OMP_NUM_THREADS="1")
    environment["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LAUNCH), str(folder)],
        input=textwrap.dedent(SCRIPT),
        env=environment,
        text=True,
        timeout=300,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun"])
def test_processes_train_one_model(results, launcher):
    results = [json.loads((results / f"{launcher}{rank}").read_text()) for rank in range(2)]
    for rank, result in enumerate(results):
        assert result["rank"] == rank
        assert result["sum"] == [3.0, 6.0]
        assert result["average"] == [1.5, 3.0]
        assert result["most"] == [1, 0] and result["least"] == [0, -1]
        assert result["not averaged"] == [5.0]
        assert result["grouped"] == [1, 2]
        assert result["gathered"] == [[0, 0], [1, 1], [1, 1]]
        assert result["broadcast"] == 1 and result["object"] == {"rank": 1}
        assert result["on one"] == (5.0 if rank == 1 else None)
        # micro-batches [1, 2], [3, 4] on process 0, ten times that on process 1
        assert result["Sum"] == pytest.approx([44.0, 66.0], abs=1e-4)
        assert result["Mean"] == pytest.approx([11.0, 16.5], abs=1e-4)
    assert results[0]["start Sum"] == results[1]["start Sum"]


def test_popart_has_the_integers_of_its_enumerations():
    assert [int(m) for m in popart.SyntheticDataMode] == [0, 1, 2, 3]
    assert int(popart.SyntheticDataMode.RandomNormal) == 2
    assert int(getattr(popart.RecomputationType, "None")) == 0
    assert int(popart.RecomputationType.Standard) == 1 and int(popart.RecomputationType.NormOnly) == 2
    assert int(popart.RecomputationType.Pipeline) == 3 and int(popart.RecomputationType.RecomputeAll) == 4
    schedule = popart.AccumulateOuterFragmentSchedule
    assert [
        schedule.Scheduler,
        schedule.Serial,
        schedule.OverlapCycleOptimized,
        schedule.OverlapMemoryOptimized,
    ] == [*range(4)]
    assert int(popart.SubgraphCopyingStrategy.JustInTime) == 1
    assert int(popart.VirtualGraphMode.Manual) == 1 and int(popart.TensorStorage.OffChip) == 0
    assert int(popart.MergeVarUpdateType.AutoTight) == 3  # willow/include/popart/sessionoptions.hpp
    assert int(popart.BatchSerializationBatchSchedule.Isomorphic) == 1
    assert popart.BatchSerializationTransformContext.Backward is popart.BatchSerializationTransformContext.Bwd
    assert int(popart.ReductionType.NoReduction) == 2 and int(popart.MeanReductionStrategy.Post) == 1
    with pytest.raises(AttributeError, match="not emulated"):
        _ = popart.Builder
