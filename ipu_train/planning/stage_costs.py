"""What each run of consecutive segments of a network would cost as a pipeline stage.

Segments lie between cut points. The costs are those of the IPU model's parts (cycles of operations, bytes of weights
and state, code, stash, working set), put together by prefix sums, so that all stages that could be are known in a
second; the partition found with them is planned in full afterwards.
"""

from dataclasses import replace
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ..ipumodel import constants as k
from ..ipumodel.estimates import estimates
from ..ipumodel.estimators import code_of
from ..ipumodel.memory import state_bytes
from ..ipumodel.planner import plan_options
from ..ipumodel.program import ACTIVATION, INPUT, PARAMETER, Program
from ..ipumodel.schedule import tensor_bytes
from ..ipumodel.settings import Settings
from ..ipumodel.target import Target
from ..ipumodel.throughput import bytes_per_second_between


class StageCosts(NamedTuple):
    """[stages, segments + 1, segments + 1] each: entry (k, i, j) is segments i to j - 1 as stage k."""

    cycles: np.ndarray
    worst_tile_bytes: np.ndarray


class _Segments(NamedTuple):
    """Sums over the operations of each segment, and what must be combined otherwise."""

    forward_cycles: np.ndarray
    backward_cycles: np.ndarray
    trainable: np.ndarray
    saved_bytes: np.ndarray
    working_bytes: np.ndarray
    boundary_bytes: np.ndarray
    code: List[Dict[Tuple, float]]
    codelets: List[frozenset]


class Runs:
    """All runs of consecutive segments of a program: what does not depend on the number of stages, once.

    Args:
        program: one micro-batch, in one stage.
        settings, target: of the run.
        starts: first operation of each segment after the first, rising.
    """

    def __init__(self, program: Program, settings: Settings, target: Target, starts: Sequence[int]) -> None:
        self._settings, self._tiles, self._count = settings, target.tiles, len(starts) + 1
        self._target = target
        sums = _sums(program, settings, target, starts)
        self._forward, self._backward, self._saved = sums.forward, sums.backward, sums.saved
        self._fixed, self._boundary = sums.fixed, sums.boundary

    def costs(self, stages: int) -> StageCosts:
        """The costs of every possible stage of a pipeline of so many."""
        mode = self._settings.recompute_for(stages)
        recompute, last_too = mode != "none", mode == "standard"
        kept = self._boundary if recompute else self._saved
        cycles = np.zeros((stages, self._count + 1, self._count + 1))
        sizes = np.zeros_like(cycles)
        for stage in range(stages):
            to_end = stages - 1 - stage
            cycles[stage] = (
                self._forward * (2 if recompute and (last_too or to_end > 0) else 1) + self._backward
            )
            if stage:  # what comes in from the IPU before; all wait for the longest copy
                copies = self._boundary / bytes_per_second_between(stage - 1, self._target)
                cycles[stage] += copies * self._target.clock_hz
            depth = 2 * to_end + 1 if to_end else 0
            sizes[stage] = (self._fixed + depth * kept) * k.WORST_TILE_SHARE / self._tiles
        return StageCosts(cycles, sizes)


class _Sums(NamedTuple):
    """[segments + 1, segments + 1] each, of runs of segments; ``boundary`` [segments + 1, 1] of where they begin."""

    forward: np.ndarray
    backward: np.ndarray
    saved: np.ndarray
    fixed: np.ndarray
    boundary: np.ndarray


_last: Optional[Tuple[Program, Tuple, _Sums]] = (
    None  # a search asks for one program with all kinds of recomputation
)


def _sums(program: Program, settings: Settings, target: Target, starts: Sequence[int]) -> _Sums:
    """What recomputation changes nothing about; that of the last program is kept."""
    global _last
    question = (replace(settings, recompute=None, checkpoints=()), target, tuple(starts))
    if _last is None or _last[0] is not program or _last[1] != question:
        parts = _segments(program, settings, target, starts)
        per_weight = sum(state_bytes(program, settings, 10**6, 0).values()) / 1e6
        saved = _between(parts.saved_bytes)
        fixed = _between(parts.trainable) * per_weight + saved
        fixed += _largest_between(parts.working_bytes) + _code(parts, target, len(starts) + 1)
        forward, backward = _between(parts.forward_cycles), _between(parts.backward_cycles)
        boundary: np.ndarray = np.append(parts.boundary_bytes, 0.0)[:, None]
        _last = (program, question, _Sums(forward, backward, saved, fixed, boundary))
    return _last[2]


