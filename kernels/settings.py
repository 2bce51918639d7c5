"""What a normalised, proxy-normalised activation is: the same words for every implementation of this room."""

from typing import NamedTuple, Optional, Sequence

EXPECTATIONS = ("quantiles", "exact")
ACTIVATIONS = ("relu", "silu")
EPS = 0.03  # of the paper's public code, large on purpose
QUANTILES = 200


class Settings(NamedTuple):
    """Of ``(phi(gamma * norm(x) + beta) - m) * s``.

    Args:
        groups: Of the group norm, which has no affine of its own; ``None``: ``x`` is taken as it is.
        activation: ``"relu"`` or ``"silu"``.
        eps: Added to the proxy's variance.
        norm_eps: Added to the groups' (biased) variance.
        expectation: ``"quantiles"`` or ``"exact"``, see :mod:`ipu_train.kernels.tables`.
        quantiles: How many, for the first.
    """

    groups: Optional[int] = None
    activation: str = "relu"
    eps: float = EPS
    norm_eps: float = 1e-5
    expectation: str = "quantiles"
    quantiles: int = QUANTILES

    def check(self, where: str, shape: Sequence[int]) -> None:
        """ValueError, which says what is wrong, for settings that do not fit an ``x`` of this shape."""
        if len(shape) < 2:
            raise ValueError(f"{where}: x must be [N, C, ...], but its shape is {tuple(shape)}")
        if self.groups is not None and (self.groups < 1 or shape[1] % self.groups != 0):
            raise ValueError(f"{where}: {shape[1]} channels do not divide into groups={self.groups}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"{where}: activation must be one of {ACTIVATIONS}, not {self.activation!r}")
        if self.expectation not in EXPECTATIONS:
            raise ValueError(f"{where}: expectation must be one of {EXPECTATIONS}, not {self.expectation!r}")
        if self.quantiles < 1:
            raise ValueError(f"{where}: quantiles must be at least 1, not {self.quantiles}")
        if self.eps <= 0 or self.norm_eps < 0:
            raise ValueError(
                f"{where}: eps must be positive and norm_eps not negative, not {self.eps} and {self.norm_eps}"
            )
