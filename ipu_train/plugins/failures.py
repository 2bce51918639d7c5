"""Errors of the user's own code, in words. Imports no torch."""

import sys
import traceback
from pathlib import Path

from .. import models


def reason_of(error: Exception) -> str:
    """Type and first line of an error from other people's code."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def line_of_user(error: Exception) -> str:
    """The innermost line of the user's own code that an error passed, to end a message; empty where there is none."""
    packages = (models, sys.modules["ipu_train"], sys.modules.get("torch"))
    others = (*(str(Path(str(one.__file__)).parent) for one in packages if one is not None), "<")
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""
