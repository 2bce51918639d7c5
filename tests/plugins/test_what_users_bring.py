"""Networks, images and callbacks as people have them: what can be used trains, what cannot is one message."""

import json
import math
import os
import signal
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import weight_norm
from torchvision.datasets import ImageFolder

import ipu_train
from ipu_train.cli import main
from ipu_train.config import ConfigError
from ipu_train.data.registered import MapStyleImages
from ipu_train.models import OWN, copied, folded
from ipu_train.training import checkpoint, checkpoint_folder
from ipu_train.training.keeper import Keeper

from .test_own import final


@pytest.fixture()
def weight_normed():
    torch.manual_seed(0)
    return nn.Sequential(
        weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)
    )


def test_a_network_with_weight_norm_may_be_given_and_is_exported(recipe, weight_normed):
    images = torch.rand(2, 3, 8, 8)
    before = weight_normed(images)  # leaves a weight that follows from parameters
    for copy in (copied(weight_normed), folded(weight_normed)):
        assert torch.equal(copy(images), before)
    outcome = ipu_train.train(recipe, ["run_dir=run", "schedule.name=constant"], model=weight_normed)
    trained = final(outcome)
    assert set(trained) == {"0.bias", "0.weight_g", "0.weight_v", "4.weight", "4.bias"}
    for name, value in weight_normed.state_dict().items():
        assert torch.equal(value, trained[name])
    assert not torch.equal(weight_normed(images), before)

    ipu_train.register_model("normed", lambda num_classes, in_channels: weight_normed)
    ipu_train.train(recipe, ["run_dir=again", "model.name=normed"])
    assert main(["export", "--run", "again", "--format", "torchscript", "--out", "net.pt"]) == 0


class Twice(nn.Module):
    """One convolution under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = self.first
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        return self.fc(self.second(torch.relu(self.first(x))).mean((2, 3)))


def test_layers_that_share_their_weights_are_exported_under_both_names(recipe):
    ipu_train.register_model("twice", lambda num_classes, in_channels: Twice())
    trained = final(ipu_train.train(recipe, ["run_dir=run", "model.name=twice"]))
    assert main(["export", "--run", "run", "--format", "state_dict", "--out", "net.safetensors"]) == 0
    exported = load_file("net.safetensors")
    assert (
        set(exported)
        == set(trained)
        == {f"{n}.{p}" for n in ("first", "second", "fc") for p in ("weight", "bias")}
    )
    assert all(torch.equal(exported[name], value) for name, value in trained.items())
    again = [
        "run_dir=again",
        "model.name=twice",
        "model.weights=net.safetensors",
        "optimizer.learning_rate=1e-9",
    ]
    assert torch.allclose(final(ipu_train.train(recipe, again))["second.weight"], trained["second.weight"])


@pytest.mark.parametrize("size, status", [("8", 0), ("16", 2)])
def test_images_that_a_network_does_not_take_are_one_message_of_models_show(recipe, capsys, size, status):
    ipu_train.register_model(
        "flat", lambda num_classes, in_channels: nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
    )
    assert main(["models", "show", "flat", "--image-size", size, "--num-classes", "4"]) == status
    said = capsys.readouterr()
    assert status == 0 or "model.name: the network does not take images of 3 x 16 x 16: Runtime" in said.err


class Masked(nn.Module):
    """A constant that is infinite, and two outputs that no class has."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.fc = nn.Linear(192, 6)

    def forward(self, x):
        return self.fc(x.flatten(1))


def test_a_network_may_have_a_constant_that_is_infinite(recipe):
    ipu_train.register_model("masked", lambda num_classes, in_channels: Masked())
    averaged = ["averaging.name=mean", "training.epochs=3"]
    trained = final(ipu_train.train(recipe, ["run_dir=run", "model.name=masked", *averaged]))
    assert trained["mask"].tolist() == [0.0, -math.inf]
    figures = ["evaluate", "--run", "run", "--weights", "averaged", "--json", "figures.json"]
    assert main(figures) == 0
    (newest,) = [checkpoint.load(checkpoint_folder.newest(Path("run/checkpoints")))]
    assert newest.optimizer["average/average.mask"].tolist() == [0.0, -math.inf]


def test_an_exported_network_has_the_outputs_that_its_description_says(recipe):
    ipu_train.register_model("masked", lambda num_classes, in_channels: Masked())
    ipu_train.train(recipe, ["run_dir=run", "model.name=masked"])
    assert main(["export", "--run", "run", "--format", "torchscript", "--out", "net.pt"]) == 0
    said = json.loads(Path("net.pt.json").read_text())["output"]["shape"]
    assert said == ["batch", torch.jit.load("net.pt")(torch.zeros(2, 3, 8, 8)).shape[1]] == ["batch", 6]


