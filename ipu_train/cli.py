"""The command line. ``ipu-train --config X`` trains; other words after ``ipu-train`` are commands of their own.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import difflib
import importlib
import os
import shlex
import sys
from typing import List, Optional

from .command_line import names_configuration
from .commands import COMMANDS
from .outputs import going_on

DONE, BAD_INPUT = 0, 2


def main(argv: Optional[List[str]] = None) -> int:
    """Run a command and give its exit status.

    0 done, 2 bad input, 3 does not fit, 4 diverged, 5 another process of the training has ended, 129, 130 or 143
    stopped by a signal.
    """
    _open_what_is_closed()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how to complete a line
        from .commands.completion import answer

        answer()
    if getattr(sys.stdout, "errors", "") == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files that the terminal cannot show
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name and name not in COMMANDS and not name.startswith("-") and "=" not in name:
        print(f"ipu-train: {_unknown(name, arguments)}", file=sys.stderr)
        return BAD_INPUT
    if not arguments:
        print("ipu-train: say what to do, such as: ipu-train --config quickstart", file=sys.stderr)
        print("`ipu-train --help` lists all commands and options.", file=sys.stderr)
        return BAD_INPUT
    try:
        if name not in COMMANDS:
            return _run("commands.train", arguments)
        _check_alone(name)
        return _run(COMMANDS[name][0], arguments[1:])
    except KeyboardInterrupt:
        with going_on(sys.stderr):
            print("ipu-train: interrupted", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        return DONE
    except (ValueError, OSError) as error:
        if not _is_for_the_user(error):
            raise
        if str(error):  # nothing where another process tells
            with going_on(sys.stderr):
                print(f"ipu-train{_which_process()}: {error}", file=sys.stderr, flush=True)
        return getattr(error, "exit_status", BAD_INPUT)


def _unknown(name: str, arguments: List[str]) -> str:
    """What to say of a first word that is no command."""
    line = " ".join(map(shlex.quote, arguments))
    if names_configuration(name):
        return f"{name!r} is no command. To train it: ipu-train --config {line}"
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    if near:
        meant = line.replace(shlex.quote(name), near[0], 1)
        return f"unknown command {name!r}; did you mean: ipu-train {meant}"
    listed = f"unknown command {name!r}; there are: {', '.join(COMMANDS)}"
    return f"{listed}\nTo train: ipu-train --config X [section.key=value ...]"


def _open_what_is_closed() -> None:
    """Standard streams that whoever started the process has closed: nothing in them, and nothing comes out of them.

    Files opened later would take their numbers, and get what C and C++ say; so would those of programs started here.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number, this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


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


def _run(module: str, arguments: List[str]) -> int:
    status: int = importlib.import_module("." + module, __package__).main(arguments)
    return status


def _is_for_the_user(error: BaseException) -> bool:
    """Errors that rooms raise with a finished message; any other ValueError is a bug and keeps its traceback."""
    if isinstance(error, OSError):
        return True
    module = type(error).__module__
    return module.startswith("ipu_train.") or getattr(error, "for_user", False)
