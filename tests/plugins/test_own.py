"""Networks and images of the user's own: from Python, from a file, from an installed package."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import ipu_train
from ipu_train import models, plugins
from ipu_train.cli import main
from ipu_train.config import ConfigError, load
from ipu_train.data.registered import MapStyleImages
from ipu_train.plugins import datasets, loading
from ipu_train.tracking import tracker
from ipu_train.training import checkpoint_folder

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_network.py"


def pool_and_classify(num_classes, in_channels, norms, *, width: int = 8):
    return nn.Sequential(
        norms.convolution(in_channels, width, 3),
        norms.activated(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )


def final(outcome):
    return load_file(str(checkpoint_folder.newest(outcome.folder.checkpoints) / "weights.safetensors"))


def test_the_example_trains_and_the_commands_find_its_network_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    (run,) = (tmp_path / "runs" / "quickstart").iterdir()
    models.OWN.clear()
    datasets.OWN.clear()
    assert main(["evaluate", "--run", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "100 images" in printed
    assert "accuracy 100.00%" in printed
    assert len(EXAMPLE.read_text().splitlines()) < 50


@pytest.mark.parametrize("norm, kind", [("group", "GroupNorm"), ("batch", "BatchNorm")])
def test_a_registered_network_takes_the_norm_of_the_configuration(recipe, norm, kind):
    ipu_train.register_model("mine", pool_and_classify, image_size=8)
    more = [f"model.norm={norm}", "model.options={width: 4}", "model.name=mine"]
    outcome = ipu_train.train(recipe, [*more, "run_dir=run"])
    weights = final(outcome)
    assert weights["0.weight"].shape == (4, 3, 3, 3)
    assert ("1.proxy.beta" in weights) == (norm == "group")
    network = models.build("mine", 4, norm=norm, proxy_norm=norm == "group", width=4)
    assert type(network[1].norm).__name__ == kind


def test_a_registered_network_is_planned_and_pipelined_at_its_modules(recipe, capsys):
    ipu_train.register_model("mine", pool_and_classify, image_size=8)
    split = ["model.name=mine", "device.pipeline_splits=['4']", "training.gradient_accumulation=4"]
    report = ipu_train.predict(load(recipe, split))
    assert len(report.to_json()["ipus"]) == 2
    outcome = ipu_train.train(recipe, [*split, "run_dir=run"])
    assert outcome.status == 0


def test_a_network_that_is_given_starts_from_its_weights_and_has_the_trained_ones_afterwards(recipe):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with torch.no_grad():
        network[1].weight.fill_(0.25)
    outcome = ipu_train.train(recipe, ["run_dir=run", "optimizer.learning_rate=1e-6"], model=network)
    assert torch.equal(network[1].weight, final(outcome)["1.weight"])
    torch.testing.assert_close(network[1].weight, torch.full((4, 192), 0.25), rtol=0, atol=1e-3)
    assert (network[1].weight != 0.25).any()
    assert load(outcome.folder.config).config.model.norm == "none"


class Unreadable(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise IndexError("no such row")


class Shapes(torch.utils.data.Dataset):
    """Pillow images of height and width 6 whose colour is their label."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        label = index % 3
        return Image.new("RGB", (6, 6), tuple(200 * (c == label) for c in range(3))), label


def test_any_map_style_data_set_trains(recipe):
    @ipu_train.register_dataset("shapes", num_classes=3, image_size=6, class_names=["r", "g", "b"])
    def shapes(image_size, seed, count=48):
        return Shapes(count), Shapes(12)

    outcome = ipu_train.train(recipe, ["run_dir=run", "training.epochs=4"], data="shapes")
    assert outcome.accuracy == 1
    assert main(["evaluate", "--run", "run"]) == 0
    # as model.options, data.options takes its keys one by one
    more = ["data.name=registered", "data.dataset=shapes", "data.length=null", "data.num_classes=null"]
    one, both = "data.options.count=24", "data.options={count: 24}"
    by_key, whole = (load(recipe, [*more, "data.image_size=null", words]) for words in (one, both))
    assert by_key.config == whole.config and by_key.config.data.options == {"count": 24}
    assert by_key.origins["data.options.count"] == "override"


