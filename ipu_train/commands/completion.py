"""``ipu-train completion``: what a shell completes of ``ipu-train``: commands, options, recipes, keys and their values.

argcomplete does the talking with the shell. Neither torch nor numpy is imported, so that a TAB is answered at once.
"""

import argparse
import os
from typing import Any, Dict, List

from ..command_line import Parser

SHELLS = ("bash", "zsh", "fish")
DATA = ("check", "pack", "bench")

_WEIGHTS = {"--run": True, "--checkpoint": True, "--weights": True, "--config": True}
_MEASURED = {"--json": True, "--csv": True, "--plot": True}
# Options of each command, or form of one; those of training have no command. True: a value follows.
OPTIONS: Dict[str, Dict[str, bool]] = {
    "": {"--config": True, "--resume": False, "--version": False},
    "average": {"--kind": True, "--decay": True, "--out": True},
    "compile": {"--config": True, "--instances": True},
    "completion": {},
    "config": {"--config": True, "--explain": True, "--json-schema": False},
    "data": {
        "--manifest": True,
        "--processes": True,
        "--transparency": True,
        "--out": True,
        "--form": True,
        "--shorter-side": True,
        "--skip": False,
        "--train-split": True,
        "--validation-split": True,
        "--config": True,
        "--seconds": True,
    },
    "evaluate": {**_WEIGHTS, "--data": True, "--json": True, "--confusion": True},
    "export": {**_WEIGHTS, "--format": True, "--out": True, "--opset": True},
    "init": {
        "--data": True,
        "--classes": True,
        "--model": True,
        "--norm": True,
        "--machine": True,
        "--output": True,
        "--force": False,
    },
    "inspect": {
        "--config": True,
        "--checkpoint": True,
        "--norms": True,
        "--images": True,
        **_MEASURED,
    },
    "inspect batch-dependence": {
        "--config": True,
        "--checkpoint": True,
        "--norms": True,
        "--micro-batch-sizes": True,
        "--images": True,
        "--draws": True,
        **_MEASURED,
    },
    "inspect random-net": {
        "--norms": True,
        "--width": True,
        "--depth": True,
        "--groups": True,
        "--group-size": True,
        "--activation": True,
        "--gamma-std": True,
        "--beta-std": True,
        "--norm-eps": True,
        "--proxy-norm-eps": True,
        "--images": True,
        "--image-size": True,
        "--channels": True,
        "--micro-batch-size": True,
        "--networks": True,
        "--seed": True,
        **_MEASURED,
    },
    "launch": {
        "--config": True,
        "--hosts": True,
        "--ipus": True,
        "--instances": True,
        "--partition": True,
        "--vipu-host": True,
        "--interface": True,
        "--images-per-worker": True,
        "--cores": True,
        "--dry-run": False,
    },
    "models": {"--image-size": True, "--num-classes": True},
    "plan": {"--config": True, "--json": False, "--plot": True, "--html": True},
    "predict": {**_WEIGHTS, "--top": True, "--json": True, "--csv": True},
    "sweep": {
        "--config": True,
        "--norms": True,
        "--micro-batch-sizes": True,
        "--set": True,
        "--global-batch-size": True,
        "--jobs": True,
        "--measure": False,
        "--measure-steps": True,
        "--resume": False,
        "--json": True,
        "--html": True,
    },
    "tune": {
        "--config": True,
        "--ipus": True,
        "--total-ipus": True,
        "--headroom": True,
        "--jobs": True,
        "--output": True,
        "--html": True,
    },
}


class CompletionError(ValueError):
    """Completion that cannot be had; the message says what to install."""


def main(arguments: List[str]) -> int:
    """Print what the shell has to read once; gives the exit status 0.

    Raises:
        CompletionError: argcomplete is not installed.
    """
    options = parser().parse_args(arguments)
    print(_argcomplete().shellcode(["ipu-train"], shell=options.shell))
    return 0


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="ipu-train completion",
        description="Print what makes a shell complete commands, recipes, keys and their values after TAB.\n\n"
        '  bash   eval "$(ipu-train completion bash)"      in ~/.bashrc\n'
        '  zsh    eval "$(ipu-train completion zsh)"       in ~/.zshrc, after compinit\n'
        "  fish   ipu-train completion fish | source       in ~/.config/fish/config.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("shell", choices=SHELLS)
    return result


def _argcomplete() -> Any:
    try:
        import argcomplete
    except ImportError:
        raise CompletionError("completion needs argcomplete; install ipu-train[completion]") from None
    return argcomplete


def answer() -> None:
    """Answer a shell that asks how to complete a line, and end the process."""
    words = os.environ.get("COMP_LINE", "").split()
    form = " ".join(words[1:3])
    command = form if form in OPTIONS else words[1] if len(words) > 1 and words[1] in OPTIONS else ""
    _argcomplete().autocomplete(_line(command), always_complete_options="long")


def _line(command: str) -> argparse.ArgumentParser:
    """Everything that a line with this command may hold."""
    result = argparse.ArgumentParser(prog="ipu-train")
    words: Any = result.add_argument("words", nargs="*")
    words.completer = lambda prefix, **_: _words(command, prefix)
    for option, takes_value in OPTIONS[command].items():
        if not takes_value:
            result.add_argument(option, action="store_true")
            continue
        argument: Any = result.add_argument(option)
        completer = {"--config": configurations, "--explain": keys, "--norm": norms, "--model": models}.get(
            option
        )
        if completer is not None:
            argument.completer = completer
    return result


def _words(command: str, prefix: str) -> List[str]:
    if command == "completion":
        return [shell for shell in SHELLS if shell.startswith(prefix)]
    if command == "data":
        return [action for action in DATA if action.startswith(prefix)]
    following = [name.rpartition(" ") for name in OPTIONS if name]
    first = [word for before, _, word in following if before == command and word.startswith(prefix)]
    return [*first, *overrides(prefix)]


def configurations(prefix: str, **_: Any) -> List[str]:
    """Recipes, and YAML files and folders as the shell itself would offer them."""
    from argcomplete.completers import FilesCompleter

    from ..config import builtin_names

    recipes = [name for name in builtin_names() if name.startswith(prefix)]
    return [*recipes, *FilesCompleter(("yaml", "yml"))(prefix)]


def keys(prefix: str, **_: Any) -> List[str]:
    """Dotted keys."""
    from ..config.keys import all_keys

    return [found.path for found in all_keys() if found.path.startswith(prefix)]


def overrides(prefix: str, **_: Any) -> List[str]:
    """``section.key=``, and after the = the words that the key may have."""
    from ..config.keys import key, split

    path, equals, _value = prefix.partition("=")
    if not equals:
        return [f"{found}=" for found in keys(prefix)]
    found = key(*split(path))
    if found is None:
        return []
    values = {"model.name": models, "model.norm": norms}.get(path, lambda _: found.choices)("")
    if not values and "true or false" in _type(found):
        values = ["true", "false"]
    return [f"{path}={value}" for value in values if f"{path}={value}".startswith(prefix)]


def _type(found: Any) -> str:
    from ..config.reference import type_words

    return type_words(found)


def models(prefix: str, **_: Any) -> List[str]:
    from ..models import names

    return [name for name in names() if name.startswith(prefix)]


def norms(prefix: str, **_: Any) -> List[str]:
    from ..models import norm_names

    return [name for name in norm_names() if name.startswith(prefix)]
