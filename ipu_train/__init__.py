"""Train batch-independent CNNs on Graphcore IPUs through PopTorch, or on an embedded emulator of it.

What the commands of ``ipu-train`` do, from Python::

    import ipu_train

    resolved = ipu_train.load("cifar10_resnet20_gn_pn", ["training.epochs=1"])  # a recipe's name or a YAML file
    report = ipu_train.predict(resolved)                               # memory and cycles on IPUs
    outcome = ipu_train.train(resolved)                                # outcome.accuracy, outcome.folder
    network = ipu_train.models.build("resnet50", norm="group", proxy_norm=True)

This module imports nothing heavy by itself: ``ipu-train --help`` must answer at once.
"""

import importlib
from typing import TYPE_CHECKING, Any, List

from ._version import __version__

if TYPE_CHECKING:
    from . import models
    from .api import train
    from .config import ConfigError, Resolved, load
    from .data import DataSource
    from .planning import DoesNotFit, predict
    from .plugins import RegistrationError, register_dataset, register_model
    from .trainer import Outcome
    from .training.callbacks import Callback

__all__ = [
    "Callback",
    "ConfigError",
    "DataSource",
    "DoesNotFit",
    "Outcome",
    "RegistrationError",
    "Resolved",
    "__version__",
    "load",
    "models",
    "predict",
    "register_dataset",
    "register_model",
    "train",
]

_HOME = {
    "Callback": ".training.callbacks",
    "DataSource": ".data",
    "RegistrationError": ".plugins",
    "register_dataset": ".plugins",
    "register_model": ".plugins",
    "ConfigError": ".config",
    "DoesNotFit": ".planning",
    "Outcome": ".trainer",
    "Resolved": ".config",
    "load": ".config",
    "predict": ".planning",
    "train": ".api",
}


def __getattr__(name: str) -> Any:
    if name == "models":
        return importlib.import_module(".models", __name__)
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
