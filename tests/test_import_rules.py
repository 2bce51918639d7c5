"""The rooms of the house import only what is listed here, never in a circle, and no file grows beyond two rooms.

Whoever needs a new arrow adds it below, where it can be seen; an arrow that nobody needs any more is taken out.
"""

import ast
import configparser
import functools
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# room or file of ipu_train/ -> what it may import of ours. ``__main__`` files are command lines, not rooms.
HOUSE = {
    "_version": "",
    "configs": "",
    "kernels": "",
    "models": "kernels",
    "plugins": "models",
    "config": "models plugins",
    "ipumodel": "",
    "emulator": "ipumodel kernels",
    "command_line": "config",
    "durable": "",
    "places": "durable",
    "outputs": "durable",
    "data": "config durable places plugins",
    "tracking": "config durable outputs",
    "optim": "config emulator models",
    "processes": "config emulator tracking",
    "device_options": "config kernels",
    "device": "config device_options kernels models processes",
    "network": "config models plugins",
    "planning": "config device_options ipumodel kernels models network plugins",
    "pages": "config durable ipumodel",
    "training": "_version config data device device_options durable models network optim outputs places processes "
    "tracking",
    "assembly": "network training",  # faces for programs with loops of their own
    "checkpoint": "training",
    "trainer": "config data device device_options durable ipumodel optim pages planning processes tracking training",
    "api": "config data models plugins trainer training",
    "sweep": "_version command_line config data device device_options durable ipumodel models network outputs pages "
    "places planning tracking training",
    "tune": "command_line config ipumodel outputs pages planning tracking",
    "early_checks": "config network places planning training",
    "inspect": "command_line config data device durable early_checks models network outputs planning sweep "
    "tracking training",
    "inference": "config data device durable planning tracking training",
    "export": "durable inference models network training",
    "launching": "config data",
    "compiling": "assembly config data device planning processes tracking training",
    "commands": "_version command_line compiling config data device durable early_checks export inference launching "
    "models network optim outputs places planning processes sweep tracking trainer training",
    "cli": "command_line commands outputs processes",
}
# the same inside ipu_train/emulator/: rooms, and files that bear PopTorch's own names
EMULATOR = {
    "_logging": "",
    "_state": "",
    "_printing": "",
    "enums": "",
    "profiling": "",
    "testing": "",
    "_install": "",
    "poptorch_core": "_state",
    "_impl": "_state poptorch_core",
    "_args_parser": "_impl _logging",
    "_utils": "_args_parser poptorch_core",
    "settings": "_logging enums poptorch_core",
    "lowering": "",
    "capture": "_impl _logging _state enums lowering poptorch_core settings",
    "operators": "_impl _logging _state capture enums poptorch_core",
    "ops": "_impl capture operators",
    "options": "enums operators settings",
    "update": "_logging capture",
    "optim": "update",
    "loading": "_args_parser _impl _logging enums",
    "_dataloader": "_impl _logging enums loading options",
    "inspection": "_logging _state capture enums settings update",
    "device": "_args_parser _impl _logging capture enums inspection optim options poptorch_core settings update",
    "_poplar_executor": "_args_parser _impl _logging _printing capture device enums inspection options update",
    "stand_ins": "options settings",
}
# imported only inside the functions that need them
OPTIONAL = {"wandb", "matplotlib", "poptorch", "popdist", "horovod"}
# without which the modules that stand on them cannot be imported
ONLY_WITH = {"triton"}
LONGEST = 400  # lines; what is longer wants to be two files


def modules():
    """(dotted name, path) of every module of the package, by the folders that setup.cfg maps to names."""
    cfg = configparser.ConfigParser()
    cfg.read(REPOSITORY / "setup.cfg")
    package_dir = dict(
        line.replace(" ", "").split("=") for line in cfg["options"]["package_dir"].strip().splitlines()
    )
    for room, folder in package_dir.items():
        for marker in sorted((REPOSITORY / folder).rglob("__init__.py")):
            package = ".".join([room, *marker.parent.relative_to(REPOSITORY / folder).parts])
            for path in sorted(marker.parent.glob("*.py")):
                yield (package if path.stem == "__init__" else package + "." + path.stem), path


@functools.lru_cache(maxsize=None)
def imports(path, name):
    """(absolute dotted target, whether it runs at import time) of every import statement in a file.

    What stands under ``if TYPE_CHECKING`` never runs and is left out.
    """
    found = []
    tree = ast.parse(path.read_text())
    inside_function, never_run = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            never_run.update(id(child) for statement in node.body for child in ast.walk(statement))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside_function.update(id(child) for child in ast.walk(node))
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if id(node) in never_run:
            continue
        top_level = id(node) not in inside_function
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append((alias.name, top_level))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + ([node.module] if node.module else [])
            for alias in node.names:
                found.append((".".join(base + [alias.name]), top_level))
    return found


