"""Where a network may be cut into pipeline stages."""

from typing import Dict, List, NamedTuple

from ..ipumodel.program import PARAMETER, Program


class CutPoint(NamedTuple):
    """A module at which a new IPU may begin, and its first forward operation."""

    name: str
    operation: int


def cut_points(program: Program) -> List[CutPoint]:
    """The legal split points of a traced network, in order of execution.

    A stage may begin at a module that runs once (its operations lie together), that is not the first to run, and that
    leaves no parameter in two stages. Of modules that begin at the same operation the outermost is named.
    """
    operations = program.forward()
    first: Dict[str, int] = {}
    last: Dict[str, int] = {}
    count: Dict[str, int] = {}
    for index, op in enumerate(operations):
        path = op.layer
        while path:
            first.setdefault(path, index)
            last[path] = index
            count[path] = count.get(path, 0) + 1
            path = path.rpartition(".")[0]
    shared = _inside_shared(program)
    outermost: Dict[int, str] = {}
    for path in sorted(first, key=lambda name: (name.count("."), first[name])):
        start = first[path]
        once = last[path] - start + 1 == count[path]
        if start > 0 and once and start not in shared:
            outermost.setdefault(start, path)
    return [CutPoint(outermost[start], start) for start in sorted(outermost)]


def _inside_shared(program: Program) -> set:
    """Operations before which a cut would leave a parameter in two stages."""
    first: Dict[int, int] = {}
    last: Dict[int, int] = {}
    for index, op in enumerate(program.forward()):
        for tensor in op.reads:
            if program.tensors[tensor].kind == PARAMETER:
                first.setdefault(tensor, index)
                last[tensor] = index
    return {index for tensor in first for index in range(first[tensor] + 1, last[tensor] + 1)}
