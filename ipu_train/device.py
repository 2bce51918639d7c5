"""What ``poptorch`` is, and the configuration as PopTorch's options.

The only place that decides between the Poplar SDK's PopTorch and the embedded emulator; everything else is written
once, against the PopTorch API.
"""

import difflib
import functools
import importlib
import importlib.util
import os
import traceback
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch

from . import device_options, kernels, models
from .config import Config, Resolved
from .device_options import fused_on_ipus
from .processes.alone import ALONE, Processes


class DeviceError(ValueError):
    """A device that is asked for and cannot be had; the message says what to do."""


def sdk_is_installed() -> bool:
    """Whether the Poplar SDK's PopTorch can be imported (the emulator under that name does not count)."""
    try:
        spec = importlib.util.find_spec("poptorch")
    except (ImportError, ValueError):
        return False
    return spec is not None and not (spec.origin or "").startswith(os.path.dirname(__file__))


def will_be_emulated(resolved: Optional[Resolved]) -> bool:
    """Whether the emulator runs a configuration, or one that cannot be read."""
    return not sdk_is_installed() or (resolved is not None and resolved.config.device.target == "emulator")


def choose(config: Config, processes: Processes = ALONE) -> Tuple[Any, str]:
    """The ``poptorch`` module for ``device.target``, and a line that says what runs.

    Raises:
        DeviceError: hardware or Graphcore's IPUModel is asked for without the SDK, or without enough IPUs; or a GPU
            where torch has none.
    """
    target = config.device.target
    installed = sdk_is_installed()
    if target == "emulator" or (target == "auto" and not installed):
        emulator = importlib.import_module("ipu_train.emulator")
        check_gpu(config)
        return emulator, f"embedded emulator of PopTorch {emulator.__version__} on {config.device.compute}"
    if not installed:
        raise DeviceError(
            f"device.target is {target}, but the Poplar SDK's poptorch is not installed in this Python. Activate the "
            "SDK and its PopTorch wheel, or use device.target=emulator."
        )
    poptorch = importlib.import_module("poptorch")
    if target == "auto":
        target = "ipu" if poptorch.ipuHardwareIsAvailable() else "ipu_model"
        if target == "ipu_model":
            warnings.warn(
                "device.target is auto and this machine has no IPU: the run is simulated on Graphcore's IPUModel, "
                "which is slow. device.target=emulator is faster."
            )
    if target == "ipu" and processes.alone:  # poprun has reserved those of several
        _check_ipus(poptorch, config)
    where = "IPU hardware" if target == "ipu" else "Graphcore's IPUModel"
    if target == "ipu_model":
        os.environ.setdefault("POPTORCH_IPU_MODEL", "1")
    return poptorch, f"PopTorch {poptorch.__version__} on {where}"


def check_gpu(config: Config) -> None:
    """The emulator has the GPU that it is to compute on.

    Raises:
        DeviceError: torch finds none.
    """
    if config.device.compute == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device.compute is cuda, but torch finds no CUDA device that it can use. Use device.compute=cpu, or a "
            "torch build and a driver that fit the GPU."
        )


def _check_ipus(poptorch: Any, config: Config) -> None:
    """Ask for as many IPUs as PopTorch will take: devices have sizes that are powers of two.

    Raises:
        DeviceError: there is no such device.
    """
    used = config.ipus_per_replica * config.training.replicas
    taken = 1 << (used - 1).bit_length()
    if poptorch.ipuHardwareIsAvailable(taken):
        return
    rounded = "" if taken == used else f", taken as {taken} because IPUs come in powers of two"
    raise DeviceError(
        f"device.target is {config.device.target}, and {used} IPUs are needed ({config.ipus_per_replica} per replica x "
        f"{config.training.replicas} replicas{rounded}), but that many are not available. Use fewer replicas, or "
        "device.target=ipu_model."
    )


@contextmanager
def errors_of(poptorch: Any, program: str) -> Iterator[None]:
    """Turn whatever is raised while a program is compiled into one message for the user of a configuration.

    That is PopTorch's own error, or one of torch's checks, PopTorch's assertions and PopART's exceptions, which
    arrive under many types. What other rooms of ours say to the user passes.

    Args:
        program: "training", "validation" or "inspection".

    Raises:
        DeviceError: the message, with the line of the network where the compilation ended.
    """
    try:
        yield
    except Exception as error:
        reason = str(getattr(error, "message", "") or error)
        if not isinstance(error, poptorch.Error):
            if type(error).__module__.startswith("ipu_train.") or isinstance(error, OSError):
                raise
            reason = f"{type(error).__name__}: {reason}"
        raise DeviceError(
            f"PopTorch cannot compile the {program} program: {reason}{_where(error)}"
        ) from error


