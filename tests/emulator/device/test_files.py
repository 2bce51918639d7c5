"""Saved executables, the cache, exported graphs and profiles (PopTorch 3.4 user guide, precompilation and caching)."""

import copy
import json
import os
import pickle

import pytest
import torch
from torch import nn

import ipu_train.emulator as poptorch

from ..networks import Convolutional, images, options


class WithDropout(Convolutional):
    def forward(self, x, labels):
        return super().forward(torch.nn.functional.dropout(x, 0.5), labels)


def make(cls=WithDropout, optimizer=poptorch.optim.AdamW):
    torch.manual_seed(0)
    model = cls()
    chosen = options(2, 2)
    chosen.randomSeed(5)
    return poptorch.trainingModel(model, chosen, optimizer(model.parameters(), lr=1e-2))


def test_a_loaded_executor_resumes_exactly(tmp_path):
    x, labels = images(8)
    uninterrupted = make()
    for _ in range(3):
        uninterrupted(x, labels)
    uninterrupted.save(str(tmp_path / "new" / "model.poptorch"))
    expected = [uninterrupted(x, labels)[1].item() for _ in range(3)]
    loaded = poptorch.load(str(tmp_path / "new" / "model.poptorch"))
    assert loaded.isCompiled()
    assert [loaded(x, labels)[1].item() for _ in range(3)] == expected
    uninterrupted.copyWeightsToHost()
    loaded.copyWeightsToHost()
    for a, b in zip(uninterrupted.model.parameters(), loaded.model.parameters()):
        assert torch.equal(a.detach(), b.detach())
        assert a.data_ptr() != b.data_ptr()


def test_a_loaded_executor_knows_its_signature(tmp_path):
    executor = make(Convolutional)
    executor.compileAndExport(str(tmp_path / "m"), *images(8))
    loaded = poptorch.load(str(tmp_path / "m"))
    with pytest.raises(poptorch.Error, match="Shape mismatch for x"):
        loaded(*images(16))


def test_offline_compilation_becomes_online_when_loaded(tmp_path):
    chosen = poptorch.Options().useOfflineIpuTarget()
    model = nn.Linear(2, 2)
    executor = poptorch.inferenceModel(model, chosen)
    executor.compileAndExport(str(tmp_path / "m"), torch.ones(1, 2))
    with pytest.raises(AssertionError, match="offline device"):
        executor(torch.ones(1, 2))
    loaded = poptorch.load(str(tmp_path / "m"))
    assert not loaded.options.exists("ipu_version")
    assert loaded.options.connection_type == poptorch.ConnectionType.Always
    torch.testing.assert_close(loaded(torch.ones(1, 2)), model(torch.ones(1, 2)).detach())


def test_options_can_be_edited_before_loading(tmp_path):
    poptorch.inferenceModel(nn.ReLU()).compileAndExport(str(tmp_path / "m"), torch.ones(1))

    def edit(chosen):
        chosen.logCycleCount(True)  # they are not frozen yet

    loaded = poptorch.load(str(tmp_path / "m"), edit)
    loaded(torch.ones(1))
    assert loaded.cycleCount() > 0


def test_an_executable_without_a_model_goes_into_a_fresh_wrapper(tmp_path):
    class Local(nn.Module):  # cannot be pickled
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(x)

    model = Local()
    executor = poptorch.inferenceModel(model)
    path = str(tmp_path / "m")
    executor.compile(torch.ones(1, 2))
    with pytest.raises((AttributeError, pickle.PicklingError)):
        executor.save(path)
    executor.save(path, export_model=False)
    with pytest.raises(AssertionError, match="export_model=False"):
        poptorch.load(path)
    fresh = poptorch.inferenceModel(model)
    fresh.loadExecutable(path)
    assert fresh.isCompiled()
    torch.testing.assert_close(fresh(torch.ones(1, 2)), model(torch.ones(1, 2)).detach())
    with pytest.raises(poptorch.Error, match="Shape mismatch"):
        fresh(torch.ones(2, 2))


def test_an_executable_keeps_the_mode_that_it_was_compiled_in(tmp_path):
    """PopTorch's wrapper has its own training flag, which eval() on the module does not reach any more."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(1.0)

        def forward(self, x):
            return (self.dropout(x), torch.ones(1)) if self.training else (self.dropout(x), torch.zeros(1))

    path = str(tmp_path / "m")
    poptorch.inferenceModel(Model().eval()).compileAndExport(path, torch.ones(2), export_model=False)
    module = Model().train()
    executor = poptorch.inferenceModel(module)
    executor.loadExecutable(path)
    out, mode = executor(torch.ones(2))
    assert (out.tolist(), mode.item()) == ([1.0, 1.0], 0.0)
    assert module.dropout.training


def test_eval_on_an_inference_executor_reaches_what_runs():
    """Its module is the copy that runs: the flags of that copy are not those of the user's module."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x * self.w if self.training else -x * self.w

    module = Model().train()
    executor = poptorch.inferenceModel(module)
    executor.model.eval()
    assert executor(torch.ones(1)).item() == -1.0
    assert module.training
    with torch.no_grad():
        module.w.fill_(2.0)  # weights are shared
    executor.copyWeightsToDevice()
    assert executor(torch.ones(1)).item() == -2.0


