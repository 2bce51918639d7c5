"""What is written in other formats computes what the network computes, in batches of any size."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

from ipu_train import models
from ipu_train.cli import main
from ipu_train.export import exporting, formats
from ipu_train.export.libraries import same_network
from ipu_train.models import folded
from ipu_train.training import checkpoint

from ..models.test_folding import away_from_the_start
from ..photographs import CLASSES, by_hand

NEWER = pytest.mark.skipif(formats._version() < (2, 5), reason="this torch has no such torch.export")
TINY = {"depth": 0.2, "width": 0.1}

CASES = [
    ("torchscript", "resnet8", {"norm": "batch"}),
    ("torchscript", "resnet8v2", {"norm": "evonorm_s0", "norm_groups": 2, "proxy_norm": False}),
    ("torchscript", "efficientnet_cifar_g16", {"norm": "instance", **TINY}),
    ("torchscript", "resnext29_32x4d", {"norm": "frn", "proxy_norm": False, "width": 0.25}),
    pytest.param("torch_export", "resnet8v2", {"norm": "layer"}, marks=NEWER),
]


@pytest.mark.parametrize("name, model, options", CASES)
def test_logits_are_the_network_s_in_batches_of_1_and_7(name, model, options, tmp_path):
    network = away_from_the_start(models.build(model, 6, **options)).eval()
    formats.write(name, folded(network), (3, 16, 16), tmp_path / "file", None)
    run = formats.read(name, tmp_path / "file")
    for batch in (1, 7):
        images = torch.randn(batch, 3, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(run(images), network(images), rtol=1e-4, atol=1e-4)


def test_an_exporter_s_refusal_says_what_began_it(monkeypatch, tmp_path):
    def wrapped(*_):
        try:
            raise NotImplementedError("no decomposition for aten::thing\nand much more")
        except NotImplementedError as error:
            raise RuntimeError("Failed. \x1b[96mThis is step 3/3\x1b[0m of exporting. Next steps:") from error

    monkeypatch.setitem(formats.FORMATS, "onnx", formats.FORMATS["onnx"]._replace(write=wrapped))
    with pytest.raises(formats.ExportError, match="as onnx: no decomposition for aten::thing$"):
        formats.write("onnx", torch.nn.Flatten(), (3, 4, 4), tmp_path / "file", None)


def test_a_run_becomes_a_file_and_a_description_of_how_to_use_it(trained_run, images, tmp_path, capsys):
    """The description is enough to give the run's logits from an image file, without ipu-train's code."""
    out = tmp_path / "trees.pt"
    assert main(["export", "--run", str(trained_run), "--format", "torchscript", "--out", str(out)]) == 0
    assert "largest difference of logits" in capsys.readouterr().out
    said = json.loads((tmp_path / "trees.pt.json").read_text())
    assert said["class_names"] == ["ash", "birch", "cedar"]
    assert said["input"] == {"name": "images", "shape": ["batch", 3, 16, 16], "type": "float32"}
    assert said["output"]["shape"] == ["batch", 3]
    preparation = said["preparation"]
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(preparation["mean"], preparation["std"]),
        ]
    )
    files = [path for name in said["class_names"] for path in sorted((images / "val" / name).iterdir())]
    pixels = []
    for path in files:
        image = Image.open(path).convert("RGB")
        side = preparation["centre_crop"] * min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        size = (preparation["size"],) * 2
        pixels.append(transform(image.resize(size, Image.BILINEAR, box=(left, top, left + side, top + side))))
    _, expected = by_hand(trained_run, images / "val")
    torch.testing.assert_close(torch.jit.load(str(out))(torch.stack(pixels)), expected, rtol=1e-4, atol=1e-4)


def test_the_program_of_the_documentation_says_of_an_onnx_file_what_predict_says(
    trained_run, images, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("onnxruntime")
    if formats._version() >= (2, 6):
        pytest.importorskip("onnxscript")
    page = (Path(__file__).parents[2] / "docs" / "using_a_model.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```", page, re.M | re.S).group(1)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--run", str(trained_run), "--format", "onnx", "--out", "mine.onnx"]) == 0
    assert "largest difference of logits" in capsys.readouterr().out
    _, expected = by_hand(trained_run, images / "val")
    files = [path for name in CLASSES for path in sorted((images / "val" / name).iterdir())]
    for number in (0, 8, 20):
        shutil.copy(files[number], "photo.jpg")  # whatever is in it
        names = {}
        exec(program, names)
        torch.testing.assert_close(
            torch.from_numpy(names["logits"][0]), expected[number], rtol=1e-4, atol=1e-4
        )
        assert capsys.readouterr().out == CLASSES[int(expected[number].argmax())] + "\n"


@pytest.mark.parametrize("name, eps", [("resnet18", None), ("efficientnet_b0", 1e-5)])
def test_torchvision_loads_the_state_dict_of_its_own_architectures(name, eps):
    network = models.build(name, 5, norm="batch", norm_eps=eps, proxy_norm=False)
    network = away_from_the_start(network).eval()
    found, why = same_network(name, network, (3, 64, 64))
    assert found is not None, why
    theirs = getattr(torchvision.models, name)(weights=None, num_classes=5)
    theirs.load_state_dict(found.weights)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name, options, why",
    [
        ("resnet18", {"norm": "group"}, "other layers"),
        ("resnet18", {"norm": "batch", "proxy_norm": False, "width": 0.5}, "other widths"),
        (
            "resnet18",
            {"norm": "batch", "proxy_norm": False, "norm_eps": 1e-3},
            r"epsilon .*1e-05; here 0\.001",
        ),
        ("resnet20", {"norm": "batch", "proxy_norm": False}, "neither torchvision nor timm"),
    ],
)
def test_networks_that_are_not_theirs_keep_our_names_and_the_reason_is_told(name, options, why):
    found, said = same_network(name, models.build(name, 5, **options).eval(), (3, 32, 32))
    assert found is None
    assert re.search(why, said)


@pytest.mark.parametrize("name", ["AlexNet", "get_model", "detection"])
def test_a_network_of_ones_own_may_be_called_as_something_else_of_torchvision(name):
    found, said = same_network(name, torch.nn.Linear(2, 2), (3, 8, 8))
    assert found is None
    assert said == f"neither torchvision nor timm has a {name}"


def test_a_state_dict_of_ours_starts_another_run_as_it_is(trained_run, tmp_path, capsys):
    out = tmp_path / "trees.safetensors"
    assert main(["export", "--run", str(trained_run), "--format", "state_dict", "--out", str(out)]) == 0
    assert "names of ipu-train's network" in capsys.readouterr().out
    network = models.build("resnet8", 3, norm="group", norm_groups=2, width=0.25)
    network.load_state_dict(load_file(str(out)))
    figures = tmp_path / "figures.json"
    config = trained_run.parent / "trees.yaml"
    more = ["--checkpoint", str(out), "--config", str(config), "--json", str(figures)]
    assert main(["evaluate", *more]) == 0
    assert json.loads(figures.read_text())["images"] == 21


def test_what_computes_something_else_is_refused_and_not_kept(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exporting.formats, "read", lambda name, path: lambda x: torch.ones(len(x), 3))
    out = tmp_path / "wrong.pt"
    assert main(["export", "--run", str(trained_run), "--format", "torchscript", "--out", str(out)]) == 2
    assert "computes something else" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def not_a_number(x):
    return torch.full((len(x), 3), float("nan"))


def test_a_program_that_gives_no_numbers_computes_something_else(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exporting.formats, "read", lambda name, path: not_a_number)
    out = tmp_path / "wrong.pt"
    assert main(["export", "--run", str(trained_run), "--format", "torchscript", "--out", str(out)]) == 2
    assert "computes something else: logits differ by inf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_network_that_gives_no_numbers_is_not_said_to_be_compared(
    trained_run, tmp_path, capsys, monkeypatch, bad
):
    def spoiled(trained, prepared):
        network = network_of(trained, prepared)
        with torch.no_grad():
            network.fc.weight[0, 0] = bad
        return network

    network_of = exporting.network_of
    monkeypatch.setattr(exporting, "network_of", spoiled)
    out = tmp_path / "wrong.pt"
    assert main(["export", "--run", str(trained_run), "--format", "torchscript", "--out", str(out)]) == 2
    assert "the network's outputs are not finite" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    theirs = torchvision.models.resnet18(num_classes=5)
    network = models.build("resnet18", 5, norm="batch", proxy_norm=False)
    models.load_checkpoint(network, theirs.state_dict())
    with torch.no_grad():
        network.fc.weight[0, 0] = bad
    assert same_network("resnet18", network.eval(), (3, 32, 32))[1].startswith("the network's logits are not")


class Coarse(torch.nn.Module):
    """Logits between -1 and 1 that float32 rounds to multiples of 2^-11: it loses up to 2^-12 of each."""

    def forward(self, images):
        return (torch.tanh(images[:, 0, 0, :3]) + 4096) - 4096


@pytest.mark.parametrize("off, kept", [(2.0**-12, True), (2.0**-9, False)])
def test_a_network_that_rounding_alone_moves_is_allowed_as_much(
    trained_run, tmp_path, capsys, monkeypatch, off, kept
):
    monkeypatch.setattr(exporting, "network_of", lambda trained, prepared: Coarse())
    monkeypatch.setattr(exporting.formats, "read", lambda name, path: lambda x: Coarse()(x) + off)
    out = tmp_path / "coarse.pt"
    status = main(["export", "--run", str(trained_run), "--format", "torchscript", "--out", str(out)])
    said = capsys.readouterr()
    if kept:
        assert status == 0 and out.exists()
        lost = re.search("float32 itself costs this network (.*) against float64", said.out)
        assert 2.0**-13 < float(lost.group(1)) <= 2.0**-12 + 1e-6
    else:
        assert status == 2 and "computes something else" in said.err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--format", "state_dict", "--out", "x.bin"], "must end in one of .safetensors, .pth or .pt"),
        (["--format", "torchscript", "--out", "x.pt", "--opset", "18"], "--opset is for --format onnx"),
        (["--format", "torchscript", "--out", "nowhere/x.pt"], "there is no folder"),
        (["--format", "onnx", "--out", "x.onnx", "--opset", "3"], "writes opsets"),
    ],
)
def test_what_cannot_be_written_is_one_message(trained_run, capsys, arguments, message):
    if "onnx" in arguments and formats._version() >= (2, 6):
        pytest.importorskip("onnxscript")
    assert main(["export", "--run", str(trained_run), *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_an_older_torch_refuses_torch_export_with_one_message(trained_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(formats, "_version", lambda: (2, 0))
    out = str(tmp_path / "x.pt2")
    assert main(["export", "--run", str(trained_run), "--format", "torch_export", "--out", out]) == 2
    assert "torch_export needs torch 2.5 or newer" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(trained_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    for path in (run / "checkpoints").iterdir():
        (path / "weights.safetensors").write_bytes(b"x")
    out = str(tmp_path / "x.pt")
    assert main(["export", "--run", str(run), "--format", "torchscript", "--out", out]) == 2
    assert "none of its checkpoints can be read" in capsys.readouterr().err


def test_neither_a_checkpoint_nor_a_folder_is_written_over(trained_run, tmp_path, capsys):
    last = checkpoint.newest(trained_run / "checkpoints")
    (tmp_path / "x.pt.json").mkdir()
    for out, message in (
        (last / "weights.safetensors", "is inside a checkpoint"),
        (tmp_path / "x.pt", "x.pt.json: is a folder"),
    ):
        assert main(["export", "--run", str(trained_run), "--format", "state_dict", "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()
    checkpoint.load(last)


@pytest.fixture()
def small_files():
    """The file system refuses to let a file grow beyond 4 kB, as a full one would."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "form, name", [("state_dict", "m.pth"), ("state_dict", "m.safetensors"), ("torchscript", "m.pt")]
)
def test_a_full_disk_is_said_to_be_that(trained_run, tmp_path, capsys, request, form, name):
    capsys.readouterr()
    request.getfixturevalue("small_files")
    out = tmp_path / name
    assert main(["export", "--run", str(trained_run), "--format", form, "--out", str(out)]) == 2
    assert f"cannot write {out}: File too large; nothing was kept" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
