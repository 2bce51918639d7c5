"""Options of Poplar's engine: which are known, and what is wrong with those that a configuration gives.

Poplar publishes no list for programs to read, so a name that is not known here is handed through as it is, unless it is
a misspelt known one or in no group that Poplar has; Poplar refuses what it does not know when it compiles.
"""

import difflib
from typing import Any, Dict, Iterator, Mapping, Tuple

from .errors import nearest

_GROUPS = "autoReport debug device exchange opt prng profiler runtime streamCallbacks target"
GROUPS = tuple(_GROUPS.split())
# Those that Graphcore's public applications, PopART and PopTorch set.
_SWITCHES = """
    autoReport.all autoReport.outputDebugInfo autoReport.outputExecutionProfile autoReport.outputGraphProfile
    autoReport.outputLoweredVars debug.allowOutOfMemory debug.instrument debug.instrumentCompute
    debug.instrumentControlFlow debug.instrumentExternalExchange debug.outputAllSymbols
    debug.retainDebugInformation debug.runtimeVerify exchange.enablePrefetch opt.enableInlining
    opt.enableMultiAccessCopies opt.useAutoloader prng.enableStochasticRounding profiler.includeCycleEstimates
    target.saveArchive target.syncReplicasIndependently
"""
_OTHERS = """
    autoReport.directory autoReport.executionProfileProgramRunCount debug.cbor debug.computeInstrumentationLevel
    debug.floatPointOpException debug.nanOverflowMode debug.trace exchange.multicastPolicy
    exchange.streamBufferOverlap opt.maxComputeSetsPerLoweredCopy prng.seed profiler.format
    streamCallbacks.maxLookahead streamCallbacks.multiThreadMode streamCallbacks.numWorkerThreads
    target.hostSyncTimeout
"""
# name -> the values that it takes; none: any
KNOWN: Dict[str, Tuple[str, ...]] = {
    **dict.fromkeys(_SWITCHES.split(), ("true", "false")),
    **dict.fromkeys(_OTHERS.split(), ()),
    "opt.internalExchangeOptimisationTarget": ("cycles", "balanced", "memory"),
    "target.deterministicWorkers": ("true", "false", "portable"),
}
OWN_KEYS = {
    "debug.floatPointOpException": "device.fp_exceptions",
    "prng.enableStochasticRounding": "training.stochastic_rounding",
    "prng.seed": "training.seed",
    "target.deterministicWorkers": "device.deterministic_workers",
}


def as_poplar_writes(options: Any) -> Any:
    """Texts, as Poplar takes them: ``true`` for YAML's boolean, numbers in digits; nulls are left out."""
    if not isinstance(options, Mapping):
        return options
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


def engine_option_complaints(options: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    """What is wrong with ``device.engine_options``."""
    for name, value in options.items():
        key = f"engine_options.{name}"
        if not isinstance(value, str):
            yield key, f"must be a single value, got {value!r}"
        elif name in OWN_KEYS:
            yield key, f"is set by {OWN_KEYS[name]}"
        elif name in KNOWN:
            if KNOWN[name] and value not in KNOWN[name]:
                yield key, f"must be one of {', '.join(KNOWN[name])}; got {value}"
        else:
            near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.92)
            same = [known for known in KNOWN if known.lower() == name.lower()]
            if near or same:
                yield key, f"Poplar has no such option; did you mean {(same or near)[0]}?"
            elif name.split(".")[0] not in GROUPS:
                group = nearest(name.split(".")[0], GROUPS)
                hint = f"; did you mean {group}?" if group else ""
                yield key, f"Poplar's options begin with one of {', '.join(GROUPS)}{hint}"
