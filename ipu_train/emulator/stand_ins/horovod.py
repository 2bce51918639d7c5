"""Stand-in for ``horovod.torch``: the collectives that scripts use beside PopTorch, over ``torch.distributed``.

With one process all of them are identities.
"""

import contextlib
import enum
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

import torch

from . import popdist


class _Op(enum.Enum):
    Average = "average"
    Sum = "sum"
    Min = "min"
    Max = "max"


Average, Sum, Min, Max = _Op.Average, _Op.Sum, _Op.Min, _Op.Max


def init() -> None:
    """Connect the processes, if there are several."""
    if popdist.isPopdistEnvSet():
        popdist.init()


def is_initialized() -> bool:
    """Whether the processes are connected, or there is one only."""
    return torch.distributed.is_initialized() or not popdist.isPopdistEnvSet()


def shutdown() -> None:
    """Disconnect the processes, once all are here: Horovod's processes agree on it, too."""
    if torch.distributed.is_initialized():
        # No process closes its connections while another may still receive from it.
        with contextlib.suppress(RuntimeError):  # from one that is there no more
            torch.distributed.barrier()
        popdist._groups.clear()
        torch.distributed.destroy_process_group()


def rank() -> int:
    """Index of this process."""
    return popdist.getInstanceIndex()


def local_rank() -> int:
    """Index of this process among those on this machine."""
    return popdist.getLocalInstanceIndex()


def size() -> int:
    """Number of processes."""
    return popdist.getNumInstances()


def _participants() -> int:
    """Processes that take part in a collective now.

    Raises:
        RuntimeError: there are several, not connected.
    """
    if size() == 1:
        return 1
    if not torch.distributed.is_initialized():
        raise RuntimeError("Call horovod.torch.init() before any collective")
    return torch.distributed.get_world_size(popdist._group)


def allreduce(
    tensor: torch.Tensor,
    average: Optional[bool] = None,
    name: Optional[str] = None,
    op: Optional[_Op] = None,
) -> torch.Tensor:
    """Reduce a tensor over all processes.

    Args:
        tensor: same shape and dtype everywhere; it is not changed.
        average: old way to say ``op``.
        name: ignored.
        op: ``Average`` (the default), ``Sum``, ``Min`` or ``Max``.
    """
    if op is None:
        op = Sum if average is False else Average
    count = _participants()
    if count == 1:
        return tensor.clone()
    reduced = tensor.detach().clone().contiguous()
    reduction = {
        Min: torch.distributed.ReduceOp.MIN,
        Max: torch.distributed.ReduceOp.MAX,
    }.get(op, torch.distributed.ReduceOp.SUM)
    torch.distributed.all_reduce(reduced, reduction, group=popdist._group)
    if op is Average:
        reduced = reduced / count if reduced.is_floating_point() else reduced // count
    return reduced


def allreduce_(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """:func:`allreduce` in place."""
    return tensor.copy_(allreduce(tensor, *args, **kwargs))


def grouped_allreduce(tensors: Iterable[torch.Tensor], *args: Any, **kwargs: Any) -> List[torch.Tensor]:
    """:func:`allreduce` of several tensors."""
    return [allreduce(tensor, *args, **kwargs) for tensor in tensors]


def allgather(tensor: torch.Tensor, name: Optional[str] = None) -> torch.Tensor:
    """Concatenate tensors of all processes along dimension 0, which may differ between them."""
    count = _participants()
    if count == 1:
        return tensor.clone()
    group = popdist._group
    rows = [torch.zeros(1, dtype=torch.int64) for _ in range(count)]
    torch.distributed.all_gather(rows, torch.tensor([len(tensor)]), group=group)
    most = max(int(n) for n in rows)
    padded = tensor.new_zeros((most, *tensor.shape[1:]))
    padded[: len(tensor)] = tensor.detach()
    pieces = [torch.empty_like(padded) for _ in range(count)]
    torch.distributed.all_gather(pieces, padded, group=group)
    return torch.cat([piece[: int(n)] for piece, n in zip(pieces, rows)])


def broadcast(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None) -> torch.Tensor:
    """The tensor of process ``root_rank``, everywhere."""
    return broadcast_(tensor.detach().clone(), root_rank)


def broadcast_(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None) -> torch.Tensor:
    """:func:`broadcast` in place."""
    if _participants() > 1:
        sent = tensor.detach().contiguous()
        torch.distributed.broadcast(sent, root_rank, group=popdist._group)
        with torch.no_grad():
            tensor.copy_(sent)
    return tensor


def broadcast_parameters(
    params: Union[Dict[str, torch.Tensor], Iterable[Tuple[str, torch.Tensor]]], root_rank: int
) -> None:
    """Overwrite tensors with those of process ``root_rank``.

    Args:
        params: a ``state_dict()`` or ``named_parameters()``, with the same names in the same order everywhere.
        root_rank: whose values count.
    """
    items = params.items() if isinstance(params, dict) else params
    for _, tensor in items:
        if isinstance(tensor, torch.Tensor):
            broadcast_(tensor, root_rank)


def broadcast_object(obj: Any, root_rank: int = 0, name: Optional[str] = None) -> Any:
    """The object of process ``root_rank``, everywhere; it must be picklable."""
    if _participants() == 1:
        return obj
    box = [obj]
    torch.distributed.broadcast_object_list(box, root_rank, group=popdist._group)
    return box[0]


def barrier() -> None:
    """Wait until every process is here."""
    if _participants() > 1:
        torch.distributed.barrier(group=popdist._group)
