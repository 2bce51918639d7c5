"""What PopTorch would not compile: collected over a whole forward, so that one message names every offender.

The list is that of PopTorch 3.4's user guide ("IPU supported operations"), read conservatively: an operation is refused
only where the guide says that it is unsupported, or where its kind (data-dependent shapes, matrix decompositions,
Fourier transforms, complex and sparse tensors) has no place in that list. Whatever can be composed of supported
operations is let through.
"""

import sys
import warnings
from typing import Any, Dict, List, Optional, Tuple

import torch

from .._impl import createPoptorchError

VALUE_NEEDED = frozenset(
    ["item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__"]
)
_DATA_DEPENDENT = frozenset(
    ["nonzero", "masked_select", "unique", "unique_consecutive", "argwhere", "unique_dim", "_unique2"]
)
_NO_LOWERING = frozenset(
    [
        # matrix decompositions and solvers
        "svd", "linalg_svd", "linalg_svdvals", "qr", "linalg_qr", "linalg_eig", "linalg_eigh", "linalg_eigvals",
        "linalg_eigvalsh", "inverse", "linalg_inv", "linalg_inv_ex", "pinverse", "linalg_pinv", "cholesky",
        "linalg_cholesky", "linalg_cholesky_ex", "cholesky_solve", "cholesky_inverse", "det", "logdet", "slogdet",
        "linalg_det", "linalg_slogdet", "linalg_solve", "linalg_lstsq", "lu", "lu_solve", "linalg_lu",
        "linalg_lu_factor", "linalg_lu_solve", "triangular_solve", "linalg_solve_triangular", "matrix_exp",
        "linalg_matrix_exp", "linalg_matrix_rank", "geqrf", "ormqr", "orgqr", "svd_lowrank", "pca_lowrank",
        # spectra, complex, sparse and quantised tensors
        "stft", "istft", "complex", "polar", "view_as_complex", "view_as_real", "sparse_coo_tensor",
        "sparse_csr_tensor", "to_sparse", "to_sparse_csr", "quantize_per_tensor", "quantize_per_channel",
        # order statistics, histograms and sampling without a counterpart
        "histc", "histogram", "kthvalue", "mode", "multinomial", "poisson", "renorm",
        "lgamma", "digamma", "polygamma", "mvlgamma", "igamma", "igammac",
        # image operations
        "grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "max_unpool1d", "max_unpool2d",
        "max_unpool3d", "fractional_max_pool2d", "fractional_max_pool3d", "fractional_max_pool2d_with_indices",
        "fractional_max_pool3d_with_indices",
    ]
)  # fmt: skip
_EMULATOR = __package__.rpartition(".")[0]  # of whose rooms this is one
_INDICES = "returns the indices of the maxima, which max pooling on the IPU does not give"


class Refusals:
    """The offenders of one forward.

    Args:
        permissive: give a Python warning for each offender and go on, instead of refusing the forward in the end.
    """

    def __init__(self, permissive: bool) -> None:
        self.permissive = permissive
        self.found: List[str] = []

    def add(self, what: str, why: str) -> None:
        """Note that ``what``, called by the user's code that is running now, cannot be compiled."""
        text = f"{what} at {caller_location()} {why}"
        if text in self.found:
            return
        if self.permissive:
            warnings.warn(f"PopTorch would refuse this model: {text}", stacklevel=2)
        else:
            self.found.append(text)

    def check(self, cause: Optional[BaseException] = None) -> None:
        """Raise one error that names everything found so far.

        Raises:
            poptorch.Error: something was refused.
        """
        if not self.found:
            return
        listed = "".join(f"\n  - {text}" for text in self.found)
        raise createPoptorchError(
            f"Unsupported operations found in the model, it cannot be compiled for the IPU:{listed}\n"
            "Use operations with fixed shapes that PopTorch supports, and return tensors from forward to read their "
            "values on the host. To run the model here all the same, set POPTORCH_EMULATOR_PERMISSIVE=1."
        ) from cause


def why_refused(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[str]:
    """Why a call cannot be compiled, to follow its name in a sentence; None when it can."""
    if name in VALUE_NEEDED:
        return "needs the value of a tensor, which exists only when the compiled graph runs"
    if name in _DATA_DEPENDENT or (name == "where" and len(args) + len(kwargs) == 1):
        return "has a result whose shape depends on the values of its input"
    if name == "__getitem__" and _selects_by_mask(args[1]):
        return "(indexing with a boolean tensor) has a result whose shape depends on the values of its input"
    if name == "bincount" and not kwargs.get("minlength", args[2] if len(args) > 2 else 0):
        return "has a result whose shape depends on the values of its input: give it minlength"
    if name == "repeat_interleave" and len(args) > 1 and isinstance(args[1], torch.Tensor):
        return "has a result whose shape depends on the values of its input: repeat by a number"
    if name in _NO_LOWERING or name.startswith("fft_"):
        return "is not supported on the IPU"
    if name == "register_hook":
        return "is not supported: the backward pass on the IPU calls no Python"
    return _why_arguments(name, args, kwargs)


def _why_arguments(name: str, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[str]:
    if name.endswith("_with_indices") and "max_pool" in name:
        return _INDICES
    if name.startswith(("max_pool", "adaptive_max_pool")) and kwargs.get("return_indices"):
        return _INDICES
    if name in ("interpolate", "upsample"):
        mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
        if mode in ("linear", "trilinear"):
            return f"uses upsample mode '{mode}': for sequences and volumes only 'nearest' is supported"
    if name == "one_hot" and kwargs.get("num_classes", args[1] if len(args) > 1 else -1) == -1:
        return (
            "has a result whose shape depends on the values of its input: OneHot num classes must be specified and "
            "must be constant."
        )
    if name in ("var_mean", "std_mean") and (kwargs.get("keepdim") or (len(args) > 3 and args[3])):
        return "drops the kept dimensions of its mean there (ArithmeticOps.cpp): take var or std, and mean"
    if name.startswith("conv_transpose"):
        dilation = kwargs.get("dilation", args[7] if len(args) > 7 else 1)
        if any(d != 1 for d in (dilation if isinstance(dilation, (tuple, list)) else (dilation,))):
            return "is a transposed convolution with dilation, which the IPU does not support"
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu") and len(args) >= 8 and isinstance(args[3], bool):
        layers, dropout, bidirectional = args[4], args[5], args[7]
        if layers > 1 or (dropout and args[6]) or bidirectional:
            return (
                "has several layers, dropout or two directions: the IPU supports one layer in one direction"
            )
    return None


def _selects_by_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    with torch._C.DisableTorchFunction():
        return any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool and part.dim() for part in parts
        )


def caller_location() -> str:
    """``file:line`` of the innermost frame outside torch and the emulator: where user code made the call."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not (module == "torch" or module.startswith(("torch.", _EMULATOR + "."))):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
