"""What a run is: a typed, checked configuration from one YAML file and overrides. Imports nothing heavy."""

from .data import DataConfig
from .device import DeviceConfig
from .errors import ConfigError, Problem, nearest
from .files import builtin_folder, builtin_names
from .loading import NAME_LINE, OVERRIDE, Resolved, load, load_text
from .messages import section
from .network import ModelConfig
from .optimizer import OptimizerConfig
from .overrides import quoted, text_override
from .running import CheckpointConfig, LoggingConfig
from .schedule import AveragingConfig, ScheduleConfig
from .schema import Config
from .training import TrainingConfig, ValidationConfig

__all__ = [
    "NAME_LINE",
    "OVERRIDE",
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
    "quoted",
    "section",
    "text_override",
]
