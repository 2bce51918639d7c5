"""Which kind of work an ATen operator is on an IPU, and what PopART keeps of it for the backward pass.

What PopART stores differs from what eager torch keeps: norms keep their input and the statistics, rectifiers
their output, dropout a seed, pooling input and output, elementwise products both factors (``popart`` sources,
e.g. ``groupnormx.cpp``, ``batchnorm``; PopART's gradient operations).
"""

import math

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
    "masked_fill masked_fill_ fmod remainder addcmul_ logical_and logical_or bitwise_and bitwise_or",
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


def is_free(name):
    return name in _FREE


def _pair(value, dims):
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return tuple(int(v) for v in (values * dims if len(values) == 1 else values)[:dims])


def _convolution(args, inputs):
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


def _matrix_product(short, inputs):
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


def describe(name, args, kwargs, inputs, outputs, reads, writes):
    """(kind, attributes, tensors PopART keeps for backward, whether a rule of its own exists) of an
    operation.
    """
    short = name.split("::")[-1]
    kind = KIND_OF.get(name)
    known = kind is not None
    attributes = {
        "in_elements": sum(v.numel() for v in inputs),
        "out_elements": sum(v.numel() for v in outputs),
        "shape": tuple(outputs[0].shape) if outputs else (),
        "in_shape": tuple(inputs[0].shape) if inputs else (),
        "half_width": bool(outputs and outputs[0].element_size() == 2),
    }
    floating = [i for i, v in zip(reads, inputs) if v.dtype.is_floating_point]
    saves = ()
    if kind == "conv":
        attributes.update(_convolution(args, inputs))
        saves = reads[:2]
    elif kind == "matmul":
        attributes.update(_matrix_product(short, inputs))
        saves = reads[1:3] if short in ("addmm", "baddbmm") else reads[:2]
    elif kind == "norm":
        x = inputs[0]
        attributes.update(
            channels=int(x.shape[1]) if x.dim() > 1 else 1, affine=len(inputs) > 1, operator=short
        )
        attributes["groups"] = int(args[6]) if short == "native_group_norm" else 1
        if short == FUSED_NORM:
            attributes.update(groups=max(1, int(args[5])), activation=args[6])
        saves = (reads[0],) + tuple(writes[1:3])
    elif kind == "pool":
        x = inputs[0]
        dims = 2 if x.dim() > 3 else 1
        if "adaptive" in short:
            window = [a / b for a, b in zip(x.shape[-dims:], outputs[0].shape[-dims:])]
            kernel = stride = tuple(max(1, math.ceil(w)) for w in window)
        else:
            kernel = _pair(args[1], dims)
            stride = _pair(args[2], dims) if len(args) > 2 and args[2] else kernel
        attributes.update(kernel=kernel, stride=stride, maximum="max" in short)
        saves = (reads[0], writes[0]) if "max" in short else ()
    elif kind == "softmax":
        saves = (writes[0],)
    elif kind == "loss":
        saves = tuple(reads[:2])
    elif kind == "unary":
        saves = (
            (writes[0],) if short in _SAVES_OUTPUT else () if short in _SAVES_NOTHING else tuple(reads[:1])
        )
    elif kind == "binary":
        saves = () if short in _SAVES_NOTHING else tuple(floating)
        if short in ("mul", "mul_", "div", "div_") and len(floating) < 2:  # a number as the other factor
            saves = ()
    elif kind == "reduce":
        saves = () if short in ("mean", "sum", "cumsum", "any", "all") else tuple(reads[:1])
    elif kind in ("copy", "fill", "dropout"):
        saves = ()
    else:
        kind, saves = "unknown", tuple(floating)
    return kind, attributes, saves, known
