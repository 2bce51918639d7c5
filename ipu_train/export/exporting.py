"""From trained weights to a file for other programs, and a JSON file beside it that says how to use it."""

import io
import json
import math
import os
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import torch
from safetensors.torch import save

from .. import durable
from ..inference.program import prepared_of, put
from ..inference.trained import Trained
from ..models import folded
from ..network import build_network
from ..training import initial_weights
from ..training.prepared import Prepared
from . import formats
from .compare import BATCHES, TOLERANCE, agrees, largest_difference, own_rounding
from .errors import ExportError
from .libraries import same_network
from .names import STATE_DICT, STATE_DICT_SUFFIXES, beside

NAMES = (*formats.FORMATS, STATE_DICT)


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path, beside: the file, and the JSON file that describes it.
        words: what it is.
        comparison: what comparing it with the network has shown.
    """

    path: Path
    beside: Path
    words: str
    comparison: str


def check(name: str, path: Path, opset: Optional[int]) -> None:
    """Refuse what cannot be written here, before anything is loaded.

    Raises:
        ExportError: a torch or a library that cannot, or a file name of another kind.
    """
    if name in formats.FORMATS:
        formats.FORMATS[name].check(opset)
        return
    if opset is not None:
        raise ExportError("--opset is for --format onnx")
    if path.suffix not in STATE_DICT_SUFFIXES:
        raise ExportError(f"--out {path}: a state dict must end in {', '.join(STATE_DICT_SUFFIXES)}")


def network_of(trained: Trained, prepared: Prepared) -> torch.nn.Module:
    """The network with the trained weights, in float32 and evaluation mode.

    Raises:
        UseError, ConfigError: the weights are of another network.
    """
    network = build_network(trained.resolved, len(prepared.class_names), prepared.channels)
    if trained.weights is None:
        initial_weights.load(trained.resolved, network)
    else:
        put(trained, network)
    return network.float().eval()


def export(trained: Trained, name: str, path: Path, opset: Optional[int] = None) -> Exported:
    """Write the network, run what was written, and compare.

    Args:
        name: one of ``NAMES``.
        path: of the file; ``<path>.json`` is written beside it.
        opset: of ONNX; None: the exporter's usual one.

    Raises:
        ExportError: see :func:`check`; or the exporter refuses the network, or what it wrote computes something else.
    """
    check(name, path, opset)
    prepared, _ = prepared_of(trained)
    network = network_of(trained, prepared)
    shape = (prepared.channels, prepared.image_size, prepared.image_size)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        if name == STATE_DICT:
            words, comparison, used = _write_state_dict(trained, network, shape, partial)
        else:
            words, comparison, used = _write_program(name, network, shape, partial, opset)
        durable.flush(partial)
        os.replace(str(partial), str(path))
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}; nothing was kept") from error
    finally:
        if partial.exists():
            partial.unlink()
    with torch.no_grad():
        outputs = network(torch.zeros(1, *shape)).shape[1]
    description = _description(trained, prepared, name, path, used, outputs)
    durable.write(beside(path), json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    return Exported(path, beside(path), words, comparison)


def _write_program(name: str, network: torch.nn.Module, shape: Any, path: Path, opset: Optional[int]) -> Any:
    used = formats.write(name, folded(network), shape, path, opset)
    run = formats.read(name, path)
    words = formats.FORMATS[name].words + (f", opset {used['opset']}" if "opset" in used else "")
    if run is None:
        return words, "not compared: onnxruntime is not installed (ipu-train[export] brings it)", used
    difference, largest = largest_difference(network, run, shape)
    if not math.isfinite(largest):
        raise ExportError(
            "the network's outputs are not finite: its weights are beyond float32, or its training has diverged; "
            "nothing was kept"
        )
    batches = " and ".join(map(str, BATCHES))
    comparison = f"largest difference of logits {difference:.2e} (batches of {batches})"
    if not agrees(difference, largest):
        rounding = own_rounding(network, shape)
        if difference > 2 * rounding:
            raise ExportError(
                f"what was written as {name} computes something else: logits differ by {difference:.3g} where the "
                f"largest is {largest:.3g}, and {TOLERANCE:g} is allowed; nothing was kept"
            )
        comparison += f"; float32 itself costs this network {rounding:.2e} against float64"
    return words, comparison, used


def _write_state_dict(trained: Trained, network: torch.nn.Module, shape: Any, path: Path) -> Any:
    theirs, why = same_network(trained.resolved.config.model.name, network, shape)
    weights = network.state_dict() if theirs is None else theirs.weights
    weights = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    if path.suffix == ".safetensors":
        # each name its own memory, which the format asks for: layers may share their weights
        path.write_bytes(save({name: tensor.clone() for name, tensor in weights.items()}))
    else:
        written = io.BytesIO()  # what a file system refuses, torch's own writer hides
        torch.save(weights, written)
        path.write_bytes(written.getvalue())
    if theirs is None:
        comparison = f"names of ipu-train's network: {why}"
        return "state dict", comparison, {"layout": "ipu-train"}
    comparison = f"largest difference of logits {theirs.difference:.2e} in {theirs.library}"
    return f"state dict of {theirs.library}", comparison, {"layout": theirs.library}


def _description(
    trained: Trained, prepared: Prepared, name: str, path: Path, used: Dict[str, Any], outputs: int
) -> Dict[str, Any]:
    """What a program that runs the file must know, as plain values."""
    model, size = trained.resolved.config.model, prepared.image_size
    return {
        "file": path.name,
        "format": name,
        **used,
        "model": model.name,
        "norm": model.norm + ("+pn" if model.proxy_norm else ""),
        "weights": trained.words,
        "input": {
            "name": formats.INPUT,
            "shape": ["batch", prepared.channels, size, size],
            "type": "float32",
        },
        "output": {
            "name": formats.OUTPUT,
            "shape": ["batch", outputs],
            "type": "float32",
        },
        "preparation": {
            "colour": "RGB"
            if prepared.channels == 3
            else "grey"
            if prepared.channels == 1
            else prepared.channels,
            "centre_crop": prepared.centre_share,
            "size": size,
            "resize_shorter_side": round(size / prepared.centre_share),
            "interpolation": prepared.interpolation,
            "antialias": prepared.antialias,
            "scale": 1 / 255,
            "mean": prepared.mean,
            "std": prepared.std,
            "in_words": f"resize the shorter side to {round(size / prepared.centre_share)} pixels and take the "
            f"{size} x {size} in the centre (ipu-train: resize the centre square of {prepared.centre_share:g} of the "
            "shorter side), divide by 255, subtract mean, divide by std",
        },
        "class_names": prepared.class_names,
    }