def test_an_image_that_cannot_be_used_advises_no_key_that_its_source_lacks(recipe):
    images = [(np.zeros((3, 6, 6), np.uint8), index % 3) for index in range(47)]
    faulty = [*images, (np.zeros((3, 6, 6), np.float32), 0)]
    ipu_train.register_dataset(
        "faulty", lambda image_size, seed: (faulty, images), num_classes=3, image_size=6
    )
    with pytest.raises(ipu_train.data.DataError, match="image 47 must be uint8 .* once that is mended$"):
        ipu_train.train(recipe, ["run_dir=run"], data="faulty")


def test_images_come_as_arrays_tensors_and_pictures():
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    forms = [pixels, torch.from_numpy(pixels), pixels.transpose(1, 2, 0)]
    images, labels = MapStyleImages([(form, 1) for form in forms], "forms", (2, 4, 4)).batch([0, 1, 2])
    assert labels.tolist() == [1, 1, 1]
    assert all(torch.equal(image, torch.from_numpy(pixels)) for image in images)


def test_callbacks_hear_every_line_and_may_end_the_run(recipe):
    class Heard(ipu_train.Callback):
        def __init__(self):
            self.said = []

        def started(self, folder):
            self.said.append(("started", folder.name))

        def training(self, record):
            self.said.append(("training", record["step"]))

        def validation(self, record):
            self.said.append(("validation", record["epoch"]))
            return record["epoch"] == 2

        def finished(self, folder, status):
            self.said.append(("finished", status))

    heard = Heard()
    ipu_train.train(recipe, ["run_dir=run", "training.epochs=9"], callbacks=[heard])
    lines = [("training", step) for step in range(1, 9)]
    first, second = [*lines[:4], ("validation", 1)], [*lines[4:], ("validation", 2)]
    assert heard.said == [("started", "run"), *first, *second, ("finished", 0)]
    assert checkpoint_folder.newest(Path("run/checkpoints")).name == "step_00000008"


def test_a_callback_that_fails_at_the_start_leaves_nothing_open(recipe, monkeypatch):
    closed = []

    class Open(tracker.WandbRun):
        def __init__(self, *arguments):
            closed.append(False)

        def close(self):
            closed[0] = True

    class Fails(ipu_train.Callback):
        def started(self, folder):
            raise RuntimeError("not today")

    monkeypatch.setattr(tracker, "WandbRun", Open)
    with pytest.raises(RuntimeError, match="not today"):
        ipu_train.train(recipe, ["run_dir=run", "logging.wandb=true"], callbacks=[Fails()])
    assert closed == [True]


def test_threads_of_one_training_are_not_those_of_the_next(recipe):
    before = torch.get_num_threads()
    seen = []

    class Looks(ipu_train.Callback):
        def started(self, folder):
            seen.append(torch.get_num_threads())

    ipu_train.train(recipe, ["run_dir=a", f"device.threads={before + 1}"], callbacks=[Looks()])
    ipu_train.train(recipe, ["run_dir=b", "device.threads=null"], callbacks=[Looks()])
    assert seen == [before + 1, before]


def test_a_file_and_an_installed_package_bring_models(recipe, tmp_path, monkeypatch):
    source = (
        "from torch import nn\n"
        "def flat(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))\n"
        "def plain(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 8), nn.Flatten())\n"
        "def register():\n"
        "    import ipu_train\n"
        "    ipu_train.register_model('of_the_package', plain)\n"
    )
    (tmp_path / "flat_net.py").write_text(source)
    outcome = ipu_train.train(recipe, ["model.name=flat_net.py:plain", "run_dir=run"])
    assert final(outcome)["0.weight"].shape == (4, 3, 8, 8)
    assert main(["models", "show", "flat_net.py:plain", "--image-size", "8"]) == 0

    folder = tmp_path / "site" / "flat_net-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: flat-net\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[ipu_train.plugins]\nflat = flat_net:register\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(loading, "_asked", False)
    assert load(recipe, ["model.name=of_the_package"]).config.model.norm == "none"
    sys.modules.pop("flat_net", None)


def test_a_file_finds_its_neighbours_and_its_dataclasses(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "width_of_flat_net.py").write_text("WIDTH = 3\n")
    source = (
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from torch import nn\n"
        "from width_of_flat_net import WIDTH\n"
        "@dataclasses.dataclass\n"
        "class Sizes:\n"
        "    width: int = WIDTH\n"
        "def net(num_classes, in_channels):\n"
        "    return nn.Linear(Sizes().width, num_classes)\n"
    )
    for name in ("flat_net_of_a_file.py", "json.py", "a-b.py"):  # new, somebody else's, not importable
        (tmp_path / "nets" / name).write_text(source)
        assert models.build(_found(f"nets/{name}:net"), 5).weight.shape == (5, 3)
    assert hasattr(json, "loads")
    for name in ("flat_net_of_a_file", "width_of_flat_net"):
        sys.modules.pop(name, None)


