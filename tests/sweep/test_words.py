"""What a sweep says, and where its picture says it: like beside like, and no text on a line."""

import numpy as np
import pytest

from ipu_train.sweep import clear_places, picture
from ipu_train.sweep.running import Series
from ipu_train.sweep.words import equal_micro_batches, largest_words, savings

# norm -> micro-batch -> (bytes of an IPU, images/s)
COSTS = {
    "batch": {1: (400, 1000), 4: (500, 2000), 16: (1000, 4000)},
    "group+pn": {1: (440, 800), 4: (550, 1700), 16: (1200, 3800)},
}


def record(norm, size, total, speed):
    return {
        "norm": norm,
        "settings": {},
        "micro_batch_size": size,
        "keeps_global_batch": True,
        "global_batch_size": 64,
        "total_bytes": total * 1_000_000,
        "worst_tile_bytes": total * 800,
        "bytes_per_tile": 639_000,
        "fits": total * 800 <= 639_000,
        "images_per_second": float(speed),
    }


RECORDS = [record(norm, size, *costs) for norm, sizes in COSTS.items() for size, costs in sizes.items()]


def test_the_headline_names_what_the_small_micro_batch_costs():
    *_, last = savings(RECORDS, own_size=4)
    # 1000 / 550, 1700 / 4000
    assert (
        last.headline == "GN + PN at micro-batch 4 instead of BN at 16: 1.8x less memory, 0.42x the images/s"
    )
    found = last.to_json()
    assert (found["memory_ratio"], found["images_per_second_ratio"]) == (1.818, 0.425)


def test_equal_micro_batches_are_compared_too():
    said = savings(RECORDS, own_size=4)
    # memory 440 / 400, 550 / 500, 1200 / 1000; images/s 800 / 1000, 1700 / 2000, 3800 / 4000
    assert equal_micro_batches(said) == [
        "At equal micro-batches GN + PN needs 1.10 to 1.20x the memory of BN and makes 0.80 to 0.95x its images/s."
    ]
    assert said[-1].to_json()["at_equal_micro_batches"] == {
        "memory_ratios": [1.1, 1.2],
        "images_per_second_ratios": [0.8, 0.95],
    }


def test_norms_that_share_no_micro_batch_are_not_compared_as_equals():
    apart = [one for one in RECORDS if (one["norm"] == "batch") == (one["micro_batch_size"] == 16)]
    said = savings(apart, own_size=4)
    assert said[-1].like_with_like == "" and equal_micro_batches(said) == []


@pytest.mark.parametrize(
    "settings, size, limit, said",
    [
        ({}, 0, "memory", "group+pn: not even a micro-batch of 1 fits"),
        ({"device.partials": "half"}, 12, "memory", "group+pn (device.partials=half): 12"),
        ({}, 16, "configuration", "group+pn: 16, the most that the configuration takes"),
        ({}, 64, "global batch", "group+pn: 64, all images of a replica's global batch"),
    ],
)
def test_the_largest_micro_batch_is_told_with_what_limits_it(settings, size, limit, said):
    assert largest_words([Series("group+pn", settings, size, limit)]) == [said]


@pytest.mark.parametrize(
    "sizes, reference",
    [((4, 16, 64), 16), ((4, 8, 32), 8), ((32, 64), 32)],  # the largest up to 16, or else the smallest
)
def test_batch_norm_is_compared_where_it_can_be_trained(sizes, reference):
    records = [record("group", 1, 100, 1), *(record("batch", size, 100 * size, size) for size in sizes)]
    said = savings(records)
    assert [(one.batch_norm["micro_batch_size"], one.other["micro_batch_size"]) for one in said] == [
        (reference, 1)
    ]


@pytest.fixture()
def figure(tmp_path, monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn, written = [], FigureCanvasAgg.print_png

    def print_png(canvas, *args, **more):
        drawn.append(canvas.figure)
        return written(canvas, *args, **more)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", print_png)
    picture.draw(tmp_path / "sweep.png", RECORDS, savings(RECORDS, own_size=4), "a subtitle")
    return drawn[0]


def test_only_points_that_do_not_fit_are_hollow_and_the_legend_says_so(figure):
    (legend,) = figure.legends
    filled = {
        text.get_text(): line.get_markerfacecolor() for text, line in zip(legend.texts, legend.get_lines())
    }
    assert filled.pop("hollow: does not fit") == "white"
    assert set(filled) == {"BN", "GN + PN"} and "white" not in filled.values()
    assert figure._suptitle.get_text() == savings(RECORDS, own_size=4)[-1].headline
    assert figure.axes[0].get_title().startswith("At equal micro-batches GN + PN needs")


def test_no_text_lies_on_a_line_or_on_another_text(figure):
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    memory = figure.axes[0]
    lines = clear_places._drawn(memory, renderer)
    texts = [text for text in memory.texts if text.get_text()]
    assert len(texts) == 2  # the capacity and the arrow's
    boxes = [text.get_window_extent(renderer) for text in texts]
    for box in boxes:
        assert clear_places._covered(lines, box) == 0
    assert not boxes[0].overlaps(boxes[1])
    assert len(lines) > 1000 and np.isfinite(lines).all()
