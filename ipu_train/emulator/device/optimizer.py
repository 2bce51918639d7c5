"""A training model's optimizer: the user's object on the host, and the one that updates weights on the device.

Source: PopTorch 3.4 user guide, "Optimizers": hyper-parameters go over when the model is compiled and with
``setOptimizer``; state stays on the device until somebody reads it.
"""

import weakref
from typing import Any, Dict, List, Optional

import torch

from .._impl import createPoptorchError
from .._logging import logger
from ..enums import ConnectionType, MeanReductionStrategy, ReductionType
from ..optim import AttributeTracker, Optimizer, changedConstants, snapshot
from ..options import Options
from ..update.base import bring_home, connect
from ..update.hyper_parameters import Snapshot
from ..update.loss_scaling import AutomaticLossScaling
from ..update.rules import DeviceOptimizer
from ..update.scalars import Factors, of_this_version
from ..update.text import log_update
from .executable import Executable, named_state, plain


class ModelOptimizer:
    """Both sides of a training model's optimizer.

    Args:
        host: the user's optimizer.
        options: of the executor; float16 accumulation chooses its reduction strategy for it.
        executor: which one of PopTorch's optimizers keeps from being dropped, once it is compiled.

    Attributes:
        host: the user's optimizer.
        sent: hyper-parameters as the device knows them.
        device: what updates the weights; None until the model is compiled.
        names: of the parameters of each group; none until the model is compiled.
    """

    def __init__(self, host: torch.optim.Optimizer, options: Options, executor: Any) -> None:
        self.host: Any = host
        self.device: Optional[DeviceOptimizer] = None
        self.names: List[List[str]] = []
        self._options = options
        self._executor = weakref.ref(executor) if executor is not None else None
        self._tracker = AttributeTracker(options._relax_optimizer_checks)
        self.sent = self._take(host, compiled=False)

    def replace(self, optimizer: Any, compiled: bool) -> None:
        """``setOptimizer``: its present hyper-parameters go to the device; the device's state is kept.

        Raises:
            poptorch.Error: after compilation, the number of parameter groups differs, or what was compiled in as a
                constant has changed.
            ValueError: float16 accumulation is asked for after compilation.
        """
        taken = self._take(optimizer, compiled)
        if compiled:
            self._check_constants(taken)
        if optimizer is not self.host:
            self.release()
            self.host = optimizer
            if compiled:
                self._send_known_state()
            self._connect()
        before, self.sent = self.sent, taken
        if self.device is not None and taken.differs(before):
            log_update(taken)
            self.device.set_hyper_parameters(taken)

    def find_parameters(self, model: torch.nn.Module) -> None:
        """Look up the names of what the optimizer has to train, before ``model`` is compiled.

        Raises:
            KeyError: a parameter is none of the model's.
        """
        names: Dict[Any, str] = {}
        for name, tensor in reversed(named_state(model)):
            # PopTorch goes by the storage alone: another object with a parameter's storage stands for it
            names[id(tensor)] = names["storage", plain(tensor).data_ptr()] = name
        self.names = []
        for index, group in enumerate(self.host.param_groups):
            found = [names.get(id(p), names.get(("storage", plain(p).data_ptr()))) for p in group["params"]]
            if None in found:
                shape = tuple(plain(group["params"][found.index(None)]).shape)
                raise KeyError(
                    f"Group {index} of the optimizer has a parameter of shape {shape} that is none of the model's: "
                    "make the optimizer from the parameters() of the very module that is given to trainingModel()"
                )
            self.names.append([name for name in found if name is not None])

    def upload(self, executable: Executable) -> None:
        """Hyper-parameters, and the state that the host has, to a device that was just taken."""
        self._send_known_state()
        if self.device is None:
            scaling = None
            if self._options.Training.automatic_loss_scaling:
                scaling = AutomaticLossScaling(self._options._Popart.options)
            self.device = DeviceOptimizer(
                self.sent,
                executable.trained(self.names),
                executable.weights,
                executable.half_weights,
                executable.rounding,
                scaling,
                {name: groups.groups for name, groups in executable.groups.items() if groups.groups > 1},
                self._factors(executable),
            )
            log_update(self.sent)
            self._connect()
        if self.was_loaded:
            logger.info("Writing optimiser state tensors from host to IPU memory.")
            loaded = self.host.get_state_dict()
            sent = loaded["ipu_param"] or {}
            self.device.write_state(of_this_version(loaded["ipu_state"], sent))
            self.device.write_parameters(sent)
            self.host.ipu_state_is_dirty = False

    def _factors(self, executable: Executable) -> Factors:
        batching, training = executable.batching, self._options.Training
        return Factors(
            batching.gradient_accumulation,
            batching.replicas * self._options.Distributed.numProcesses,
            training.accumulation_and_replication_reduction_type == ReductionType.Mean,
            training.meanAccumulationAndReplicationReductionStrategy == MeanReductionStrategy.Running,
        )

    def _send_known_state(self) -> None:
        """What an optimizer has learned on a device before, this one or another, goes to the next one."""
        if isinstance(self.host, Optimizer) and self.host.has_state() and not self.host.host_state_is_dirty:
            self.host.ipu_state_is_dirty = True

    @property
    def was_loaded(self) -> bool:
        """Whether the host has a state, loaded or of a device before, that the device does not have yet."""
        return bool(getattr(self.host, "ipu_state_is_dirty", False))

    def has_run(self) -> None:
        """The device has updated weights: the host's copy of the state is stale."""
        if isinstance(self.host, Optimizer):
            self.host.host_state_is_dirty = True

    def refresh(self) -> None:
        """Bring the state home."""
        if isinstance(self.host, Optimizer):
            bring_home(self.host)

    def release(self) -> None:
        """Bring the state home for good."""
        self.refresh()
        if isinstance(self.host, Optimizer):
            connect(self.host, None)

    def _take(self, optimizer: Any, compiled: bool) -> Snapshot:
        """An optimizer's present hyper-parameters; notices attributes that mean nothing to the device."""
        taken = snapshot(optimizer)
        self._tracker.check(optimizer, taken)
        half = taken.settings["accum_type"] == torch.float16 and not taken.settings["use_combined_accum"]
        strategy = MeanReductionStrategy.Running if half else MeanReductionStrategy.Post
        training = self._options.Training
        if half and training.meanAccumulationAndReplicationReductionStrategy != strategy:
            if compiled:
                raise ValueError(
                    "float16 accumulation needs the running mean reduction strategy, but the model is already compiled "
                    "for another"
                )
            training.decide(meanAccumulationAndReplicationReductionStrategy=strategy)
        return taken

    def _check_constants(self, taken: Snapshot) -> None:
        if len(taken.groups) != len(self.sent.groups):
            raise createPoptorchError(
                f"setOptimizer: the new optimizer has {len(taken.groups)} parameter groups, the one that the model "
                f"was compiled with has {len(self.sent.groups)}."
            )
        if taken.kind != self.sent.kind:
            raise createPoptorchError(
                f"setOptimizer: the model was compiled for {self.sent.kind} and cannot run {taken.kind}: call "
                "destroy() to compile it again."
            )
        changed = changedConstants(self.sent, taken)
        if changed:
            raise createPoptorchError(
                f"setOptimizer: {', '.join(changed)} changed, but was compiled in as a constant. Mark it with "
                "optimizer.variable_attrs.markAsVariable() before compiling, or pass it to the constructor."
            )

    def _connect(self) -> None:
        """From now on the user's optimizer reads its state from this device."""
        if not isinstance(self.host, Optimizer) or self.device is None:
            return
        executor = self._executor() if self._executor is not None else None

        def read(_keeps: Any = executor) -> None:
            # As in PopTorch, where the optimizer's state_dict is a method of the executor: a model can be asked for
            # its trained weights as long as the program has either of the two.
            self._read_state()

        connect(self.host, read)
        if not self.host.ipu_state_is_dirty:
            self.host.host_state_is_dirty = self._options.connection_type != ConnectionType.Never.value

    def _read_state(self) -> None:
        assert self.device is not None
        logger.info("Writing optimiser state tensors from IPU to host.")
        self.host.set_state_dict(
            {"ipu_state": self.device.read_state(), "ipu_param": self.device.read_parameters()}
        )
