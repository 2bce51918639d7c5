"""The parser of every command: argparse's, whose refusals also say what to write instead."""

import argparse
import difflib
import shlex
from typing import Any, List, NoReturn, Optional, Sequence

ENDINGS = (".yaml", ".yml")


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations that adds a line of advice to argparse's messages."""

    def __init__(self, **keywords: Any):
        super().__init__(allow_abbrev=False, **keywords)
        self._line: Optional[List[str]] = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._remember(args)
        return super().parse_known_args(args, namespace)

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._remember(args)
        return super().parse_intermixed_args(args, namespace)

    def _remember(self, args: Optional[Sequence[str]]) -> None:
        """Keep the whole line: argparse parses mixed words twice, the second time without the options."""
        if self._line is None:
            self._line = list(args or [])

    def error(self, message: str) -> NoReturn:
        super().error(f"{message}\n{self._advice(self._line or [])}")

    def _advice(self, line: List[str]) -> str:
        for position, word in enumerate(line):
            name, equals, value = word.partition("=")
            if not word.startswith("--") or name in self._option_string_actions:
                continue
            if "." in name:
                key = name[2:].replace("-", "_")
                after = line[position + 1 : position + 2]
                given = value if equals or not after or after[0].startswith("-") else after[0]
                return f"A change to the configuration has no dashes before it: {key}={given}"
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            return f"There is no {name}" + (f"; did you mean {near[0]}?" if near else "")
        if "--config" in self._option_string_actions and not any(w.startswith("--config") for w in line):
            named = next((word for word in line if names_configuration(word)), None)
            if named is not None:
                return f"Did you mean --config {shlex.quote(named)}?"
        return f"`{self.prog} --help` says more."


def names_configuration(word: str) -> bool:
    """Whether a word is the name of a YAML file or of a recipe."""
    from .config import builtin_names

    return word.endswith(ENDINGS) or word in builtin_names()
