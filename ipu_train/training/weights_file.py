"""Whether a file can be one of weights, by its first bytes. No torch in here."""

import os
from pathlib import Path
from typing import Optional

SAFETENSORS = ".safetensors"
_PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save's archive, and what it wrote before torch 1.6
_LENGTH = 8  # bytes that say how long the header of a safetensors file is


def problem(path: Path) -> Optional[str]:
    """Why a file holds no weights; None: it may. Formats go by the name: .safetensors, else torch.save's."""
    if not path.is_file():
        return "is no file"  # a pipe would be waited for
    try:
        with open(path, "rb") as file:
            first = file.read(_LENGTH + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    if path.suffix == SAFETENSORS:
        header = int.from_bytes(first[:_LENGTH], "little")
        if first[_LENGTH:] == b"{" and _LENGTH + header <= size:
            return None
        return "is no safetensors file, or only the beginning of one"
    if first.startswith(_PICKLES):
        return None
    return "is no file of weights: neither .safetensors nor what torch.save writes"
