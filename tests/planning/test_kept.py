"""Traces kept between commands: the same to the last number, without torch, and never those of something else."""

import sqlite3
import subprocess
import sys

import pytest

from ipu_train import config, models, planning
from ipu_train.models.zoo import MODELS
from ipu_train.planning import kept, own_networks, tracing

RECIPE = "cifar10_resnet20_gn_pn"
SMALL = ["model.name=resnet8", "training.micro_batch_size=3", "training.gradient_accumulation=1"]


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path))
    kept.keep_plans()
    yield tmp_path
    monkeypatch.setenv(kept.VARIABLE, "off")
    kept.keep_plans()


def program(*overrides):
    resolved = config.load(RECIPE, [*SMALL, *overrides])
    return planning.Traces().program(resolved, *planning.images_of(resolved))


@pytest.fixture()
def never(monkeypatch):
    def refuse(*_):
        raise AssertionError("traced again")

    def from_now_on():
        monkeypatch.setattr(tracing, "traced", refuse)
        monkeypatch.setattr(own_networks, "traced_own", refuse)

    return from_now_on


@pytest.mark.parametrize("norm", ["group", "batch", "evonorm_s0"])
def test_a_kept_trace_is_the_trace_to_the_last_number(folder, never, norm):
    norms = ["model.norm=" + norm, f"model.proxy_norm={str(norm == 'group').lower()}"]
    found = program(*norms)
    never()
    again = program(*norms)
    assert again == found and repr(again) == repr(found)


def test_two_kept_traces_give_every_other_micro_batch(folder, never):
    expected = program("training.micro_batch_size=7")
    program("training.micro_batch_size=4")
    never()
    assert program("training.micro_batch_size=7") == expected
    assert program("training.micro_batch_size=9").batch == 9
    with pytest.raises(AssertionError, match="traced again"):
        program("training.micro_batch_size=1")  # torch may take other routes there


@pytest.mark.parametrize(
    "other",
    ["model.norm_groups=2", "model.norm=instance", "model.proxy_norm=false", "model.options.width=0.5",
     "model.num_classes=7", "model.train_only=[fc]", "model.proxy_norm_kernel=popart", "data.image_size=40"],
)  # fmt: skip
def test_another_network_finds_no_trace(folder, never, other):
    program()
    never()
    program()
    with pytest.raises(AssertionError, match="traced again"):
        program(other)


def test_other_sources_or_another_torch_find_no_trace(folder, never, monkeypatch, tmp_path):
    program()
    never()
    sources = [str(path) for path in kept._sources()]
    for part in (
        "torch/version.py",
        "models/resnet.py",
        "kernels/maths.py",
        "ipumodel/tracer.py",
        "network.py",
    ):
        assert any(path.endswith(part) for path in sources), part
    changed = tmp_path / "changed.py"
    changed.write_text("")
    monkeypatch.setattr(kept, "_sources", lambda: [changed])
    kept.keep_plans()
    with pytest.raises(AssertionError, match="traced again"):
        program()


def test_networks_of_the_users_own_are_traced_every_time(folder, never):
    models.register_model("resnet8_of_mine", lambda num_classes, in_channels, norms: _net(num_classes))
    try:
        assert "resnet8_of_mine" not in MODELS
        program("model.name=resnet8_of_mine")
        never()
        with pytest.raises(AssertionError, match="traced again"):
            program("model.name=resnet8_of_mine")
    finally:
        del models.OWN["resnet8_of_mine"]


def _net(num_classes):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))


@pytest.mark.parametrize("harm", ["damaged file", "damaged answer"])
def test_what_is_damaged_is_traced_again(folder, harm):
    found = program()
    file = next(folder.glob("traces-*.sqlite"))
    if harm == "damaged file":
        file.write_bytes(b"no database" * 1000)
    else:
        connection = sqlite3.connect(str(file))
        connection.execute("UPDATE traces SET answer = ?", (b"nothing that was compressed",))
        connection.commit()
        connection.close()
    kept.keep_plans()
    assert program() == found


def test_batch_independence_is_kept_as_it_is_found(folder, monkeypatch):
    mixed, independent = (config.load(RECIPE, [f"model.norm={norm}", "model.proxy_norm=false", "model.name=resnet8"])
                          for norm in ("batch", "instance"))  # fmt: skip
    answers = [planning.Traces().batch_independent(one) for one in (mixed, independent)]
    assert answers == [False, True]
    monkeypatch.setattr(tracing, "is_batch_independent", lambda *_: pytest.fail("built again"))
    assert [planning.Traces().batch_independent(one) for one in (mixed, independent)] == answers


def test_a_plan_of_a_kept_trace_imports_no_torch(folder):
    code = (
        "import sys; from ipu_train import cli\n"
        f"cli.main(['plan', '--config', '{RECIPE}', *{SMALL}, '--json'])\n"
        "print(sorted({'torch', 'matplotlib', 'sympy', 'PIL', 'torchvision'} & set(sys.modules)), file=sys.stderr)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(2)]
    first, second = (run.stderr.strip() for run in runs)
    assert first in ("['torch']", "['sympy', 'torch']")  # torch 2.0 imports sympy
    assert second == "[]"
    assert runs[0].stdout == runs[1].stdout != ""
