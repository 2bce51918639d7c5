"""What a page shows is what the prediction says, and the page stands alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ipu_train import cli, pages, planning
from ipu_train.ipumodel.program import PARAMETER
from ipu_train.network import build_network
from ipu_train.pages.layers import layer_rows

REPOSITORY = Path(__file__).resolve().parents[2]


def test_layers_sum_to_the_cycles_of_their_ipus(planned, contents):
    _, report, _ = planned
    for ipu in report.ipus:
        rows = [row for row in contents["plan"]["layers"] if row["ipu"] == ipu.ipu]
        for phase, cycles in ipu.cycles.by_phase.items():
            assert sum(row[f"{phase}_cycles"] for row in rows) == pytest.approx(cycles, abs=len(rows))
        assert sum(row["kept_bytes"] for row in rows) <= sum(ipu.schedule.stored.values()) + len(rows)
        assert max(row["temporary_bytes"] for row in rows) == round(max(c.temporary_bytes for c in ipu.costs))
    weights = sum(t.elements for t in report.program.tensors if t.kind == PARAMETER)
    assert sum(row["weight_elements"] for row in contents["plan"]["layers"]) == weights


def test_layers_are_modules_and_convolutions_have_their_plan(planned, contents):
    resolved, _, _ = planned
    modules = dict(build_network(resolved, 10, 3).named_modules())
    for row in contents["plan"]["layers"]:
        inside = modules.get(row["layer"])
        assert inside is not None or row["layer"] == "(outside of any module)"
        if type(inside).__name__ == "Conv2d":
            assert row["plan"].startswith("forward ") and "weights " in row["plan"] and "tiles" in row["plan"]


def test_plans_are_those_of_the_tiles_that_compute(planned):
    """What a page says of a convolution on fewer tiles is what was planned for it: no plan has more."""
    resolved = planned[0].changed(["device.pipeline_splits=[]", "device.io_tiles=192"])
    report = planning.predict(resolved)
    texts = [row["plan"] for row in layer_rows(report)]
    used = [
        int(number.replace(",", "")) for text in texts for number in re.findall(r"on ([0-9,]+) tiles", text)
    ]
    assert used and max(used) <= report.target.tiles - 192


def test_what_is_alive_at_each_step_makes_its_bytes(planned, contents):
    _, report, _ = planned
    for ipu, shown in zip(report.ipus, contents["plan"]["ipus"]):
        steps = len(ipu.schedule.steps)
        alive = np.zeros(steps)
        for start, end, size, _, _ in shown["alive"]:
            alive[start : end + 1] += size
        live = np.array(shown["live_bytes"][:steps])
        assert len(shown["steps"]) == steps and len(shown["live_bytes"]) == steps + 1
        assert (live >= alive - len(shown["alive"])).all()  # the rest are temporaries of the step
        assert np.argmax(live) == shown["peak"]["step"] or shown["peak"]["phase"] == "weight update"
        always = sum(shown["categories_bytes"][n] for n in ("activations", "gradients", "temporaries"))
        assert shown["always_live_bytes"] == shown["total_bytes"] - always


def test_points_around_a_plan_are_what_plan_predicts(planned):
    resolved, report, points = planned
    (given,) = [one for one in points if one["given"]]
    assert (given["worst_tile_bytes"], given["total_bytes"]) == (report.worst_tile_bytes, report.total_bytes)
    assert {one["choice"]["norm"] for one in points} == {"group+pn", "batch"}
    assert {one["choice"]["micro_batch_size"] for one in points} == {2, 4, 8, 16}
    (other,) = [
        one
        for one in points
        if one["choice"] == {"norm": "batch", "micro_batch_size": 4, "recompute": "none"}
    ]
    changes = [
        "model.norm=batch",
        "model.norm_groups=null",
        "model.proxy_norm=false",
        "device.recompute=none",
    ]
    changes += ["training.micro_batch_size=4", "training.gradient_accumulation=16"]
    again = planning.predict(resolved.changed(changes))
    assert other["worst_tile_bytes"] == again.worst_tile_bytes
    assert other["images_per_second"] == round(again.images_per_second, 1)


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.scripts, self._in_script = [], [], False

    def handle_starttag(self, tag, attrs):
        self.found += [value for key, value in attrs if key in ("src", "href", "srcset", "action", "data")]


def test_a_page_refers_to_nothing_outside_and_carries_its_licences(contents):
    text = pages.page(contents)
    links = _Links()
    links.feed(text)
    assert links.found == ["data:,"]
    assert not re.search(r"@import|url\(|fetch\(\"http|importScripts|new WebSocket", text.split("<body>")[0])
    outside = set(re.findall(r"https?://[\w.]+", text)) - {"http://www.w3.org"}  # names of XML languages
    assert not outside
    for holder in ("Mike Bostock", "Observable, Inc."):
        assert re.search(rf"Copyright [\d-]+ {re.escape(holder)}.*?Permission to use", text, re.S)


def test_nothing_in_the_contents_ends_the_script_or_is_no_json(contents):
    text = pages.page({**contents, "words": ["</script><b>"], "odd": float("inf")})
    found = re.search(r'id="contents">(.*?)</script>', text, re.S)
    read = json.loads(found.group(1))
    assert read["words"] == ["</script><b>"] and read["odd"] is None
    assert read["curves"][1]["loss"] is None  # a loss that was no number


def test_published_rates_are_the_recorded_ones():
    recorded = (REPOSITORY / "scripts/results/ipumodel/validation_rates.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (.*?) \| ([+-][\d.]+)% \| (.*?)\|$", recorded, re.M)
    shown = json.loads((REPOSITORY / "ipu_train/pages/published_rates.json").read_text())
    assert len(rows) == 35
    assert [(one["network"], one["run"]) for one in shown] == [row[:2] for row in rows]
    assert [one["error"] for one in shown] == pytest.approx([float(row[2]) / 100 for row in rows])
    assert [one["fitted"] for one in shown] == [not row[3] for row in rows]


@pytest.mark.parametrize("command", ["plan", "sweep", "tune"])
@pytest.mark.parametrize(
    "place, said", [("page.txt", "must end in .html"), ("nowhere/page.html", "in a folder that exists")]
)
def test_a_place_that_cannot_be_is_refused_before_anything_is_predicted(
    monkeypatch, tmp_path, capsys, command, place, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "predict", None)
    assert cli.main([command, "--config", "quickstart", "--html", place]) == 2
    assert said in capsys.readouterr().err
