"""What I/O tiles, offloading, buffers and narrow accumulators do to a plan, against what they follow from."""

import functools

import pytest

from ipu_train.ipumodel import Settings, Target, plan, trace
from ipu_train.ipumodel.plots import full_bytes

from .nets import images, small_net

MK2 = Target.named("mk2")
BATCH, SIDE = 2, 16
PIXELS = BATCH * 3 * SIDE * SIDE


@functools.lru_cache(maxsize=None)
def program():
    return trace(small_net(), [images(BATCH, SIDE)])


def planned(**changes):
    settings = {"precision": "32.32", "gradient_accumulation": 4, "input_bytes_per_element": 1}
    return plan(program(), MK2, Settings(**{**settings, **changes}))


def seconds(report):
    return report.to_json()["seconds_per_weight_update"]


WEIGHTS = sum(p.numel() for p in small_net().parameters())


def test_io_tiles_compute_nothing_and_hold_the_next_inputs():
    plain, tiles = planned(), planned(io_tiles=64)
    assert tiles.cycles >= plain.cycles
    assert tiles.ipus[0].memory.categories["io_tiles"] == PIXELS
    assert (
        planned(io_tiles=64, gradient_accumulation=1, device_iterations=2)
        .ipus[0]
        .memory.categories["io_tiles"]
        == 2 * PIXELS
    )
    assert sum(tiles.ipus[0].memory.categories.values()) == tiles.total_bytes


def test_tiles_and_capacity_are_those_of_the_tiles_that_compute():
    report = planned(io_tiles=192)
    (ipu,) = report.ipus
    assert report.to_json()["tiles"] == MK2.tiles - 192
    assert f"{MK2.tiles - 192} tiles of" in report.table()
    # a network that grows until its fullest tile is full reaches the line of the picture
    held = ipu.memory.categories["io_tiles"]
    growth = MK2.bytes_per_tile / ipu.memory.worst_tile_bytes
    assert full_bytes(report, ipu) == pytest.approx((report.total_bytes - held) * growth + held, rel=1e-4)


def test_transfers_beside_the_computation_leave_the_first_micro_batch_alone():
    plain, tiles = planned(), planned(io_tiles=32)
    whole = seconds(plain)["host"]
    assert seconds(tiles)["host"] + seconds(tiles)["host_overlapped"] == pytest.approx(whole)
    assert seconds(tiles)["host"] == pytest.approx(
        whole / 4
    )  # computing takes longer than these small images
    assert seconds(plain)["host_overlapped"] == 0


@pytest.mark.parametrize("optimizer, tensors", [("sgd", 1), ("momentum", 2), ("adam", 3)])
def test_updates_on_the_host_take_weights_and_state_there_and_back(optimizer, tensors):
    plain, visiting = (planned(optimizer=optimizer, weights_meet_host=there) for there in (False, True))
    moved = (seconds(visiting)["host"] - seconds(plain)["host"]) * MK2.host_bytes_per_second_per_ipu
    assert moved == pytest.approx(2 * 4 * tensors * WEIGHTS)
    assert visiting.images_per_second < plain.images_per_second


def test_data_made_up_on_the_device_need_no_transfer():
    report = planned(synthetic_data=True)
    assert seconds(report)["host"] == 0
    assert report.to_json()["host_buffer_bytes"] == 0
    assert report.images_per_second > planned().images_per_second


def test_a_deeper_buffer_is_memory_of_the_host():
    assert planned(prefetch_depth=3, replicas=2).to_json()["host_buffer_bytes"] == 3 * 2 * PIXELS


def test_results_one_by_one_are_more_to_transfer():
    more = seconds(planned(returned_share=1.0))["host"] - seconds(planned())["host"]
    assert more == pytest.approx(4 * 4 * (1 + BATCH) / MK2.host_bytes_per_second_per_ipu)


def test_offloaded_activations_leave_the_tiles_between_the_passes_and_go_there_and_back():
    plain, off = planned(), planned(activations_offload=True)
    kept = sum(
        size for i, size in plain.ipus[0].schedule.stored.items() if program().tensors[i].kind == "activation"
    )
    assert kept > 0
    assert off.ipus[0].memory.activation_peak_bytes < plain.ipus[0].memory.activation_peak_bytes
    moved = seconds(off)["streaming_memory"] * MK2.streaming_bytes_per_second_per_ipu
    assert moved == pytest.approx(4 * 2 * kept)


def test_offloaded_weights_are_fetched_by_every_pass():
    off = planned(weights_offload=True)
    assert off.ipus[0].memory.categories["weights"] == 0
    moved = seconds(off)["streaming_memory"] * MK2.streaming_bytes_per_second_per_ipu
    assert moved == pytest.approx((2 * 4 + 2) * 4 * WEIGHTS)


@pytest.mark.parametrize("width", [2, 4])
def test_accumulators_have_the_width_that_is_chosen_for_them(width):
    report = planned(accumulator_bytes=width, replicas=2)
    assert report.ipus[0].memory.categories["gradient_accumulators"] == width * WEIGHTS


def test_narrow_gradients_are_reduced_faster_and_narrow_moments_are_smaller():
    wide, narrow = (planned(accumulator_bytes=w, replicas=2) for w in (4, 2))
    assert seconds(narrow)["all_reduce"] < seconds(wide)["all_reduce"]
    moments = planned(optimizer="adam", optimizer_bytes=(2, 4)).ipus[0].memory.categories
    assert moments["optimizer_state"] == 6 * WEIGHTS


def test_an_ipu_of_a_pipeline_that_exchanges_alone_hides_transfers_where_it_waits():
    split = trace(small_net(), [images(BATCH, SIDE)], splits=["layer1.0"])
    alone, together = (
        plan(split, MK2, Settings(gradient_accumulation=8, single_pipeline_sync=s)) for s in (True, False)
    )
    hidden = seconds(alone)["host_overlapped"]
    assert seconds(together)["host_overlapped"] == 0
    assert seconds(alone)["host"] + hidden == pytest.approx(seconds(together)["host"])
    first, slowest = alone.ipus[0].cycles.total, max(i.cycles.total for i in alone.ipus)
    idle = (slowest - first) / MK2.clock_hz
    assert hidden == pytest.approx(8 * min(idle, seconds(together)["host"] / 8))