def _found(name):
    assert plugins.find_model(name)
    return name


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["model.name=nowhere.py:net"], "nowhere.py: there is no such file"),
        (["model.name=own.yaml:net"], "own.yaml cannot be imported"),
        (["model.name=broken.py:net"], "broken.py cannot be loaded: ZeroDivisionError"),
        (["model.name=mine", "model.options={depth: 3}"], "depth is no option of mine"),
        (["model.name=mine", "model.options={width: wide}"], "width must be a whole number"),
        (["model.name=bare", "model.norm=batch"], "bare has norms of its own"),
        (
            ["data.name=registered", "data.dataset=nothing", "data.length=null", "data.num_classes=null"],
            "no data set is registered as nothing",
        ),
    ],
)
def test_what_cannot_be_found_is_one_message(recipe, tmp_path, overrides, message):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    ipu_train.register_model("mine", pool_and_classify)
    ipu_train.register_model("bare", lambda num_classes, in_channels: nn.Linear(1, 1))
    with pytest.raises(ConfigError, match=message):
        load(recipe, overrides)


def test_keys_of_norms_are_refused_once_by_a_network_with_norms_of_its_own(recipe):
    ipu_train.register_model("bare", lambda num_classes, in_channels: nn.Linear(1, 1))
    theirs = ["model.name=bare", "model.norm=group", "model.norm_groups=4", "model.proxy_norm=true"]
    with pytest.raises(ConfigError) as caught:
        load(recipe, theirs)
    problems = [problem.path for problem in caught.value.problems]
    assert problems == ["model.norm", "model.norm_groups", "model.proxy_norm"]


class Heads(nn.Module):
    """Two heads while it trains."""

    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(192, classes)

    def forward(self, images):
        logits = self.fc(images.flatten(1))
        return (logits, logits) if self.training else logits


