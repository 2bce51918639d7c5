"""Which calls PopTorch counts as a loss (PopTorch 3.4 user guide, "Supported operations": loss functions)."""

from typing import Any, Dict, Tuple

import torch

from .._impl import createPoptorchError

LOSS_FUNCTIONS = frozenset(
    [
        "identity_loss", "nll_loss", "nll_loss2d", "cross_entropy", "l1_loss", "mse_loss", "smooth_l1_loss",
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss",
        "hinge_embedding_loss", "margin_ranking_loss", "soft_margin_loss", "multilabel_soft_margin_loss",
        "cosine_embedding_loss", "triplet_margin_loss", "ctc_loss",
    ]
)  # fmt: skip

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


def identity_loss_of_micro_batches(x: torch.Tensor, reduction: str, micro_batches: int) -> torch.Tensor:
    """``poptorch.identity_loss`` of each of several micro-batches that lie one after the other in ``x``.

    Returns:
        ``[micro_batches]`` for sum and mean; ``x`` for none.
    """
    if reduction == "none":
        return x.clone()
    parts = x.reshape(micro_batches, -1)
    return parts.sum(1) if reduction == "sum" else parts.mean(1)
