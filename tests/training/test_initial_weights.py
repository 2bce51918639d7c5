"""Runs that start from weights: of another run, of its average, of a file, and with parts that are not trained."""

import argparse
import json
import re
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from ipu_train import config, trainer
from ipu_train.models import build
from ipu_train.network import build_network
from ipu_train.training import checkpoint, initial_weights
from ipu_train.training.foreign_weights import read_file, without_wrapper

RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: generated, length: 32, image_size: 8, num_classes: 4}
training: {epochs: 1, micro_batch_size: 4, gradient_accumulation: 2, replicas: 1}
averaging: {name: exponential, decay: 0.5}
logging: {progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture()
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture()
def earlier(recipe, tmp_path):
    run(recipe, tmp_path / "earlier", "training.epochs=3")
    return tmp_path / "earlier"


def run(recipe, folder, *overrides):
    return trainer.train(config.load(recipe, [*overrides, f"run_dir={folder}"]))


def weights(folder):
    return load_file(str(checkpoint.newest(folder / "checkpoints") / "weights.safetensors"))


def still(*more):
    """Overrides of a run that trains nothing but one vector with a vanishing learning rate."""
    return ["optimizer.learning_rate=1e-30", *more]


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_a_run_folder_and_a_checkpoint_give_the_same_start(recipe, earlier, tmp_path):
    run(recipe, tmp_path / "a", *still(f"model.weights={earlier}"))
    run(recipe, tmp_path / "b", *still(f"model.weights={checkpoint.newest(earlier / 'checkpoints')}"))
    assert_equal(weights(tmp_path / "a"), weights(earlier))
    assert_equal(weights(tmp_path / "b"), weights(earlier))


def test_the_average_of_a_run_is_a_start_of_its_own(recipe, earlier, tmp_path):
    run(recipe, tmp_path / "run", *still(f"model.weights={earlier}", "model.averaged_weights=true"))
    states = [
        load_file(str(path / "weights.safetensors"))
        for path in checkpoint.list_checkpoints(earlier / "checkpoints")
    ]
    for name, value in weights(tmp_path / "run").items():
        if value.is_floating_point():
            expected = 0.25 * states[0][name] + 0.25 * states[1][name] + 0.5 * states[2][name]
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    run(recipe, tmp_path / "plain", "averaging.name=none", "averaging.decay=null")
    with pytest.raises(config.ConfigError, match=r"model\.weights: .* holds no average of the weights"):
        run(recipe, tmp_path / "x", f"model.weights={tmp_path / 'plain'}", "model.averaged_weights=true")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_with_another_classifier_keeps_the_models_own(recipe, earlier, tmp_path, suffix):
    path = tmp_path / f"given{suffix}"
    given = weights(earlier)
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{name}": value for name, value in given.items()}}, path)
    else:
        save_file(given, str(path))
    changed = [f"model.weights={path}", "data.num_classes=6"]
    with pytest.raises(config.ConfigError, match=r"fc\..* has shape .* set model.new_classifier"):
        run(recipe, tmp_path / "a", *changed)
    run(recipe, tmp_path / "b", *still(*changed, "model.new_classifier=true"))
    found = weights(tmp_path / "b")
    assert found["fc.weight"].shape[0] == 6
    assert_equal(
        {name: value for name, value in found.items() if not name.startswith("fc.")},
        {name: value for name, value in given.items() if not name.startswith("fc.")},
    )


def test_weights_of_torchvision_are_renamed(recipe, tmp_path):
    """A batch-norm ResNet-18 as torchvision names it: the state dict of our own, renamed back."""
    torch.manual_seed(5)
    ours = build("resnet18", num_classes=4, norm="batch", proxy_norm=False, width=0.25).state_dict()
    back = [
        ("shortcut.conv", "downsample.0"),
        ("shortcut.norm", "downsample.1"),
        ("norm", "bn"),
        (".bn.", "."),
    ]
    theirs = {}
    for name, value in ours.items():
        for old, new in back:
            name = name.replace(old, new)
        theirs[name] = value
    assert "layer2.0.downsample.1.running_var" in theirs
    assert "layer1.0.bn1.weight" in theirs
    path = tmp_path / "torchvision.pth"
    torch.save(theirs, path)
    as_batch_norm = [
        "model.name=resnet18",
        "model.norm=batch",
        "model.norm_groups=null",
        "data.image_size=32",
    ]
    run(recipe, tmp_path / "run", *still(*as_batch_norm, f"model.weights={path}"))
    trained = weights(tmp_path / "run")
    for name, value in ours.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(trained[name], value, rtol=0, atol=1e-20, msg=name)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_the_recipe_for_pretrained_weights_starts_from_a_file_of_either_library(
    tmp_path, monkeypatch, library
):
    """As it is written, for photographs of three classes: everything but the last layer computes what theirs does."""
    make = torchvision.models if library == "torchvision" else pytest.importorskip("timm").models
    torch.manual_seed(1)
    theirs = make.resnet50()
    for name, tensor in [*theirs.named_parameters(), *theirs.named_buffers()]:
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.data = torch.rand_like(tensor) + 0.5 if "var" in name else 0.5 * torch.randn_like(tensor)
    monkeypatch.chdir(tmp_path)
    resolved = config.load("resnet50_bn_pretrained")
    torch.save(theirs.state_dict(), resolved.config.model.weights)
    network = build_network(resolved, 3, 3).double().eval()
    initial_weights.load(resolved, network)
    theirs.fc = network.fc
    images = torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        expected = theirs.double().eval()(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-6, atol=1e-6)
    assert expected.shape == (2, 3)


def test_only_the_named_modules_are_trained(recipe, earlier, tmp_path):
    only = ["model.train_only=[layer3, fc]", "optimizer.weight_decay=0.1", "optimizer.momentum=0.9"]
    run(recipe, tmp_path / "run", f"model.weights={earlier}", *only)
    before, after = weights(earlier), weights(tmp_path / "run")
    for name, value in before.items():
        if not name.startswith(("layer3.", "fc.")):
            assert torch.equal(after[name], value), name
    for name in ("layer3.0.conv1.weight", "layer3.0.norm1.proxy.beta", "fc.weight", "fc.bias"):
        assert not torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("trained", ["[layer3, fc]", "[fc]"])
def test_fine_tuning_at_another_size_with_held_statistics(recipe, earlier, tmp_path, trained):
    changed = ["data.image_size=12", f"model.train_only={trained}", f"model.weights={earlier}"]
    each, once = tmp_path / "each", tmp_path / "once"
    run(recipe, each, *changed)
    run(recipe, once, *changed, "model.proxy_norm_statistics=per_update")
    for name, value in weights(each).items():
        torch.testing.assert_close(weights(once)[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "model.weights=nowhere.safetensors",
            r"model\.weights: cannot read nowhere.safetensors: No such file",
        ),
        ("model.weights=.", r"model\.weights: no checkpoint in the folder \."),
        ("model.train_only=[layer2.0.shortcut]", r"model\.train_only: layer2.0.shortcut has no parameters"),
        ("model.train_only=[layer33]", r"model\.train_only: layer33 is no module .* did you mean layer3\?"),
    ],
)
def test_what_is_not_there_is_one_message(recipe, tmp_path, override, message):
    with pytest.raises(config.ConfigError, match=message):
        run(recipe, tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_fewer_outputs_than_classes_are_refused(recipe, tmp_path):
    with pytest.raises(config.ConfigError, match=r"model\.num_classes: is 3, but the images have 4 classes"):
        run(recipe, tmp_path / "run", "model.num_classes=3")


def test_broken_files_are_named(recipe, tmp_path):
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(config.ConfigError, match=rf"model\.weights: .*{name}"):
            run(recipe, tmp_path / "run", f"model.weights={tmp_path / name}")


def test_weights_of_another_network_are_refused(recipe, earlier, tmp_path):
    without = "they lack 11 tensors, .* and they also hold 16 tensors"
    for override, why in (
        ("model.proxy_norm=false", without),
        ("model.name=resnet14", "they lack 21 tensors"),
    ):
        with pytest.raises(config.ConfigError, match=rf"model\.weights: .* another network: {why}"):
            run(recipe, tmp_path / "run", f"model.weights={earlier}", override)


def test_stepped_loss_scaling_changes_nothing_but_the_scale(recipe, tmp_path):
    run(recipe, tmp_path / "plain", "training.epochs=2")
    stepped = ["optimizer.loss_scaling=4", "optimizer.loss_scaling_epochs=[0.5, 1]", "training.epochs=2"]
    run(recipe, tmp_path / "scaled", *stepped)
    for name, value in weights(tmp_path / "plain").items():
        torch.testing.assert_close(weights(tmp_path / "scaled")[name], value, rtol=0, atol=1e-6)
    state = json.loads((checkpoint.newest(tmp_path / "scaled" / "checkpoints") / "state.json").read_text())
    assert state["loss_scaling"] == 16.0


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(3)
    return torchvision.models.resnet18(num_classes=5)


def loaded(path, *more):
    cut = "device.pipeline_splits=[]"
    resolved = config.load(
        "resnet50_bn_pretrained", ["model.name=resnet18", f"model.weights={path}", cut, *more]
    )
    network = build_network(resolved, 5, 3)
    initial_weights.load(resolved, network)
    return network


def under(prefix):
    return lambda state: {prefix + name: value for name, value in state.items()}


WRAPPINGS = {
    "DataParallel": under("module."),
    "compiled": under("_orig_mod."),
    "compiled, DataParallel": under("module._orig_mod."),
    "LightningModule": lambda state: {"epoch": 3, "state_dict": under("model.")(state)},
    "PyTorch's tutorial": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}},
    "torchvision's references": lambda state: {"model": state, "model_ema": under("module.")(state)},
    "before torch 0.4.1": lambda state: {n: v for n, v in state.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_state_dict_is_found_in_what_programs_save(resnet18, tmp_path, wrapping, suffix):
    saved = WRAPPINGS[wrapping](resnet18.state_dict())
    path = tmp_path / f"saved{suffix}"
    if suffix == ".pth":
        torch.save(saved, path)
    elif all(isinstance(value, torch.Tensor) for value in saved.values()):
        save_file(saved, str(path))
    else:
        pytest.skip("safetensors files hold no dicts")
    network = loaded(path, "model.new_classifier=false").eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(images), resnet18.eval()(images))


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="torch 2.5 and later")
def test_bookkeeping_beside_the_weights_is_no_obstacle(resnet18, tmp_path):
    best = [np.float64(0.7), np.float32(0.7), np.int64(3), np.mean([True]) > 0.5]
    saved = {
        "model": resnet18.state_dict(),
        "args": argparse.Namespace(lr=0.1, model="resnet18"),
        "best": best,
    }
    torch.save(saved, tmp_path / "model_89.pth")
    network = loaded(tmp_path / "model_89.pth", "model.new_classifier=false")
    assert torch.equal(network.state_dict()["conv1.weight"], resnet18.conv1.weight)


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="torch 2.5 and later")
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_either_numpy_are_no_obstacle(tmp_path, module):
    """NumPy 1 and 2 name what makes their numbers differently in files."""
    types = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
    types += [np.longlong, np.float16, np.float32, np.float64, np.complex64, np.complex128]
    torch.save({"model": {"a": torch.ones(2)}, "best": [each(1) for each in types]}, tmp_path / "saved.pth")
    saved = zipfile.ZipFile(tmp_path / "saved.pth")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as other:
        for name in saved.namelist():
            data = saved.read(name)
            if name.endswith("data.pkl"):
                data, count = re.subn(rb"cnumpy\._?core\.multiarray\n", f"c{module}\n".encode(), data)
                assert count == 1
            other.writestr(name, data)
    assert_equal(read_file(tmp_path / "other.pth"), {"a": torch.ones(2)})


