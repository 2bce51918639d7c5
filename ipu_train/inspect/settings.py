"""What can be asked for, and what is refused by its words alone. No torch in here."""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..config import nearest
from ..models import norm_names
from .errors import InspectError

PROXY_NORM, STANDARDISED = "+pn", "+ws"


class RandomNetSettings(NamedTuple):
    """What a random network is made of.

    Attributes:
        width, depth: channels of each layer, and layers.
        groups, group_size: of group norm; one of them.
        activation: of each layer.
        gamma_std, beta_std: s_g and s_b of the affine steps.
        norm_eps, proxy_norm_eps: added to variances.
        images, image_size, channels: of the noise images of each network.
        micro_batch_size: images that batch norm sees at once; None for all.
        networks: random networks, with the seeds ``seed``, ``seed + 1``, ...; the terms are means over them.
        seed: of weights, affine steps and images; all norms get the same.
    """

    width: int = 1024
    depth: int = 50
    groups: Optional[int] = None
    group_size: Optional[int] = None
    activation: str = "relu"
    gamma_std: float = 0.2
    beta_std: float = 0.2
    norm_eps: float = 1e-7
    proxy_norm_eps: float = 0.03
    images: int = 32
    image_size: int = 4
    channels: int = 3
    micro_batch_size: Optional[int] = None
    networks: int = 4
    seed: int = 0


def split_name(norm: str) -> Tuple[str, bool, bool]:
    """``layer+ws+pn`` to (layer, has Proxy Norm, has standardised weights)."""
    name, *extras = norm.split("+")
    for extra in extras:
        if "+" + extra not in (PROXY_NORM, STANDARDISED):
            raise InspectError(
                f"--norms: {norm!r}: after a norm come {PROXY_NORM} (Proxy Norm) and {STANDARDISED} (weight "
                "standardisation) only"
            )
    return name, "pn" in extras, "ws" in extras


def names_of(text: str) -> List[str]:
    """Norms of ``--norms`` with what comes after them, each once.

    Raises:
        InspectError: none, an unknown one, or something else behind it.
    """
    names = [name.strip().replace(" ", "") for name in text.split(",") if name.strip()]
    if not names:
        raise InspectError("--norms: names no norm; write for example batch,layer,layer+pn")
    known = norm_names()
    for name in names:
        plain = split_name(name)[0]
        if plain not in known:
            near = nearest(plain, known)
            hint = f"; did you mean {near}?" if near else "."
            raise InspectError(f"--norms: there is no norm {plain!r}{hint} Norms are {', '.join(known)}")
    return list(dict.fromkeys(names))


def sizes_of(text: str) -> Sequence[int]:
    """``2,8`` to (2, 8)."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 2:
        raise InspectError(
            f"--micro-batch-sizes: must be whole numbers of at least 2, such as 2,8,32; got {text}"
        )
    return list(dict.fromkeys(sizes))
