"""What a run is: a typed, checked configuration from one YAML file and overrides. Imports nothing heavy."""

from .errors import ConfigError, Problem, nearest
from .learning import (
    AveragingConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
    ValidationConfig,
)
from .loading import Resolved, builtin_folder, builtin_names, load, load_text
from .network import ModelConfig
from .running import CheckpointConfig, DataConfig, DeviceConfig, LoggingConfig
from .schema import Config

__all__ = [
    "AveragingConfig",
    "CheckpointConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DeviceConfig",
    "LoggingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Problem",
    "Resolved",
    "ScheduleConfig",
    "TrainingConfig",
    "ValidationConfig",
    "builtin_folder",
    "builtin_names",
    "load",
    "load_text",
    "nearest",
]
