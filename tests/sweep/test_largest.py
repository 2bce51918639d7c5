"""The search for the largest micro-batch: exact for every monotonic memory, and quick where it is nearly affine."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipu_train import cli, config, planning
from ipu_train.sweep.predicting import largest_micro_batch


def search(memory, most, known_sizes):
    asked = []

    def fits(size):
        assert 1 <= size <= most
        asked.append(size)
        return memory[size - 1]

    shares = largest_micro_batch(fits, most, {s: memory[s - 1] for s in known_sizes})
    return max((s for s, used in shares.items() if used <= 1), default=0), asked


@given(
    steps=st.lists(st.floats(0, 0.3), min_size=1, max_size=60),
    start=st.floats(0.01, 1.5),
    known=st.sets(st.integers(1, 60), max_size=5),
)
def test_it_equals_a_linear_scan(steps, start, known):
    memory = [start + sum(steps[:i]) for i in range(len(steps))]
    found, asked = search(memory, len(memory), {size for size in known if size <= len(memory)})
    assert found == sum(1 for used in memory if used <= 1)
    assert len(asked) == len(set(asked))


def test_an_affine_memory_takes_few_questions():
    memory = [0.2 + 0.013 * size for size in range(1, 1001)]
    found, asked = search(memory, 1000, {1, 2, 4, 8, 16, 32})
    assert found == 61
    assert len(asked) <= 4


@pytest.mark.parametrize("first_limit, even", [(9, 12), (30, 32), (61, 64), (18, 24), (40, 48)])
def test_an_even_size_above_the_first_limit_is_found(first_limit, even):
    """The plans of convolutions share it out better: less memory than a somewhat smaller micro-batch takes."""
    memory = [0.1 + 0.9 * size / (first_limit + 0.5) for size in range(1, 257)]
    memory[even - 1] = 0.99
    for known in ((), (1, 2, 4, 8)):
        found, asked = search(memory, 256, known)
        assert found == even
        assert len(asked) == len(set(asked))


@pytest.mark.parametrize(
    "sizes, overrides, largest, limit",
    [
        # transfers overlap with the micro-batch before, so that a weight update must have two
        ("16", ["training.replicas=1", "device.io_tiles=32"], 16, "configuration"),
        # one image has no other to be mixed with, and two do not fit
        ("256", ["training.mixup_alpha=0.1", "device.chip=mk1", "data.image_size=512"], 0, "memory"),
        # here some images do, far fewer than the one size of the sweep
        ("256", ["training.mixup_alpha=0.1", "device.chip=mk1", "data.image_size=224"], None, "memory"),
    ],
)
def test_sizes_that_the_configuration_does_not_take_are_not_the_answer_and_no_end(
    tmp_path, capsys, sizes, overrides, largest, limit
):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "model: {name: resnet8, norm: group, norm_groups: 4, options: {width: 0.5}}\n"
        "data: {name: generated, image_size: 8, length: 64}\n"
        "training: {micro_batch_size: 16, gradient_accumulation: 2}\nlogging: {progress: false}\n"
    )
    call = ["sweep", "--config", str(recipe), "--norms", "group", "--micro-batch-sizes", sizes, "--jobs", "1"]
    cli.main([*call, "--global-batch-size", str(2 * int(sizes)), f"sweep_dir={tmp_path / 's'}", *overrides])
    assert "Traceback" not in capsys.readouterr().err
    (one,) = json.loads((tmp_path / "s" / "sweep.json").read_text())["series"]
    assert one["limited_by"] == limit
    if largest is None:
        largest = one["largest_micro_batch_size"]
        plain = ["model.proxy_norm=false", f"training.micro_batch_size={largest}"]
        at = config.load(str(recipe), [*overrides, *plain])
        assert 2 <= largest < 256 and planning.predict(at).fits
    assert one["largest_micro_batch_size"] == largest
