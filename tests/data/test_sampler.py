"""The order of the images is a function of seed, epoch and position, for any number of processes."""

import pytest

from ipu_train.data import DataError, EpochSampler, keyed
from ipu_train.data.sampler import Places


def test_an_epoch_sees_each_image_once():
    keys = list(EpochSampler(100, seed=1, batch_multiple=10))
    assert {epoch for epoch, _ in keys} == {0}
    assert sorted(index for _, index in keys) == list(range(100))


def test_what_does_not_fill_a_batch_is_left_out_but_another_part_each_epoch():
    sampler = EpochSampler(103, seed=1, batch_multiple=10)
    epochs = [{index for _, index in sampler} for _ in range(4)]
    assert all(len(seen) == 100 for seen in epochs)
    assert len({frozenset(set(range(103)) - seen) for seen in epochs}) > 1


@pytest.mark.parametrize("start", [0, 10, 50, 90, 100])
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_resumed_epoch_goes_on_exactly_where_it_stopped(epoch, start):
    whole = EpochSampler(100, seed=2, batch_multiple=10)
    whole.set_position(epoch)
    keys = list(whole) + list(whole)
    resumed = EpochSampler(100, seed=2, batch_multiple=10)
    resumed.set_position(epoch, start)
    assert len(resumed) == (100 - start or 100)
    rest = list(resumed)
    if start < 100:
        rest += list(resumed)
    assert rest == keys[start:]


def test_going_through_moves_on_to_the_next_epoch_and_breaking_off_does_not():
    sampler = EpochSampler(20, batch_multiple=5)
    first = next(iter(sampler))
    assert first[0] == 0 and next(iter(sampler)) == first
    assert [epoch for epoch, _ in sampler] == [0] * 20
    assert [epoch for epoch, _ in sampler] == [1] * 20


@pytest.mark.parametrize("process, repeats", [(0, 1), (1, 3)])
def test_places_stand_for_the_keys_of_every_epoch(process, repeats):
    sampler = EpochSampler(100, 4, 8, process_index=process, num_processes=2, share=4, repeats=repeats)
    keys = [*sampler, *sampler, *sampler]
    assert sampler.keys(range(len(keys))) == keys
    assert sampler.keys([100, 3, 47]) == [keys[place] for place in (100, 3, 47)]
    sampler.set_position(1, 40)
    places = Places(sampler)
    assert list(places) == list(range(88, 96)) and sampler.position == (2, 0)
    assert list(places)[:2] == [96, 97]


def test_orders_differ_between_seeds_and_epochs():
    a, b = EpochSampler(50, seed=0), EpochSampler(50, seed=1)
    assert list(a.indices(0)) != list(b.indices(0))
    assert list(a.indices(0)) != list(a.indices(1))


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_shards_are_disjoint_equally_long_and_make_up_the_same_global_batches(processes):
    multiple = 12 // processes
    shards = [
        EpochSampler(125, 7, multiple, process_index=i, num_processes=processes).indices(2)
        for i in range(processes)
    ]
    assert {len(shard) for shard in shards} == {10 * multiple}
    alone = EpochSampler(125, 7, 12).indices(2)
    for step in range(10):
        together = [i for shard in shards for i in shard[step * multiple : (step + 1) * multiple]]
        assert together == list(alone[step * 12 : (step + 1) * 12])


def test_unshuffled_order_is_that_of_the_data_set():
    assert [index for _, index in EpochSampler(9, batch_multiple=2, shuffle=False)] == list(range(8))


def test_too_few_images_for_one_batch_are_an_error():
    with pytest.raises(DataError, match="30 images do not fill one batch of 32"):
        EpochSampler(30, batch_multiple=16, num_processes=2)


@pytest.mark.parametrize("epoch, start", [(0, 3), (0, 25), (-1, 0), (0, -5)])
def test_positions_between_batches_or_outside_are_refused(epoch, start):
    with pytest.raises(ValueError, match="position"):
        EpochSampler(20, batch_multiple=5).set_position(epoch, start)


