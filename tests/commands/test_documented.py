"""What the documents tell to type: every option, key and recipe in it exists."""

import re
import shlex
from pathlib import Path

import pytest

from ipu_train import cli, config
from ipu_train.commands import COMMANDS
from ipu_train.config.keys import all_keys

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "README.md",
    REPOSITORY / "configs/README.md",
]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
PLACEHOLDER = re.compile(r"[A-Z]+$|.*\.yaml$|.*\$")  # X, my.yaml, of a shell's variable


def command_lines():
    """(page, words after ``ipu-train``) of every line of code, each once."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for code in FENCED.findall(text) for line in code.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
        for line in lines:
            match = re.search(r"\bipu-train (.*)", line)
            if match and "section.key" not in line:
                words = shlex.split(
                    match[1].split(";")[0].replace("[--", "--").replace("]", ""), comments=True
                )
                found.setdefault(tuple(words), page.name)
    return [(page, list(words)) for words, page in found.items()]


@pytest.fixture(scope="module")
def help_of():
    """The help of a command and of its form, such as ``data pack``."""
    known = {}

    def text(words, capsys):
        if words not in known:
            with pytest.raises(SystemExit) as ended:
                cli.main([*words, "--help"])
            assert ended.value.code == 0
            known[words] = capsys.readouterr().out
        return known[words]

    return text


def test_every_option_key_and_recipe_that_a_document_tells_to_type_exists(help_of, capsys):
    keys = {key.path for key in all_keys()}
    lines = command_lines()
    assert len(lines) > 100
    for page, words in lines:
        command = words[:1] if words and words[0] in COMMANDS else []
        said = f"{page}: ipu-train {' '.join(words)}"
        assert command or not words or words[0].startswith("-") or "=" in words[0], said
        form = [word for word in words[1:2] if command and re.fullmatch(r"[a-z][a-z-]+", word)]
        for word in words:
            option = word.partition("=")[0]
            if word.startswith("--"):
                helps = help_of(tuple(command), capsys)
                if command and command[0] in ("data", "inspect", "models") and form:
                    helps += help_of((*command, *form), capsys)
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", helps), f"{said}: {option}"
            elif re.fullmatch(r"[a-z_]+\.[a-z_.]+", option) and "=" in word:
                section_key = ".".join(option.split(".")[:2])
                assert section_key in keys, f"{said}: {option}"
        for flag, name in zip(words, words[1:]):
            if flag == "--config" and not PLACEHOLDER.match(name) and "$" not in name:
                assert name in config.builtin_names(), f"{said}: {name}"