def test_names_are_those_in_the_file_where_no_wrapper_helps():
    theirs = {"encoder.layer1.0.a.weight": torch.ones(1), "encoder.layer1.0.b.weight": torch.ones(1)}
    ours = {"conv.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}
    assert without_wrapper(theirs, ours, lambda n: None) == theirs


def test_a_wrapper_that_the_network_has_too_stays():
    """A network of one's own may hold all it has in one module."""
    ours = {"net.a": torch.zeros(1), "net.b": torch.zeros(1)}
    found = without_wrapper(
        {"module.net.a": torch.ones(1), "module.net.b": torch.ones(1)}, ours, lambda n: None
    )
    assert set(found) == set(ours)


class Anything:
    pass


NOT_WEIGHTS = [
    (
        lambda s: {"state_dict": s, "args": Anything()},
        r"more than tensors \(\S*Anything\), .*\.state_dict\(\), PATH\)$",
    ),
    (lambda s: {}, "holds no tensors"),
    (lambda s: {"epoch": 1, "weights": 7}, "holds no state dict .*: its keys are epoch, weights"),
    (lambda s: {**s, "conv1.weight": s["conv1.weight"] * float("nan")}, "conv1.weight holds NaN"),
    (lambda s: {**s, "conv1.weight": s["conv1.weight"].to_sparse()}, "conv1.weight is no plain tensor"),
    (
        lambda s: {**s, "conv1.weight": s["conv1.weight"].char()},
        "conv1.weight is torch.int8 in the checkpoint",
    ),
]


@pytest.mark.parametrize("saved, message", NOT_WEIGHTS)
def test_a_file_without_usable_weights_is_one_line(resnet18, tmp_path, saved, message):
    torch.save(saved(resnet18.state_dict()), tmp_path / "given.pth")
    with pytest.raises(config.ConfigError, match=message) as caught:
        loaded(tmp_path / "given.pth")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_half_a_file_is_said_to_be_that(resnet18, tmp_path):
    torch.save(resnet18.state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(config.ConfigError, match="is damaged, or only the beginning of a file of weights$"):
        loaded(tmp_path / "half.pth")


def said_of_epsilon(network, name, tmp_path, capsys, *more):
    torch.save(network.state_dict(), tmp_path / "given.pth")
    capsys.readouterr()
    found = loaded(tmp_path / "given.pth", f"model.name={name}", "model.new_classifier=false", *more)
    return found, capsys.readouterr().err


@pytest.mark.parametrize(
    "name, right, wrong", [("efficientnet_b0", "1e-5", "0.001"), ("efficientnet_b5", "0.001", "1e-5")]
)
def test_another_epsilon_than_torchvisions_is_told(tmp_path, capsys, name, right, wrong):
    theirs = getattr(torchvision.models, name)(num_classes=5).eval()
    given = (theirs, name, tmp_path, capsys)
    assert (
        f"has norm_eps {float(right):g}, and the model has {float(wrong):g}"
        in said_of_epsilon(*given, f"model.norm_eps={wrong}")[1]
    )
    network, said = said_of_epsilon(*given, f"model.norm_eps={right}")
    assert "norm_eps" not in said
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_an_epsilon_that_timms_files_do_not_show_is_asked_for(tmp_path, capsys):
    timm = pytest.importorskip("timm")
    names = ["efficientnet_b0", "tf_efficientnet_b0"]
    plain, tf = (timm.create_model(name, num_classes=5) for name in names)
    assert list(plain.state_dict()) == list(tf.state_dict())
    given = (plain, "efficientnet_b0", tmp_path, capsys)
    said = f"efficientnet_ networks have norm_eps {plain.bn1.eps:g} and its tf_efficientnet_ ones {tf.bn1.eps:g} "
    assert said in said_of_epsilon(*given)[1]
    assert said in said_of_epsilon(*given, "model.norm_eps=0.01")[1]
    for chosen in (plain.bn1.eps, tf.bn1.eps):
        assert "norm_eps" not in said_of_epsilon(*given, f"model.norm_eps={chosen}")[1]


@pytest.mark.parametrize("theirs, told", [("resnetblur50", True), ("resnet50", False)])
def test_weights_of_a_network_that_only_computes_otherwise_are_told_of(theirs, told, tmp_path, capsys):
    """timm's resnetblur50 has resnet50's names and shapes; timm's ``config.json`` beside them tells which it is."""
    timm = pytest.importorskip("timm")
    saved = timm.create_model(theirs, num_classes=3)
    save_file(saved.state_dict(), str(tmp_path / "model.safetensors"))
    about = {"architecture": theirs, "num_classes": 3, "pretrained_cfg": saved.pretrained_cfg}
    (tmp_path / "config.json").write_text(json.dumps(about))
    resolved = config.load("resnet50_bn_pretrained", [f"model.weights={tmp_path / 'model.safetensors'}"])
    initial_weights.load(resolved, build_network(resolved, 3, 3))
    said = capsys.readouterr().err
    assert (f"says that these weights are of {theirs}, and model.name is resnet50" in said) is told
