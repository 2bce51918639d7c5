"""Runs whose weights are float16 (16.16), and those that compute in float16 (16.32), in use."""

import json

import pytest
import torch

from ipu_train import config, trainer
from ipu_train.cli import main
from ipu_train.tracking import read_metrics
from ipu_train.training import checkpoint

from ..photographs import CLASSES, RECIPE, by_hand, pictures


@pytest.fixture(scope="module", params=["16.16", "16.32"])
def half_run(request, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    (folder / "trees.yaml").write_text(RECIPE.format(path=images))
    overrides = [f"training.precision={request.param}", f"run_dir={folder / 'run'}"]
    trainer.train(config.load(folder / "trees.yaml", overrides))
    saved = checkpoint.load(checkpoint.newest(folder / "run" / "checkpoints"))
    expected = torch.float16 if request.param == "16.16" else torch.float32
    assert saved.weights["fc.weight"].dtype == expected
    return folder / "run"


def used(command, run, tmp_path, *arguments):
    path = tmp_path / f"{command}.json"
    assert main([command, "--run", str(run), *map(str, arguments), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_evaluation_is_the_run_s_last_validation_to_the_last_digit(half_run, tmp_path):
    expected = [line for line in read_metrics(half_run / "metrics.jsonl") if line["split"] == "validation"][
        -1
    ]
    found = used("evaluate", half_run, tmp_path)
    assert {key: found[key] for key in ("loss", "accuracy", "top5")} == {
        key: expected[key] for key in ("loss", "accuracy", "top5")
    }


def test_predictions_are_those_of_float32_within_rounding(half_run, images, tmp_path):
    """float16 has 11 bits: logits of a few units keep two to three decimals."""
    _, logits = by_hand(half_run, images / "val")
    for one, expected in zip(used("predict", half_run, tmp_path, images / "val"), logits.softmax(1)):
        found = {row["class"]: row["probability"] for row in one["top"]}
        assert [found[name] for name in CLASSES] == pytest.approx(expected.tolist(), abs=5e-3)


def test_what_is_exported_computes_in_float32_with_the_run_s_weights(half_run, images, tmp_path, capsys):
    out = tmp_path / "half.pt"
    assert main(["export", "--run", str(half_run), "--format", "torchscript", "--out", str(out)]) == 0
    assert "largest difference of logits" in capsys.readouterr().out
    network = torch.jit.load(str(out))
    assert {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()} <= {
        torch.float32
    }
    _, expected = by_hand(half_run, images / "val")
    logits = network(pictures(images / "val")[1])
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
