"""What one operation costs: cycles by kind and bytes by category, summed over tiles."""

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterable, Tuple

CYCLE_KINDS = ("compute", "exchange", "rearrange", "sync")


@dataclass(frozen=True)
class OpCost:
    """Cost of one run of one operation.

    ``cycles`` by kind, on the busiest tile. Bytes are totals over all tiles: ``temporary_bytes`` lives only
    while the operation runs (partials, broadcast copies, rearranged operands, receive buffers); the code and
    state categories are there for the whole program. ``codelets`` names the vertex types, whose code a tile
    holds once however many operations use them. ``tiles`` is how many tiles take part. ``parts`` are (name, cost) of
    pieces whose code other operations have too: equal names, equal code.
    """

    cycles: Dict[str, float] = field(default_factory=dict)
    temporary_bytes: float = 0.0
    vertex_state_bytes: float = 0.0
    exchange_code_bytes: float = 0.0
    control_code_bytes: float = 0.0
    codelets: FrozenSet[str] = frozenset()
    tiles: int = 0
    flops: float = 0.0
    parts: Tuple[Tuple[Any, "OpCost"], ...] = ()

    @property
    def total_cycles(self) -> float:
        return sum(self.cycles.values())

    @property
    def code_bytes(self) -> float:
        return self.vertex_state_bytes + self.exchange_code_bytes + self.control_code_bytes


def add(costs: Iterable[OpCost]) -> OpCost:
    """One cost for operations that run one after the other: cycles and code add, temporaries share memory."""
    costs = list(costs)
    cycles = {kind: sum(c.cycles.get(kind, 0.0) for c in costs) for kind in CYCLE_KINDS}
    return OpCost(
        cycles=cycles,
        temporary_bytes=max([c.temporary_bytes for c in costs] or [0.0]),
        vertex_state_bytes=sum(c.vertex_state_bytes for c in costs),
        exchange_code_bytes=sum(c.exchange_code_bytes for c in costs),
        control_code_bytes=sum(c.control_code_bytes for c in costs),
        codelets=frozenset().union(*[c.codelets for c in costs]),
        tiles=max([c.tiles for c in costs] or [0]),
        flops=sum(c.flops for c in costs),
    )