def test_process_index_must_exist():
    with pytest.raises(ValueError, match="process_index"):
        EpochSampler(20, process_index=2, num_processes=2)


def test_the_order_is_that_of_the_numbers_with_these_keys():
    found = EpochSampler(30, seed=6, batch_multiple=4).indices(3)
    assert found.tolist() == keyed.permutation(6, keyed.ORDER, 3, 30)[:28].tolist()


@pytest.mark.parametrize("repeats", [2, 3])
def test_copies_of_an_image_follow_each_other_under_keys_of_their_own(repeats):
    once = EpochSampler(24, seed=5, batch_multiple=6).indices(2).tolist()
    keys = list(_in_epoch(EpochSampler(24, seed=5, batch_multiple=6, repeats=repeats), 2))
    assert keys == [(2 * repeats + k, image) for image in once[: 24 // repeats] for k in range(repeats)]


def test_copies_that_do_not_divide_an_epoch_end_with_it():
    keys = list(_in_epoch(EpochSampler(10, seed=5, shuffle=False, repeats=4), 1))
    assert keys == [(4 + k, image) for image in range(3) for k in range(4)][:10]


@pytest.mark.parametrize("length, repeats, processes", [(48, 3, 1), (50, 2, 1), (51, 4, 2), (12, 5, 1)])
def test_a_micro_batch_holds_no_image_twice(length, repeats, processes):
    """So that mixup, which takes the image before in the micro-batch, never mixes two copies of one image."""
    size, whole = 4, 0
    seen = {}
    for process in range(processes):
        sampler = EpochSampler(
            length, 5, 12, True, process, processes, share=4, repeats=repeats, micro_batch_size=size
        )
        keys = list(_in_epoch(sampler, 2))
        assert len(keys) == length // (12 * processes) * 12
        for at in range(0, len(keys), size):
            assert len({image for _, image in keys[at : at + size]}) == size
        for copy, image in keys:
            seen.setdefault(image, []).append(copy)
        whole += len(keys)
    assert sum(map(len, seen.values())) == whole
    assert all(len(set(copies)) == len(copies) <= repeats for copies in seen.values())
    assert all(2 * repeats <= copy < 3 * repeats for copies in seen.values() for copy in copies)
    assert len(seen) <= -(-whole // (size * repeats)) * size


def _in_epoch(sampler, epoch):
    sampler.set_position(epoch)
    return sampler


def test_a_share_smaller_than_a_batch_is_dealt_out_in_turns():
    shards = [EpochSampler(16, 0, 4, False, i, 2, share=2).indices(0).tolist() for i in range(2)]
    assert shards == [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]


@pytest.mark.parametrize("share", [0, 3, 8])
def test_a_share_must_divide_the_batch(share):
    with pytest.raises(ValueError, match=f"share must divide 4, got {share}"):
        EpochSampler(16, batch_multiple=4, share=share)


def test_a_batch_has_an_image():
    with pytest.raises(ValueError, match="batch_multiple must be at least 1, got 0"):
        EpochSampler(16, batch_multiple=0)
    assert len(EpochSampler(16, batch_multiple=1)) == 16


@pytest.mark.parametrize("index", [-1, 2])
def test_processes_are_counted_from_0(index):
    with pytest.raises(ValueError, match=f"process_index must be in 0..1, got {index}"):
        EpochSampler(20, process_index=index, num_processes=2)


def test_the_end_of_an_epoch_is_the_beginning_of_the_next():
    sampler = EpochSampler(20, batch_multiple=5)
    sampler.set_position(2, 20)
    assert sampler.position == (3, 0) and len(sampler) == 20
    sampler.set_position(2, 15)
    assert sampler.position == (2, 15) and len(sampler) == 5
    assert len(Places(sampler)) == 5
