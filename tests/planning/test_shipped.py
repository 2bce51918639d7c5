"""The traces that come with the package: those of today's networks, and never used where they might not be."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ipu_train import config, configs, kernels, models
from ipu_train.ipumodel.tracer import trace
from ipu_train.planning import images_of, shipped, tracing
from ipu_train.planning.shipped import meaning, packing
from ipu_train.planning.traces import key_of_network

RECIPES = sorted(path.stem for path in Path(configs.__path__[0]).glob("*.yaml"))
# one of each kind of block and norm; all of them with --long
SOME = ["cifar10_efficientnet_ln_pn", "cifar10_resnet20_bn", "cifar10_resnet20v2_gn_pn", "quickstart"]
OUTDATED = "is not the shipped trace any more: run scripts/ship_traces.py"


def recipe(name, *overrides):
    return config.load(name, ["training.mixup_alpha=0", "training.cutmix_lambda=1", *overrides])


@pytest.fixture()
def fresh():
    shipped.hold.cache_clear()
    yield
    shipped.hold.cache_clear()


@pytest.fixture()
def copied(monkeypatch, tmp_path, fresh):
    """The shipped files, in a folder where they may be changed, of sources that may be too."""
    source = tmp_path / "net.py"
    source.write_text('"""A net."""\n\n\ndef width(n):  # channels\n    return 2 * n\n')
    (tmp_path / shipped.TRACES).write_bytes((shipped.FOLDER / shipped.TRACES).read_bytes())
    monkeypatch.setattr(shipped, "sources", lambda: [source])
    record = {**shipped.stamp(), "torch": [shipped.torch_version()]}
    (tmp_path / shipped.MADE_FROM).write_text(json.dumps(record))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return source


def found():
    shipped.hold.cache_clear()
    resolved = recipe("cifar10_resnet20_gn")
    return shipped.find(key_of_network(resolved, images_of(resolved)), resolved.config.model.name)


@pytest.mark.parametrize(
    "name", [n if n in SOME else pytest.param(n, marks=pytest.mark.long) for n in RECIPES]
)
def test_what_is_shipped_is_what_a_trace_gives(name):
    resolved = recipe(name)
    images = images_of(resolved)
    key = key_of_network(resolved, images)
    entry = shipped.entries(resolved.config.model.name).get(key)
    if entry is None:
        pytest.fail(f"the network of {name} {OUTDATED}")
    programs = {program.batch: program for program in packing.unpack(entry["programs"])}
    assert set(programs) == {1, 2, 4}
    for size in (2, 1):
        traced = tracing.traced(resolved.changed([f"training.micro_batch_size={size}"]), images)
        if repr(traced) != repr(programs[size]):
            pytest.fail(f"the network of {name} in micro-batches of {size} {OUTDATED}")
    assert entry["independent"] == tracing.is_batch_independent(resolved, images)


def test_they_are_found_where_the_sources_are_the_same(copied):
    ours = found()
    assert ours is not None and ours.batch_independent
    assert [program.batch for program in ours.programs] == [2, 4, 1]
    copied.write_text("def width(n):\n    # other words\n    return (2 * n)\n")
    assert found() is not None
    assert found().programs == ours.programs


@pytest.mark.parametrize(
    "change",
    ["def width(n):\n    return 3 * n\n", "def width(m):\n    return 2 * m\n", "def width(n: int):\n    return 2 * n\n",
     "def width(n):\n    return n * 2\n", "def width(n):\n    return 2 * n\nx = 1\n", "def width(n:\n", ""],
)  # fmt: skip
def test_none_is_found_where_the_sources_mean_something_else(copied, change):
    copied.write_text(change)
    assert found() is None


def test_none_is_found_with_another_torch(copied, monkeypatch):
    monkeypatch.setattr(shipped, "torch_version", lambda: "3.1")
    assert found() is None
    monkeypatch.setattr(shipped, "torch_version", lambda: None)
    assert found() is None


@pytest.mark.parametrize("harm", ["no file", "no zip", "damaged entry", "no record", "no JSON"])
def test_what_is_damaged_is_traced_as_ever(copied, harm):
    traces, record = copied.with_name(shipped.TRACES), copied.with_name(shipped.MADE_FROM)
    if harm == "no file":
        traces.unlink()
    elif harm == "no zip":
        traces.write_bytes(b"no zip at all")
    elif harm == "damaged entry":
        with zipfile.ZipFile(traces) as file:
            at = file.getinfo(shipped.entry_of("resnet20")).header_offset + 200
        whole = bytearray(traces.read_bytes())
        whole[at : at + 40] = bytes(40)
        traces.write_bytes(whole)
    elif harm == "no record":
        record.unlink()
    else:
        record.write_text("{")
    assert found() is None


def test_every_version_of_python_finds_the_same_meaning(tmp_path):
    source = tmp_path / "some.py"
    source.write_text(
        'class A:\n    """Words."""\n\n    x: int = 1\n\n    def f(self, *a, b=None, **c):\n'
        '        """More."""\n        return f"{a!r:>{b}} {c}", a[1:2, ::3], a[0], {**c}, [*a], lambda i: -i @ a\n'
    )
    assert meaning.digest_of_meaning([source]) == "f77a0be624a43451"


def test_all_that_runs_while_a_network_is_traced_is_among_the_sources():
    """The configuration, the images and what is fused are part of the question."""
    package = Path(shipped.FOLDER).parent.parent
    ran = set()

    def note(frame, event, _):
        ran.add(frame.f_code.co_filename)

    plain = ["model.proxy_norm=false", "model.norm_groups=null", "model.norm_group_size=null"]
    small = [
        recipe("cifar10_efficientnet_ln_pn", "model.options.width=0.25"),
        recipe("cifar10_resnet20v2_gn_pn", "model.name=resnet8v2"),
        *(
            recipe("cifar10_resnet20_bn", "model.name=resnet8", f"model.norm={norm}", *plain)
            for norm in ("batch", "frn", "sync_batch", "evonorm_b0", "none")
        ),
    ]
    for resolved in small:
        images = images_of(resolved)
        sys.setprofile(note)
        try:
            tracing.is_batch_independent(resolved, images)
            tracing.traced(resolved, images)
        finally:
            sys.setprofile(None)
    ours = {Path(file).resolve() for file in ran if "ipu_train" in file or str(package.parent) in file}
    ours = {
        file
        for file in ours
        if file.parent.name in ("models", "kernels", "ipumodel", "planning", "ipu_train")
    }
    known = {path.resolve() for path in shipped.sources()}
    beside = {Path(__file__), package / "device_options.py", Path(kernels.__file__).with_name("library.py")}
    assert len(ours & known) > 15
    assert sorted(ours - known - {path.resolve() for path in beside}) == []


def test_a_trace_that_json_would_change_is_not_shipped():
    program = trace(models.build("resnet8", num_classes=10), [torch.zeros(2, 3, 32, 32)])
    other = trace(models.build("resnet8", num_classes=10), [torch.zeros(5, 3, 32, 32)])
    again = packing.unpack(json.loads(json.dumps(packing.pack([program, other]))))
    assert again == [program, other] and repr(again) == repr([program, other])
    operation = replace(program.operations[0], attributes={"sizes": {1: 2}})
    with pytest.raises(ValueError, match="JSON"):
        packing.pack([replace(program, operations=[operation])])


def test_the_first_plan_of_a_recipe_imports_no_torch(fresh):
    if not shipped.hold():
        pytest.skip("the sources have changed since the traces were made")
    code = (
        "import sys; from ipu_train import cli\n"
        "cli.main(['plan', '--config', 'cifar10_resnet20_gn_pn', '--json', 'training.micro_batch_size=3'])\n"
        "print(sorted({'torch', 'matplotlib', 'sympy', 'PIL', 'torchvision'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "IPU_TRAIN_CACHE": "off"},
    )
    assert ran.stderr.strip() == "[]" and ran.stdout
