import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipu_train.ipumodel.liveness import Interval, live_at, live_bytes, peak

intervals = st.lists(
    st.builds(
        lambda start, length, size: Interval(start, start + length, size),
        st.integers(0, 19),
        st.integers(0, 10),
        st.integers(0, 1000),
    ),
    max_size=30,
)


@given(intervals=intervals)
def test_live_bytes_equal_counting_step_by_step(intervals):
    steps = 20
    by_hand = [sum(i.bytes for i in intervals if i.start <= s <= min(i.end, steps - 1)) for s in range(steps)]
    assert np.allclose(live_bytes(intervals, steps), by_hand)
    assert peak(intervals, steps)[0] == max(by_hand)


@given(intervals=intervals, extra=st.lists(st.integers(0, 500), min_size=20, max_size=20))
def test_memory_of_single_steps_is_added_to_those_steps(intervals, extra):
    with_extra = live_bytes(intervals, 20, extra)
    assert np.allclose(with_extra - live_bytes(intervals, 20), extra)


def test_operands_and_results_of_a_step_exist_together():
    assert peak([Interval(0, 1, 10), Interval(1, 2, 5)], 3) == (15, 1)


def test_what_is_live_is_listed_largest_first():
    found = live_at([Interval(0, 5, 1, "a"), Interval(2, 3, 9, "b"), Interval(4, 5, 7, "c")], 3)
    assert [i.label for i in found] == ["b", "a"]


def test_an_empty_schedule_has_no_peak():
    assert peak([], 0) == (0.0, 0)
