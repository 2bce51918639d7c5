"""Predictions carry the error of the model, from the validation, and near misses are no refusals."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from ipu_train.ipumodel import ranges
from ipu_train.ipumodel.planner import plan
from ipu_train.ipumodel.settings import Settings
from ipu_train.ipumodel.target import Target
from ipu_train.ipumodel.tracer import trace

from .nets import images, small_net

RECORDED = Path(__file__).resolve().parents[2] / "scripts" / "results" / "ipumodel" / "validation.csv"


@pytest.fixture(scope="module")
def validated():
    with open(RECORDED, newline="") as file:
        return {row["what"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    "stated, what",
    [
        (ranges.LAYER_CYCLES, "layers, cycles"),
        (ranges.LAYER_BYTES, "layers, total_bytes"),
        (ranges.THROUGHPUT, "networks, images per second"),
    ],
)
def test_the_stated_ranges_are_those_of_the_validation(validated, stated, what):
    row = validated[what]
    assert stated.median == pytest.approx(float(row["median"]), abs=0.005)
    assert stated.ninety_per_cent_within == pytest.approx(float(row["ninety_per_cent_within"]), abs=0.005)


@pytest.mark.parametrize(
    "share, fits, may_fit", [(1.0, True, True), (0.95, False, True), (0.6, False, False)]
)
def test_a_program_just_over_a_tile_may_fit(share, fits, may_fit):
    program = trace(small_net(2, 32), images(4))
    roomy = plan(program, Target.named("mk2"), Settings())
    tight = replace(Target.named("mk2"), bytes_per_tile=int(share * roomy.worst_tile_bytes) + 1)
    # the tile's size bounds temporaries, too: only what is compared changes here
    report = replace(
        roomy, target=tight, ipus=[replace(ipu, memory=_within(ipu.memory, tight)) for ipu in roomy.ipus]
    )
    assert (report.fits, report.may_fit) == (fits, may_fit)
    assert report.verdict.split(":")[0] == ("fits" if fits else "may fit" if may_fit else "does not fit")
    found = report.to_json()
    assert found["may_fit"] is may_fit and found["verdict"] == report.verdict
    assert found["error_ranges"] == {
        "memory_share": ranges.MEMORY.ninety_per_cent_within,
        "images_per_second_share": ranges.THROUGHPUT.ninety_per_cent_within,
    }
    assert ranges.sentence() in report.table()


def _within(memory, target):
    return replace(memory, bytes_per_tile=target.bytes_per_tile)
