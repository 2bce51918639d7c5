"""The files of a checkpoint are what docs/checkpoints.md says, and safetensors alone reads them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ipu_train import config, models, trainer
from ipu_train.training import checkpoint_folder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"
RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.25}}
data: {name: digits}
optimizer: {name: adam, learning_rate: 1e-3}
training: {epochs: 1, micro_batch_size: 128}
averaging: {name: mean}
logging: {progress: false, plots: false}
device: {threads: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("files")
    (where / "r.yaml").write_text(RECIPE)
    trainer.train(config.load(where / "r.yaml", [f"run_dir={where / 'run'}"]))
    return checkpoint_folder.newest(where / "run" / "checkpoints")


def rows(title):
    """First cells of the table below a heading."""
    part = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return [line.split("|")[1] for line in part.splitlines() if line.startswith("|")][2:]


def test_weights_have_the_names_and_shapes_of_the_network(folder):
    found = load_file(str(folder / "weights.safetensors"))
    network = models.build("resnet8", 10, norm="group", norm_groups=4, in_channels=1, width=0.25)
    assert {n: w.shape for n, w in found.items()} == {
        n: tuple(t.shape) for n, t in network.state_dict().items()
    }
    assert found["fc.weight"].shape[0] == 10
    assert found["norm1.proxy.proxy_gamma"].shape == found["conv1.weight"].shape[:1]
    assert all(weight.dtype == np.float32 for weight in found.values())


def test_every_other_tensor_has_one_of_the_documented_names(folder):
    names = [name for cell in rows("optimizer.safetensors") for name in re.findall("`(.+?)`", cell)]
    patterns = [re.sub(r"<\w+>", ".+", name) for name in names]
    found = load_file(str(folder / "optimizer.safetensors"))
    for name in found:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), f"{name} is not in {PAGE.name}"
    for moment in ("Accl1", "Accl2"):
        assert found[f"ipu_state/{moment}___network.conv1.weight"].shape == (4, 1, 3, 3)
    assert found["average/average.conv1.weight"].shape == (4, 1, 3, 3)


def test_every_key_of_the_state_is_documented(folder):
    state = json.loads((folder / "state.json").read_text())
    documented = {key for cell in rows("state.json") for key in re.findall("`(.+?)`", cell)}
    assert set(state) == documented
    names = PAGE.read_text()
    assert all(f"`{key}`" in names for key in state["images"] if key != "source")
    assert state["images"]["class_names"] == [str(digit) for digit in range(10)]


def test_every_file_is_documented(folder):
    assert {path.name for path in folder.iterdir()} <= set(re.findall("`(.+?)`", PAGE.read_text()))
