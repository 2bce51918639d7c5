"""The command line. ``ipu-train --config X`` trains; other words after ``ipu-train`` are commands of their own.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import argparse
import os
import sys
from typing import Any, Callable, Dict, List, Optional

from ._version import __version__

DONE, BAD_INPUT, DOES_NOT_FIT = 0, 2, 3

_OVERRIDES = "changes to the configuration, such as training.epochs=5 or run_dir=runs/mine"


def main(argv: Optional[List[str]] = None) -> int:
    """Run a command and give its exit status.

    0 done, 2 bad input, 3 does not fit, 4 diverged, 129, 130 or 143 stopped by a signal.
    """
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how to complete a line
        from .commands.completion import answer

        answer()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    command = COMMANDS.get(name)
    if command is None and name and not name.startswith("-") and "=" not in name:
        print(f"ipu-train: unknown command {name!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        print("To train: ipu-train --config X [section.key=value ...]", file=sys.stderr)
        return BAD_INPUT
    try:
        if command:
            _check_alone(name)
        return command(arguments[1:]) if command else _train(arguments)
    except KeyboardInterrupt:
        print("ipu-train: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return DONE
    except (ValueError, OSError) as error:
        if not _is_for_the_user(error):
            raise
        if str(error):  # nothing where another process tells
            print(f"ipu-train{_which_process()}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", BAD_INPUT)


def _check_alone(command: str) -> None:
    """Only trainings run in several processes.

    Raises:
        LaunchError, Elsewhere: a launcher has started this one with others; the first of them tells.
    """
    from .processes import Elsewhere, LaunchError, launched

    found = launched()
    if found is not None and found.count > 1:
        if found.index:
            raise Elsewhere(BAD_INPUT)
        raise LaunchError(
            f"ipu-train {command} runs in one process, and {found.launcher} has started {found.count}: start it alone. "
            "Trainings (ipu-train --config X) run in several."
        )


def _which_process() -> str:
    """Says which of several processes speaks, unless it is the first."""
    from .processes import LaunchError, launched

    try:
        found = launched()
    except LaunchError:
        return ""
    return f" (process {found.index})" if found is not None and found.index else ""


def _is_for_the_user(error: BaseException) -> bool:
    """Errors that rooms raise with a finished message; any other ValueError is a bug and keeps its traceback."""
    if isinstance(error, OSError):
        return True
    module = type(error).__module__
    return module.startswith("ipu_train.") or getattr(error, "for_user", False)


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"ipu-train {command}".strip(),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="X", help="a YAML file, or the name of a recipe")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help=_OVERRIDES)
    return parser


def _train(arguments: List[str]) -> int:
    parser = _parser(
        "",
        "Train a batch-independent CNN through PopTorch, on IPUs or on the embedded emulator.\n\n"
        "commands:\n" + "\n".join(f"  ipu-train {name:<10} {COMMAND_HELP[name]}" for name in COMMANDS),
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
    options = parser.parse_intermixed_args(_with_resume(arguments))

    from . import early_checks
    from .config import load
    from .processes import launched
    from .processes.connect import join
    from .training import run_folder
    from .training.signals import ExitAtOnce

    found = launched()

    def read() -> Any:
        resolved = load(options.config, options.overrides)
        if found is None:
            early_checks.check(resolved)
        else:
            early_checks.check(resolved, found.count, is_first=found.index == 0)
        return resolved

    def is_emulated(resolved: Any) -> bool:
        from .device import will_be_emulated

        return will_be_emulated(resolved)

    with ExitAtOnce() if found is None or found.index == 0 else ExitAtOnce(""):
        processes, resolved = join(read, is_emulated)
        with processes:
            if _lists_splits(resolved, processes.is_first):
                return DONE
            # torch takes seconds to import; a folder's refusal does not
            processes.first(lambda: run_folder.place(resolved, options.resume))
            with processes.together():
                early_checks.check_network(resolved)
            from .trainer import train_in

            return train_in(processes, resolved, resume=options.resume).status


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


def _lists_splits(resolved: Any, speaks: bool = True) -> bool:
    """Whether the configuration asks for the legal split points; prints them then, if this process ``speaks``."""
    from .config.device import LIST_SPLITS

    if resolved.config.device.pipeline_splits != LIST_SPLITS:
        return False
    if speaks:
        from .planning.settle import list_split_points

        print(list_split_points(resolved))
    return True


def _config(arguments: List[str]) -> int:
    from .commands.config import main as config

    return config(arguments)


class PictureError(ValueError):
    """A picture that cannot be drawn where it was asked for."""


def _check_picture(path: str) -> None:
    """Refuse a picture before the prediction is made rather than after it."""
    from pathlib import Path

    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise PictureError("--plot needs matplotlib; install ipu-train[plots]") from None
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if Path(path).suffix[1:].lower() not in known:
        raise PictureError(f"--plot {path}: its name must end in one of .{', .'.join(known)}")
    if not Path(path).absolute().parent.is_dir():
        raise PictureError(f"--plot {path}: must be a file in a folder that exists")


def _plan(arguments: List[str]) -> int:
    parser = _parser("plan", "Predict memory per tile and cycles of a training step on an IPU, without one.")
    parser.add_argument("--json", action="store_true", help="print the prediction as JSON")
    parser.add_argument("--plot", metavar="PATH", help="draw memory over the schedule to this picture")
    parser.add_argument(
        "--html", metavar="PATH", help="write a report page to look around in: one file, no network"
    )
    options = parser.parse_intermixed_args(arguments)

    import json

    from . import planning
    from .config import load

    resolved = load(options.config, options.overrides)
    if _lists_splits(resolved):
        return DONE
    if options.plot is not None:
        _check_picture(options.plot)
    if options.html is not None:
        from . import pages

        pages.check(options.html)
    traces = planning.Traces()
    resolved = planning.with_splits(resolved, traces=traces)
    report = planning.predict(resolved, traces=traces)
    print(json.dumps(report.to_json(), indent=1) if options.json else planning.describe(resolved, report))
    if options.plot:
        report.plot(options.plot)
        print(f"picture  {options.plot}", file=sys.stderr)
    if options.html:
        from .sweep.variations import write_page

        write_page(options.html, resolved, report)
    if not report.may_fit:
        raise planning.refuse(report, resolved)
    if not report.fits:
        print(f"warning: {planning.doubt(report)}", file=sys.stderr)
    return DONE


def _models(arguments: List[str]) -> int:
    from .commands.models import main as models

    return models(arguments)


def _average(arguments: List[str]) -> int:
    from .commands.average import main as average

    return average(arguments)


def _completion(arguments: List[str]) -> int:
    from .commands.completion import main as completion

    return completion(arguments)


def _data(arguments: List[str]) -> int:
    from .commands.data import main as data

    return data(arguments)


def _init(arguments: List[str]) -> int:
    from .commands.init import main as init

    return init(arguments)


def _evaluate(arguments: List[str]) -> int:
    from .commands.evaluate import main as evaluate

    return evaluate(arguments)


def _sweep(arguments: List[str]) -> int:
    from .sweep.command import main as sweep

    return sweep(arguments)


def _inspect(arguments: List[str]) -> int:
    from .inspect.command import main as inspect

    return inspect(arguments)


def _tune(arguments: List[str]) -> int:
    from .tune.command import main as tune

    return tune(arguments)


COMMANDS: Dict[str, Callable[[List[str]], int]] = {
    "average": _average,
    "completion": _completion,
    "config": _config,
    "data": _data,
    "evaluate": _evaluate,
    "init": _init,
    "inspect": _inspect,
    "models": _models,
    "plan": _plan,
    "sweep": _sweep,
    "tune": _tune,
}
COMMAND_HELP = {
    "average": "average the weights of several checkpoints",
    "completion": "make a shell complete commands, recipes and keys",
    "config": "print the resolved configuration; explain keys; JSON Schema for editors",
    "data": "check the images that a run shall be trained on",
    "evaluate": "accuracy, classes and confusion matrix of a trained model",
    "init": "ask five questions and write a configuration that runs",
    "inspect": "what norms do to activations: power terms by depth, batch dependence",
    "models": "list models and norms; show the layers of one",
    "plan": "predict memory per tile and cycles on an IPU",
    "sweep": "memory and speed over micro-batch sizes and norms",
    "tune": "find the fastest configuration that fits",
}
