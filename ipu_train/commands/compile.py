"""``ipu-train compile``: both programs of a training, compiled before there are IPUs to run them."""

import sys
from typing import List

from .arguments import parser as with_configuration

USUAL_CACHE = "runs/executables"  # as ``ipu-train launch`` has it


def main(arguments: List[str]) -> int:
    """Compile and say what came of it; gives the exit status 0.

    Raises:
        ConfigError, CompileError, DeviceError: bad input, or a program that PopTorch refuses.
        planning.DoesNotFit: the program does not fit on its IPUs.
    """
    parser = with_configuration(
        "compile",
        "Compile the training and the validation program into device.executable_cache, without IPUs: a training "
        "that finds them there starts at once. Without the Poplar SDK everything up to Poplar's compiler is checked.",
    )
    parser.add_argument(
        "--instances", type=int, default=1, metavar="N", help="processes that will train it (see launch)"
    )
    options = parser.parse_intermixed_args(arguments)

    from .. import early_checks
    from ..compiling import refusals
    from ..config import load

    resolved = load(options.config, options.overrides)
    refusals.check(resolved, options.instances)
    early_checks.check_device_folders(resolved)

    from .. import planning
    from ..compiling.ahead import compile_ahead
    from ..device import will_be_emulated
    from ..processes.connect import check_together

    check_together(resolved, options.instances, will_be_emulated(resolved))
    if not will_be_emulated(resolved) and resolved.config.device.executable_cache is None:
        resolved = resolved.changed([f"device.executable_cache={USUAL_CACHE}"])
    early_checks.check_device_folders(resolved)
    early_checks.check_network(resolved)
    traces = planning.Traces()
    resolved = planning.with_splits(resolved, traces=traces)
    report = planning.predict(resolved, traces=traces)
    if not report.may_fit and not resolved.config.device.allow_out_of_memory:
        raise planning.refuse(report, resolved)
    for line in resolved.config.without_effect():
        print(f"warning: {line}", file=sys.stderr)
    found = compile_ahead(resolved, options.instances)
    print(f"{resolved.name}: images {found.note}")
    for name, seconds in found.seconds:
        verb = "compiled" if found.by_sdk else "captured and checked"
        print(f"  {name} program {verb} in {seconds:.1f} s")
    if not found.by_sdk:
        print(
            "nothing was written: the emulator has no executables. PopTorch's rules were checked and the memory "
            f"planned ({report.verdict}); Poplar's compiler needs the SDK"
        )
        return 0
    cache = resolved.config.device.executable_cache
    assert cache is not None  # the SDK compiles into one
    for path in found.files:
        print(f"  {path} ({path.stat().st_size / 1e6:,.1f} MB)")
    if not found.files:
        print(nothing_new(cache, found.known))
    if resolved.config.device.executable_cache == USUAL_CACHE:
        print(f"trainings use it with device.executable_cache={cache} (ipu-train launch sets it)")
    return 0


def nothing_new(cache: str, known: int) -> str:
    """What it means that compiling left no new file in a cache that held ``known`` files."""
    if known:
        return f"nothing new in {cache}: the programs were there"
    return f"{cache} is empty: PopTorch wrote no executable, so a training would compile its programs itself"
