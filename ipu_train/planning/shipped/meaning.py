"""Digest of what Python sources mean: comments, docstrings and layout leave it alone, any other change does not.

The same in every version of Python, whose syntax trees differ in form.
"""

import ast
import hashlib
from pathlib import Path
from typing import Any, Iterable, Iterator

_FORM = ("ctx", "kind", "type_comment", "type_ignores")  # follow from the rest, or change nothing


def digest_of_meaning(paths: Iterable[Path]) -> str:
    """Digest of the names and the meaning of source files.

    Raises:
        SyntaxError: a file is no Python.
    """
    digest = hashlib.sha256()
    for path in paths:
        words = "\0".join(_words(ast.parse(path.read_bytes())))
        digest.update(f"{path.name}\0{words}\0\0".encode())
    return digest.hexdigest()[:16]


def _words(node: Any) -> Iterator[str]:
    """The syntax tree in words, without what differs between versions of Python."""
    if isinstance(node, list):
        yield "["
        for one in node:
            if not _is_docstring(one):
                yield from _words(one)
        yield "]"
    elif not isinstance(node, ast.AST):
        yield repr(node)
    elif type(node).__name__ == "Index":  # up to Python 3.8 around what stands in brackets
        yield from _words(getattr(node, "value", None))
    else:
        name = type(node).__name__
        yield "Tuple" if name == "ExtSlice" else name
        for field, value in ast.iter_fields(node):
            if value is not None and value != [] and field not in _FORM:
                yield "elts" if field == "dims" else field
                yield from _words(value)


def _is_docstring(node: Any) -> bool:
    """A string that nothing is done with."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
