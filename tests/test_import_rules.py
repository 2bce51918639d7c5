"""The rooms of the house import only what the design allows (see the rules in the README)."""

import ast
import configparser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# room -> what it may import of ours, beside itself. ``__main__`` files are command lines, not rooms.
ALLOWED = {
    "ipu_train.models": {"ipu_train.kernels"},
    "ipu_train.kernels": set(),
    "ipu_train.ipumodel": set(),
    "ipu_train.emulator": {"ipu_train.ipumodel"},
    "ipu_train.config": set(),
    "ipu_train.configs": set(),
}
FORBIDDEN = {
    "ipu_train.data": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.optim": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.checkpoint": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.tracking": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.trainer": {"poptorch", "ipu_train.emulator"},
}
OPTIONAL = {"wandb", "matplotlib", "poptorch", "popdist"}


def modules():
    """(dotted name, path) of every module of the package, found through setup.cfg as an installer would."""
    cfg = configparser.ConfigParser()
    cfg.read(REPOSITORY / "setup.cfg")
    package_dir = dict(
        line.replace(" ", "").split("=") for line in cfg["options"]["package_dir"].strip().splitlines()
    )
    for package in cfg["options"]["packages"].split():
        folder = REPOSITORY / package.replace(".", "/")
        for prefix in sorted(package_dir, key=len):
            if package == prefix or package.startswith(prefix + "."):
                folder = REPOSITORY / (package_dir[prefix] + package[len(prefix) :].replace(".", "/"))
        for path in sorted(folder.glob("*.py")):
            yield (package if path.stem == "__init__" else package + "." + path.stem), path


def imports(path, name):
    """(absolute dotted target, whether it runs at import time) of every import statement in a file."""
    tree = ast.parse(path.read_text())
    inside_function = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside_function.update(id(child) for child in ast.walk(node))
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(tree):
        top_level = id(node) not in inside_function
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, top_level
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + ([node.module] if node.module else [])
            for alias in node.names:
                yield ".".join(base + [alias.name]), top_level


def inside(name, room):
    return name == room or name.startswith(room + ".")


ALL = list(modules())


def test_every_package_folder_is_listed_in_setup_cfg():
    listed = {path.parent for _, path in ALL}
    for room in ("ipu_train", "models", "kernels", "configs"):
        for path in (REPOSITORY / room).rglob("__init__.py"):
            assert path.parent in listed, f"setup.cfg does not list {path.parent.relative_to(REPOSITORY)}"


@pytest.mark.parametrize("name, path", ALL, ids=[name for name, _ in ALL])
def test_imports_follow_the_rules_of_the_rooms(name, path):
    for target, top_level in imports(path, name):
        if inside(target, "ipu_train") and path.stem != "__main__":
            assert not inside(target, "ipu_train.cli"), f"{name} imports the command line"
            for room, allowed in ALLOWED.items():
                if inside(name, room):
                    ok = any(inside(target, r) for r in allowed | {room, "ipu_train.__version__"})
                    assert ok, f"{name} may not import {target}"
        for room, forbidden in FORBIDDEN.items():
            if inside(name, room):
                assert not any(inside(target, f) for f in forbidden), f"{name} may not import {target}"
        if top_level:
            assert target.split(".")[0] not in OPTIONAL, f"{name} imports {target} at import time"
