"""``ipu-train --config X``: training, which is what ``ipu-train`` does without another word."""

import os
from typing import Any, List

from .._version import __version__
from . import COMMANDS
from .arguments import parser as with_configuration
from .plan import lists_splits


def main(arguments: List[str]) -> int:
    """Train; gives the exit status."""
    parser = with_configuration(
        "",
        "Train a batch-independent CNN through PopTorch, on IPUs or on the embedded emulator.\n\n"
        "commands:\n" + "\n".join(f"  ipu-train {name:<10} {what}" for name, (_, what) in COMMANDS.items()),
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        choices=["auto"],
        metavar="auto",
        help="go on with the newest run of this configuration (or run_dir's); auto: where there is one, else begin",
    )
    parser.add_argument("--version", action="version", version=f"ipu-train {__version__}")
    folder = next((b for a, b in zip(arguments, arguments[1:]) if a == "--resume" and os.path.isdir(b)), None)
    if folder is not None:
        parser.error(f"--resume takes no folder; write ipu-train --config {folder}/config.yaml --resume")
    options = parser.parse_intermixed_args(_with_resume(arguments))

    from .. import early_checks
    from ..config import load
    from ..processes import launched
    from ..processes.connect import join
    from ..training.signals import ExitAtOnce

    found = launched()

    def read() -> Any:
        resolved = load(options.config, options.overrides)
        if found is None:
            early_checks.check(resolved)
        else:
            early_checks.check(resolved, found.count, is_first=found.index == 0)
        return resolved

    def is_emulated(resolved: Any) -> bool:
        from ..device import will_be_emulated

        return will_be_emulated(resolved)

    with ExitAtOnce() if found is None or found.index == 0 else ExitAtOnce(""):
        processes, resolved = join(read, is_emulated)
        with processes:
            if lists_splits(resolved, processes.is_first):
                return 0
            if resolved.config.device.profile is not None:
                return _profile(resolved, processes, options.resume)
            # torch takes seconds to import; a folder's refusal does not
            processes.first(lambda: _check_beginning(resolved, options.resume))
            with processes.together():
                early_checks.check_network(resolved)
            from ..trainer import train_in

            return train_in(processes, resolved, resume=options.resume).status


def _check_beginning(resolved: Any, resume: Any) -> None:
    """The run folder can be used, and a run that begins finds the weights that it starts from.

    Raises:
        RunFolderError, LockedError, ConfigError: it cannot, or does not.
    """
    from .. import early_checks
    from ..training import run_folder

    if not run_folder.place(resolved, resume).candidates:
        early_checks.check_weights(resolved)


def _profile(resolved: Any, processes: Any, resume: Any) -> int:
    """Instead of training, a few steps under Poplar's profiler.

    Raises:
        ConfigError: with several processes, or a run that is to go on.
    """
    from .. import early_checks

    if not processes.alone or resume:
        why = "--resume has nothing to go on with" if resume else "start one process"
        raise resolved.error("device.profile", f"runs one replica and trains nothing: {why}")
    early_checks.check_network(resolved)
    from ..compiling.profile import profile

    return profile(resolved)


def _with_resume(arguments: List[str]) -> List[str]:
    """``--resume`` takes no other word than ``auto`` after it: what else follows is an override."""
    joined: List[str] = []
    for argument in arguments:
        if argument == "auto" and joined and joined[-1] == "--resume":
            joined[-1] = "--resume=auto"
        else:
            joined.append(argument)
    # argparse would take what follows a bare --resume for its value, so it goes last
    bare = joined.count("--resume")
    return [argument for argument in joined if argument != "--resume"] + ["--resume"] * min(bare, 1)