ALL = dict(modules())


def arrows():
    """module -> the modules of ours that it imports, at import time or later."""
    found = {}
    for name, path in ALL.items():
        targets = {t if t in ALL else t.rpartition(".")[0] for t, _ in imports(path, name)}
        found[name] = {target for target in targets if target in ALL and target != name}
    return found


ARROWS = arrows()


def room_of(name, house):
    """The room of a module below the package ``house``; empty for the package's own ``__init__``."""
    return name[len(house) + 1 :].split(".")[0]


def between_rooms(house):
    """room -> rooms of the same house that it imports. The face of the house and command lines may import all."""
    found = {}
    for name, targets in ARROWS.items():
        if name.startswith(house + ".") and not name.endswith(".__main__"):
            inside = {room_of(t, house) for t in targets if t == house or t.startswith(house + ".")}
            found.setdefault(room_of(name, house), set()).update(inside - {room_of(name, house)})
    return found


@pytest.mark.parametrize(
    "house, allowed", [("ipu_train", HOUSE), ("ipu_train.emulator", EMULATOR)], ids=["ipu_train", "emulator"]
)
def test_rooms_import_what_is_listed_and_nothing_else(house, allowed):
    found = between_rooms(house)
    listed = {room: set(targets.split()) for room, targets in allowed.items()}
    assert sorted(found) == sorted(listed), "every room stands in the list, and nothing else"
    for room, targets in found.items():
        face = "" in targets
        assert not face, f"{house}.{room} imports the package that it is a part of"
        more, fewer = targets - listed[room], listed[room] - targets
        assert not more, f"{house}.{room} may not import {', '.join(sorted(more))}"
        assert not fewer, (
            f"{house}.{room} no longer imports {', '.join(sorted(fewer))}: take it out of the list"
        )


@pytest.mark.parametrize("allowed", [HOUSE, EMULATOR], ids=["ipu_train", "emulator"])
def test_what_is_listed_has_no_circle(allowed):
    built = set()
    for room, targets in allowed.items():
        missing = set(targets.split()) - built
        assert not missing, f"{room} stands above {', '.join(sorted(missing))} in the list, which it imports"
        built.add(room)


def test_no_module_imports_itself_through_others():
    left = {name: set(targets) for name, targets in ARROWS.items()}
    while True:
        leaves = {name for name, targets in left.items() if not targets}
        if not leaves:
            break
        left = {name: targets - leaves for name, targets in left.items() if name not in leaves}
    assert not left, f"a circle of imports runs through {', '.join(sorted(left))}"


def test_every_module_can_be_imported():
    """In an order of its own each: without circles the order makes no difference."""
    names = sorted(name for name in ALL if not name.endswith("__main__"))
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name)\n"
        f"    except ModuleNotFoundError as e: assert e.name in {sorted(ONLY_WITH)}, (name, e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *reversed(names)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_libraries_that_need_not_be_there_are_imported_where_they_are_used():
    for name, path in ALL.items():
        for target, top_level in imports(path, name):
            if top_level:
                assert target.split(".")[0] not in OPTIONAL, f"{name} imports {target} at import time"


def test_the_trainer_sees_poptorch_through_the_device_only():
    for name in ("ipu_train.trainer", *(n for n in ALL if n.startswith("ipu_train.training."))):
        for target, _ in imports(ALL[name], name):
            assert target.split(".")[0] != "poptorch", f"{name} imports {target}"
            assert not target.startswith("ipu_train.emulator"), f"{name} imports {target}"


def test_no_file_is_longer_than_two_rooms():
    for path in [*ALL.values(), *(REPOSITORY / "scripts").glob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, f"{path.relative_to(REPOSITORY)} has {lines} lines, {LONGEST} are allowed"


def test_the_top_of_the_emulator_stays_a_map():
    """Only names that PopTorch has, the launcher and what they all stand on; the rest lies in rooms."""
    files = list((REPOSITORY / "ipu_train" / "emulator").glob("*.py"))
    assert len(files) <= 25, "put new files into a room of ipu_train/emulator/"


def test_every_folder_of_python_files_is_a_package_that_gets_installed():
    """setup.py finds packages by their ``__init__.py``; the shims are files that PYTHONPATH leads to."""
    for room in ("ipu_train", "models", "kernels", "configs"):
        for path in (REPOSITORY / room).rglob("*.py"):
            if path.parent.name != "_shims" and "host_poplar" not in path.parts:
                assert (path.parent / "__init__.py").exists(), f"{path.parent} lacks an __init__.py"
