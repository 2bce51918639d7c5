"""Where PopTorch's C++ sources say something else than a stand-in for its compiled core: they win.

A stand-in sees operators, but runs neither torch's C++ kernels on IPU tensors nor PopTorch's lowerings. Paths are below
``poptorch/source/`` of graphcore/poptorch.
"""

from typing import Any, Dict, Tuple

_CONSTANT = "dispatch_tracer/RegisterAtenOverloads.cpp, copyInplace: data from the host becomes a constant"
_COMPOSED = (
    "torch 2.0.1's CompositeExplicitAutograd kernel runs before the fallback that RegisterAtenOverloads.cpp "
    "registers at the IPU key, and is composed of operators with a lowering"
)
_META = "dispatch_tracer/RegisterMetaOps.cpp.inc infers it"
_IN_PLACE = (
    "dispatch_tracer/dispatchers/JitDispatch.cpp, fallback: what is changed in place takes the result's shape"
)
_LOSS = "popart_canonicalization/LossOps.cpp and AtenHandlers.gen.cpp: createIdentityloss"
_DEAD = "LowerToPopartFactories.cpp, lowerToPopartFromDispatch: dead code goes before anything is lowered"
_DEAD_ALIASES = _DEAD + "; torch's torch/csrc/jit/passes/dead_code_elimination.cpp follows aliases"
_BFLOAT16 = "PopART's popx/irlowering.cpp, popType: the data type is not supported in Poplar"
_WEIGHT_NORM = "dispatch_tracer/RegisterAtenOverloads.cpp, weightNormInterface: composed of norms"
_CONSTANT_EXPRESSION = "type_and_constant_canonicalization/EvaluateConstexprs.cpp: it has no inputs"
_INDEX = "dispatch_tracer/TypeInferenceHandler.cpp, indexArgToUpcast: the index is int64 for type inference"

_WRAPPED = (
    "dispatch_tracer/RegisterAtenOverloads.cpp, fallback: in C++ a number that torch has wrapped is a tensor, which "
    "popart_canonicalization/BitwiseOps.cpp takes; Python sees the number"
)
_REDUCTION = "dispatch_tracer/TypeInferenceHandler.cpp, makeReductionWorkaround: the dtype is that of out"

