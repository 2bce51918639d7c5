"""What keeps the house in shape beside the rules of imports: style and types, on the newest Python alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from . import type_check

REPOSITORY = Path(__file__).resolve().parent.parent
EXCEPTIONS = Path(__file__).with_name("mypy_exceptions.txt")
MOST_EXCEPTIONS = 1


def run(tool, *arguments, folder=REPOSITORY):
    """(exit status, what it prints) of a development tool; skips where it is not installed."""
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed (pip install -e .[test] brings it on the newest Python)")
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def test_the_linter_finds_nothing():
    status, said = run("ruff", "check", "--quiet", ".")
    assert status == 0, said


def test_code_is_formatted():
    status, said = run("ruff", "format", "--check", "--quiet", ".")
    assert status == 0, f"run `ruff format`:\n{said}"


def test_types_are_strict_but_for_a_list_that_only_gets_shorter(tmp_path):
    listed = [line for line in EXCEPTIONS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(listed) <= MOST_EXCEPTIONS, "new files are strict from the start"
    house = type_check.house_in(tmp_path)
    for name in listed:
        assert (house / name).exists(), f"{name} is gone: take it out of {EXCEPTIONS.name}"
    status, said = run("mypy", "--no-error-summary", *type_check.ARGUMENTS, folder=house)
    assert status in (0, 1), said
    found = [line for line in said.splitlines() if ": error: " in line]
    assert status == 0 or found, said
    outside = [line for line in found if not line.replace("\\", "/").startswith(tuple(listed))]
    assert not outside, "\n".join(outside)
