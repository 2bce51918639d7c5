"""Record the public surface of PopTorch 3.4: names, parameters and defaults that its Python sources declare.

    POPTORCH_SOURCES=CHECKOUT python scripts/record_surface.py

CHECKOUT holds PopTorch 3.4's public sources (graphcore/poptorch); only its ``python/`` is read, and nothing of it is
run. Writes ``tests/emulator/surface.jsonl``, which the emulator is tested against (``tests/emulator/test_surface.py``).
Needs Python 3.9 or later.
"""

import ast
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

RECORDED = Path(__file__).resolve().parent.parent / "tests" / "emulator" / "surface.jsonl"
# modules of PopTorch in the order of the table, and what their names begin with in ``import poptorch``
MODULES = {
    "__init__": "", "_poplar_executor": "", "_printing": "", "enums": "", "ops": "", "optim": "optim.", "options": "",
    "_options_config": "", "_dataloader": "", "profiling": "profiling.", "testing": "testing.",
}  # fmt: skip
# what PopTorch alone calls: its end, its command line, its own parts, and a package of its own
LEFT_OUT = frozenset(
    [
        "poptorchAtExit", "parseAndSetOptions", "registerGeometricCustomArgParsers", "LegacyBeginBlockFn.__init__",
        "AsynchronousWorker.__init__", "AsynchronousWorker.acquireElementIfAvailable",
        "AsynchronousWorker.assertNoError", "AsynchronousWorker.dataIsAvailable", "AsynchronousWorker.endOfFile",
        "AsynchronousWorker.releaseElement", "AsynchronousWorker.resetIterator", "AsynchronousWorker.terminate",
    ]
)  # fmt: skip
Parameters = Union[str, List[str]]


def parameters(function: ast.FunctionDef) -> List[str]:
    """``["self", "n=1", "*args"]``: parameters in order with their defaults as they are written."""
    arguments = function.args
    plain = arguments.posonlyargs + arguments.args
    defaults: List[Any] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    found = [_written(name.arg, default) for name, default in zip(plain, defaults)]
    if arguments.vararg:
        found.append(f"*{arguments.vararg.arg}")
    found += [_written(n.arg, d) for n, d in zip(arguments.kwonlyargs, arguments.kw_defaults)]
    if arguments.kwarg:
        found.append(f"**{arguments.kwarg.arg}")
    return found


def _written(name: str, default: Any) -> str:
    return name if default is None else f"{name}={ast.unparse(default)}"


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def members(kind: ast.ClassDef, of_enum: bool) -> Iterator[Tuple[str, Parameters]]:
    """(name, parameters) of the public methods of a class; ``property`` and ``value`` for what takes none."""
    for member in kind.body:
        if isinstance(member, ast.FunctionDef) and _is_public(member.name):
            decorators = [ast.unparse(decorator) for decorator in member.decorator_list]
            is_property = any("property" in d or d.endswith(".setter") for d in decorators)
            yield member.name, "property" if is_property else parameters(member)
        elif isinstance(member, ast.Assign) and of_enum:
            for target in member.targets:
                if isinstance(target, ast.Name):
                    yield target.id, "value"


def surface(folder: Path) -> Dict[str, Parameters]:
    """Parameters by public name, of the Python sources in ``folder``."""
    found: Dict[str, Parameters] = {}
    for module, prefix in MODULES.items():
        tree = ast.parse((folder / f"{module}.py").read_text(encoding="utf-8"))
        own: Dict[str, Parameters] = {}
        for item in tree.body:
            if isinstance(item, ast.FunctionDef) and _is_public(item.name):
                own[item.name] = parameters(item)
            elif isinstance(item, ast.ClassDef) and _is_public(item.name):
                for name, given in members(item, module == "enums"):
                    own[f"{item.name}.{name}"] = given
        found.update({prefix + name: own[name] for name in sorted(own)})
    return found


def main() -> None:
    """Read the sources and write the table."""
    folder = Path(os.environ.get("POPTORCH_SOURCES", ""), "python")
    if not (folder / "_poplar_executor.py").exists():
        sys.exit(
            "POPTORCH_SOURCES must name a checkout of PopTorch's public sources, with python/_poplar_executor.py"
        )
    found = {name: given for name, given in surface(folder).items() if name not in LEFT_OUT}
    lines = [json.dumps({"name": name, "parameters": given}) + "\n" for name, given in found.items()]
    RECORDED.write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} public names in {RECORDED.name}")


if __name__ == "__main__":
    main()
