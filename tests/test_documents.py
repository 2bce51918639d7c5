"""What the documents point at exists, and a newcomer finds the places that matter in two steps."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "configs/*.md",
        "ipu_train/**/*.md",
        "kernels/**/*.md",
        "models/**/*.md",
    )
    for path in sorted(REPOSITORY.glob(pattern))
]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
# a path in code: with a folder or an ending that ours have, and without placeholders such as NAME or *
CODE = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/?)`")
ENDINGS = (".py", ".md", ".sh", ".cfg", ".ini", ".toml", ".cpp", ".hpp")
MADE_BY_RUNS = ("runs", "sweeps", "checkpoints", "build", "dist")
OURS = {path.name for path in REPOSITORY.iterdir()} - {"build", "dist"}


def named_paths(document):
    """What a document says lies somewhere in this repository."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if "://" not in target:
            yield target
    for target in CODE.findall(text):
        first = target.split("/")[0]
        if not set(MADE_BY_RUNS).isdisjoint(target.split("/")) or re.search(
            r"[A-Z]{3,}", target.replace("README", "")
        ):
            continue
        if "/" in target and first in OURS:
            yield target
        elif "/" not in target and target.endswith(ENDINGS) and document.parent.name != "docs":
            yield target  # of the room that the document is the map of; in docs/ it is a file of the reader's


def exists(target, document):
    """Beside the document, at the top, or under that name anywhere below the document's folder."""
    places = [document.parent / target, REPOSITORY / target]
    if any(place.exists() for place in places):
        return True
    return "/" not in target and any(True for _ in document.parent.rglob(target))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_path_that_a_document_names_exists(document):
    missing = [target for target in named_paths(document) if not exists(target, document)]
    assert not missing, f"{document.relative_to(REPOSITORY)} names {', '.join(missing)}"


def test_every_script_that_a_script_names_exists():
    for script in sorted(REPOSITORY.glob("scripts/*.*")):
        named = set(re.findall(r"scripts/\w+\.(?:py|sh)\b", script.read_text(encoding="utf-8")))
        missing = sorted(name for name in named if not (REPOSITORY / name).exists())
        assert not missing, f"{script.name} names {', '.join(missing)}"


@pytest.mark.parametrize(
    "map_of_room, words, file, name",
    [
        ("ipu_train/emulator/README.md", "gradients are accumulated", "device/runner.py", "_accumulate"),
        (
            "ipu_train/emulator/README.md",
            "turns options into PopART's",
            "settings/session_options.py",
            "checkSessionOptions",
        ),
        ("ipu_train/ipumodel/README.md", "cycles are estimated", "codelets.py", "amp_1x1"),
        ("README.md", "the training loop", "ipu_train/trainer.py", "train"),
    ],
)
def test_a_newcomer_is_there_in_two_steps(map_of_room, words, file, name):
    front = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert map_of_room == "README.md" or f"]({map_of_room})" in front
    folder = (REPOSITORY / map_of_room).parent
    rows = re.split(r"\n(?=[|\d-])", (REPOSITORY / map_of_room).read_text(encoding="utf-8"))
    row = next(row for row in rows if words in row)
    assert file in row
    found = next(path for path in folder.rglob(Path(file).name) if path.as_posix().endswith(file))
    assert re.search(rf"^\s*def {name}\(", found.read_text(encoding="utf-8"), re.MULTILINE)
