"""Other micro-batch sizes and other pipeline stages of a traced program, without tracing again.

Every size in a trace is affine in the micro-batch size (an activation has so many elements an image, a weight as many
for any batch). Two traces therefore give them all; where they do not agree on what is done, or a size is not of that
form, the answer is None and the caller traces.
"""

from dataclasses import replace
from typing import Dict, Optional, Sequence

from .program import Program


class _NotAffine(Exception):
    """A size or an operation depends on the batch in another way."""


def at_batch(first: Program, second: Program, batch: int) -> Optional[Program]:
    """The program at another micro-batch size, from its traces at two sizes; None where it cannot be told.

    Args:
        first, second: traces of one module that differ in nothing but the batch; not of batch 1, where dimensions of
            size 1 may make torch take other routes.
        batch: the micro-batch size wanted, at least 2.
    """
    if first.batch == second.batch:
        raise ValueError(f"both traces have batch {first.batch}; two different ones are needed")
    if len(first.tensors) != len(second.tensors) or len(first.operations) != len(second.operations):
        return None
    extrapolate = _Extrapolation(first.batch, second.batch, batch)
    try:
        tensors = [_merge(a, b, extrapolate) for a, b in zip(first.tensors, second.tensors)]
        operations = [_merge(a, b, extrapolate) for a, b in zip(first.operations, second.operations)]
    except _NotAffine:
        return None
    return replace(first, tensors=tensors, operations=operations, batch=batch)


class _Extrapolation:
    """``v(n) = constant + slope n`` through two points; sizes never shrink with the batch."""

    def __init__(self, first: int, second: int, wanted: int) -> None:
        self.first, self.second, self.wanted = first, second, wanted

    def __call__(self, a, b):
        if type(a) is not type(b):
            raise _NotAffine
        if a == b:
            return a
        if isinstance(a, tuple):
            if len(a) != len(b):
                raise _NotAffine
            return tuple(self(x, y) for x, y in zip(a, b))
        if isinstance(a, dict):
            if a.keys() != b.keys():
                raise _NotAffine
            return {key: self(a[key], b[key]) for key in a}
        if not isinstance(a, int) or isinstance(a, bool):
            raise _NotAffine
        slope, rest = divmod(b - a, self.second - self.first)
        constant = a - slope * self.first
        if rest or slope < 0 or constant < 0:  # below zero: grows faster than the batch
            raise _NotAffine
        return constant + slope * self.wanted


def _merge(a, b, extrapolate):
    """A tensor or operation whose fields are extrapolated one by one; the same object where nothing differs."""
    changed = {}
    for name, value in vars(a).items():
        other = vars(b)[name]
        if value != other:
            changed[name] = extrapolate(value, other)
    return replace(a, **changed) if changed else a


def first_operations(program: Program, names: Sequence[str]) -> Dict[str, int]:
    """Index of the first forward operation inside each of the named modules; modules without one are left out."""
    found: Dict[str, int] = {}
    wanted = set(names)
    for index, op in enumerate(program.forward()):
        path = op.layer
        while path:
            if path in wanted:
                found.setdefault(path, index)
            path = path.rpartition(".")[0]
    return found


def at_splits(program: Program, splits: Sequence[str]) -> Program:
    """The program with a new pipeline stage at the first operation of each of the named modules, in that order.

    Raises:
        ValueError: a name at which nothing of the program begins.
    """
    starts = first_operations(program, splits)
    for name in splits:
        if name not in starts:
            raise ValueError(
                f"pipeline split {name!r}: no operation of the model runs in a module of that name"
            )
    stage, stages, operations = 0, {starts[name]: n for n, name in reversed(list(enumerate(splits, 1)))}, []
    for index, op in enumerate(program.forward()):
        stage = max(stage, stages.get(index, 0))
        operations.append(op if op.stage == stage else replace(op, stage=stage))
    backward = [op for op in program.operations if op.phase != "forward"]
    operations += [op if op.stage == stage else replace(op, stage=stage) for op in backward]
    return replace(program, operations=operations, stage_names=("",) + tuple(splits))