def _where(error: BaseException) -> str:
    """The innermost line of the networks or programs that an error passed, to end a message."""
    lines = [
        f" ({os.path.join(os.path.basename(os.path.dirname(frame.filename)), os.path.basename(frame.filename))}"
        f":{frame.lineno}, in {frame.name})"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(_NETWORKS)
    ]
    return lines[-1] if lines else ""


# where the code that is compiled lies
_NETWORKS = tuple(
    os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep for module in (models, kernels)
) + (os.path.join(os.path.dirname(os.path.abspath(__file__)), "training", "program.py"),)


def is_emulated(poptorch: Any) -> bool:
    return poptorch.__name__ == "ipu_train.emulator"


def training_options(
    poptorch: Any,
    config: Config,
    fuse_micro_batches: bool,
    stack_replicas: bool = False,
    replica_statistics: bool = False,
    processes: Processes = ALONE,
) -> Any:
    """``poptorch.Options`` of the training program.

    Args:
        fuse_micro_batches: the emulator runs micro-batches of a weight update together.
        stack_replicas: the emulator runs the replicas' micro-batches as one batch, and nothing else together.
        replica_statistics: the network updates buffers that PopTorch does not know to be running statistics; each
            replica keeps its own, as it does those of batch norm.
        processes: that share the replicas.
    """
    training = config.training
    options = _common_options(poptorch, config, training.device_iterations, processes)
    options.Training.gradientAccumulation(training.gradient_accumulation)
    reduction = poptorch.ReductionType.Mean if training.reduction == "mean" else poptorch.ReductionType.Sum
    options.Training.accumulationAndReplicationReductionType(reduction)
    if config.optimizer.automatic_loss_scaling:
        options.Training.setAutomaticLossScaling(True)
    options.Precision.enableStochasticRounding(training.stochastic_rounding)
    device_options.set_training(poptorch, options, config)
    if replica_statistics and training.replicas > 1:
        options.broadcastBuffers(False)
    if config.device.torch_compile and is_emulated(poptorch):
        options._Emulator.torchCompile()
    if fuse_micro_batches:
        options._Emulator.fuseMicroBatches(True, max_images=FUSED_IMAGES)
    if stack_replicas:
        options._Emulator.stackReplicas(True)
    return options


def mark_checkpoints(poptorch: Any, network: torch.nn.Module, names: List[str]) -> None:
    """Keep the outputs of the named modules for backward, so that recomputation starts from them.

    Raises:
        DeviceError: a name that is no module of the network.
    """
    modules = dict(network.named_modules())
    for name in names:
        if name not in modules:
            raise DeviceError(f"device.recompute_checkpoints names {name}, {_no_module(name, modules)}")
        modules[name].register_forward_hook(
            lambda module, inputs, output: poptorch.recomputationCheckpoint(output)
        )


def _no_module(name: str, modules: Dict[str, torch.nn.Module]) -> str:
    near = difflib.get_close_matches(name, [m for m in modules if m], n=3)
    return "which is no module of the model." + (f" Did you mean {', '.join(near)}?" if near else "")


# Enough for efficient CPU kernels; more only costs memory.
FUSED_IMAGES = 256
# Micro-batches with batch norm up to which one batch of many is faster than one after the other on a CPU, although it
# copies every norm's input and output (``scripts/results/benchmark_step.md``; at 8 it depends on the network).
SMALL_FOR_BATCH_NORM = 4


def validation_options(poptorch: Any, config: Config, processes: Processes = ALONE) -> Any:
    """``poptorch.Options`` of the validation program: it returns the result of every image."""
    options = _common_options(poptorch, config, validation_device_iterations(config), processes)
    options.outputMode(poptorch.OutputMode.All)
    return options


def inspection_options(poptorch: Any, config: Config) -> Any:
    """``poptorch.Options`` of an inference program over training's micro-batches; it returns every result."""
    options = _common_options(poptorch, config, config.ipus_per_replica)
    options.outputMode(poptorch.OutputMode.All)
    return options


def validation_device_iterations(config: Config) -> int:
    """A pipeline needs as many micro-batches in flight as it has stages."""
    return max(config.validation.device_iterations or 1, config.ipus_per_replica)


