"""Which of several processes this one is, by what its launcher says. No torch in here."""

import os
from dataclasses import dataclass
from typing import Mapping, Optional, Set

# launcher: index of the process, number of processes, index among those of this machine
_VARIABLES = (
    ("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
)
_POPRUN = "POPDIST_"  # what poprun's own variables begin with; its processes are mpirun's
OURS: Set[str] = set()  # of these, what stands in for a launcher that does not set them


class LaunchError(ValueError):
    """Several processes that cannot train one model like this; the message says what to change."""


@dataclass(frozen=True)
class Launched:
    """A process among those that a launcher started.

    Attributes:
        index: of this process, from 0.
        count: of processes.
        local_index: of this process among those on its machine.
        launcher: poprun, torchrun or mpirun.
    """

    index: int
    count: int
    local_index: int
    launcher: str


def launched(environment: Optional[Mapping[str, str]] = None) -> Optional[Launched]:
    """This process among several; None where it is alone.

    A single process under ``poprun`` counts: its replicas and its device are ``poprun``'s to say.

    Raises:
        LaunchError: variables that no launcher sets.
    """
    values = os.environ if environment is None else environment
    by_poprun = any(name.startswith(_POPRUN) and name not in OURS for name in values)
    for launcher, index, count, local_index in _VARIABLES:
        if index in values and count in values:
            found = Launched(
                _number(values, index),
                _number(values, count),
                _number(values, local_index if local_index in values else index),
                "poprun" if by_poprun else launcher,
            )
            if not 0 <= found.index < found.count:
                raise LaunchError(f"{index} is {found.index}, and {count} is {found.count}: unset both")
            return found if found.count > 1 or by_poprun else None
    return None


def _number(values: Mapping[str, str], name: str) -> int:
    try:
        return int(values[name])
    except ValueError:
        raise LaunchError(f"the variable {name} is {values[name]!r}, and must be a number") from None
