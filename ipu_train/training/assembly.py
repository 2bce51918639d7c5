"""From a configuration to the objects that the training loop works with."""

from typing import Any, List, NamedTuple, Optional, Sequence

import torch

from .. import device
from ..config import Config, Resolved
from ..data.mixing import COLUMNS, MixingDraws
from ..device_options import overlap_mode
from ..models import (
    OWN,
    PowerStatistics,
    is_batch_independent,
    keep_statistics_in_float32,
    keeps_statistics_of_its_own,
    meets_elsewhere,
    meets_in_batch_norm_only,
    needs_stacked_replicas,
    set_sync_groups,
    weight_decay_exempt,
)
from ..network import build_network
from ..optim import (
    HostUpdate,
    WeightAverage,
    base_learning_rate,
    build_average,
    build_host_update,
    build_optimizer,
)
from ..processes.alone import ALONE, Processes
from .mixing import Mixing
from .program import Normalise, TrainingProgram, ValidationProgram

PRECISIONS = {  # precision: (dtype of activations, dtype of weights)
    "32.32": (torch.float32, torch.float32),
    "16.32": (torch.float16, torch.float32),
    "16.16": (torch.float16, torch.float16),
}


class Assembly(NamedTuple):
    """What is trained, and the two executors that do it.

    Attributes:
        network: the bare network; its ``state_dict`` is what checkpoints hold.
        optimizer: of ``poptorch.optim``.
        training_model, validation_model: PopTorch executors over the same weights.
        training_options, validation_options: frozen, for the data loaders.
        base_learning_rate: highest learning rate, scaled to the global batch size.
        fused: whether the emulator runs micro-batches of one weight update together.
        average: of the weights over the epochs; None when none is asked for.
        host_update: what of each weight update the host does; None when the device does everything.
        powers: the statistics of every norm, the training program's third output; None when they are not asked for.
        processes: that train together.
    """

    network: torch.nn.Module
    optimizer: Any
    training_model: Any
    validation_model: Any
    training_options: Any
    validation_options: Any
    base_learning_rate: float
    fused: bool
    average: Optional[WeightAverage]
    host_update: Optional[HostUpdate]
    powers: Optional[PowerStatistics]
    processes: Processes = ALONE

    def call(self, batch: Sequence[torch.Tensor], rate: float) -> Any:
        """One training call: loss and hits as PopTorch returns them, then the statistics of ``powers``."""
        if self.host_update is not None:
            return self.host_update.call(
                self.training_model, self.optimizer, batch, rate, self.share_statistics
            )
        return self.training_model(*batch)

    def bring_home(self) -> None:
        """The device's weights into the network's tensors, unless they are there already.

        Running statistics are replica 0's, as those of one process; the device keeps its own.
        """
        self.training_model.copyWeightsToHostIfNeeded()
        self.share_statistics()

    def attach(self) -> None:
        """Give the training program the IPUs that a validation has had.

        The first call would. But with the optimizer's state PopTorch then writes the hyper-parameters that came home
        with it, over those that were sent meanwhile: they would be wrong in the next checkpoint.
        """
        if self.training_model.isCompiled() and not self.training_model.isAttachedToDevice():
            self.training_model.attachToDevice()

    def share_statistics(self) -> None:
        """Give all processes the running statistics that one process would have, on the host.

        Those are replica 0's; of synchronised batch norm they are means over its groups, so over the processes too.
        """
        if self.processes.alone:
            return
        state = self.network.state_dict()
        buffers = {name: state[name] for name, _ in self.network.named_buffers() if name in state}
        if needs_stacked_replicas(self.network):
            for buffer in buffers.values():
                if buffer.is_floating_point():
                    buffer.copy_(self.processes.sum(buffer.double()) / self.processes.count)
        else:
            self.processes.take_first(buffers)