class LooksAtValues(Heads):
    def forward(self, images):
        images = images.flatten(1)
        return self.fc(-images if images.mean() < 0 else images)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda n: nn.Linear(8, n), "(3, 8, 8) has the shape (8, 3, 8, 4); (8, classes) is wanted"),
        (
            lambda n: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)),
            "has the shape (8, 3), and there are 4 classes",
        ),
        (Heads, "(3, 8, 8) is a tuple; one tensor (8, classes) is wanted, in training as in validation"),
        (LooksAtValues, "in forward). PopTorch compiles one program for all images"),
        (
            lambda n: nn.Sequential(nn.Flatten(), nn.LazyLinear(n)),
            "1.weight, 1.bias get their shapes from a first",
        ),
        (lambda n: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), "has no parameters to train"),
        (
            lambda n: nn.Sequential(nn.Flatten(), nn.Linear(9, n)),
            "fails on images of (3, 8, 8): RuntimeError: mat1",
        ),
        (lambda n: {}[n], "the function that makes the network fails: KeyError: 4 ("),
    ],
)
def test_a_network_that_cannot_be_trained_is_one_message(recipe, capsys, build, message):
    ipu_train.register_model("odd", lambda num_classes, in_channels: build(num_classes))
    for command in (["plan"], []):
        assert main([*command, "--config", str(recipe), "model.name=odd"]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed


class WithCoordinates(nn.Module):
    """Makes a tensor on the CPU in its forward, and asks tensors for values in its constructor."""

    def __init__(self, classes):
        super().__init__()
        self.rates = torch.linspace(0, 0.1, 3).tolist()
        self.convolution = nn.Conv2d(4, 8, 3, dtype=torch.float64)
        self.fc = nn.Linear(8, classes, dtype=torch.float64)

    def forward(self, images):
        columns = torch.linspace(-1, 1, images.shape[3]).expand_as(images[:, :1])
        mapped = self.convolution(torch.cat([images, columns], 1)).relu().mean((2, 3))
        return self.fc(nn.functional.dropout(mapped, self.rates[1], self.training))


def test_a_network_that_needs_values_to_be_made_is_planned_and_trains(recipe, capsys):
    ipu_train.register_model("coordinates", lambda num_classes, in_channels: WithCoordinates(num_classes))
    assert main(["plan", "--config", str(recipe), "model.name=coordinates"]) == 0
    outcome = ipu_train.train(recipe, ["model.name=coordinates", "run_dir=run"])
    assert final(outcome)["fc.weight"].dtype == torch.float32


class NormOfTheBatch(nn.Module):
    """Batch norm by hand: no module of torch's says that images meet."""

    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(192, classes)

    def forward(self, images):
        features = images.flatten(1)
        return self.fc((features - features.mean(0)) / (features.std(0) + 0.1))


class CountsCalls(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(192, classes)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images):
        if self.training:
            self.calls += 1
        return self.fc(images.flatten(1))


@pytest.mark.parametrize("network", [NormOfTheBatch, CountsCalls])
def test_micro_batches_of_ones_own_network_meet_only_where_it_computes_the_same(recipe, network):
    ipu_train.register_model("own", lambda num_classes, in_channels: network(num_classes))
    weights = [
        final(
            ipu_train.train(
                recipe, ["model.name=own", f"device.fuse_micro_batches={fuse}", f"run_dir={fuse}"]
            )
        )
        for fuse in ("auto", "off")
    ]
    for name, value in weights[1].items():
        torch.testing.assert_close(weights[0][name], value)
    assert weights[0].get("calls", torch.tensor(8.0)) == 8


def test_a_network_with_its_own_norms_is_swept_with_these(recipe, capsys):
    ipu_train.register_model(
        "plain", lambda num_classes, in_channels: nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
    )
    arguments = ["--micro-batch-sizes", "1,8", "--json", "sweep.json"]
    assert main(["sweep", "--config", str(recipe), "model.name=plain", *arguments]) == 0
    assert {one["norm"] for one in json.loads(Path("sweep.json").read_text())["points"]} == {"none"}


@pytest.mark.parametrize(
    "register, message",
    [
        (lambda: ipu_train.register_model("resnet50", pool_and_classify), "has a model resnet50 itself"),
        (lambda: ipu_train.register_model("x", lambda classes: None), "must take num_classes"),
        (
            lambda: ipu_train.register_model("x", lambda num_classes, in_channels, *, a=1: None),
            "the option a needs a type",
        ),
        (
            lambda: ipu_train.register_dataset("x", len, num_classes=0, image_size=8),
            "num_classes must be a whole number",
        ),
        (
            lambda: ipu_train.register_dataset("x", len, num_classes=2, image_size=8, mean=[0.5]),
            "mean has 1 entries, and 3 are needed",
        ),
    ],
)
def test_what_does_not_keep_the_contract_is_refused_when_it_is_registered(register, message):
    with pytest.raises(plugins.RegistrationError, match=message):
        register()


@pytest.mark.parametrize(
    "items, message",
    [
        ([(np.zeros((3, 4, 4), np.float32), 0)], "must be uint8 of 3 x 4 x 4"),
        ([(np.zeros((3, 5, 5), np.uint8), 0)], "and is uint8 of 3 x 5 x 5"),
        ([np.zeros((3, 4, 4), np.uint8)], r"must be a pair \(image, label\)"),
        (
            [(np.zeros((3, 4, 4), np.uint8), torch.eye(3)[1])],
            r"label of item 0 must be .* and is tensor\(\[0",
        ),
        (
            [(np.zeros((3, 4, 4), np.uint8), "cat")],
            "label of item 0 must be a whole number from 0, and is 'cat'",
        ),
        ([(np.zeros((3, 4, 4), np.uint8), 1.5)], "label of item 0 must be a whole number from 0, and is 1.5"),
        (Unreadable(), "mine: item 0 fails: IndexError: no such row"),
        (iter([]), "needs a length"),
        ([], "there must be images"),
    ],
)
def test_images_of_another_form_are_refused_by_name(items, message):
    with pytest.raises(ipu_train.data.DataError, match=message):
        MapStyleImages(items, "mine", (3, 4, 4)).batch([0])


def test_something_else_in_the_place_of_callbacks_or_data_is_refused(recipe):
    with pytest.raises(ValueError, match="is no ipu_train.Callback"):
        ipu_train.train(recipe, callbacks=[print])
    with pytest.raises(ValueError, match="takes a DataSource, or a function registered"):
        ipu_train.train(recipe, data=[1, 2])
