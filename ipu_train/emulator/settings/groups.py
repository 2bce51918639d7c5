"""The groups of options below ``Options``: Jit, Precision, Training, Distributed and the emulator's own."""

import os
from typing import Any, Dict, Optional

import torch

from .. import enums
from .._logging import logger
from .base import OptionsDict
from .popart import _PopartOptions


class _JitOptions(OptionsDict):
    """``opts.Jit``: kept for old scripts; models are always captured by dispatching."""

    def traceModel(self, trace_model: bool) -> "_JitOptions":
        """Deprecated. False is what happens anyway; True (``torch.jit.trace``) is gone: ``ValueError``."""
        self.checkIsFrozen("traceModel")
        if trace_model:
            raise ValueError("Tracing with torch.jit.trace is no longer supported. Remove traceModel(True)")
        logger.warning("traceModel() is deprecated and has no effect")
        return self


def _set_convolution_option(options: Dict[str, Any], name: str, value: str) -> None:
    """PopART's ``convolutionOptions`` are replaced, not added to (PopTorch 3.4, ``options.py``)."""
    for lost in set(options.get("convolutionOptions", ())) - {name}:
        logger.warning(
            "convolutionOptions[%s] is dropped: setPartialsType() and setConvolutionDithering() replace each other's "
            'options of convolutions, as in PopTorch. Set both with _Popart.set("convolutionOptions", {...}).',
            lost,
        )
    options["convolutionOptions"] = {name: value}


class _PrecisionOptions(OptionsDict):
    """``opts.Precision``: partials, stochastic rounding and floating-point exceptions."""

    def __init__(self, popart_options: _PopartOptions) -> None:
        super().__init__()
        self._create(_popart_options=popart_options)

    def _setPopart(self, key: str, value: Any) -> "_PrecisionOptions":
        self.checkIsFrozen(key)
        self._popart_options._options[key] = value
        return self

    def enableFloatingPointExceptions(self, enabled: bool) -> "_PrecisionOptions":
        """Make a run raise ``Error`` when an operation produces NaN or infinity. Off by default."""
        assert isinstance(enabled, bool), "enableFloatingPointExceptions() takes a bool"
        return self._setPopart("enableFloatingPointChecks", enabled)

    def enableStochasticRounding(self, enabled: bool) -> "_PrecisionOptions":
        """Round to float16 up or down with probability, rather than to nearest."""
        return self._setPopart("enableStochasticRounding", enabled)

    def setPartialsType(self, dtype: torch.dtype) -> "_PrecisionOptions":
        """Choose the dtype partial sums of matmuls and convolutions are kept in: float32 or float16.

        Raises:
            ValueError: any other dtype.
        """
        names = {torch.float: "float", torch.half: "half"}
        if dtype not in names:
            raise ValueError(f"Partials can be torch.float or torch.half, not {dtype}")
        self._setPopart("partialsTypeMatMuls", names[dtype])
        _set_convolution_option(self._popart_options._options, "partialsType", names[dtype])
        return self

    def halfFloatCasting(self, half_float_casting: Any) -> "_PrecisionOptions":
        """Deprecated, no effect."""
        self.checkIsFrozen("halfFloatCasting")
        logger.warning("halfFloatCasting() is deprecated and has no effect")
        return self

    def runningStatisticsAlwaysFloat(self, value: bool) -> "_PrecisionOptions":
        """Deprecated, no effect.

        Raises:
            ValueError: ``value`` is no bool.
        """
        self.checkIsFrozen("runningStatisticsAlwaysFloat")
        if not isinstance(value, bool):
            raise ValueError("runningStatisticsAlwaysFloat() takes a bool")
        logger.warning("runningStatisticsAlwaysFloat() is deprecated and has no effect")
        return self

    @property
    def floating_point_exceptions(self) -> bool:
        """Whether floating-point exceptions are on."""
        return bool(self._popart_options._options.get("enableFloatingPointChecks", False))

    @property
    def stochastic_rounding(self) -> bool:
        """Whether stochastic rounding is on."""
        return bool(self._popart_options._options.get("enableStochasticRounding", False))

    @property
    def partials_type(self) -> torch.dtype:
        """The dtype of partial sums."""
        name = self._popart_options._options.get("partialsTypeMatMuls", "float")
        return torch.half if name == "half" else torch.float


