"""What formats and files are called. Imports nothing heavy."""

from pathlib import Path

STATE_DICT = "state_dict"
PROGRAMS = ("onnx", "torch_export", "torchscript")
STATE_DICT_SUFFIXES = (".safetensors", ".pth", ".pt")


def beside(path: Path) -> Path:
    """The file that says how to use an exported one."""
    return path.with_name(path.name + ".json")
