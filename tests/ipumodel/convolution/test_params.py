import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ipu_train.ipumodel.convolution.params import ConvParams, expand, flatten, problem_of, swap
from ipu_train.ipumodel.estimators import conv_params_of
from ipu_train.ipumodel.tracer import trace

sizes = st.integers(min_value=1, max_value=9)


def macs_of(p):
    return p.groups * p.batch * p.oy * p.ox * p.ky * p.kx * p.ci * p.co


@given(
    field=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_the_output_field_is_torchs(field, kernel, stride, padding):
    params = ConvParams(1, 1, 1, 1, field, kernel, stride, padding, padding)
    conv = nn.Conv2d(1, 1, kernel, stride, padding, device="meta")
    assert params.out_field == tuple(conv(torch.zeros(1, 1, *field, device="meta")).shape[2:])


@given(batch=sizes, ci=sizes, co=sizes, field=st.integers(3, 12), kernel=st.sampled_from([1, 3]))
def test_the_three_passes_of_a_layer_multiply_equally_often(batch, ci, co, field, kernel):
    pad = kernel // 2
    params = ConvParams(
        batch, 1, ci, co, (field, field), (kernel, kernel), padding_lower=(pad, pad), padding_upper=(pad, pad)
    )
    for pass_ in ("forward", "backward", "weights"):
        assert macs_of(problem_of(params, pass_)) == params.macs


@given(batch=sizes, ci=sizes, co=sizes, field=st.integers(4, 10))
def test_transformations_keep_the_work(batch, ci, co, field):
    params = ConvParams(batch, 1, ci, co, (field, field), (3, 3))
    problem = problem_of(params, "forward")
    form = flatten(expand(problem, True, True))
    assert macs_of(form) == macs_of(problem)
    assert (form.ky, form.kx, form.batch, form.oy) == (1, 1, 1, 1)
    assert macs_of(swap(form)) == macs_of(form)


@settings(max_examples=20)
@given(
    dims=st.sampled_from([1, 2, 3]),
    transposed=st.booleans(),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
)
def test_traced_convolutions_of_any_dimension_have_torchs_output_size(dims, transposed, stride, padding):
    kind = {
        (1, False): nn.Conv1d, (2, False): nn.Conv2d, (3, False): nn.Conv3d,
        (1, True): nn.ConvTranspose1d, (2, True): nn.ConvTranspose2d,
    }.get((dims, transposed))  # fmt: skip
    if kind is None:
        return
    conv = kind(4, 6, 3, stride=stride, padding=padding, groups=2, bias=False)
    x = torch.zeros(2, 4, *([8] * dims), device="meta")
    program = trace(conv, x, loss=None, training=False)
    op = next(o for o in program.operations if o.kind == "conv")
    params = conv_params_of(op.attributes)
    assert params.output_elements == conv.to("meta")(x).numel()
    assert params.weight_elements == conv.weight.numel()
