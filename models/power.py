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

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn

from .frn import FilterResponseNorm
from .norm_layers import ChannelAffine, NormActivation

MOMENTS = 4  # sums of mu, mu^2, sigma, sigma^2
# and LayerNorm over all of an image
_NORMS = (ChannelAffine, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)


class NoNormError(ValueError):
    """A network in which there is nothing to look at; the message is for the user."""


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
    return _moments(*_mean_and_variance(y))


def _mean_and_variance(x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """Of each image and channel, over its pixels: two [N, C], at least float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2)
    mean = x.mean(2)
    centred = x - mean.unsqueeze(2)
    # torch.var_mean, and a second tensor of full size, take ten times as long on a CPU
    return mean, centred.mul_(centred).mean(2)


def _moments(mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    return torch.stack((mean, mean.square(), variance.sqrt(), variance), dim=1)


def powers_from(moments: torch.Tensor, images: int) -> Powers:
    """P1 to P4 from sums of ``image_moments`` over that many images, [4, C], averaged over channels, in float64."""
    return Powers(*_terms(moments.detach().double().cpu() / images).mean(1))


def _terms(means: torch.Tensor) -> torch.Tensor:
    """P1 to P4 of each channel, [4, C], from means over images of mu, mu^2, sigma and sigma^2."""
    mean, mean_square, std, std_square = means
    squared = mean.square(), std.square()
    variances = (mean_square - squared[0], std_square - squared[1])
    of_means, of_stds = (variance.clamp(min=0.0) for variance in variances)  # zero may come out below it
    return torch.stack((squared[0], of_means, squared[1], of_stds))


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
    with an activation of their own (EvoNorm) have no place between the two and are left out. Torch's own norms count as
    well, so that networks of other people need not be written again. Nothing flows backward.

    Args:
        per_image: keep images apart, [N, 4, sum of C], as an emulator that runs micro-batches together needs its
            outputs; else their sums, [1, 4, sum of C].
        micro_batch_size: images that batch norm sees at once, where the network gets more; None for all it gets.

    Attributes:
        names: of the norms, in the order of the network's modules.
        places: name and channels of each norm in the order of execution, known once the network was run or traced. A
            norm that is used again is a place again: ``norm``, ``norm-2``, ...
    """

    NONE = (
        "no norm to look at: none that `norms` gives without an activation of its own, and none of torch's "
        "BatchNorm2d, GroupNorm, InstanceNorm2d and LayerNorm over whole images"
    )

    def __init__(self, network: nn.Module, per_image: bool = False, micro_batch_size: Optional[int] = None):
        self.per_image = per_image
        self.names: List[str] = []
        self.places: List[Tuple[str, int]] = []
        self._found: List[Tuple[str, torch.Tensor]] = []
        inside = {id(m.norm) for m in network.modules() if isinstance(m, NormActivation)}
        self._recording = [False]
        self._handles = []
        for name, module in network.named_modules():
            is_site = isinstance(module, NormActivation)
            if is_site or (_is_norm(module) and id(module) not in inside):
                self.names.append(name)
                norm = module.norm if is_site else module
                hook = _Recorder(name, norm, micro_batch_size, self._found, self._recording)
                self._handles.append(module.register_forward_pre_hook(hook))

    def start(self) -> None:
        """From here to ``take`` the network's statistics are computed; elsewhere it runs as ever."""
        self._recording[0] = True

    def take(self) -> torch.Tensor:
        """The statistics since ``start``; ``[N or 1, 4, sum of C]``.

        Raises:
            NoNormError: no norm got images.
        """
        self._recording[0] = False
        if not self._found:
            raise NoNormError(
                f"the network has no norm to look at: of its norms ({_some(self.names)}) none is run on a tensor "
                "[N, C, H, W], as inspect and logging.inspect_every need"
            )
        used: Dict[str, int] = {}
        self.places = []
        for name, moments in self._found:
            used[name] = used.get(name, 0) + 1
            place = name if used[name] == 1 else f"{name}-{used[name]}"
            self.places.append((place, int(moments.shape[2])))
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
        self,
        name: str,
        norm: nn.Module,
        micro_batch_size: Optional[int],
        found: List[Tuple[str, torch.Tensor]],
        recording: List[bool],
    ):
        self.name, self.norm, self.micro_batch_size = name, norm, micro_batch_size
        self.found, self.recording = found, recording

    def __call__(self, module: nn.Module, arguments: Sequence[torch.Tensor]) -> None:
        if not self.recording[0] or arguments[0].dim() != 4:  # a group norm may follow a linear layer
            return
        with torch.no_grad():
            before = _mean_and_variance(arguments[0].detach())
            after = normalised(self.norm, *before, self.micro_batch_size)
            self.found.append((self.name, _moments(*after)))


def _some(names: List[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_norm(module: nn.Module) -> bool:
    whole_images = isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 3
    return whole_images or isinstance(module, _NORMS)


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


def normalised(
    norm: nn.Module, mean: torch.Tensor, variance: torch.Tensor, micro_batch_size: Optional[int] = None
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each image and channel after the norm, before any affine step, from those before it.

    A norm shifts and scales what lies in one of its regions, so both follow without a pass over the tensor.

    Args:
        mean, variance: [N, C], of the norm's input.
        micro_batch_size: images that batch norm sees at once, where the batch holds more; None for all of them.
    """
    images, channels = mean.shape
    # None: the statistics of training hold in evaluation as well
    running_mean = getattr(norm, "running_mean", None)
    if running_mean is not None and not norm.training:
        return _scaled(mean, variance, running_mean, norm.running_var, norm.eps)
    if isinstance(norm, nn.BatchNorm2d):
        groups = getattr(norm, "groups", 1)  # of synchronised replicas
        size = images // groups if micro_batch_size is None or _synchronises(norm) else micro_batch_size
        shape = (images // size, size, channels)
        mean, variance = mean.reshape(shape), variance.reshape(shape)
        found = _scaled(mean, variance, *_pooled(mean, variance, 1), norm.eps)
    elif isinstance(norm, (nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)):
        groups = channels if isinstance(norm, nn.InstanceNorm2d) else getattr(norm, "num_groups", 1)
        shape = (images, groups, channels // groups)
        mean, variance = mean.reshape(shape), variance.reshape(shape)
        found = _scaled(mean, variance, *_pooled(mean, variance, 2), norm.eps)
    elif isinstance(norm, FilterResponseNorm):
        found = _scaled(mean, variance, 0.0, variance + mean.square(), norm.eps)
    else:  # none
        return mean, variance
    return found[0].reshape(images, channels), found[1].reshape(images, channels)


def _synchronises(norm: nn.Module) -> bool:
    return getattr(norm, "needs_stacked_replicas", False)


def _pooled(mean: torch.Tensor, variance: torch.Tensor, dim: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over all pixels of regions of equal size that are put together along ``dim``."""
    whole = mean.mean(dim, keepdim=True)
    return whole, variance.mean(dim, keepdim=True) + (mean - whole).square().mean(dim, keepdim=True)


def _scaled(
    mean: torch.Tensor, variance: torch.Tensor, centre: Any, spread: torch.Tensor, eps: float
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance after subtracting ``centre`` and dividing by the root of ``spread + eps``."""
    inverse = 1.0 / (spread + eps)
    return (mean - centre) * inverse.sqrt(), variance * inverse
