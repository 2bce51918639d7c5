"""Which kind of work an ATen operator is on an IPU, and what PopART keeps of it for the backward pass.

What PopART stores differs from what eager torch keeps: norms keep their input and the statistics, rectifiers
their output, dropout a seed, pooling input and output, elementwise products both factors (``popart`` sources,
e.g. ``groupnormx.cpp``, ``batchnorm``; PopART's gradient operations).
"""

import math
from typing import TYPE_CHECKING, Any, Callable, Dict, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:  # what a kept trace is planned with imports no torch
    import torch

Attributes = Dict[str, Any]

# Operators that cost nothing and make nothing: metadata, allocation without initialisation.
_FREE = {
    "aten::detach",
    "aten::alias",
    "aten::lift_fresh",
    "aten::empty",
    "aten::empty_like",
    "aten::_local_scalar_dense",
    "aten::new_empty",
    "aten::empty_strided",
    "aten::new_empty_strided",
}
_KINDS = {
    "conv": "convolution convolution_overrideable cudnn_convolution mkldnn_convolution conv2d",
    "matmul": "mm addmm bmm baddbmm matmul linear _scaled_dot_product_flash_attention dot mv",
    "norm": "native_batch_norm _native_batch_norm_legit native_group_norm native_layer_norm cudnn_batch_norm "
    "_native_batch_norm_legit_functional _batch_norm_with_update batch_norm",
    "pool": "max_pool2d_with_indices avg_pool2d max_pool2d _adaptive_avg_pool2d adaptive_max_pool2d "
    "max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d",
    "reduce": "mean sum var std amax amin max min prod var_mean std_mean norm linalg_vector_norm "
    "logsumexp argmax "
    "argmin any all cumsum topk sort",
    "softmax": "_softmax _log_softmax",
    "loss": "nll_loss_forward nll_loss2d_forward mse_loss smooth_l1_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits cross_entropy_loss",
    "unary": "relu relu_ silu silu_ sigmoid sigmoid_ tanh tanh_ gelu elu elu_ hardswish hardswish_ "
    "hardsigmoid "
    "hardsigmoid_ hardtanh hardtanh_ leaky_relu leaky_relu_ softplus mish mish_ neg exp log log1p "
    "sqrt rsqrt abs "
    "reciprocal square erf erfc erfinv clamp clamp_ clamp_min clamp_max pow round floor sign sin cos logit "
    "threshold neg_ exp_ sqrt_ rsqrt_ expm1 isnan isfinite logical_not bitwise_not",
    "binary": "add add_ sub sub_ mul mul_ div div_ maximum minimum addcmul addcdiv rsub lerp where "
    "eq ne lt le gt ge "
    "masked_fill masked_fill_ prelu _prelu_kernel fmod remainder addcmul_ logical_and logical_or bitwise_and "
    "bitwise_or",
    "dropout": "native_dropout bernoulli bernoulli_ rand rand_like randn randn_like uniform_ normal_ dropout",
    "copy": "cat stack clone copy_ constant_pad_nd _to_copy contiguous index_select gather index "
    "slice_scatter roll "
    "flip repeat select_scatter embedding scatter scatter_ scatter_add _unsafe_index "
    "upsample_nearest2d expand_copy "
    "upsample_bilinear2d _reshape_copy im2col as_strided_copy resize_ reflection_pad2d "
    "replication_pad2d one_hot",
    "fill": "zeros zeros_like ones ones_like full full_like fill_ zero_ arange linspace "
    "scalar_tensor eye new_zeros "
    "new_full new_ones tril triu tensor",
}
KIND_OF = {"aten::" + name: kind for kind, names in _KINDS.items() for name in names.split()}
# Group norm, affine, activation and Proxy Norm in one: the project's own operator, by the name it is traced under.
FUSED_NORM = "norm_proxy_norm_act"
KIND_OF["ipu_train::" + FUSED_NORM] = "norm"

_SAVES_OUTPUT = {
    "relu",
    "relu_",
    "sigmoid",
    "sigmoid_",
    "tanh",
    "tanh_",
    "exp",
    "exp_",
    "sqrt",
    "sqrt_",
    "rsqrt",
    "rsqrt_",
    "reciprocal",
    "elu_",
    "clamp_",
    "hardtanh_",
    "threshold",
    "leaky_relu_",
}
_SAVES_NOTHING = {
    "add",
    "add_",
    "sub",
    "sub_",
    "neg",
    "neg_",
    "rsub",
    "round",
    "floor",
    "sign",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "isnan",
    "isfinite",
    "logical_not",
    "bitwise_not",
}


def is_free(name: str) -> bool:
    return name in _FREE


def _pair(value: Any, dims: int) -> Tuple[int, ...]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return tuple(int(v) for v in (values * dims if len(values) == 1 else values)[:dims])


def _convolution(args: Sequence[Any], inputs: "Sequence[torch.Tensor]") -> Attributes:
    """Attributes of ``aten::convolution(input, weight, bias, stride, padding, dilation, transposed, ..,
    groups)``.
    """
    x, w = inputs[0], inputs[1]
    dims = x.dim() - 2
    transposed = bool(args[6]) if len(args) > 6 else False
    groups = int(args[8]) if len(args) > 8 else 1
    return {
        "input": tuple(x.shape),
        "weight": tuple(w.shape),
        "stride": _pair(args[3], dims),
        "padding": _pair(args[4], dims),
        "dilation": _pair(args[5], dims),
        "transposed": transposed,
        "groups": groups,
    }


