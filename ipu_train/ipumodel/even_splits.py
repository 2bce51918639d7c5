"""Even cuts of a network into pipeline stages, where a configuration names none."""

import re
from typing import Dict, List, Sequence, Tuple

import numpy as np

from .program import Program


def blocks_of(names: Sequence[str]) -> List[str]:
    """Paths of the modules at which a network may be cut into stages, in order of execution."""
    for pattern in (r"(layer|stage)\d+\.\d+", r"features\.\d+", r"(stages|down|trunk)\.\d+(\.\d+)?"):
        found = [name for name in names if re.fullmatch(pattern, name)]
        if len(found) > 1:
            return found
    return []


def even_splits(program: Program, names: Sequence[str], stages: int) -> Tuple[str, ...]:
    """``stages - 1`` block names that cut the forward work into parts whose largest is smallest (exact, by
    search).

    Args:
        names: paths of the network's modules, in order.
    """
    blocks = blocks_of(names)
    if stages < 2 or len(blocks) < stages:
        return ()
    work = np.zeros(len(blocks) + 1)
    for op in program.forward():
        inside = [i for i, name in enumerate(blocks) if op.layer == name or op.layer.startswith(name + ".")]
        weight = float(op.attributes.get("out_elements", 0))
        if op.kind == "conv":
            shape = op.attributes["weight"]
            weight *= 1 + np.prod(shape[1:]) / 16.0
        work[inside[0] if inside else (0 if not op.layer.startswith(("fc", "head")) else -1)] += weight
    total = np.concatenate([[0.0], np.cumsum(work)])
    count = len(blocks)
    best: Dict[Tuple[int, int], Tuple[float, Tuple[int, ...]]] = {
        (1, end): (total[end], ()) for end in range(1, count + 2)
    }
    for parts in range(2, stages + 1):
        for end in range(parts, count + 2):
            options: List[Tuple[float, Tuple[int, ...]]] = [
                (max(best[(parts - 1, cut)][0], total[end] - total[cut]), best[(parts - 1, cut)][1] + (cut,))
                for cut in range(parts - 1, min(end, count))
            ]
            best[(parts, end)] = min(options) if options else (float("inf"), ())
    return tuple(blocks[cut] for cut in best[(stages, count + 1)][1])
