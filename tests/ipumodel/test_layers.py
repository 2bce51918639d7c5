"""Single layers against what Graphcore's IPUModel reported (SDK 2.0; poplibs regression tables)."""

import csv
from pathlib import Path

import numpy as np
import pytest

from ipu_train.ipumodel.__main__ import main
from ipu_train.ipumodel.conv_params import ConvParams
from ipu_train.ipumodel.layers import Unsupported, octave_layers, parse_parameters, predict_layer
from ipu_train.ipumodel.target import Target

RECORDED = Path(__file__).resolve().parents[2] / "scripts" / "results" / "ipumodel" / "layers.csv"


@pytest.fixture(scope="module")
def rows():
    with open(RECORDED, newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        row["found"] = predict_layer(row["tool"], row["parameters"], Target.named(row["chip"]))
    return found


def errors(rows, chip, mine, reported, aside=None):
    picked = [r for r in rows if r["chip"] == chip and aside in (None, r["kept_aside"])]
    actual = np.array([float(r[reported]) for r in picked])
    predicted = np.array([getattr(r["found"], mine) for r in picked], float)
    ranks = [np.argsort(np.argsort(v)) for v in (actual, predicted)]
    return np.abs(predicted / actual - 1), float(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("chip", ["Mk1", "Mk2"])
@pytest.mark.parametrize(
    "mine, reported", [("cycles", "cycles_sdk2.0"), ("total_bytes", "total_bytes_sdk2.0")]
)
@pytest.mark.parametrize("aside", ["yes", None], ids=["kept-aside", "all"])
def test_layers_come_out_as_the_ipu_model_reported_them(rows, chip, mine, reported, aside):
    error, rank = errors(rows, chip, mine, reported, aside)
    assert np.median(error) <= 0.10
    assert np.percentile(error, 90) <= 0.30
    assert rank >= 0.98


@pytest.mark.parametrize("chip", ["Mk1", "Mk2"])
def test_the_worst_tile_of_a_convolution_is_that_of_its_interleaved_partials(rows, chip):
    convolutions = [r for r in rows if r["tool"] == "conv"]
    error, _ = errors(convolutions, chip, "max_tile_bytes", "max_tile_bytes_incl_gaps_sdk2.0")
    assert np.median(error) <= 0.02
    assert np.percentile(error, 90) <= 0.10


def test_parameters_are_read_with_and_without_dashes():
    text = '--field={14,14} kernel-size=3 --convolution-options={"partialsType":"half"} bias=0'
    found = parse_parameters(text)
    assert found["field"] == "{14,14}"
    assert found["kernel-size"] == "3"
    assert "half" in found["convolution-options"]


def test_one_phase_costs_less_than_all_three():
    layer = "field={28,28} kernel-size=3 padding=1 input-channels=64 output-channels=64 batch-size=4"
    mk2 = Target.named("mk2")
    whole = predict_layer("conv", layer, mk2)
    forward = predict_layer("conv", layer + " single-phase=fwd", mk2)
    assert forward.cycles < whole.cycles / 2
    assert forward.total_bytes < whole.total_bytes


def test_octave_convolutions_keep_all_channels():
    layer = ConvParams(4, 1, 64, 128, (56, 56), (3, 3), padding_lower=(1, 1), padding_upper=(1, 1))
    paths = octave_layers(layer, 0.25, 0.25)
    assert len(paths) == 4
    assert sum(p.weight_elements for p in paths) == layer.weight_elements
    assert [p.field for p in paths] == [(56, 56), (28, 28), (28, 28), (28, 28)]
    assert len(octave_layers(layer, 0.0, 0.25)) == 2


@pytest.mark.parametrize(
    "tool, parameters, reason",
    [
        ("lstm", "", "tool 'lstm' is not modelled"),
        ("conv", "field={4,4}", "input-channels is missing"),
        ("conv", "field={2,2} kernel-size=5 input-channels=1 output-channels=1", "has no output"),
        ("conv", "field={2,2,2} kernel-size=1 input-channels=1 output-channels=1", "two-dimensional"),
        ("pooling", "field={4,4} kernel={9,9} channels=4", "has no output"),
        ("reduction", "shape=4 dims=3", "not dimensions"),
        ("conv", "ipus=2 field={2,2} input-channels=1 output-channels=1", "more than one IPU"),
    ],
)
def test_what_is_not_modelled_is_said(tool, parameters, reason):
    with pytest.raises(Unsupported, match=reason):
        predict_layer(tool, parameters, Target.named("mk2"))


def test_the_command_line_writes_predictions_and_reasons(tmp_path):
    table = tmp_path / "in.csv"
    table.write_text(
        "benchmark,chip,tool,parameters,other\n"
        'a,Mk2,conv,"field={14,14} kernel-size=3 input-channels=16 output-channels=32 batch-size=2",7\n'
        "b,Mk2,gru,x=1,8\n"
        'c,Mk9,fc,"batch-size=4 input-size=8 output-size=8",9\n'
        'd,Mk1,fc,"batch-size=4 input-size=8 output-size=8 odd=1",10\n'
    )
    assert main(["layers", str(table), str(tmp_path / "out.csv")]) == 0
    with open(tmp_path / "out.csv", newline="") as file:
        out = list(csv.DictReader(file))
    assert [r["other"] for r in out] == ["7", "8", "9", "10"]
    assert int(out[0]["cycles"]) > 1000
    assert int(out[0]["total_bytes"]) > 0
    assert int(out[0]["max_tile_bytes"]) > 212992
    assert out[1]["cycles"] == "" and out[1]["note"].startswith("unsupported: tool 'gru'")
    assert "no chip called 'Mk9'" in out[2]["note"]
    assert out[3]["note"] == "ignored parameters: odd" and int(out[3]["cycles"]) > 0


@pytest.mark.parametrize("content, message", [(None, "cannot be read"), ("a,b\n1,2\n", "has no column")])
def test_bad_tables_get_one_message(tmp_path, capsys, content, message):
    table = tmp_path / "in.csv"
    if content is not None:
        table.write_text(content)
    assert main(["layers", str(table), str(tmp_path / "out.csv")]) == 2
    assert message in capsys.readouterr().err