def test_what_is_no_executable_is_refused(tmp_path):
    path = tmp_path / "broken"
    for content in (b"not an executable", pickle.dumps({"a": 1}), b""):
        path.write_bytes(content)
        with pytest.raises(poptorch.Error, match="Invalid file"):
            poptorch.inferenceModel(nn.ReLU()).loadExecutable(str(path))
    poptorch.inferenceModel(nn.ReLU()).compileAndExport(str(path), torch.ones(1))
    header = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(dict(header, version=-1)))
    with pytest.raises(poptorch.Error, match="Invalid file"):
        poptorch.inferenceModel(nn.ReLU()).loadExecutable(str(path))
    with pytest.raises(AssertionError, match="version"):
        poptorch.load(str(path))


def test_files_of_the_first_version_are_told_from_broken_ones(tmp_path):
    """Their pickles name classes by files that have moved since."""
    path = tmp_path / "old"
    path.write_bytes(b"cipu_train.emulator._options_base\nOptionsDict\n.")
    with pytest.raises(poptorch.Error, match="version 1 was written"):
        poptorch.inferenceModel(nn.ReLU()).loadExecutable(str(path))
    with pytest.raises(AssertionError, match="version 1"):
        poptorch.load(str(path))


def test_a_model_whose_own_module_is_missing_is_pythons_error(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"ca_module_of_the_user\nNet\n.")
    with pytest.raises(ModuleNotFoundError, match="a_module_of_the_user"):
        poptorch.load(str(path))


def test_executors_are_not_copied_and_what_torch_saves_of_one_cannot_be_read(tmp_path):
    """PopTorch's tests/pipelining_test.py, test_block_function_saving, writes a fresh inference model with torch.save.
    Reading it back, and every copy, ends in its __getattr__ without end; that of a training model is not written."""
    network = Convolutional()
    fresh, compiled = poptorch.inferenceModel(network), poptorch.inferenceModel(network)
    compiled(images(2)[0])
    training = poptorch.trainingModel(network)
    torch.save(fresh, tmp_path / "fresh.pt")
    for refused in (
        lambda: torch.load(tmp_path / "fresh.pt", weights_only=False),
        *(lambda e=e, f=f: f(e) for e in (fresh, compiled, training) for f in (copy.copy, copy.deepcopy)),
        *(lambda e=e: pickle.dumps(e) for e in (compiled, training)),
    ):
        with pytest.raises(RuntimeError, match="copy or save its module"):
            refused()


def test_only_compiled_models_can_be_saved(tmp_path):
    with pytest.raises(poptorch.Error, match="has not been compiled"):
        poptorch.inferenceModel(nn.ReLU()).save(str(tmp_path / "m"))


def test_a_folder_gets_a_file_and_a_warning(tmp_path, caplog):
    executor = poptorch.inferenceModel(nn.ReLU())
    with caplog.at_level("WARNING", logger="poptorch::python"):
        executor.compileAndExport(str(tmp_path), torch.ones(1))
    assert (tmp_path / "model.poptorch").exists()
    assert "directory" in caplog.text


def test_the_executable_cache_has_one_file_for_each_model(tmp_path, monkeypatch):
    chosen = poptorch.Options().enableExecutableCaching(str(tmp_path / "cache"))
    for _ in range(2):
        poptorch.inferenceModel(nn.Linear(2, 2), chosen.clone())(torch.ones(1, 2))
    assert len(os.listdir(tmp_path / "cache")) == 1
    poptorch.inferenceModel(nn.Linear(2, 3), chosen.clone())(torch.ones(1, 2))
    poptorch.inferenceModel(nn.ReLU(), chosen.clone())(torch.ones(1, 2))
    assert len(os.listdir(tmp_path / "cache")) == 3
    monkeypatch.setenv("POPTORCH_CACHE_DIR", str(tmp_path / "other"))
    poptorch.inferenceModel(nn.ReLU())(torch.ones(1))
    assert len(os.listdir(tmp_path / "other")) == 1


def test_several_processes_wait_for_the_first_to_compile(tmp_path):
    import threading

    from ipu_train.emulator.device import files

    held, order = threading.Event(), []

    def first():
        with files._lock(str(tmp_path / "lock")):
            held.set()
            order.append("first in")
            threading.Event().wait(0.2)
            order.append("first out")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with files._lock(str(tmp_path / "lock")):
        order.append("second in")
    thread.join()
    assert order == ["first in", "first out", "second in"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("binary", ["0", "1"])
def test_the_graph_is_exported_where_the_environment_says(tmp_path, monkeypatch, binary):
    path = tmp_path / "deep" / "graph.txt"
    monkeypatch.setenv("POPTORCH_EXPORT_PROTO_FILE", str(path))
    monkeypatch.setenv("POPTORCH_EXPORT_PROTO_AS_BINARY", binary)
    poptorch.inferenceModel(nn.Linear(2, 2))(torch.ones(1, 2))
    assert json.loads(path.read_text())["maingraph"][0]["type"] == "Gemm"


def test_profiles_lie_below_the_models_name(tmp_path):
    for name, folder in ((None, "inference"), ("mine", "mine")):
        chosen = poptorch.Options()
        chosen.enableProfiling(str(tmp_path))
        if name:
            chosen.modelName(name)
        poptorch.inferenceModel(nn.ReLU(), chosen)(torch.ones(1))
        assert (tmp_path / folder / "profile.pop").stat().st_size > 0


def test_processes_that_share_a_cache_say_when_they_hold_its_lock(tmp_path, caplog):
    opts = poptorch.Options().enableExecutableCaching(str(tmp_path))
    opts.Distributed.configureProcessId(0, 2)
    with caplog.at_level("DEBUG", logger="poptorch::python"):
        poptorch.inferenceModel(nn.ReLU(), opts).compile(torch.ones(1))
    said = [text for text in caplog.messages if "lock" in text]
    assert "cache file locked" in said[0] and "released the cache lock" in said[1]
