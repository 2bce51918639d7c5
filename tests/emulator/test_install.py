"""``import poptorch`` gives the emulator: names of PopTorch 3.4's package layout, and programs run unmodified."""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from ipu_train import emulator
from ipu_train.emulator import __main__ as launcher
from ipu_train.emulator import _install

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODULES = ["enums", "optim", "ops", "options", "profiling", "testing", "poptorch_core"]
MODULES += ["_impl", "_logging", "_utils", "_dataloader", "_printing", "_poplar_executor", "_args_parser"]


@pytest.fixture
def clean(monkeypatch):
    """No poptorch anywhere, before and after."""
    saved = {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("poptorch", "popdist")
    }
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    _install.uninstall()
    yield
    _install.uninstall()
    for name in [n for n in sys.modules if n.partition(".")[0] == "poptorch"]:
        del sys.modules[name]
    sys.modules.update(saved)


def fake_sdk(folder, text):
    (folder / "poptorch").mkdir()
    (folder / "poptorch" / "__init__.py").write_text(text)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


@pytest.mark.usefixtures("clean")
class TestInstall:
    def test_every_module_is_found_under_poptorchs_name(self, capsys):
        assert _install.install()
        assert importlib.import_module("poptorch") is emulator
        for name in MODULES:
            module = importlib.import_module(f"poptorch.{name}")
            assert module is importlib.import_module(f"ipu_train.emulator.{name}")
        assert "embedded emulator" in capsys.readouterr().err
        assert _install.install(), "and again changes nothing"
        assert capsys.readouterr().err == ""

    def test_samplers_may_pass_their_data_source_on(self):
        """As programs written for torch 2.0.1 do; newer versions of torch would not take it."""
        _install.install()

        class Backwards(torch.utils.data.Sampler):
            def __init__(self, data):
                super().__init__(data)
                self.data = data

            def __iter__(self):
                return iter(range(len(self.data) - 1, -1, -1))

        assert list(Backwards("abc")) == [2, 1, 0]

    def test_whole_models_are_loaded_unasked(self, tmp_path, monkeypatch):
        """As torch 2.0.1 did; from 2.6 on torch.load refuses them unless it is told otherwise."""
        monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
        model = torch.nn.Linear(2, 2)
        torch.save(model, tmp_path / "model.pt")
        _install.install()
        assert torch.equal(torch.load(tmp_path / "model.pt").weight, model.weight)

    def test_a_user_who_wants_tensors_only_keeps_that(self, monkeypatch):
        monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
        _install.install()
        assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ

    def test_the_rest_of_the_sdk_is_found_too(self):
        _install.install()
        import horovod.torch as hvd
        import popart
        import popdist
        import popdist.poptorch
        from poptorch.poptorch_core import Error

        assert not popdist.isPopdistEnvSet()
        assert issubclass(popdist.poptorch.Options, emulator.Options)
        assert int(popart.SyntheticDataMode.RandomNormal) == 2
        assert hvd.size() == 1
        assert Error is emulator.Error

    @pytest.mark.parametrize("name", ["poptorch", "popart", "popdist"])
    def test_libraries_may_ask_for_the_version(self, name):
        emulator.install()
        assert importlib.metadata.version(name) == emulator.__version__
        question = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
        other = subprocess.check_output([sys.executable, "-c", question], universal_newlines=True)
        assert other.strip() == emulator.__version__, "in processes started later"

    @pytest.mark.parametrize(
        "name",
        [
            "poptorch",
            "poptorch.optim",
            "poptorch._poplar_executor",
            "popart",
            "popdist",
            "popdist.poptorch",
            "horovod",
            "horovod.torch",
        ],
    )
    def test_libraries_may_ask_whether_there_is_one(self, name):
        """As PyTorch Lightning and PopTorch Geometric do, by the function that refuses modules without a spec."""
        emulator.install()
        assert importlib.util.find_spec(name) is not None

    def test_uninstalling(self):
        before = list(sys.path)
        _install.install()
        assert sys.path == [*before, _install.SHIMS]
        assert os.environ["PYTHONPATH"] == _install.SHIMS
        _install.uninstall()
        assert sys.path == before and "PYTHONPATH" not in os.environ
        with pytest.raises(ImportError):
            importlib.import_module("poptorch")

    def test_a_real_sdk_wins(self, tmp_path, capsys):
        fake_sdk(tmp_path, "__version__ = '3.3.0'\n")
        assert not _install.install()
        assert importlib.import_module("poptorch").__version__ == "3.3.0"
        message = capsys.readouterr().err
        assert "Poplar SDK" in message and "3.3.0" in message

    def test_unless_told_otherwise(self, tmp_path, monkeypatch):
        fake_sdk(tmp_path, "__version__ = '3.3.0'\n")
        monkeypatch.setenv("PYTHONPATH", "somewhere")
        assert _install.install(force=True)
        assert importlib.import_module("poptorch") is emulator
        assert sys.path[0] == _install.SHIMS
        assert os.environ["PYTHONPATH"] == os.pathsep.join([_install.SHIMS, "somewhere"])

    def test_or_unless_it_cannot_be_imported(self, tmp_path, capsys):
        fake_sdk(tmp_path, "import poptorch.broken_part_of_it\n")
        assert _install.install()
        assert importlib.import_module("poptorch") is emulator
        message = capsys.readouterr().err
        assert "cannot be imported" in message and "broken_part_of_it" in message


