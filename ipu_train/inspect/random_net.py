"""The random networks of Labatie et al. 2021 (figure 2, top): convolution - norm - affine - activation, over and over.

All widths are equal, 3x3 convolutions wrap around at the edges, weights are independent Gaussians, and the affine steps
are drawn: gamma ~ N(1, s_g^2), beta ~ N(0, s_b^2). The images are independent noise, as the theory supposes.
"""

import math
from typing import Any, List

import torch
from torch import nn

from .. import early_checks
from ..models.norms import Norms, norm_kind
from ..tracking.powers import TERMS, Layer
from .errors import InspectError
from .program import MomentsProgram
from .records import layers_of
from .settings import RandomNetSettings, split_name


def norms_of(norm: str, settings: RandomNetSettings) -> Norms:
    """Raises InspectError for a norm that does not exist or has no place here."""
    name, proxy, standardised = split_name(norm)
    try:
        kind = norm_kind(name)
    except ValueError as error:
        raise InspectError(f"--norms: {error}") from None
    if kind.fused is not None and (proxy or name.startswith("evonorm")):
        raise InspectError(
            f"--norms: {norm!r} has an activation of its own, so that there is no norm to look at"
        )
    if name == "none" and proxy:
        raise InspectError("--norms: Proxy Norm needs a norm before the activation, and 'none' is none")
    return Norms(
        kind=name,
        groups=settings.groups or 32,
        group_size=settings.group_size,
        eps=settings.norm_eps,
        proxy={"eps": settings.proxy_norm_eps, "expectation": "quantiles", "quantiles": 200}
        if proxy
        else None,
        weight_standardisation=standardised,
    )


def wrapped(x: torch.Tensor) -> torch.Tensor:
    """Images with a border of one pixel from their opposite edge: periodic boundaries for 3x3 kernels."""
    x = torch.cat((x[:, :, -1:], x, x[:, :, :1]), dim=2)
    return torch.cat((x[:, :, :, -1:], x, x[:, :, :, :1]), dim=3)


class RandomNet(nn.Module):
    """``depth`` layers of a norm; weights, gamma and beta from torch's global generator.

    Shape: [N, channels, S, S] to [N, width, S, S].
    """

    def __init__(self, norm: str, settings: RandomNetSettings):
        super().__init__()
        norms = norms_of(norm, settings)
        self.convolutions, self.sites = nn.ModuleList(), nn.ModuleList()
        for layer in range(settings.depth):
            inputs = settings.width if layer else settings.channels
            convolution = norms.convolution(inputs, settings.width, 3)
            convolution.padding = (0, 0)  # the images bring their border along
            nn.init.normal_(convolution.weight, std=1 / math.sqrt(9 * inputs))
            try:
                site = norms.activated(settings.width, settings.activation)
            except ValueError as error:
                words = (
                    str(error).replace("norm_group_size", "--group-size").replace("norm_groups", "--groups")
                )
                words = words.replace(" here, and divide the channels of every other layer", "")
                raise InspectError(f"random-net: {words}") from None
            affine = site.norm if getattr(site, "proxy", None) is None else site.proxy
            gamma = affine.gamma if affine is not site.norm else affine.weight
            beta = affine.beta if affine is not site.norm else affine.bias
            nn.init.normal_(gamma, 1.0, settings.gamma_std)
            nn.init.normal_(beta, 0.0, settings.beta_std)
            self.convolutions.append(convolution)
            self.sites.append(site)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution, site in zip(self.convolutions, self.sites):
            x = site(convolution(wrapped(x)))
        return x


def check(norm: str, settings: RandomNetSettings) -> None:
    """Refuse what cannot be computed before anything is.

    Raises:
        InspectError: as ``inspect_random_net``, or networks that this machine cannot hold.
    """
    micro_batch = settings.micro_batch_size or settings.images
    if settings.images % micro_batch:
        raise InspectError(f"--images {settings.images} is no multiple of --micro-batch-size {micro_batch}")
    values = (micro_batch if "batch" in norm else 1) * settings.image_size**2
    if values == 1 and norm.split("+")[0] in ("batch", "sync_batch", "instance"):
        raise InspectError(
            f"{norm} norm has statistics of one value here, with which there is nothing to see; choose a larger "
            f"--image-size{' or --micro-batch-size' if 'batch' in norm else ''}"
        )
    weights = 9 * settings.width * (settings.channels + settings.width * (settings.depth - 1))
    activations = micro_batch * settings.width * settings.image_size**2
    needed, memory = 4 * (2 * weights + 12 * activations), early_checks.machine_memory()
    if memory is not None and needed > memory:
        raise InspectError(
            f"a random network of this size takes about {needed / 1e9:,.0f} GB, and this machine has "
            f"{memory / 1e9:,.0f} GB; lower --width, --depth, --images or --image-size"
        )
    RandomNet(norm, settings._replace(depth=1))


def inspect_random_net(poptorch: Any, norm: str, settings: RandomNetSettings) -> List[List[Layer]]:
    """The power terms at each norm of each of the random networks, computed on the device.

    Raises:
        InspectError: settings or a norm that do not fit.
    """
    check(norm, settings)
    micro_batch = settings.micro_batch_size or settings.images
    found = []
    for seed in range(settings.seed, settings.seed + settings.networks):
        state = torch.get_rng_state()
        try:
            torch.manual_seed(seed)
            side = settings.image_size
            images = torch.randn(settings.images, settings.channels, side, side)
            program = MomentsProgram(RandomNet(norm, settings).train())
        finally:
            torch.set_rng_state(state)
        options = poptorch.Options()
        options.deviceIterations(settings.images // micro_batch)
        options.outputMode(poptorch.OutputMode.All)
        moments = poptorch.inferenceModel(program, options)(images)
        found.append(layers_of(norm, program.statistics.powers(moments, settings.images)))
    return found


def mean_layers(networks: List[List[Layer]]) -> List[Layer]:
    """The terms of each layer as means over the networks."""
    return [
        rows[0]._replace(**{term: sum(getattr(row, term) for row in rows) / len(rows) for term in TERMS})
        for rows in zip(*networks)
    ]


def unbiased_collapse(layers: List[Layer], images: int) -> List[float]:
    """P1 of each layer without what a finite number of images adds to it, P2 / (N - 1)."""
    return [layer.squared_mean_of_means - layer.variance_of_means / max(1, images - 1) for layer in layers]
