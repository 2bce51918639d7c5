"""Shell completion: what a shell is answered for the start of a line."""

import os
import re
import subprocess
import sys

import pytest

from ipu_train import cli
from ipu_train.commands import completion

argcomplete = pytest.importorskip("argcomplete")


def completed(line):
    """What a shell that asks about ``line`` is told."""
    code = (
        "import sys\nfrom ipu_train.cli import main\nimport atexit\natexit.register(lambda: None)\nmain([])"
    )
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": os.environ["COMPLETED"],
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
        "_ARGCOMPLETE_IFS": "\n",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    with open(os.environ["COMPLETED"], encoding="utf-8") as file:
        return [word.strip() for word in file.read().split("\n") if word.strip()]


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPLETED", str(tmp_path / "completed"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "line, answers",
    [
        ("ipu-train swe", {"sweep"}),
        ("ipu-train plan --config resnet50_gn_pn_p", {"resnet50_gn_pn_pod4", "resnet50_gn_pn_pod64"}),
        ("ipu-train --config quickstart training.ep", {"training.epochs="}),
        ("ipu-train --config quickstart optimizer.name=la", {"lamb", "lars"}),
        ("ipu-train config --explain optimizer.mom", {"optimizer.momentum"}),
        ("ipu-train tune --total", {"--total-ipus"}),
        ("ipu-train inspect ran", {"random-net"}),
        ("ipu-train inspect random-net --gro", {"--groups", "--group-size"}),
        ("ipu-train inspect batch-dependence --dr", {"--draws"}),
    ],
)
def test_a_shell_is_told_what_can_come_next(line, answers):
    assert set(completed(line)) == answers


def test_values_of_keys_and_recipes():
    assert completion.overrides("model.norm=g") == ["model.norm=group"]
    assert completion.overrides("optimizer.nesterov=") == [
        "optimizer.nesterov=true",
        "optimizer.nesterov=false",
    ]
    assert completion.overrides("training.epochs=") == []
    assert "quickstart" in completion.configurations("qui")


def test_commands_are_those_of_the_command_line():
    assert {name.split()[0] for name in completion.OPTIONS if name} == set(cli.COMMANDS)


@pytest.mark.parametrize("command", sorted(set(completion.OPTIONS) - {"", "completion"}))
def test_options_are_those_of_the_commands(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    words = capsys.readouterr().out
    assert [option for option in completion.OPTIONS[command] if option not in words] == []
    first = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", words, re.MULTILINE)  # of the options' own lines
    assert [option for option in first if option not in completion.OPTIONS[command]] in ([], ["--help"])


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_its_script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "ipu-train" in capsys.readouterr().out


def test_without_argcomplete_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert cli.main(["completion", "bash"]) == 2
    assert "ipu-train[completion]" in capsys.readouterr().err
