"""``opts._Popart``: settings handed through to PopART, checked when a model is compiled."""

import logging
from typing import Any, Dict

from .._logging import logger
from .base import OptionsDict
from .session_options import checkSessionOptions


class _PopartOptions(OptionsDict):
    """Settings of PopART's session, by name. ``options`` is the plain dict that holds them."""

    def __init__(self) -> None:
        super().__init__()
        self._create(
            _options={"instrumentWithHardwareCycleCounter": False, "rearrangeAnchorsOnHost": False},
            _patterns={},
            _patterns_level=2,
        )

    @property
    def options(self) -> Dict[str, Any]:
        """All settings made so far."""
        return self._options

    @property
    def patterns(self) -> Dict[str, bool]:
        """Graph patterns switched on or off by name."""
        return self._patterns

    def set(self, key: str, value: Any) -> "_PopartOptions":  # type: ignore[override]  # PopTorch's signatures
        """Set one PopART setting. Names and value types are checked when a model is compiled."""
        self.checkIsFrozen(key)
        self._options[key] = value
        return self

    def setEngineOptions(self, engine_options: Dict[str, str]) -> "_PopartOptions":
        """Set Poplar's engine options, replacing earlier ones."""
        return self.set("engineOptions", dict(engine_options))

    def setPatterns(self, patterns: Dict[str, bool], level: int = 2) -> "_PopartOptions":
        """Switch PopART's graph patterns on or off, starting from a level (0 none, 2 default, 3 all)."""
        self.checkIsFrozen("patterns")
        self._create(_patterns=dict(patterns), _patterns_level=int(level))
        return self

    def toDict(self) -> Dict[str, Any]:
        """All settings, with the patterns as ``patterns`` and ``patterns_level``."""
        return self._described()

    def _described(self) -> Dict[str, Any]:
        return dict(self._options, patterns=self._patterns, patterns_level=self._patterns_level)


def logSettings(settings: Dict[str, Any]) -> None:
    """Say at debug level what each setting is, one line for each value."""

    def written(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))

    for key, value in settings.items():
        if isinstance(value, dict):
            for name, item in value.items():
                logger.debug("poptorch.Options set %s[%s] to %s", key, name, written(item))
        elif isinstance(value, (list, tuple, set, frozenset)):
            for item in value:
                logger.debug("poptorch.Options added %s to %s", written(item), key)
        else:
            logger.debug("poptorch.Options set %s to value %s", key, written(value))


def validateOptions(options: Any) -> None:
    """Check what PopTorch refuses at compile time: settings that it does not have, at least of the value's type.

    The settings of an ``Options`` are also logged at debug level, as PopTorch does when it compiles.

    Args:
        options: an ``Options``, what its ``toDict`` gives, or the dict of its ``_Popart.options``.

    Raises:
        Error: as :func:`~ipu_train.emulator.settings.session_options.checkSessionOptions`.
    """
    if isinstance(options, dict):
        settings = options
    elif options.defaultOutputMode():
        settings = dict(options._Popart.toDict(), **OptionsDict.toDict(options))
        del settings["output_mode"]  # to be replaced by the kind of model
    else:
        settings = options.toDict()
    checkSessionOptions(settings)
    if logger.isEnabledFor(logging.DEBUG):
        logSettings(settings)
