"""The power decomposition of Labatie et al. 2021: what a norm's output is made of, channel by channel.

For the output y of a norm, before its affine step, with mean mu and standard deviation sigma over the
pixels of image x:

    P1 = (E_x mu)^2       near 1: the channel is nearly one constant for all images (collapse)
    P2 = Var_x mu         how much the images' means differ
    P3 = (E_x sigma)^2
    P4 = Var_x sigma      how much the images' contrasts differ

P1 + P2 + P3 + P4 = E[y^2] exactly, which is 1 after batch, layer and group norm. Batch norm has P1 = 0;
instance norm has P3 = 1 alone.

All four follow from the sums over images of mu, mu^2, sigma and sigma^2, which add up over micro-batches and replicas.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from .norm_layers import ChannelAffine, NormActivation

MOMENTS = 4  # sums of mu, mu^2, sigma, sigma^2


class Powers(NamedTuple):
    """Averages over channels, each a 0-d float64 tensor."""

    squared_mean_of_means: torch.Tensor
    variance_of_means: torch.Tensor
    squared_mean_of_stds: torch.Tensor
    variance_of_stds: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return torch.stack(tuple(self)).sum()


def image_moments(y: torch.Tensor) -> torch.Tensor:
    """mu, mu^2, sigma and sigma^2 of each image and channel: [N, C, H, W] to [N, 4, C], at least float32."""
    y = y.to(torch.promote_types(y.dtype, torch.float32)).flatten(2)
    mean = y.mean(2)
    variance = (y - mean.unsqueeze(2)).square().mean(2)
    return torch.stack((mean, mean.square(), variance.sqrt(), variance), dim=1)


def powers_from(moments: torch.Tensor, images: int) -> Powers:
    """P1 to P4 from sums of ``image_moments`` over that many images, [4, C], averaged over channels, in float64."""
    return Powers(*_terms(moments.detach().double().cpu() / images).mean(1))


def _terms(means: torch.Tensor) -> torch.Tensor:
    """P1 to P4 of each channel, [4, C], from means over images of mu, mu^2, sigma and sigma^2."""
    mean, mean_square, std, std_square = means
    squared = mean.square(), std.square()
    return torch.stack((squared[0], mean_square - squared[0], squared[1], std_square - squared[1]))


def power_decomposition(y: torch.Tensor) -> Powers:
    """P1 to P4 of [N, C, H, W], averaged over channels, in float64.

    An estimate of P1 from N images is too high by about P2 / N.
    """
    return powers_from(image_moments(y.detach().double()).sum(0), y.shape[0])


class PowerStatistics:
    """The statistics of every norm of a network, as one more output of the program that runs the network.

    Made once for a network; whoever runs it says so before and after, inside the same program:

        statistics = PowerStatistics(network)
        statistics.start()
        logits = network(images)
        moments = statistics.take()

    so that what PopTorch traces is an output like any other, and nothing is read on the host in between. Norms
    with an activation of their own (EvoNorm) have no place between the two and are left out. Nothing flows backward.

    Args:
        per_image: keep images apart, [N, 4, sum of C], as an emulator that runs micro-batches together needs its
            outputs; else their sums, [1, 4, sum of C].

    Attributes:
        names: of the norms, in the order of the network's modules.
        places: name and channels of each norm in the order of execution, known once the network was run or traced.
    """

    def __init__(self, network: nn.Module, per_image: bool = False):
        self.per_image = per_image
        self.names: List[str] = []
        self.places: List[Tuple[str, int]] = []
        self._found: List[Tuple[str, torch.Tensor]] = []
        inside = {id(m.norm) for m in network.modules() if isinstance(m, NormActivation)}
        self._recording = [False]
        self._handles = []
        for name, module in network.named_modules():
            is_site = isinstance(module, NormActivation)
            if is_site or (isinstance(module, ChannelAffine) and id(module) not in inside):
                self.names.append(name)
                hook = _Recorder(name, module.norm if is_site else module, self._found, self._recording)
                self._handles.append(module.register_forward_pre_hook(hook))

    def start(self) -> None:
        """From here to ``take`` the network's statistics are computed; elsewhere it runs as ever."""
        self._recording[0] = True

    def take(self) -> torch.Tensor:
        """The statistics since ``start``; ``[N or 1, 4, sum of C]``."""
        self._recording[0] = False
        self.places = [(name, int(moments.shape[2])) for name, moments in self._found]
        joined = torch.cat([moments for _, moments in self._found], dim=2)
        del self._found[:]
        return joined if self.per_image else joined.sum(0, keepdim=True)

    def powers(self, moments: torch.Tensor, images: int) -> Dict[str, Powers]:
        """P1 to P4 of each norm from outputs ``[*, 4, sum of C]`` over that many images."""
        terms = _terms(moments.detach().sum(0, dtype=torch.float64).cpu() / images)
        parts = terms.split([channels for _, channels in self.places], dim=1)
        return {name: Powers(*part.mean(1)) for (name, _), part in zip(self.places, parts)}

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()


class _Recorder:
    """Adds the moments of a norm's output to ``found`` whenever its input is at hand."""

    def __init__(
        self, name: str, norm: nn.Module, found: List[Tuple[str, torch.Tensor]], recording: List[bool]
    ):
        self.name, self.norm, self.found, self.recording = name, norm, found, recording

    def __call__(self, module: nn.Module, arguments: Sequence[torch.Tensor]) -> None:
        if not self.recording[0]:
            return
        with torch.no_grad():
            self.found.append((self.name, image_moments(without_affine(self.norm, arguments[0].detach()))))


@torch.no_grad()
def site_powers(model: nn.Module, images: torch.Tensor) -> Dict[str, Powers]:
    """P1 to P4 at every norm, by name, in the order of execution.

    Args:
        images: [N, C, H, W], as the model takes them. The model is run once, in the mode it is in; batch
            norm in training mode updates its running statistics once.
    """
    statistics = PowerStatistics(model)
    try:
        statistics.start()
        model(images)
        moments = statistics.take()
    finally:
        statistics.remove()
    return statistics.powers(moments, images.shape[0])


def without_affine(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The output of the norm for x, before any affine step, leaving running statistics alone."""
    if isinstance(norm, nn.BatchNorm2d):
        if not norm.training:
            return F.batch_norm(x, norm.running_mean, norm.running_var, training=False, eps=norm.eps)
        parts = x.chunk(getattr(norm, "groups", 1))  # of synchronised replicas
        normalised = [F.batch_norm(part, None, None, training=True, eps=norm.eps) for part in parts]
        return normalised[0] if len(normalised) == 1 else torch.cat(normalised)
    ones = torch.ones(x.shape[1], dtype=x.dtype, device=x.device)
    return norm.forward(x, ones, torch.zeros_like(ones))