def _common_options(
    poptorch: Any, config: Config, device_iterations: int, processes: Processes = ALONE
) -> Any:
    options = processes.options(poptorch, config.ipus_per_replica, config.training.replicas)
    options.deviceIterations(device_iterations)
    options.autoRoundNumIPUs(True)  # a machine hands out powers of two; idle IPUs are better than a refusal
    device = config.device
    options.Precision.setPartialsType(torch.half if device.partials == "half" else torch.float)
    device_options.set_common(poptorch, options, config)
    if config.ipus_per_replica > 1:
        options.setExecutionStrategy(poptorch.PipelinedExecution(poptorch.AutoStage.SameAsIpu))
    if is_emulated(poptorch):
        options._Emulator.computeDevice(device.compute)
    # without torch.manual_seed as a side effect: the host's random state belongs to the caller
    host_random = torch.get_rng_state()
    options.randomSeed(config.training.seed)
    torch.set_rng_state(host_random)
    return options


def use_proxy_norm_kernel(poptorch: Any, network: torch.nn.Module, config: Config) -> None:
    """Choose what computes a group-wise norm with Proxy Norm, as ``model.proxy_norm_kernel`` asks.

    auto is the C++ kernel of ``ipu_train.kernels`` where the emulator computes on a CPU and there is a compiler; the
    PopART operator on IPUs where it is built, for the activations that it is estimated to be faster for; else plain
    torch. Normalisation, activation and Proxy Norm are then one operation that keeps no more than its input.

    Raises:
        DeviceError: the PopART operator or Triton is asked for and cannot be had.
    """
    wanted = config.model.proxy_norm_kernel
    if wanted == "torch" or not config.model.proxy_norm:
        return
    if wanted == "triton":
        models.use_proxy_norm_kernel(network, triton_kernel(poptorch, config))
    elif wanted == "popart" or not is_emulated(poptorch):
        activations = fused_on_ipus(config)
        if activations:
            models.use_proxy_norm_kernel(network, popart_kernel(poptorch), activations)
    elif config.device.compute == "cpu":
        from .kernels import cpu

        usable, reason = cpu.available()
        if usable:
            models.use_proxy_norm_kernel(network, cpu.norm_proxy_norm_act)
        else:
            warnings.warn(f"Proxy Norm runs on plain torch, slower and with more memory: {reason}")


def triton_kernel(poptorch: Any, config: Config) -> Callable[..., torch.Tensor]:
    """The kernel for GPUs.

    Raises:
        DeviceError: nothing here computes on a GPU, or there is no Triton.
    """
    from .kernels import gpu

    if not (is_emulated(poptorch) and config.device.compute == "cuda"):
        raise DeviceError(
            "model.proxy_norm_kernel is triton, which is for GPUs: set device.compute to cuda, or "
            "model.proxy_norm_kernel to auto"
        )
    usable, reason = gpu.available()
    if not usable:
        raise DeviceError(f"model.proxy_norm_kernel is triton, but {reason}")
    return gpu.norm_proxy_norm_act


def popart_kernel(poptorch: Any) -> Callable[..., torch.Tensor]:
    """The PopART operator through ``poptorch.custom_op``; the emulator runs its sources, built for this host.

    Raises:
        DeviceError: the operator cannot be built or loaded; the message says why and what to do.
    """
    from .kernels import host, op

    try:
        if is_emulated(poptorch):
            host.library()
            for (domain, name), implementation in kernels.custom_ops().items():
                poptorch.registerCustomOp(domain, name, implementation)
        else:
            op.load_library()
    except RuntimeError as error:
        raise DeviceError(
            f"model.proxy_norm_kernel takes the PopART operator, but {error}. model.proxy_norm_kernel=torch needs "
            "none."
        ) from error
    return functools.partial(op.norm_proxy_norm_act, poptorch)


def place_on_ipus(poptorch: Any, network: torch.nn.Module, splits: List[str]) -> None:
    """Begin a new IPU at each of the named modules; the first modules go to IPU 0.

    Raises:
        DeviceError: a name that is no module of the network, or the one that it begins with.
    """
    if not splits:
        return
    modules = dict(network.named_modules())
    for name in splits:
        if name not in modules:
            raise DeviceError(f"device.pipeline_splits names {name}, {_no_module(name, modules)}")
    # the very first leaf opens IPU 0, since every operation of a pipelined model must be in a block
    first = next(m for m in network.modules() if not list(m.children()))
    for name in splits:
        if first in modules[name].modules():
            raise DeviceError(
                f"device.pipeline_splits names {name}, where the network begins: IPU 0 begins there anyway; leave it "
                "out."
            )
    poptorch.BeginBlock(first, user_id="ipu0", ipu_id=0)
    for ipu, name in enumerate(splits, start=1):
        poptorch.BeginBlock(modules[name], user_id=f"ipu{ipu}", ipu_id=ipu)
