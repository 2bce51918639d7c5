"""State dicts in the files of other programs: read without running what is in them, and freed of what wraps them."""

import argparse
import contextlib
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .weights_file import SAFETENSORS

Weights = Dict[str, torch.Tensor]

# Under what names programs keep the state dict in what they save, the first that is there.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")


def read_file(path: Path) -> Weights:
    """The tensors of a ``.safetensors`` file, or of a state dict that ``torch.save`` has written, alone or in a dict.

    Raises:
        ValueError: unreadable, or no plain tensors.
    """
    try:
        state = load_file(str(path)) if path.suffix == SAFETENSORS else _unpickled(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not state:
        raise ValueError(f"{path} holds no tensors")
    for name, value in state.items():
        why = _unusable(value)
        if why:
            raise ValueError(f"{path}: {name} {why}")
    return state


def _unusable(value: torch.Tensor) -> str:
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return "is no plain tensor with values (it is sparse, quantised or empty)"
    if value.is_floating_point() and bool(torch.isnan(value).any()):
        return "holds NaN"
    return ""


def _unpickled(path: Path) -> Weights:
    try:
        with _bookkeeping():
            state = torch.load(str(path), map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever pickle meets in a file that is none
        raise ValueError(f"{path} {_why_unreadable(str(error))}") from error
    found = _state_dict(state)
    if found is None:
        keys = f": its keys are {', '.join(map(str, list(state)[:6]))}" if isinstance(state, dict) else ""
        raise ValueError(f"{path} holds no state dict (names and tensors){keys}")
    return found


def _bookkeeping() -> Any:
    """Where torch can be told so (2.5 and later): what programs save beside weights and whose making runs no code.

    Arguments as argparse has them (torchvision's references) and numbers of NumPy (a best accuracy).
    """
    if not hasattr(torch.serialization, "safe_globals"):
        return contextlib.nullcontext()
    kinds = {type(np.dtype(code)) for code in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]}
    makers = [_number_maker(module) for module in ("numpy.core.multiarray", "numpy._core.multiarray")]
    return torch.serialization.safe_globals([argparse.Namespace, np.dtype, *makers, *kinds])


def _number_maker(module: str) -> Callable:
    """NumPy's function that makes a number, found in ``module``: NumPy 1 and 2 write different ones into files."""
    make = np.float64(0).__reduce__()[0]

    def scalar(*args: Any) -> Any:
        return make(*args)

    scalar.__module__, scalar.__qualname__ = module, scalar.__name__
    return scalar


def _why_unreadable(said: str) -> str:
    """One line in place of torch's, which advise to run the code in a file and hold escape codes."""
    named = re.search(r"(?:GLOBAL|class) ([\w.]+)", said)
    if named:
        return (
            f"holds more than tensors ({named.group(1)}), which only code in the file could make: save the state dict "
            "alone, torch.save(network.state_dict(), PATH)"
        )
    if "PytorchStreamReader" in said:
        return "is damaged, or only the beginning of a file of weights"
    unpickler = re.search(r"WeightsUnpickler error:\s*(.*)", said)
    reason = (unpickler.group(1) if unpickler else said).strip().splitlines()
    return f"is no file of weights that torch can read safely: {reason[0] if reason else 'it ends early'}"


def _state_dict(found: Any) -> Optional[Weights]:
    """Names and tensors, or those that a dict holds under one of the usual keys."""
    if not isinstance(found, dict):
        return None
    if all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()):
        return dict(found)
    within = (_state_dict(found[key]) for key in _KEYS if key in found)
    return next((state for state in within if state is not None), None)


def without_wrapper(weights: Weights, ours: Weights, known: Any) -> Weights:
    """Without the name of the module that held the whole network where it was saved.

    DataParallel calls it ``module``, torch.compile ``_orig_mod``, a LightningModule as its author likes. Names that
    ``ours`` has too, and those that ``known`` finds to be a library's, stay as they are; so do all, where none is of
    either kind without it.
    """
    within = weights
    while not set(within) & set(ours) and not known(list(within)):
        outermost: List[str] = sorted({name.partition(".")[0] for name in within})
        if len(outermost) != 1 or outermost[0] in within:
            return weights
        within = {name[len(outermost[0]) + 1 :]: value for name, value in within.items()}
    return within