class TestCommandLine:
    def test_options_end_where_the_program_begins(self):
        parsed = launcher.parse(["--permissive", "a.py", "--force", "-m", "x"])
        assert (parsed.permissive, parsed.force, parsed.script) == (True, False, "a.py")
        assert parsed.arguments == ["--force", "-m", "x"] and parsed.module is None
        parsed = launcher.parse(["--force", "-m", "pkg.mod", "--permissive", "x"])
        assert (parsed.permissive, parsed.force) == (False, True)
        assert parsed.module == ["pkg.mod", "--permissive", "x"]

    @pytest.mark.parametrize("arguments", [[], ["--permissive"], ["-m"], ["--wibble"]])
    def test_there_must_be_a_program(self, arguments, capsys):
        with pytest.raises(SystemExit) as stopped:
            launcher.parse(arguments)
        assert stopped.value.code == 2
        assert "usage" in capsys.readouterr().err

    def test_missing_programs(self, tmp_path):
        with pytest.raises(launcher.ProgramError, match=r"can't open file .*nix\.py.*No such file"):
            launcher.load_script(str(tmp_path / "nix.py"))
        for name in ("no_such_module_anywhere", "no_such_module.anywhere", "json.nothing"):
            with pytest.raises(launcher.ProgramError, match="[Nn]o module named"):
                launcher.load_module(name)

    def test_a_script_gets_a_main_like_pythons(self, tmp_path):
        path = tmp_path / "a.py"
        path.write_text("# -*- coding: latin-1 -*-\nx = '\xe9'\n", encoding="latin-1")
        code, main = launcher.load_script(str(path))
        exec(code, main.__dict__)
        assert main.x == "\xe9"
        assert (main.__name__, main.__file__, main.__spec__, main.__package__) == (
            "__main__",
            str(path),
            None,
            None,
        )

    def test_a_module_keeps_its_spec(self):
        _, main = launcher.load_module("json.tool")
        assert (main.__name__, main.__package__, main.__spec__.name) == ("__main__", "json", "json.tool")

    def test_a_package_runs_its_main(self):
        _, main = launcher.load_module("ipu_train.emulator")
        assert main.__spec__.name == "ipu_train.emulator.__main__"

    def test_exit_codes_are_the_programs(self, tmp_path, monkeypatch):
        for name in ("__main__", "__mp_main__"):
            monkeypatch.setitem(sys.modules, name, sys.modules["__main__"])
        for source, code in (("import sys; sys.exit(7)", 7), ("1 / 0", 1), ("raise KeyboardInterrupt", 130)):
            path = tmp_path / "a.py"
            path.write_text(source)
            with pytest.raises(SystemExit) as stopped:
                launcher.run(*launcher.load_script(str(path)))
            assert stopped.value.code == code