def assemble(resolved: Resolved, poptorch: Any, source: Any, processes: Processes = ALONE) -> Assembly:
    """Build network, optimizer and executors for the images of ``source``.

    Raises:
        ValueError: the configuration asks for what the zoo or the device does not have.
    """
    config = resolved.config
    if source.num_classes < 2:
        message = (
            f"holds images of one class only ({source.class_names[0]}), and there is nothing to tell apart"
        )
        raise resolved.error("data.path" if getattr(config.data, "path", None) else "data", message)
    outputs = config.model.num_classes
    if outputs is not None and outputs < source.num_classes:
        message = (
            f"is {outputs}, but the images have {source.num_classes} classes; remove it or make it larger"
        )
        raise resolved.error("model.num_classes", message)
    activations, weights = PRECISIONS[config.training.precision]
    network = build_network(resolved, source.num_classes, source.channels).to(weights)
    keep_statistics_in_float32(network)
    device.use_proxy_norm_kernel(poptorch, network, config)
    device.place_on_ipus(poptorch, network, config.device.pipeline_splits)
    device.mark_checkpoints(poptorch, network, config.device.recompute_checkpoints)
    normalise = Normalise(source.mean, source.std, activations)

    rate = base_learning_rate(config.optimizer, config.global_batch_size)
    per_update = config.model.proxy_norm_statistics == "per_update"
    host_update = build_host_update(network, config.optimizer, per_update, weight_decay_exempt)
    optimizer = build_optimizer(
        poptorch,
        network.named_parameters(),
        config.optimizer,
        rate,
        weight_decay_exempt,
        read_out=host_update.parameters.values() if host_update is not None else (),
    )
    local_replicas = processes.local(config.training.replicas)
    _check_sync_batch_norm(resolved, poptorch, network, local_replicas)
    fused = fuses_micro_batches(config, poptorch, network) and not _own_images_meet(resolved, source)
    stacked = needs_stacked_replicas(network) and local_replicas > 1
    training_options = device.training_options(
        poptorch, config, fused, stacked, keeps_statistics_of_its_own(network), processes
    )
    validation_options = device.validation_options(poptorch, config, processes)
    mixing = Mixing(config.training, source.image_size) if mixes_images(config) else None
    # the emulator takes outputs of micro-batches that it runs together apart again, image by image
    powers = None
    if config.logging.inspect_every:
        powers = PowerStatistics(
            network, per_image=fused or stacked, micro_batch_size=config.training.micro_batch_size
        )
        if not powers.names:
            raise resolved.error(
                "logging.inspect_every", f"{config.model.name} has {powers.NONE}; leave it out"
            )
    training_program = TrainingProgram(
        poptorch,
        normalise,
        network,
        config.training.label_smoothing,
        mixing,
        powers,
        overlap_mode(poptorch, config),
    )
    validation_program = ValidationProgram(normalise, network)
    return Assembly(
        network,
        optimizer,
        poptorch.trainingModel(training_program.train(), training_options, optimizer),
        poptorch.inferenceModel(validation_program, validation_options),
        training_options,
        validation_options,
        rate,
        fused,
        build_average(config.averaging),
        host_update,
        powers,
        processes,
    )


def mixing_draws(config: Config, image_size: int) -> Optional[MixingDraws]:
    """What draws the coefficients of mixup and CutMix; None without them."""
    training = config.training
    if not mixes_images(config):
        return None
    return MixingDraws(
        training.seed, training.micro_batch_size, image_size, training.mixup_alpha, training.cutmix_lambda
    )


def mixes_images(config: Config) -> bool:
    """Whether the training images are mixed with each other (mixup, CutMix)."""
    return config.training.mixup_alpha > 0 or config.training.cutmix_lambda < 1


def _check_sync_batch_norm(
    resolved: Resolved, poptorch: Any, network: torch.nn.Module, local_replicas: int
) -> None:
    """Tell synchronised batch norm its groups of this process's replicas.

    Raises:
        ConfigError: on a device where replicas cannot share statistics.
    """
    if not needs_stacked_replicas(network):
        return
    config = resolved.config
    together = config.model.norm_replicas or config.training.replicas
    if together > 1 and not device.is_emulated(poptorch):
        raise resolved.error(
            "model.norm",
            "sync_batch runs on the embedded emulator only: PopTorch gives batch norm the statistics of one replica's "
            "micro-batch, and has no all-reduce with a gradient to exchange them. Use a batch-independent norm, or "
            "device.target=emulator.",
        )
    set_sync_groups(network, local_replicas // together)


def fuses_micro_batches(config: Config, poptorch: Any, network: torch.nn.Module) -> bool:
    """Whether running several micro-batches as one batch computes the same, and is no slower.

    No image may look at another, except in batch norm, which the emulator gives one micro-batch at a time.
    """
    if config.device.fuse_micro_batches == "off" or not device.is_emulated(poptorch):
        return False
    if is_batch_independent(network):
        return True
    small = config.training.micro_batch_size <= device.SMALL_FOR_BATCH_NORM
    return (small or config.device.compute == "cuda") and meets_in_batch_norm_only(network)


def _own_images_meet(resolved: Resolved, source: Any) -> bool:
    """Whether images meet in a network of the user's own, which says nothing about that, or its buffers change."""
    if resolved.config.model.name not in OWN:
        return False
    with torch.random.fork_rng(devices=[]):
        network = build_network(resolved, source.num_classes, source.channels)
        images = torch.randn(2, source.channels, source.image_size, source.image_size)
        return meets_elsewhere(network, images)


def example_batch(config: Config, source: Any, processes: Processes = ALONE) -> List[torch.Tensor]:
    """Zeros in the shapes and dtypes of one training call of this process, to compile with."""
    images = config.global_batch_size * config.training.device_iterations // processes.count
    shape = (images, source.channels, source.image_size, source.image_size)
    example = [torch.zeros(shape, dtype=torch.uint8), torch.zeros(images, dtype=torch.int64)]
    return example + ([torch.ones(images, COLUMNS)] if mixes_images(config) else [])
