import pytest

from ipu_train.ipumodel.target import Target


@pytest.mark.parametrize(
    "name, tiles, per_tile", [("mk1", 1216, 262144), ("Mk2", 1472, 638976), ("BOW", 1472, 638976)]
)
def test_chips_have_the_published_tiles_and_memory(name, tiles, per_tile):
    target = Target.named(name)
    assert (target.tiles, target.bytes_per_tile) == (tiles, per_tile)


def test_mk2_holds_the_published_897_mebibytes():
    assert Target.named("mk2").total_bytes == 940_572_672


@pytest.mark.parametrize(
    "name, float_partials, tera_flops", [("mk1", True, 124.5), ("mk2", False, 250.0), ("bow", False, 350.0)]
)
def test_peak_arithmetic_is_the_published_one(name, float_partials, tera_flops):
    target = Target.named(name)
    peak = 2 * target.peak_macs_per_cycle(float_partials=float_partials) * target.clock_hz / 1e12
    assert peak == pytest.approx(tera_flops, rel=0.01)


def test_float_partials_halve_the_peak_of_mk2():
    target = Target.named("mk2")
    assert target.peak_macs_per_cycle(float_partials=False) == 2 * target.peak_macs_per_cycle(
        float_partials=True
    )


def test_an_unknown_chip_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no chip called 'mk9'.*bow, mk1, mk2"):
        Target.named("mk9")