def _between(values: np.ndarray) -> np.ndarray:
    """[n + 1, n + 1]: sum of values i to j - 1."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return total[None, :] - total[:, None]


def _largest_between(values: np.ndarray) -> np.ndarray:
    """[n + 1, n + 1]: largest of values i to j - 1, 0 where there is none."""
    count = len(values)
    found = np.zeros((count + 1, count + 1))
    for start in range(count):
        found[start, start + 1 :] = np.maximum.accumulate(values[start:])
    return found


def _code(parts: _Segments, target: Target, count: int) -> np.ndarray:
    """Code of a run of segments: equal operations are there once, vertex code once for each kind."""
    found = np.zeros((count + 1, count + 1))
    numbers: Dict[Tuple, int] = {}  # of operations: their signatures are long
    code = [
        [(numbers.setdefault(name, len(numbers)), size) for name, size in one.items()] for one in parts.code
    ]
    for start in range(count):
        seen, kinds = bytearray(len(numbers)), {"runtime", "update", "binary"}
        vertex = _vertex_code(kinds)
        total = k.OTHER_PROGRAM_BYTES * target.tiles
        for end in range(start, count):
            for name, size in code[end]:
                if not seen[name]:
                    seen[name] = 1
                    total += size
            if not parts.codelets[end] <= kinds:
                kinds |= parts.codelets[end]
                vertex = _vertex_code(kinds)
            found[start, end + 1] = total + vertex * target.tiles
    return found


def _vertex_code(kinds: Set[str]) -> float:
    return sum(k.CODELET_BYTES.get(name, k.CODELET_BYTES["binary"]) for name in kinds)


def _segments(program: Program, settings: Settings, target: Target, starts: Sequence[int]) -> _Segments:
    operations = program.forward()
    count = len(starts) + 1
    sums = {name: np.zeros(count) for name in ("forward", "backward", "trainable", "saved", "working")}
    code: List[Dict[Tuple, float]] = [{} for _ in range(count)]
    codelets: List[frozenset] = [frozenset() for _ in range(count)]
    options = plan_options(settings, settings.proportions(1)[0])
    known = estimates(target, options, settings.activation_bytes)
    segment, seen_weights, seen_saved = 0, set(), set()
    for index, op in enumerate(operations):
        while segment < len(starts) and index >= starts[segment]:
            segment += 1
        runs = [(False, True)]
        if op.differentiable and program.training:
            runs.append((True, bool(op.reads) and op.reads[0] in op.differentiable))
        for backward, needs_input in runs:
            cost = known.of(op, backward, needs_input)
            sums["backward" if backward else "forward"][segment] += cost.total_cycles
            # Nearly all that a pipeline runs forward it runs again.
            for name, part in code_of(op, cost, backward, not backward):
                code[segment][name] = part.code_bytes
            codelets[segment] = codelets[segment] | cost.codelets
            touched = {i for i in op.reads + op.writes if program.tensors[i].kind in (ACTIVATION, INPUT)}
            live = sum(tensor_bytes(program.tensors[i], settings) for i in touched)
            sums["working"][segment] = max(sums["working"][segment], live + cost.temporary_bytes)
        for i in op.reads:
            if program.tensors[i].kind == PARAMETER and i not in seen_weights:
                seen_weights.add(i)
                sums["trainable"][segment] += program.tensors[i].elements
        for i in op.saves if op.differentiable else ():
            if program.tensors[i].kind == ACTIVATION and i not in seen_saved:
                seen_saved.add(i)
                sums["saved"][segment] += tensor_bytes(program.tensors[i], settings)
    boundary = _boundary(program, settings, starts)
    return _Segments(
        sums["forward"], sums["backward"], sums["trainable"], sums["saved"], sums["working"], boundary, code, codelets
    )  # fmt: skip


def _boundary(program: Program, settings: Settings, starts: Sequence[int]) -> np.ndarray:
    """Bytes that come into a stage which begins at each segment: made before it, read in it or after it."""
    written: Dict[int, int] = {}
    read: Dict[int, int] = {}
    for index, op in enumerate(program.forward()):
        for i in op.writes:
            written.setdefault(i, index)
        for i in op.reads:
            read[i] = index
    inputs = sum(tensor_bytes(t, settings) for t in program.tensors if t.kind == INPUT and t.floating)
    found = [inputs]
    for start in starts:
        crossing = [i for i, made in written.items() if made < start <= read.get(i, -1)]
        found.append(
            sum(
                tensor_bytes(program.tensors[i], settings)
                for i in crossing
                if program.tensors[i].kind == ACTIVATION
            )
        )
    return np.array(found)
