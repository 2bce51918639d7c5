"""The search for the largest micro-batch: exact for every monotonic memory, and quick where it is nearly affine."""

from hypothesis import given
from hypothesis import strategies as st

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
    assert len(asked) <= 3
