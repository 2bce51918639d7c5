"""Operators that PopTorch 3.4 knows, as names read off its public sources (graphcore/poptorch, MIT licence).

Nothing but names is taken. ``HANDLERS`` lists, for each file of ``poptorch/source/popart_canonicalization``, what it
registers a lowering for; an operator without one ends compilation (``ErrorOnUnsupportedAten.cpp``). Names without a
namespace are ATen's, of every overload. The other tables say which operators torch 2.0.1 hands over whole.
"""

from typing import Dict, FrozenSet

HANDLERS: Dict[str, str] = {
    "ActivationOps.cpp": """
        _prelu_kernel gelu glu hardsigmoid hardswish mish prelu rrelu rrelu_with_noise softplus
    """,
    "ArithmeticOps.cpp": """
        add addcdiv addcmul clamp clamp_max clamp_min cross floor_divide frac linalg_cross mul std std_mean
        true_divide trunc var var_mean
    """,
    "AtenHandlers.gen.cpp": """
        abs acos acosh addmm asin asinh atan atan2 atanh cat ceil celu constant_pad_nd cos cosh detach div
        elu eq erf erfc exp expm1 floor fmod ge gt hardshrink hardtanh hinge_embedding_loss index_select
        isnan l1_loss le leaky_relu log log10 log1p log2 log_sigmoid log_sigmoid_forward logical_and
        logical_not logical_or lt margin_ranking_loss masked_fill mse_loss ne neg normal_ pixel_shuffle pow
        rand randn reciprocal reflection_pad1d reflection_pad2d relu remainder replication_pad1d
        replication_pad2d replication_pad3d round rsqrt rsub selu sigmoid sign silu sin sinh smooth_l1_loss
        soft_margin_loss softshrink sort sqrt square sub t tan tanh threshold topk uniform_ where
    """,
    "BilinearOps.cpp": """
        bilinear
    """,
    "BitwiseOps.cpp": """
        __and__ __or__ __xor__ bitwise_and bitwise_not bitwise_or bitwise_xor
    """,
    "BlasOps.cpp": """
        addmv baddbmm bmm dot matmul mm mv
    """,
    "ConstantOps.cpp": """
        arange new_ones new_zeros ones ones_like randperm zeros zeros_like
    """,
    "ConvolutionOps.cpp": """
        _convolution conv2d convolution convolution_overrideable cumprod cumsum mkldnn_convolution
    """,
    "CustomOps.cpp": """
        poptorch::custom_operation
    """,
    "DistanceOps.cpp": """
        _cdist_forward cdist cosine_similarity pairwise_distance
    """,
    "DropoutOps.cpp": """
        dropout feature_dropout
    """,
    "EmbeddingOps.cpp": """
        _embedding_bag embedding embedding_bag one_hot
    """,
    "IndexOps.cpp": """
        index index_fill index_put
    """,
    "LossOps.cpp": """
        binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss
        ctc_loss kl_div multilabel_soft_margin_loss nll_loss2d nll_loss2d_forward nll_loss_forward
        nll_loss_nd poisson_nll_loss poptorch::ctc_beam_search_decoder triplet_margin_loss
    """,
    "NormalizationOps.cpp": """
        batch_norm group_norm instance_norm layer_norm native_batch_norm native_group_norm native_layer_norm
    """,
    "OtherOps.cpp": """
        _weight_norm bincount bucketize cartesian_prod einsum index_reduce meshgrid
        poptorch::set_available_memory randint random_ scatter_add scatter_reduce tensordot
    """,
    "PoolingOps.cpp": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d avg_pool1d avg_pool2d avg_pool3d
        max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
        max_pool3d_with_indices
    """,
    "PoptorchHandlers.gen.cpp": """
        poptorch::begin_ipu_block poptorch::begin_multi_conv poptorch::call_cpu_op poptorch::end_cpu_op
        poptorch::end_for_loop poptorch::end_if_block poptorch::end_ipu_block poptorch::identity_loss
        poptorch::internal_cast poptorch::nop poptorch::optimizer_group poptorch::pop_name_scope
        poptorch::recomputation_checkpoint poptorch::set_matmul_serialization poptorch::start_else_block
        poptorch::start_for_loop poptorch::start_if_block poptorch::update_param_inplace
    """,
    "PyGTorchScatterOps.cpp": """
        torch_scatter::scatter_max torch_scatter::scatter_min torch_scatter::scatter_mul
    """,
    "PyGTorchSplineConvOps.cpp": """
        torch_spline_conv::spline_basis torch_spline_conv::spline_weighting
    """,
    "RNNOps.cpp": """
        gru lstm rnn_relu rnn_tanh
    """,
    "RandomSamplingOps.cpp": """
        bernoulli exponential_ normal
    """,
    "ReduceOps.cpp": """
        all amax amin any argmax argmin argsort count_nonzero frobenius_norm linalg_vector_norm logsumexp
        max maximum mean median min minimum nansum norm prod sum
    """,
    "ReshapeOps.cpp": """
        Int _reshape_alias _unsafe_view as_strided broadcast_to chunk col2im contiguous expand expand_as
        flatten im2col numpy_T permute reshape select split split_with_sizes squeeze stack to transpose
        transpose_ type_as unsafe_chunk unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d view
    """,
    "SliceOps.cpp": """
        narrow poptorch::dynamic_slice poptorch::dynamic_update slice unbind unfold
    """,
    "SoftmaxOps.cpp": """
        _log_softmax _softmax log_softmax softmax
    """,
    "TensorOps.cpp": """
        clone copy_ flip full full_like gather is_complex linear new_full poptorch::ipu_print_tensor
        prim::NumToTensor repeat roll scatter size take_along_dim triu
    """,
    "pyg_torch_cluster/FpsOp.cpp": """
        poptorch::fps
    """,
    "pyg_torch_cluster/GridOp.cpp": """
        torch_cluster::grid
    """,
    "pyg_torch_cluster/NearestOp.cpp": """
        poptorch::nearest poptorch::nearest_batch_list
    """,
}

# Registered at torch's IPU key, so that PopTorch sees them whole (dispatch_tracer/RegisterOptionalAtenOps.cpp.inc).
CAUGHT_WHOLE = """
    alias bucketize.Tensor bucketize.Tensor_out bucketize.Scalar copy_ detach _local_scalar_dense item
    empty.memory_format empty_strided _weight_norm_interface index.Tensor convolution convolution_backward
    median.dim min.dim max.dim topk nll_loss_forward nll_loss2d_forward transpose.int expand _unsafe_view
    gather dropout avg_pool2d.out avg_pool3d.out max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d trunc min amin minimum max amax maximum argsort one_hot all any
    feature_dropout feature_dropout_ embedding native_group_norm native_layer_norm lstm.input slice.Tensor
    squeeze squeeze_ squeeze.dim squeeze_.dim squeeze.dims squeeze_.dims unsqueeze permute select.int
    transpose_ split_with_sizes index_put_ index_put baddbmm masked_fill.Scalar frobenius_norm.out
    frobenius_norm.dim repeat constant_pad_nd binary_cross_entropy_with_logits
    binary_cross_entropy_with_logits_backward bilinear cosine_embedding_loss ctc_loss.IntList
    ctc_loss.Tensor hinge_embedding_loss kl_div l1_loss margin_ranking_loss poisson_nll_loss
    soft_margin_loss.out triplet_margin_loss mse_loss smooth_l1_loss scatter.src scatter.src_out
    scatter_.src scatter.value scatter.value_out scatter_.value scatter.reduce scatter.reduce_out
    scatter_.reduce scatter.value_reduce scatter.value_reduce_out scatter_.value_reduce scatter_add
    scatter_add.out scatter_add_ scatter_reduce.two scatter_reduce.two_out scatter_reduce_.two
    select_scatter select_scatter.out _prelu_kernel take_along_dim take_along_dim.out
"""

# Without a lowering, but composed by torch 2.0.1 of operators that have one, before PopTorch's fallback at the IPU key:
# torch has CompositeExplicitAutograd kernels for them, which come before a backend's fallback (its
# native_functions.yaml). _safe_softmax and ldexp are operators of newer versions only: torch 2.0.1 has _softmax, and
# mul and pow, in their place.
COMPOSED_BY_TORCH = """
    _conj_physical _euclidean_dist _is_all_true _is_any_true _safe_softmax _stack addr addr_
    affine_grid_generator block_diag deg2rad deg2rad_ dist empty_like fill isinf ldexp ldexp_ new_empty rad2deg
    rad2deg_ rand_like randint_like randn_like rot90 scalar_tensor unsafe_split unsafe_split_with_sizes zero
"""

# Caught, and composed by PopTorch itself of operators with a lowering (dispatch_tracer/RegisterAtenOverloads.cpp).
COMPOSED_BY_POPTORCH = "_weight_norm_interface"

# The operand that type inference gets as int64, though the device has it as int32
# (dispatch_tracer/TypeInferenceHandler.cpp).
INDEX_OPERAND: Dict[str, int] = {
    "gather": 2, "scatter.src": 2, "scatter_.src": 2, "scatter.value": 2, "scatter.value_reduce": 2,
    "scatter_.value": 2, "scatter_.value_reduce": 2, "scatter_add": 2, "scatter_add_": 2,
    "scatter_reduce.two": 2, "scatter_reduce_.two": 2,
    "index.Tensor": 1, "nll_loss_forward": 1, "take_along_dim": 1, "take_along_dim.out": 1,
}  # fmt: skip

# Reductions into ``out`` whose dtype is that of ``out`` (TypeInferenceHandler.cpp, ``schema_to_workaround``).
TAKES_DTYPE_OF_OUT: FrozenSet[str] = frozenset(["sum.IntList_out", "cumsum.out", "cumprod.out"])

# Have a lowering, but torch 2.0.1 cannot infer their results and PopTorch does not either: no Meta kernel.
NO_INFERENCE: FrozenSet[str] = frozenset(
    [
        "max_pool3d_with_indices", "max_pool3d_with_indices.out", "adaptive_avg_pool3d.out", "adaptive_avg_pool2d.out",
        "reflection_pad2d.out", "rrelu_with_noise.out", "argsort.stable", "tensordot.out",
    ]
)  # fmt: skip

# Only in place; every other in-place operator is lowered as the one without the underscore (InplaceOps.cpp).
ONLY_IN_PLACE: FrozenSet[str] = frozenset(["copy_", "normal_", "uniform_", "random_", "exponential_"])
OUT_OF_PLACE: Dict[str, str] = {"zero_": "zeros_like", "fill_": "full_like"}

# Never part of a constant expression (Utils.cpp, and torch's own list of operators with random results).
RANDOM: FrozenSet[str] = frozenset(
    [
        "normal", "normal_", "feature_dropout", "feature_dropout_", "randint", "bernoulli", "bernoulli_", "uniform_",
        "randperm", "exponential_", "random_", "dropout", "dropout_", "rand", "randn", "rand_like", "randn_like",
        "randint_like", "rrelu", "rrelu_with_noise", "multinomial", "poisson", "normal_functional",
    ]
)  # fmt: skip

KNOWN: FrozenSet[str] = frozenset(name for names in HANDLERS.values() for name in names.split())
CAUGHT: FrozenSet[str] = frozenset(CAUGHT_WHOLE.split())
COMPOSED: FrozenSet[str] = frozenset(COMPOSED_BY_TORCH.split() + COMPOSED_BY_POPTORCH.split())


def lowered_as(name: str) -> str:
    """The operator without overload that an operator is lowered as: itself, or its form that is not in place."""
    if name in ONLY_IN_PLACE or not name.endswith("_") or name.endswith("__"):
        return name
    return OUT_OF_PLACE.get(name, name[:-1])


def has_lowering(name: str) -> bool:
    """Whether PopTorch can lower ATen's operator ``name`` (without overload), in place or not."""
    return name in KNOWN or lowered_as(name) in KNOWN