def _matrix_product(short: str, inputs: "Sequence[torch.Tensor]") -> Attributes:
    """(groups, rows, inner, columns) of a matrix product."""
    a, b = (inputs[1], inputs[2]) if short in ("addmm", "baddbmm") else (inputs[0], inputs[1])
    if short == "linear":
        return {
            "groups": 1,
            "rows": a.numel() // a.shape[-1],
            "inner": int(a.shape[-1]),
            "columns": int(b.shape[0]),
        }
    if a.dim() == 3 and b.dim() == 3:
        return {
            "groups": int(a.shape[0]),
            "rows": int(a.shape[1]),
            "inner": int(a.shape[2]),
            "columns": int(b.shape[2]),
        }
    columns = int(b.shape[-1]) if b.dim() > 1 else 1
    return {"groups": 1, "rows": a.numel() // a.shape[-1], "inner": int(a.shape[-1]), "columns": columns}


class Description(NamedTuple):
    """What is known of one operation: its kind, what its estimator needs, what PopART keeps of it for the backward
    pass, and whether there is a rule for it."""

    kind: str
    attributes: Attributes
    saves: Tuple[int, ...]
    known: bool


class _Call(NamedTuple):
    """One call of an operator, as the tracer saw it; ``reads`` and ``writes`` are indices of tensors."""

    short: str
    args: Sequence[Any]
    inputs: "Sequence[torch.Tensor]"
    outputs: "Sequence[torch.Tensor]"
    reads: Tuple[int, ...]
    writes: Tuple[int, ...]

    @property
    def floating(self) -> Tuple[int, ...]:
        """The tensors it reads that are of a floating type."""
        return tuple(i for i, v in zip(self.reads, self.inputs) if v.dtype.is_floating_point)


_Rule = Callable[[_Call], Tuple[Attributes, Tuple[int, ...]]]


def _of_convolution(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    return _convolution(call.args, call.inputs), call.reads[:2]


def _of_matrix_product(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    biased = call.short in ("addmm", "baddbmm")
    return _matrix_product(call.short, call.inputs), call.reads[1:3] if biased else call.reads[:2]


def _of_norm(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    x = call.inputs[0]
    attributes: Attributes = {
        "channels": int(x.shape[1]) if x.dim() > 1 else 1,
        "affine": len(call.inputs) > 1,
        "operator": call.short,
        "groups": int(call.args[6]) if call.short == "native_group_norm" else 1,
    }
    if call.short == FUSED_NORM:
        attributes.update(groups=max(1, int(call.args[5])), activation=call.args[6])
    return attributes, (call.reads[0],) + tuple(call.writes[1:3])


def _of_pool(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    x, args = call.inputs[0], call.args
    dims = 2 if x.dim() > 3 else 1
    if "adaptive" in call.short:
        window = [a / b for a, b in zip(x.shape[-dims:], call.outputs[0].shape[-dims:])]
        kernel = stride = tuple(max(1, math.ceil(w)) for w in window)
    else:
        kernel = _pair(args[1], dims)
        stride = _pair(args[2], dims) if len(args) > 2 and args[2] else kernel
    maximum = "max" in call.short
    attributes = {"kernel": kernel, "stride": stride, "maximum": maximum}
    return attributes, (call.reads[0], call.writes[0]) if maximum else ()


def _of_unary(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    if call.short in _SAVES_OUTPUT:
        return {}, (call.writes[0],)
    return {}, () if call.short in _SAVES_NOTHING else tuple(call.reads[:1])


def _of_binary(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    by_number = call.short in ("mul", "mul_", "div", "div_") and len(call.floating) < 2  # the other factor
    return {}, () if call.short in _SAVES_NOTHING or by_number else call.floating


def _of_reduction(call: _Call) -> Tuple[Attributes, Tuple[int, ...]]:
    return {}, () if call.short in ("mean", "sum", "cumsum", "any", "all") else tuple(call.reads[:1])


_RULES: Dict[str, _Rule] = {
    "conv": _of_convolution,
    "matmul": _of_matrix_product,
    "norm": _of_norm,
    "pool": _of_pool,
    "softmax": lambda call: ({}, (call.writes[0],)),
    "loss": lambda call: ({}, tuple(call.reads[:2])),
    "unary": _of_unary,
    "binary": _of_binary,
    "reduce": _of_reduction,
    "copy": lambda call: ({}, ()),
    "fill": lambda call: ({}, ()),
    "dropout": lambda call: ({}, ()),
}


def describe(
    name: str,
    args: Sequence[Any],
    inputs: "Sequence[torch.Tensor]",
    outputs: "Sequence[torch.Tensor]",
    reads: Tuple[int, ...],
    writes: Tuple[int, ...],
) -> Description:
    """The :class:`Description` of one call of an ATen operator; an operator without a rule keeps all it reads."""
    call = _Call(name.split("::")[-1], args, inputs, outputs, reads, writes)
    attributes: Attributes = {
        "in_elements": sum(v.numel() for v in inputs),
        "out_elements": sum(v.numel() for v in outputs),
        "shape": tuple(outputs[0].shape) if outputs else (),
        "in_shape": tuple(inputs[0].shape) if inputs else (),
        "half_width": bool(outputs and outputs[0].element_size() == 2),
    }
    kind = KIND_OF.get(name)
    if kind is None:
        return Description("unknown", attributes, call.floating, False)
    more, saves = _RULES[kind](call)
    return Description(kind, dict(attributes, **more), saves, True)
