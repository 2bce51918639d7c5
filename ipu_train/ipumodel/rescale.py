"""Other micro-batch sizes and other pipeline stages of a traced program, without tracing again.

Every size in a trace is affine in the micro-batch size (an activation has so many elements an image, a weight as many
for any batch). Two traces therefore give them all; where they do not agree on what is done, or a size is not of that
form, the answer is None and the caller traces.
"""

import difflib
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .program import Operation, Program


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

    def __call__(self, a: Any, b: Any) -> Any:
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


def _merge(a: Any, b: Any, extrapolate: _Extrapolation) -> Any:
    """A tensor or operation whose fields are extrapolated one by one; the same object where nothing differs."""
    changed = {}
    for name, value in vars(a).items():
        other = vars(b)[name]
        if value != other:
            changed[name] = extrapolate(value, other)
    return replace(a, **changed) if changed else a


class _Stages:
    """What cutting a program anywhere asks for: where its modules begin, and its operations in other stages."""

    def __init__(self, program: Program) -> None:
        self.operations = program.operations
        self.first: Dict[str, int] = {}
        for index, op in enumerate(program.forward()):
            path = op.layer
            while path and path not in self.first:
                self.first[path] = index
                path = path.rpartition(".")[0]
        self._moved: Dict[Tuple[int, int], Operation] = {}

    def moved(self, op: Operation, stage: int) -> Operation:
        """The operation in another stage; many times as fast as ``replace``."""
        if op.stage == stage:
            return op
        key = (id(op), stage)
        if key not in self._moved:
            one = object.__new__(Operation)
            vars(one).update(vars(op), stage=stage)
            self._moved[key] = one
        return self._moved[key]


_last: Optional[_Stages] = None  # a search cuts one program many times


def _stages(program: Program) -> _Stages:
    global _last
    if _last is None or _last.operations is not program.operations:
        _last = _Stages(program)
    return _last


def first_operations(program: Program, names: Sequence[str]) -> Dict[str, int]:
    """Index of the first forward operation inside each of the named modules; modules without one are left out."""
    first = _stages(program).first
    return {name: first[name] for name in names if name in first}


def at_splits(program: Program, splits: Sequence[str]) -> Program:
    """The program with a new pipeline stage at the first operation of each of the named modules, in that order.

    Raises:
        ValueError: a name at which nothing begins, or that leaves an IPU without operations.
    """
    starts = _starts(program, splits)
    moved = _stages(program).moved
    stage, stages, operations = 0, {starts[name]: n for n, name in reversed(list(enumerate(splits, 1)))}, []
    for index, op in enumerate(program.forward()):
        stage = max(stage, stages.get(index, 0))
        operations.append(moved(op, stage))
    operations += [moved(op, stage) for op in program.operations if op.phase != "forward"]
    return replace(program, operations=operations, stage_names=("",) + tuple(splits))


def _starts(program: Program, splits: Sequence[str]) -> Dict[str, int]:
    """First operation of each split; ValueError unless they rise from after the first operation."""
    starts = first_operations(program, splits)
    previous = None
    for name in splits:
        if name not in starts:
            layers = {path for op in program.forward() for path in _with_parents(op.layer)}
            near = ", ".join(difflib.get_close_matches(name, sorted(layers), n=3))
            raise ValueError(
                f"names {name}, and no operation of the model runs in a module of that name."
                + (f" Did you mean {near}?" if near else "")
            )
        if starts[name] == 0:
            raise ValueError(
                f"names {name}, where the network begins: IPU 0 begins there anyway; leave it out"
            )
        if previous is not None and starts[name] == starts[previous]:
            raise ValueError(
                f"names {previous} and {name}, which begin with the same operation: an IPU would be empty; keep one"
            )
        if previous is not None and starts[name] < starts[previous]:
            in_order = ", ".join(sorted(splits, key=lambda split: starts.get(split, 0)))
            raise ValueError(
                f"names {previous} before {name}, which runs earlier: name them in the order of execution, "
                f"[{in_order}]"
            )
        previous = name
    return starts


def _with_parents(path: str) -> List[str]:
    """``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