class _TrainingOptions(OptionsDict):
    """``opts.Training``: gradient accumulation and how gradients are reduced."""

    def __init__(self, popart_options: _PopartOptions) -> None:
        super().__init__(
            gradient_accumulation=1,
            accumulation_and_replication_reduction_type=enums.ReductionType.Mean,
            meanAccumulationAndReplicationReductionStrategy=enums.MeanReductionStrategy.Post,
        )
        self._create(_popart_options=popart_options)

    def gradientAccumulation(self, gradient_accumulation: int) -> "_TrainingOptions":
        """Micro-batches whose gradients are added up before one weight update."""
        self.set(gradient_accumulation=gradient_accumulation)
        return self

    def accumulationAndReplicationReductionType(
        self, reduction_type: enums.ReductionType
    ) -> "_TrainingOptions":
        """Mean divides the gradients by accumulation times the replicas of all processes, Sum does not.

        Raises:
            ValueError: neither Mean nor Sum.
        """
        if reduction_type not in (enums.ReductionType.Mean, enums.ReductionType.Sum) or not isinstance(
            reduction_type, enums.ReductionType
        ):
            raise ValueError(
                f"Gradients can be reduced by ReductionType.Mean or ReductionType.Sum, not {reduction_type}"
            )
        self.set(accumulation_and_replication_reduction_type=reduction_type)
        return self

    def setMeanAccumulationAndReplicationReductionStrategy(
        self, mean_reduction_strategy: enums.MeanReductionStrategy
    ) -> "_TrainingOptions":
        """When a Mean reduction divides. Mathematically the same; matters for float16 accumulators."""
        self.set(meanAccumulationAndReplicationReductionStrategy=mean_reduction_strategy)
        return self

    def setAutomaticLossScaling(self, enabled: bool) -> "_TrainingOptions":
        """Let the loss scaling follow the size of the gradients."""
        self.checkIsFrozen("automaticLossScaling")
        self._popart_options._options["automaticLossScalingSettings.enabled"] = enabled
        return self

    def setConvolutionDithering(self, enabled: bool) -> "_TrainingOptions":
        """Spread convolutions over tiles from different starting tiles; a memory hint."""
        self.checkIsFrozen("convolutionDithering")
        value = "true" if enabled else "false"
        _set_convolution_option(self._popart_options._options, "enableConvDithering", value)
        return self

    @property
    def automatic_loss_scaling(self) -> bool:
        """Whether automatic loss scaling is on."""
        return bool(self._popart_options._options.get("automaticLossScalingSettings.enabled", False))


class _DistributedOptions(OptionsDict):
    """``opts.Distributed``: how many processes train together, and which one this is."""

    def __init__(self) -> None:
        super().__init__(
            num_distributed_processes=int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1")),
            distributed_process_id=int(os.environ.get("OMPI_COMM_WORLD_RANK", "0")),
            ipuof_configs={},
        )

    def disable(self) -> "_DistributedOptions":
        """Back to a single process."""
        return self.configureProcessId(0, 1)

    def setEnvVarNames(self, var_num_processes: str, var_process_id: str) -> "_DistributedOptions":
        """Read the number of processes and this one's index from environment variables, now."""
        return self.configureProcessId(
            int(os.environ.get(var_process_id, "0")), int(os.environ.get(var_num_processes, "1"))
        )

    def configureProcessId(self, process_id: int, num_processes: int) -> "_DistributedOptions":
        """Set this process's index and the number of processes."""
        self.set(distributed_process_id=process_id)
        self.set(num_distributed_processes=num_processes)
        return self

    @property
    def processId(self) -> int:
        """This process's index."""
        return self._values["distributed_process_id"]

    @property
    def numProcesses(self) -> int:
        """How many processes train together."""
        return self._values["num_distributed_processes"]


class _EmulatorOptions(OptionsDict):
    """``opts._Emulator``: settings of the emulator that PopTorch does not have.

    Attributes:
        fuse_micro_batches: run several micro-batches of one weight update as one batch. Only right for
            models whose samples meet nowhere but in torch's batch norm, which then takes its statistics of each
            micro-batch alone; the framework switches it on where that is so.
        stack_replicas: run the replicas' micro-batches of each accumulation step as one batch ``[R * B, ...]``, in the
            order of the replicas, for models that synchronise over replicas by looking at such a batch.
        max_images: at most this many images in one fused batch, 0 for no limit.
        device: torch device that does the arithmetic (``POPTORCH_EMULATOR_DEVICE``, default ``cpu``).
        permissive: warn where PopTorch would refuse an operation (``POPTORCH_EMULATOR_PERMISSIVE``).
        torch_compile: float32 training models run as code that ``torch.compile`` generates: the same results to
            rounding (``POPTORCH_EMULATOR_TORCH_COMPILE``).
    """

    def __init__(self) -> None:
        super().__init__(
            fuse_micro_batches=False,
            stack_replicas=False,
            max_images=0,
            device=os.environ.get("POPTORCH_EMULATOR_DEVICE", "cpu"),
            permissive=os.environ.get("POPTORCH_EMULATOR_PERMISSIVE", "0") not in ("", "0"),
            torch_compile=os.environ.get("POPTORCH_EMULATOR_TORCH_COMPILE", "0") not in ("", "0"),
        )

    def fuseMicroBatches(self, enabled: bool = True, max_images: Optional[int] = None) -> "_EmulatorOptions":
        """Run micro-batches of one weight update together, at most ``max_images`` images at once."""
        self.set(fuse_micro_batches=enabled, max_images=0 if max_images is None else max_images)
        return self

    def stackReplicas(self, enabled: bool = True) -> "_EmulatorOptions":
        """Run the replicas' micro-batches of each accumulation step as one batch, for synchronised batch norm."""
        self.checkIsFrozen("stack_replicas")
        self.set(stack_replicas=bool(enabled))
        return self

    def computeDevice(self, name: str) -> "_EmulatorOptions":
        """The torch device to compute on, e.g. ``"cpu"``, ``"cuda"``, ``"cuda:1"``."""
        torch.device(name)  # complains about anything that is no device
        self.set(device=str(name))
        return self

    def torchCompile(self, enabled: bool = True) -> "_EmulatorOptions":
        """Run training models as code that ``torch.compile`` generates."""
        self.checkIsFrozen("torch_compile")
        self.set(torch_compile=bool(enabled))
        return self

    def setPermissive(self, permissive: bool = True) -> "_EmulatorOptions":
        """Warn, rather than refuse, where PopTorch would not support an operation."""
        self.set(permissive=permissive)
        return self