def test_a_new_classifier_that_is_not_found_is_refused(recipe):
    ipu_train.register_model("twice", lambda num_classes, in_channels: Twice(), classifier="head")
    ipu_train.train(recipe, ["run_dir=run", "model.name=twice"])
    again = ["run_dir=again", "model.name=twice", "model.weights=run", "model.new_classifier=true"]
    with pytest.raises(ConfigError, match="new_classifier: twice has no layer head; .*classifier='fc'"):
        ipu_train.train(recipe, again)


WRAPPED = [
    (nn.DataParallel, "DataParallel has wrapped"),
    (lambda network: torch.jit.trace(network, torch.zeros(1, 3, 8, 8)), "torch.jit has compiled"),
    (lambda network: nn.Sequential(torch.jit.script(network)), "torch.jit has compiled"),
    (torch.compile, "torch.compile has compiled"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrap, words", WRAPPED, ids=["parallel", "traced", "scripted", "compiled"])
def test_a_network_that_is_no_plain_module_any_more_is_refused(recipe, wrap, words):
    network = wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))
    with pytest.raises(ValueError, match=f"has a module that {words}.*; use the module itself"):
        ipu_train.train(recipe, ["run_dir=run"], model=network)


@pytest.mark.parametrize(
    "image, message",
    [
        (Image.new("P", (4, 4)), r'and is a Pillow image of mode P; convert\("L"\) makes it one'),
        (Image.new("PA", (4, 4)), r'and is a Pillow image of mode PA; convert\("L"\) makes it one'),
        (Image.new("1", (4, 4)), r'and is a Pillow image of mode 1; convert\("L"\) makes it one'),
        (Image.new("RGB", (4, 4)), r'and is a Pillow image of mode RGB; convert\("L"\) makes it one'),
        (Image.new("I;16", (4, 4)), "and is uint16 of 1 x 4 x 4$"),
        (torch.zeros(1, 4, 4, requires_grad=True), "and is float32 of 1 x 4 x 4; leave out .* ToTensor"),
        (torch.zeros(1, 4, 4, dtype=torch.bfloat16), "and is not to be had as an array: TypeError"),
    ],
)
def test_images_that_numpy_or_eyes_see_otherwise_are_refused(image, message):
    with pytest.raises(ipu_train.data.DataError, match=message):
        MapStyleImages([(image, 0)], "mine", (1, 4, 4)).batch([0])


@pytest.mark.parametrize("mode", ["L", "LA", "HSV", "YCbCr", "LAB", "RGB", "CMYK", "RGBX", "RGBA"])
def test_pillow_images_of_other_colour_spaces_are_taken_as_they_are(mode):
    channels = len(Image.new(mode, (1, 1)).getbands())
    image = Image.frombytes(mode, (4, 4), bytes(range(channels)) * 16)
    found = MapStyleImages([(image, 0)], "mine", (channels, 4, 4)).batch([0])[0][0]
    for channel in range(channels):
        assert (found[channel] == channel).all()


