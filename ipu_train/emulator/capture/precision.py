"""Which results an IPU stores as float16, on float32 storage.

The IPU computes most float16 operations with wider accumulation and rounds when it stores the result, so the emulator
does each operation in float32 and rounds its output to float16; the gradient of a float16 tensor is stored as float16
too and is rounded on its way back.
"""

from typing import Any, Callable, List, Sequence

import torch
import torch.nn.functional as F

from .micro_batch_norm import batch_norm_of_micro_batches

# Operations whose weight-like operands are cast to the dtype of the activation (their first argument).
ACTIVATION_DECIDES = frozenset(
    [
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
        "linear", "matmul", "__matmul__", "bmm", "mm", "addmm", "baddbmm", "mv", "dot", "bilinear",
        "batch_norm", "group_norm", "layer_norm", "instance_norm", "prelu", "serializedMatMul",
        "norm_proxy_norm_act",
    ]
)  # fmt: skip

# Operations that only move, select or drop values: a float16 input gives an exact float16 output.
EXACT = frozenset(
    [
        "view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "squeeze", "unsqueeze", "ravel",
        "transpose", "permute", "t", "movedim", "swapaxes", "swapdims", "moveaxis", "mT", "T", "contiguous",
        "expand", "expand_as", "broadcast_to", "repeat", "tile", "narrow", "select", "chunk", "split", "unbind",
        "tensor_split", "__getitem__", "index_select", "gather", "take_along_dim", "take", "cat", "concat", "stack",
        "transpose_", "squeeze_", "unsqueeze_", "t_", "swapaxes_", "swapdims_",
        "hstack", "vstack", "dstack", "pad", "constant_pad_nd", "roll", "flip", "clone", "detach", "detach_", "alias",
        "relu", "relu_", "threshold", "relu6", "hardtanh", "max_pool1d", "max_pool2d", "max_pool3d",
        "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "neg", "negative", "abs", "sign",
        "max", "min", "amax", "amin", "maximum", "minimum", "sort", "topk", "where", "masked_fill", "masked_fill_",
        "zeros_like", "ones_like", "new_zeros", "new_ones", "zero_", "tril", "triu", "diagonal", "unfold", "as_strided",
        "requires_grad_", "nop", "recomputationCheckpoint", "set_available_memory", "set_overlap_for_input",
        "set_overlap_for_output", "ipu_print_tensor", "floor", "ceil", "round", "trunc", "identity", "embedding",
        "dynamic_slice", "dynamic_update", "masked_select", "scatter", "index_copy",
    ]
)  # fmt: skip

# Those of them that also take values from elsewhere, which become float16 first.
TAKES_VALUES = frozenset(
    ["masked_fill", "masked_fill_", "pad", "constant_pad_nd", "where", "threshold", "hardtanh", "scatter"]
)

# Operations whose fresh result no backward formula reads, so that it can be rounded where it lies.
RESULT_NOT_SAVED = frozenset(
    [
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "matmul",
        "__matmul__", "bmm", "mm", "addmm", "baddbmm", "batch_norm", "group_norm", "layer_norm", "instance_norm",
        "add", "__add__", "__radd__", "sub", "__sub__", "__rsub__", "mul", "__mul__", "__rmul__", "mean", "sum",
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
        "adaptive_avg_pool3d", "__iadd__", "add_", "__isub__", "sub_", "copy_",
    ]
)  # fmt: skip

ROUND_IN_PLACE = "round_in_place"  # the name of a node that rounds a tensor where it lies

_IN_PLACE_OPERATORS = frozenset(
    ["__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__", "__idiv__"]
)


def changes_its_operand(name: str) -> bool:
    """Whether the name is that of an operation that changes its first operand: ``add_``, or ``+=``."""
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


def writes_where_it_lies(name: str, kwargs: Any) -> bool:
    """Whether a call changes its first operand: by its name, or as ``silu(x, inplace=True)`` does."""
    return changes_its_operand(name) or kwargs.get("inplace") is True


class OnACopy:
    """An in-place operation, computed on a copy of its operand and copied back.

    What autograd keeps of the result is then the copy, which nobody rounds or writes to afterwards.
    """

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.function = function

    def __call__(self, target: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return target.copy_(self.function(target.clone(), *args, **kwargs))


def half_value(value: Any) -> Any:
    """A number that is written into float16 tensors, as float16 has it; anything else as it is."""
    return (
        torch.tensor(value, dtype=torch.float32).to(torch.float16).item() if type(value) is float else value
    )


# in torch.batch_norm they come after weight and bias
_STATISTICS_ARE_SECOND = (F.batch_norm, F.instance_norm, batch_norm_of_micro_batches)


def running_statistics(func: Any, name: str, args: Sequence[Any], kwargs: Any) -> List[Any]:
    """The running mean and variance among a norm's arguments.

    They are no weights: they keep their own dtype, and the norm updates them where they lie (PopTorch 3.4 user guide,
    "Half / float16 support": a float16 norm may have float32 running statistics).
    """
    if name not in ("batch_norm", "instance_norm"):
        return []
    first = 1 if func in _STATISTICS_ARE_SECOND else 3
    return [*args[first : first + 2], kwargs.get("running_mean"), kwargs.get("running_var")]


def updated_statistics(func: Any, name: str, args: Sequence[Any], kwargs: Any) -> List[Any]:
    """Those among :func:`running_statistics` that the call updates: none where a norm uses them as they are."""
    found = [value for value in running_statistics(func, name, args, kwargs) if value is not None]
    if func is batch_norm_of_micro_batches:
        return found
    flag = "training" if name == "batch_norm" else "use_input_stats"
    uses_batch = args[5] if len(args) > 5 else kwargs.get(flag, name == "instance_norm")
    return found if uses_batch else []


def result_is_half(name: str, half: Sequence[bool], dims: Sequence[int]) -> bool:
    """Whether an operation on floating tensors gives float16.

    ``half`` and ``dims`` hold, for every floating tensor operand in order, whether the device has it as float16 and
    its number of dimensions. Where weights follow the activation, and where the first operand is changed in place,
    that operand decides; otherwise torch's promotion holds, by which a 0-dim operand yields to one with dimensions
    (PopTorch 3.4 user guide, "Half / float16 support": mixed element-wise operands give float32).
    """
    if not half:
        return False
    if name in ACTIVATION_DECIDES or changes_its_operand(name):
        return half[0]
    with_dims = [h for h, d in zip(half, dims) if d > 0]
    return all(with_dims) if with_dims else all(half)
