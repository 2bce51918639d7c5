"""Writers of one format each, and readers that run what was written: images to logits, both float32.

The batch is dynamic in all of them. What a torch or a machine lacks is refused before anything is computed.
"""

import importlib.util
import io
import re
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional

import torch
from torch import nn

from .errors import ExportError

Logits = Callable[[torch.Tensor], torch.Tensor]
INPUT, OUTPUT = "images", "logits"
# The newer exporter is made for opset 18 and translates to others; that of torch 2.0 ends at 17.
_OPSET, _OLD_OPSET = 18, 17
_TRACED_WITH = 2  # images: a dimension of 1 is taken for a constant


class Format(NamedTuple):
    """One format.

    Attributes:
        words: for people.
        check: raises ExportError where it cannot be written here; gets the opset that was asked for.
        write: (network, example images, path, opset) to what was used, such as the opset.
        read: path to a function of images; None where there is nothing to run it with.
    """

    words: str
    check: Callable[[Optional[int]], None]
    write: Callable[[nn.Module, torch.Tensor, Path, Optional[int]], Dict[str, Any]]
    read: Callable[[Path], Optional[Logits]]


def _version() -> Any:
    return tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])


def _no_opset(opset: Optional[int]) -> None:
    if opset is not None:
        raise ExportError("--opset is for --format onnx")


# -- ONNX --------------------------------------------------------------------------------------------------------


def _by_torch_export() -> bool:
    """Whether torch's newer exporter and what it stands on are there; the older one traces with TorchScript."""
    return _version() >= (2, 6) and importlib.util.find_spec("onnxscript") is not None


def _check_onnx(opset: Optional[int]) -> None:
    needed = ["onnx", "onnxscript"] if _version() >= (2, 6) else []
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX needs {' and '.join(missing)} with torch {torch.__version__}; install ipu-train[export]"
        )
    least, most = (18, 23) if _by_torch_export() else (13, 17)
    if opset is not None and not least <= opset <= most:
        raise ExportError(f"--opset {opset}: torch {torch.__version__} writes opsets {least} to {most} here")


def _write_onnx(network: nn.Module, images: torch.Tensor, path: Path, opset: Optional[int]) -> Dict[str, Any]:
    if _by_torch_export():
        opset = opset or _OPSET
        torch.onnx.export(
            network,
            (images,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    else:
        opset = opset or _OLD_OPSET
        torch.onnx.export(
            network,
            (images,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=opset,
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
    return {"opset": opset}


def _read_onnx(path: Path) -> Optional[Logits]:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


# -- torch.export ------------------------------------------------------------------------------------------------


def _check_torch_export(opset: Optional[int]) -> None:
    _no_opset(opset)
    if _version() < (2, 5):
        raise ExportError(
            f"torch_export needs torch 2.5 or newer, and this is torch {torch.__version__}; choose --format onnx or "
            "torchscript, or export with a newer torch (checkpoints can be read by any)"
        )


def _write_torch_export(
    network: nn.Module, images: torch.Tensor, path: Path, opset: Optional[int]
) -> Dict[str, Any]:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    written = io.BytesIO()  # by a path it insists on one name
    torch.export.save(program, written)
    path.write_bytes(written.getvalue())
    return {}


def _read_torch_export(path: Path) -> Optional[Logits]:
    with open(path, "rb") as file:
        return torch.export.load(file).module()  # type: ignore[return-value]


# -- TorchScript -------------------------------------------------------------------------------------------------


def _write_torchscript(
    network: nn.Module, images: torch.Tensor, path: Path, opset: Optional[int]
) -> Dict[str, Any]:
    script = torch.jit.freeze(torch.jit.trace(network, images, check_trace=False))
    written = io.BytesIO()  # what a file system refuses, torch's own writer hides
    torch.jit.save(script, written)
    path.write_bytes(written.getvalue())
    return {}


def _read_torchscript(path: Path) -> Optional[Logits]:
    return torch.jit.load(str(path))  # type: ignore[return-value]


FORMATS = {
    "onnx": Format("ONNX", _check_onnx, _write_onnx, _read_onnx),
    "torch_export": Format("torch.export", _check_torch_export, _write_torch_export, _read_torch_export),
    "torchscript": Format("TorchScript", _no_opset, _write_torchscript, _read_torchscript),
}


def write(name: str, network: nn.Module, shape: Any, path: Path, opset: Optional[int]) -> Dict[str, Any]:
    """Write a folded network; ``shape`` is (C, H, W) of one image. Gives what was used, such as the opset.

    Raises:
        ExportError: the exporter refuses the network.
        OSError: the file system refuses the file.
    """
    images = torch.zeros(_TRACED_WITH, *shape)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # of the exporters, about themselves and about constants, which these are
        try:
            return FORMATS[name].write(network, images, path, opset)
        except Exception as error:  # anything, from deep within torch
            refused = _of_the_file_system(error)
            if refused is not None:
                raise refused from error
            raise ExportError(
                f"torch {torch.__version__} cannot write this network as {name}: {_root_cause(error)}"
            ) from error


def _of_the_file_system(error: Optional[BaseException]) -> Optional[OSError]:
    """A full disk and the like behind an error."""
    while error is not None and not (isinstance(error, OSError) and error.errno is not None):
        error = error.__cause__
    return error


def _root_cause(error: BaseException) -> str:
    """First line of the error that began it: torch wraps it in others that say at which of its steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def read(name: str, path: Path) -> Optional[Logits]:
    """What was written, as a function; None where nothing here can run it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FORMATS[name].read(path)
