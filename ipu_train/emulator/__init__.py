"""PopTorch's public API on plain torch: the device of everybody who has no IPU.

``import ipu_train.emulator as poptorch`` gives what ``import poptorch`` gives where the Poplar SDK is installed, with
the observable behaviour of PopTorch 3.4. Numbers are those an IPU would compute up to rounding; time and memory are
those of the machine it runs on.
"""

import os as _os
from typing import Any as _Any
from typing import Callable as _Callable
from typing import Optional as _Optional

import torch as _torch

from . import (  # noqa: F401
    _impl,
    _logging,
    ops,
    optim,
    options,
    poptorch_core,
    profiling,
    testing,
)  # fmt: skip
from ._args_parser import ICustomArgParser, registerCustomArgParser  # noqa: F401
from ._dataloader import DataLoader  # noqa: F401
from ._impl import createPoptorchError, isRunningOnIpu  # noqa: F401
from ._install import install, uninstall  # noqa: F401
from ._logging import logger, setLogLevel  # noqa: F401
from ._poplar_executor import PoplarExecutor
from ._poplar_executor import load as _load
from ._printing import module_repr, print  # noqa: F401
from ._utils import accessAttributes  # noqa: F401
from .device.hooks import registerPostCompileHook, registerPreCompileHook  # noqa: F401
from .device.substitutions import _OverwriteContextManager  # noqa: F401
from .enums import *  # noqa: F403
from .loading.accessor import AsynchronousDataAccessor  # noqa: F401
from .operators.custom_ops import registerCustomOp  # noqa: F401
from .operators.torch_library import register as _register
from .ops import *  # noqa: F403
from .options import *  # noqa: F403
from .poptorch_core import (  # noqa: F401
    Error,
    RecoverableError,
    UnrecoverableError,
    getIpuTensorId,
    hasMLIRSupportOnPlatform,
    ipuHardwareIsAvailable,
    ipuHardwareVersion,
)
from .settings.popart import validateOptions as _validateOptions

__version__ = "3.4.0+emulator"

_os.environ.setdefault("RDMAV_FORK_SAFE", "1")
_register()
vars(poptorch_core)["_validateOptions"] = (
    _validateOptions  # PopTorch has it there, in the core that all else imports
)


def _user_model(model: _Any) -> _torch.nn.Module:
    return model.model if isinstance(model, PoplarExecutor) else model


def trainingModel(
    model: _Any, options: _Optional[options.Options] = None, optimizer: _Any = None
) -> PoplarExecutor:
    """Wrap a module whose forward computes a loss, to train it on the device.

    Args:
        model: the module, or an executor whose module is taken.
        options: left out, the defaults.
        optimizer: of ``poptorch.optim`` or one of torch's SGD, Adam, AdamW, RMSprop; left out, SGD with
            learning rate 0.01 over all parameters.

    Raises:
        RuntimeError: the module is wrapped for training already.
        poptorch.Error: ``options`` is no ``poptorch.Options``.
    """
    module = _user_model(model)
    if optimizer is None:
        optimizer = optim.SGD(module.parameters(), lr=0.01)
    return PoplarExecutor(module, options, training=True, optimizer=optimizer)


def load(filename: str, edit_opts_fn: _Optional[_Callable[[options.Options], None]] = None) -> PoplarExecutor:
    """A compiled executor from a file that ``executor.save`` or ``compileAndExport`` wrote.

    Args:
        filename: the file; it must hold the model.
        edit_opts_fn: gets the options and may change them before they are used.

    Raises:
        AssertionError: saved with ``export_model=False``, or by another version.
    """
    return _load(filename, edit_opts_fn)


def inferenceModel(model: _Any, options: _Optional[options.Options] = None) -> PoplarExecutor:
    """Wrap a module to run its forward on the device.

    Raises:
        poptorch.Error: ``options`` is no ``poptorch.Options``, or asks for gradient accumulation.
    """
    if isinstance(options, Options) and options.Training.gradient_accumulation != 1:  # noqa: F405
        message = (
            "You must set poptorch.Options().Training.gradientAccumulation to 1 or leave it as its default value (1) "
            "when running a poptorch.inferenceModel()."
        )
        if not isinstance(options._execution_strategy, ShardedExecution):  # noqa: F405
            message += (
                " Use poptorch.Options().deviceIterations to process a sufficient number of batches each run for "
                "pipelined execution instead."
            )
        raise createPoptorchError(message)
    return PoplarExecutor(_user_model(model), options, training=False)
