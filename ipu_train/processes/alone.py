"""What the processes of one training do together; alone, each of these does nothing but its work. No torch in here.

Every method is called by all processes in the same order.
"""

import contextlib
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Dict, List, Sequence, TypeVar

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")


class Processes:
    """One process, which trains alone; ``several.Several`` overrides what needs the others.

    Attributes:
        index, count: of this process, and of all.
        how_to_go_on: what to do when another process is lost, once that is known.
    """

    index, count, local_index = 0, 1, 0
    how_to_go_on = ""

    @property
    def alone(self) -> bool:
        return self.count == 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder, and speaks."""
        return self.index == 0

    def local(self, replicas: int) -> int:
        """How many of all replicas are this process's."""
        return replicas // self.count

    def options(self, poptorch: Any, ipus_per_replica: int, replicas: int) -> Any:
        """New ``poptorch.Options`` for this process's replicas."""
        options = poptorch.Options()
        options.replicationFactor(replicas)
        return options

    def together(self) -> ContextManager[None]:
        """A context whose errors end all processes, each told once; nothing in it may wait for others."""
        return contextlib.nullcontext()

    def first(self, compute: Callable[[], Value]) -> Value:
        """What process 0 computes, everywhere; its error ends all."""
        return compute()

    def in_turn(self, compute: Callable[[], Value]) -> Value:
        """What each process computes, the first one of each machine before the others: it fills caches."""
        return compute()

    def connected(self) -> ContextManager[None]:
        """A context in which the device exchanges gradients: another process may be found lost there."""
        return contextlib.nullcontext()

    def outputs(self, results: "Sequence[torch.Tensor]", stop: Any) -> "List[torch.Tensor]":
        """Outputs of a training call (a value for each replica) of all replicas, in their order.

        ``stop`` hears the words of the processes, and tells this one's.
        """
        return list(results)

    def sums(self, values: Sequence[float]) -> List[float]:
        """Sums over the processes, in float64."""
        return list(values)

    def sum(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Sum over the processes."""
        return tensor

    def words(self, own: int) -> List[int]:
        """A whole number from each process."""
        return [own]

    def take_first(self, tensors: "Dict[str, torch.Tensor]") -> None:
        """Overwrite tensors with process 0's."""

    def random_state(self, own: List[int]) -> List[int]:
        """The random states of all processes' devices one after the other, or the one that they have in common."""
        return own

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        pass


ALONE = Processes()