# name of a program without its suffix -> why it is refused
REFUSED = {
    "triu": "popart_canonicalization/TensorOps.cpp, triuHandler: only within constant expressions",
    "conv_transpose2d_dilated": "PopART's op/convtranspose.cpp: dilations are not supported",
    "layer_norm_no_bias": "popart_canonicalization/NormalizationOps.cpp, maybeInitializeAffineParamConstants",
    "max_pool2d_indices": "PopartCanonicalization.cpp: the lowering has fewer outputs, and they are used",
    "adaptive_avg_pool2d_uneven": "popart_canonicalization/PoolingOps.cpp, adaptivePoolingHandler: not divisible",
    "interpolate_bicubic_corners": "popart_canonicalization/ReshapeOps.cpp, upsampleHandler: align_corners=False only",
    "interpolate_linear": "popart_canonicalization/ReshapeOps.cpp, unsupportedUpsampleHandler",
    "cross_entropy_weighted": "popart_canonicalization/LossOps.cpp, nllLossNdHandler: weight is unsupported",
    "embedding_sparse": "popart_canonicalization/EmbeddingOps.cpp, embeddingHandler: sparse is unsupported",
    "as_strided": "popart_canonicalization/ReshapeOps.cpp, asStridedHandler",
    "set_slice_step": "PopartCanonicalization.cpp, handleSliceModification: steps other than 1",
    "set_row_of_view": "PopartCanonicalization.cpp, handleSliceModification: what is behind a view stays as it was",
    "bitwise_and_8": "popart_canonicalization/BitwiseOps.cpp, verifyCompatibleIntegralInputs",
    "nn_lstm_two_layers": "popart_canonicalization/RNNOps.cpp, lstmHandler: one layer",
    "train_own_backward": "PopART differentiates what forward does: the emulator refuses to learn by another backward",
    "bfloat16": _BFLOAT16,
    "bfloat16_and_back": _BFLOAT16,
    "input_bfloat16": _BFLOAT16,
    "input_bfloat16_output": _BFLOAT16,
    "input_bfloat16_to_float": _BFLOAT16,
    "gradient_nop": "dispatch_tracer/RegisterAtenOverloads.cpp: autogradNotImplementedFallback for poptorch::nop",
    "nn_lstm_bidirectional": "popart_canonicalization/RNNOps.cpp, lstmHandler: one direction",
    "train_for_loop": "python/ops.py, for_loop: only in inference models",
    "train_loss_not_returned": _DEAD,
    "zero_sized": "dispatch_tracer/dispatchers/JitDispatch.cpp, addTensor: errorOnZeroSizedTensor",
    "ctc_loss_none": 'popart_canonicalization/LossOps.cpp, ctcLossHandler: reduction="none"',
}
# name of a program, as a rule without its suffix -> what comes back ("$": the dtype that the suffix names), and why
ACCEPTED: Dict[str, Tuple[Any, str]] = {
    "transpose_in_place": (["$", [3, 2]], _IN_PLACE),
    "transpose_view_in_place": (["$", [3, 2]], _IN_PLACE),
    "swapaxes_in_place": (["$", [3, 2]], _IN_PLACE),
    "t_in_place": (["$", [3, 2]], _IN_PLACE),
    "squeeze_in_place": (["$", [3]], _IN_PLACE),
    "squeeze_view_in_place": (["$", [6]], _IN_PLACE),
    "unsqueeze_in_place": (["$", [1, 3]], _IN_PLACE),
    "bits_or_number": (["int32", [3]], _WRAPPED),
    "bits_xor_number": (["int32", [3]], _WRAPPED),
    "bits_and_in_place": (["int32", [3]], _WRAPPED),
    "one_hot_with_dtype_of": (["int32", [4, 4]], _META),
    "scatter_with_dtype_of": (["int32", [4]], _INDEX),
    "scatter_add_with_dtype_of": (["int32", [4]], _INDEX),
    "cumsum_out_of_integers": (["int32", [3]], _REDUCTION),
    "sum_out_of_integers": (["int32", [3]], _REDUCTION),
    "gumbel_softmax": (["$", [2, 3]], _COMPOSED),
    "var_mean_keepdim": (
        [["$", [2, 1]], ["$", [2]]],
        "popart_canonicalization/ArithmeticOps.cpp, calculateVarMean: the mean is squeezed",
    ),
    "std_mean_keepdim": (
        [["$", [2, 1]], ["$", [2]]],
        "popart_canonicalization/ArithmeticOps.cpp, calculateVarMean: the mean is squeezed",
    ),
    "median": (["$", [2]], _META),
    "count_nonzero": (["int32", []], _META + "; ReduceOps.cpp, countNonzeroHandler: sums integers over all"),
    "max_pool3d": (["$", [1, 2, 2, 2, 2]], _META),
    "pad_circular": (["$", [1, 2, 6]], _COMPOSED),
    "alpha_dropout": (["$", [2, 3]], _COMPOSED),
    "cross_entropy_images": (["$", []], _META),
    "scatter": (["$", [2, 3]], _INDEX),
    "scatter_add": (["$", [2, 3]], _INDEX),
    "scatter_reduce": (["$", [2, 3]], _INDEX),
    "take_along_dim": (["$", [2, 3]], _INDEX),
    "rot90": (["$", [3, 2]], _COMPOSED),
    "index_list": (["$", [2, 2]], _CONSTANT),
    "set_number": (["$", [2, 3]], _COMPOSED),
    "set_mask": (["$", [4]], _COMPOSED),
    "rand_like": (["$", [3]], _COMPOSED),
    "one_hot": (["int32", [3, 4]], _META),
    "bincount": (["int32", [4]], _META),
    "tensor_of_numbers": (["float32", [3]], _CONSTANT),
    "ctc_loss": (["float32", []], _META),
    "vector_matrix": (["$", [4]], _IN_PLACE),
    "linear_vector": (["$", [4]], _IN_PLACE),
    "linear_vector_no_bias": (["$", [4]], _IN_PLACE),
    "vector_matrix-f16_first": (["float16", [4]], _IN_PLACE),
    "vector_matrix-f32_first": (["float32", [4]], _IN_PLACE),
    "linear_vector-f16_first": (["float16", [4]], _IN_PLACE),
    "linear_vector-f32_first": (["float32", [4]], _IN_PLACE),
    "linear_vector_no_bias-f16_first": (["float16", [4]], _IN_PLACE),
    "linear_vector_no_bias-f32_first": (["float32", [4]], _IN_PLACE),
    "dead_branch-f32": (["float32", [3]], _DEAD),
    "masked_sum": (["$", [2]], _CONSTANT),
    "masked_mean": (["$", [2]], _CONSTANT),
    "masked_amax": (["$", [2]], _CONSTANT),
    "masked_softmax": (["$", [2, 3]], _CONSTANT),
    "masked_norm": (["$", [2]], _CONSTANT),
    "masked_var": (["$", [2]], _CONSTANT),
    "dropout_in_place": (["$", [2, 3]], _COMPOSED),
    "scatter_number": (["$", [2, 3]], _INDEX),
    "scatter_amax": (["$", [3]], _INDEX),
    "median_of_all": (["$", []], _META),
    "where_number": (["$", [3]], _COMPOSED),
    "where_numbers": (["float32", [3]], _COMPOSED),
    "number_power": (["$", [3]], _CONSTANT),
    "number_tensor": (["float16", [3]], _CONSTANT),
    "smooth_labels": (["float32", []], _META),
    "int_one_hot_float": (["float32", [3, 4]], _META),
    "dynamic_slice": (["float32", [2]], _META),
    "internal_cast": (["float16", [3]], "popart_canonicalization/PoptorchHandlers.gen.cpp: a cast"),
    "fps": (["int32", [2]], _META),
    "linspace": (["float32", [3]], _CONSTANT_EXPRESSION),
    "dead_erfinv": (["$", [3]], _DEAD),
    "dead_lerp": (["$", [3]], _DEAD),
    "dead_in_place": (["$", [3]], _DEAD_ALIASES),
    "gradient_slice": (["float32", [3]], _COMPOSED),
    "gradient_select": (["float32", [3, 2]], _COMPOSED),
    "gradient_gather": (["float32", [3]], _INDEX),
    "gradient_where": (["float32", [3]], _COMPOSED),
    "gradient_clamp": (["float32", [3]], _COMPOSED),
    "gradient_vector": (["float32", [3]], _COMPOSED),
    "nn_weight_norm": (["float32", [2, 4]], _WEIGHT_NORM),
    "nn_parametrized_weight_norm": (["float32", [1, 4, 3, 3]], _WEIGHT_NORM),
    "nn_gru_two_layers": ([["float32", [5, 2, 4]], ["float32", [2, 2, 4]]], _COMPOSED),
    "nn_lstm_cell": ([["float32", [2, 4]], ["float32", [2, 4]]], _COMPOSED),
    "train_mse": (["float32", []], _LOSS),
    "train_bce": (["float32", []], _LOSS),
    "train_reduction_none": (["float32", [4, 3]], _LOSS),
    "train_output_and_loss": ([["float32", [4, 3]], ["float32", []]], _LOSS),
    "train_loss_in_dict": ({"loss": ["float32", []]}, _LOSS),
    "train_forces": (["float32", []], _LOSS),
    "train_no_grad_part": (["float32", []], _LOSS),
    "train_hinge": (["float32", []], _LOSS),
    "train_weight_decay": (["float32", []], _LOSS),
    "train_masked": (["float32", []], _CONSTANT),
    "train_ctc": (["float32", []], _META),
    "train_label_smoothing_none": (["float32", []], _COMPOSED),
    "train_dead_erfinv": (["float32", []], _DEAD + "; " + _LOSS),
    "nn_gru": ([["float32", [5, 2, 4]], ["float32", [1, 2, 4]]], _COMPOSED),
}
_SUFFIXES = {"f32": "float32", "f16": "float16"}


def _filled(result: Any, dtype: str) -> Any:
    if isinstance(result, list):
        return [_filled(item, dtype) for item in result]
    return dtype if result == "$" else result


def corrected(line: Dict[str, Any]) -> Dict[str, Any]:
    """A recorded line as the sources have it; what the stand-in said is kept beside it where that differs."""
    name, _, suffix = line["id"].partition("-")
    said = {"verdict": line["verdict"], "result": line["result"]}
    name = line["id"] if line["id"] in ACCEPTED else name
    if name in REFUSED:
        now = {"verdict": "refused", "result": None, "where": REFUSED[name]}
    elif name in ACCEPTED and (not suffix or suffix in _SUFFIXES or name == line["id"]):
        result, where = ACCEPTED[name]
        now = {"verdict": "accepted", "result": _filled(result, _SUFFIXES.get(suffix, "")), "where": where}
    else:
        return line
    if (now["verdict"], now["result"]) == (said["verdict"], said["result"]):
        return dict(line, where=now["where"])
    return dict(line, **now, front_end=said)
