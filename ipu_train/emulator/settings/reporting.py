"""The options about names, logs, profiles and caches: nothing a model computes depends on them."""

import os
from typing import List, Optional

from .._logging import logger
from .base import OptionsDict

UNLIMITED = 2**64 - 1


class ReportingOptions(OptionsDict):
    """The part of ``Options`` that says what is reported and kept. Every setter returns the options."""

    def logDir(self, log_dir: str) -> "ReportingOptions":
        """Where logs go."""
        self.set(log_dir=log_dir)
        return self

    def maxRepeatLogs(self, max_lines: Optional[int]) -> "ReportingOptions":
        """How often one line is logged, None for always."""
        self.set(max_repeat_logs=UNLIMITED if max_lines is None else max_lines)
        return self

    def modelName(self, name: str) -> "ReportingOptions":
        """The folder of this model's profile, else ``training`` or ``inference``."""
        self.createOrSet(model_name=name)
        return self

    def enableExecutableCaching(self, path: Optional[str]) -> "ReportingOptions":
        """Keep executables in a folder and reuse them, None not to."""
        self._popart.set("enableEngineCaching", path is not None)
        if path is None:
            self._popart._options.pop("cachePath", None)
        else:
            self._popart.set("cachePath", path)
        return self

    def enableProfiling(self, profile_dir: Optional[str] = None) -> "ReportingOptions":
        """Write a profile of compilation and execution below this folder, by default the current one.

        Programs that do not fit in memory are profiled, too; ``POPLAR_ENGINE_OPTIONS`` takes precedence.
        """
        self.checkIsFrozen("enableProfiling")
        directory = "." if profile_dir is None else profile_dir
        settings = {
            "debug.allowOutOfMemory": "true",
            "autoReport.directory": directory,
            "autoReport.all": "true",
        }
        if any(key in os.environ.get("POPLAR_ENGINE_OPTIONS", "") for key in settings):
            logger.warning(
                "POPLAR_ENGINE_OPTIONS takes precedence over what enableProfiling() sets; see what it says"
            )
        self._popart.setEngineOptions(dict(self._popart.options.get("engineOptions", {}), **settings))
        self._profile_dir = directory
        return self

    def disableModuleNamescope(self) -> "ReportingOptions":
        """Do not name operations after the modules they are in."""
        self._module_namescope_enabled = False
        return self

    def showCompilationProgressBar(self, show: bool = True) -> "ReportingOptions":
        """Show how far compilation is; needed for ``executor.compilationTime()``."""
        self._show_compilation_progress_bar = show
        return self

    def relaxOptimizerAttributesChecks(self, relax: bool = True) -> "ReportingOptions":
        """Mention unexpected attributes of optimizers at debug level rather than as warnings."""
        self._relax_optimizer_checks = relax
        return self

    def sourceLocationExcludes(self, excludes: List[str]) -> "ReportingOptions":
        """Paths not to be named as the source of an operation."""
        self._source_location_excludes = list(excludes)
        return self

    def appendToLocationExcludes(self, *excludes: str) -> "ReportingOptions":
        """Add to :meth:`sourceLocationExcludes`."""
        self._source_location_excludes = self._source_location_excludes + list(excludes)
        return self
