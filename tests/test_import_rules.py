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
    "ipu_train.config": {"ipu_train.models"},
    "ipu_train.configs": set(),
}
FORBIDDEN = {
    "ipu_train.data": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.optim": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.training.checkpoint": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.tracking": {"ipu_train.trainer", "ipu_train.cli"},
    "ipu_train.trainer": {"poptorch", "ipu_train.emulator"},
}
OPTIONAL = {"wandb", "matplotlib", "poptorch", "popdist"}


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


def test_every_folder_of_python_files_is_a_package_that_gets_installed():
    """setup.py finds packages by their ``__init__.py``; the shims are files that PYTHONPATH leads to."""
    for room in ("ipu_train", "models", "kernels", "configs"):
        for path in (REPOSITORY / room).rglob("*.py"):
            if path.parent.name != "_shims" and "host_poplar" not in path.parts:
                assert (path.parent / "__init__.py").exists(), f"{path.parent} lacks an __init__.py"


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