PROGRAM = """
    import json, multiprocessing, os, subprocess, sys
    import poptorch, poptorch.optim
    import popdist.poptorch, popart, horovod.torch


    class Number:
        def __init__(self, value):
            self.value = value


    def numbered(x):
        return Number(x)


    def child(x):
        return [x, poptorch.__name__, __name__, os.environ.get("POPTORCH_EMULATOR_PERMISSIVE")]


    if __name__ == "__main__":
        children = []
        if "--children" in sys.argv:
            for method in ("spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    children += pool.map(child, [1, 2])
                    assert [type(n) is Number and n.value for n in pool.map(numbered, [1, 2])] == [1, 2]
        code = "import poptorch.optim, popdist.poptorch, popart; print(poptorch.optim.SGD.__module__)"
        other = subprocess.check_output([sys.executable, "-c", code], universal_newlines=True).strip()
        print(json.dumps(dict(argv=sys.argv, name=__name__, file=__file__, path=sys.path[0], children=children,
                              other=other, permissive=poptorch.Options()._Emulator.permissive)))
        raise ValueError("at the end")
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return path


def run_program(arguments, folder):
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=ROOT)
    environment.pop("POPTORCH_EMULATOR_PERMISSIVE", None)
    done = subprocess.run(
        [sys.executable, "-m", "ipu_train.emulator", *arguments],
        cwd=str(folder),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.stderr, done.returncode


def test_a_script_runs_as_if_python_ran_it(program, tmp_path):
    seen, errors, code = run_program(
        ["--permissive", str(program), "-m", "x", "--force", "--children"], tmp_path
    )
    assert seen["argv"] == [str(program), "-m", "x", "--force", "--children"]
    assert (seen["name"], seen["file"], seen["path"]) == ("__main__", str(program), str(tmp_path))
    assert seen["children"] == 2 * [[i, "ipu_train.emulator", "__mp_main__", "1"] for i in (1, 2)]
    assert seen["other"] == "ipu_train.emulator.optim"
    assert seen["permissive"] is True
    assert code == 1
    assert errors.count("ipu-train: poptorch is the embedded emulator") == 1
    trace = errors[errors.index("Traceback") :].splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[1].startswith(f'  File "{program}", line '), "the launcher does not show"
    assert trace[-1] == "ValueError: at the end"
    assert sum(line.startswith("  File ") for line in trace) == 1


def test_a_module_runs_as_if_python_ran_it(program, tmp_path):
    seen, _, code = run_program(["-m", "program", "--permissive"], tmp_path)
    assert seen["argv"] == [str(program), "--permissive"]
    assert (seen["name"], seen["file"], seen["permissive"]) == ("__main__", str(program), False)
    assert seen["other"] == "ipu_train.emulator.optim"
    assert code == 1


COMPILED = """
    import ctypes, os, torch
    import poptorch
    assert os.path.exists("./custom_ops.so")
    ctypes.cdll.LoadLibrary("./custom_ops.so")
    torch.ops.load_library("./custom_ops.so")
    try:
        ctypes.CDLL("libnowhere.so")
    except OSError:
        print("missed as ever")

    class Model(torch.nn.Module):
        def forward(self, x):
            return poptorch.custom_op([x], "LeakyRelu", "custom.ops", 1, [x], attributes={"alpha": 0.5})[0]

    print(poptorch.inferenceModel(Model())(torch.tensor([-2.0, 2.0])).tolist(), __name__)
"""
OPERATORS = """
    import torch, ipu_train.emulator
    def leaky_relu(inputs, attributes):
        return [torch.nn.functional.leaky_relu(inputs[0], attributes["alpha"])]
    ipu_train.emulator.registerCustomOp("custom.ops", "LeakyRelu", leaky_relu)
"""


def run_with_operators(file, folder):
    return subprocess.run(
        [sys.executable, "-m", "ipu_train.emulator", "--custom-ops", file, "program.py"],
        cwd=str(folder),
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=ROOT),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_program_with_compiled_operators_runs_with_those_of_a_file(tmp_path):
    (tmp_path / "program.py").write_text(textwrap.dedent(COMPILED))
    (tmp_path / "ops.py").write_text(textwrap.dedent(OPERATORS))
    (tmp_path / "custom_ops.so").write_bytes(b"")
    done = run_with_operators("ops.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["missed as ever", "[-1.0, 2.0] __main__"]
    assert done.stderr.count("custom_ops.so is left out") == 2


def test_a_file_of_operators_that_is_not_there_is_one_message(tmp_path):
    (tmp_path / "program.py").write_text("print('not reached')")
    done = run_with_operators("nowhere.py", tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert "nowhere.py" in done.stderr and "Traceback" not in done.stderr