def test_labels_are_those_of_the_items(tmp_path):
    """torchvision's data sets keep the labels of their files beside items whose labels are transformed."""
    for name in ("ant", "bee", "cat"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    plain = ImageFolder(str(tmp_path))
    changed = ImageFolder(str(tmp_path), target_transform=[2, 0, 1].__getitem__)
    for items, labels in ((plain, [0, 1, 2]), (changed, [2, 0, 1])):
        assert [label for _, label in items] == labels
        assert MapStyleImages(items, "mine", (3, 4, 4)).labels.tolist() == labels


def test_something_else_called_labels_gives_none():
    class Items(list):
        def labels(self):
            return "of another kind"

    items = Items([(np.zeros((1, 4, 4), np.uint8), label) for label in (1, 0)])
    assert MapStyleImages(items, "mine", (1, 4, 4)).labels.tolist() == [1, 0]


def test_a_function_that_cannot_open_its_images_is_one_message_with_its_line(recipe, capsys):
    @ipu_train.register_dataset("gone", num_classes=4, image_size=8)
    def gone(image_size, seed, path=None):
        return open("no/such/file"), None

    recipe.write_text(recipe.read_text().replace("{name: generated, ", "{name: registered, dataset: gone} #"))
    assert main(["--config", str(recipe)]) == 2
    printed = capsys.readouterr().err
    assert "gone: the function that opens it, given image_size, seed, fails: FileNotFoundError" in printed
    assert "test_what_users_bring.py:" in printed
    assert main(["--config", str(recipe), "data.options={length: 3}"]) == 2
    printed = capsys.readouterr().err
    assert "given image_size, seed, length, fails: TypeError" in printed
    assert "unexpected keyword argument 'length'" in printed


class Failing(ipu_train.Callback):
    def __init__(self, where, step):
        self.where, self.step = where, step

    def training(self, record):
        if self.where == "training" and record["step"] == self.step:
            raise RuntimeError("no more")

    def validation(self, record):
        if self.where == "validation" and record["step"] == self.step:
            raise SystemExit(7)


class Steps(ipu_train.Callback):
    def __init__(self):
        self.seen = []

    def training(self, record):
        self.seen.append(record["step"])


@pytest.mark.parametrize(
    "where, step, error",
    [
        ("training", 2, RuntimeError),
        ("training", 4, RuntimeError),  # the last of an epoch
        ("validation", 4, SystemExit),
        ("validation", 8, SystemExit),  # the last of the run
    ],
)
def test_what_a_callback_raises_comes_after_the_step_is_saved_and_the_run_goes_on_exactly(
    recipe, where, step, error
):
    more = ["training.epochs=2", "training.gradient_accumulation=2", "data.length=64"]
    whole = ipu_train.train(recipe, [*more, "run_dir=whole"])
    after = Steps()
    with pytest.raises(error):
        ipu_train.train(recipe, [*more, "run_dir=run"], callbacks=[Failing(where, step), after])
    assert checkpoint_folder.newest(Path("run/checkpoints")).name == f"step_{step:08d}"
    assert after.seen == list(range(1, step if where == "training" else step + 1))
    resumed = ipu_train.train(recipe, [*more, "run_dir=run"], resume=True)
    assert resumed.accuracy == whole.accuracy
    expected, found = final(whole), final(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_first_signal_while_a_callbacks_step_is_saved_waits_for_it(recipe, monkeypatch):
    """The scheduler's one SIGTERM."""
    at_once, save = [], Keeper.save

    def signalled(keeper, position):
        if not at_once:
            os.kill(os.getpid(), signal.SIGTERM)
        save(keeper, position)

    monkeypatch.setattr(Keeper, "save", signalled)
    before = signal.signal(signal.SIGTERM, lambda number, frame: at_once.append(number))
    try:
        with pytest.raises(RuntimeError, match="no more"):
            ipu_train.train(recipe, ["run_dir=run"], callbacks=[Failing("training", 2)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert at_once == []
    assert checkpoint_folder.newest(Path("run/checkpoints")).name == "step_00000002"


@pytest.mark.parametrize("where, step, error", [("training", 2, RuntimeError), ("validation", 4, SystemExit)])
def test_a_callbacks_error_is_seen_behind_that_of_a_full_disk(recipe, monkeypatch, where, step, error):
    def full(*arguments, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(checkpoint.CheckpointError, match="No space left") as raised:
        ipu_train.train(recipe, ["run_dir=run"], callbacks=[Failing(where, step)])
    shown = "".join(traceback.format_exception(type(raised.value), raised.value, raised.value.__traceback__))
    own, disk = (shown.index(text) for text in (f"\n{error.__name__}: ", "\nOSError: [Errno 28]"))
    assert own < disk < shown.index("CheckpointError: ")


def test_a_run_that_has_ended_still_has_its_accuracy(recipe):
    first = ipu_train.train(recipe, ["run_dir=run"])
    assert first.accuracy > 0
    assert ipu_train.train(recipe, ["run_dir=run"], resume="auto").accuracy == first.accuracy


def test_one_callback_must_stand_in_a_list(recipe):
    with pytest.raises(ValueError, match="callbacks: takes a list of them"):
        ipu_train.train(recipe, callbacks=Steps())


def test_what_no_command_can_find_again_is_said_to_be_that(recipe, tmp_path, monkeypatch, capsys):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    ipu_train.train(recipe, ["run_dir=run"], model=network)
    OWN.clear()
    assert main(["evaluate", "--run", "run"]) == 2
    assert (
        "Sequential given from Python: the network is known in the program alone" in capsys.readouterr().err
    )
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    ipu_train.train(recipe, ["run_dir=again", "model.name=net.py:net"])
    OWN.clear()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", "--run", "../again"]) == 2
    assert f"net.py: there is no such file in {tmp_path / 'elsewhere'}, where" in capsys.readouterr().err
