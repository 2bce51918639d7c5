"""Which calls PopTorch counts as a loss (PopTorch 3.4 user guide, "Supported operations": loss functions)."""

from typing import Any, Dict, Sequence, Tuple

import torch

from .._impl import createPoptorchError
from .graph import Graph, Node

LOSS_FUNCTIONS = frozenset(
    [
        "identity_loss", "nll_loss", "nll_loss2d", "cross_entropy", "l1_loss", "mse_loss", "smooth_l1_loss",
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss",
        "hinge_embedding_loss", "margin_ranking_loss", "soft_margin_loss", "multilabel_soft_margin_loss",
        "cosine_embedding_loss", "triplet_margin_loss", "ctc_loss",
    ]
)  # fmt: skip

# The operators whose lowering marks its result as a loss (poptorch/source/popart_canonicalization, LossOps.cpp and
# AtenHandlers.gen.cpp: createIdentityloss). PopART's backward pass begins there, whatever torch makes of it afterwards.
_MARKED = frozenset(
    [
        "nll_loss_forward", "nll_loss2d_forward", "nll_loss_nd", "nll_loss2d", "l1_loss", "mse_loss", "smooth_l1_loss",
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss",
        "hinge_embedding_loss", "margin_ranking_loss", "soft_margin_loss", "cosine_embedding_loss",
        "triplet_margin_loss", "ctc_loss",
    ]
)  # fmt: skip
_ONLY_SHAPES = frozenset(["view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze"])

_CLASS_WEIGHTED = frozenset(["nll_loss", "nll_loss2d", "cross_entropy"])


def check_loss_arguments(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
    """Refuse class weights, which PopTorch's lowering of these losses does not read.

    Raises:
        poptorch.Error: ``weight`` is given to nll_loss or cross_entropy.
    """
    weight = args[2] if len(args) > 2 else kwargs.get("weight")
    if name in _CLASS_WEIGHTED and weight is not None:
        raise createPoptorchError(
            f'Parameter "weight" is unsupported by {name}: compute the loss with reduction="none" and '
            "multiply it by the weight of each class instead."
        )


def note_loss(graph: Graph, node: Node, slot: int) -> None:
    """Note what ``slot`` is to PopTorch: the result of ``node``, the last one, which calls a loss function."""
    what = f"{node.name} at {node.location}"
    values = [name for name in node.operators if name not in _ONLY_SHAPES]
    marked = [name for name in values if name in _MARKED]
    if values and not marked:
        graph.unmarked_losses.append(what)
        return
    graph.losses.append((len(graph.nodes) - 1, slot))
    if marked and values[-1] != marked[-1]:
        graph.partial_losses[slot] = (
            f"{what} is more than a loss to PopTorch, whose gradient is that of {marked[-1]} within it alone "
            f"({_after(values, marked[-1])} left out): wrap it in poptorch.identity_loss"
        )


def _after(names: Sequence[str], last: str) -> str:
    rest = list(dict.fromkeys(names[len(names) - names[::-1].index(last) :]))
    return f"{', '.join(rest)} {'is' if len(rest) == 1 else 'are'}"


def identity_loss_of_micro_batches(x: torch.Tensor, reduction: str, micro_batches: int) -> torch.Tensor:
    """``poptorch.identity_loss`` of each of several micro-batches that lie one after the other in ``x``.

    Returns:
        ``[micro_batches]`` for sum and mean; ``x`` for none.
    """
    if reduction == "none":
        return x.clone()
    parts = x.reshape(micro_batches, -1)
    return parts.sum(1) if reduction == "sum" else parts.mean(1)
