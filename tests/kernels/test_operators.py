"""The PopART operators on the host implementation of Poplar, against the definition in float64."""

import copy
import ctypes
import shutil
import subprocess

import pytest
import torch
import torch.nn.functional as F

from ipu_train.kernels import build, custom_ops, host, op
from ipu_train.kernels.settings import Settings
from tests.kernels import reference

try:
    build.compiler()
    REASON = ""
except build.BuildError as error:
    REASON = str(error)
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

NAMES = ("y", "dx", "dbeta", "dgamma", "dproxy_beta", "dproxy_gamma")
MAPPINGS = ("linear", "odd", "grouped", "reversed", "single", "scattered", "grouped4", "mixed")
TOLERANCE = {torch.float32: 3e-5, torch.float16: 6e-3}

# (shape, groups): channels that no number of tiles divides, one pixel, one instance, one group, groups of one
# channel, groups that cross the layout's channel groups
CASES = [
    ((2, 12, 5, 3), 4),
    ((1, 8, 1, 1), 2),
    ((3, 13, 7), 1),
    ((2, 7, 3, 3), 7),
    ((4, 18), 3),
    ((2, 20, 4, 4), 10),
]


class FakePoptorch:
    """The part of an emulated PopTorch that calls custom operators."""

    def __init__(self, options=None):
        self._operators = custom_ops(options)
        self.calls = []

    def custom_op(self, inputs, name, domain, domain_version, example_outputs, attributes=None):
        outputs = self._operators[(domain, name)](inputs, attributes or {})
        assert domain_version == 1
        assert [(o.shape, o.dtype) for o in outputs] == [(e.shape, e.dtype) for e in example_outputs]
        self.calls.append(name)
        return outputs


def operator(groups, options, **settings):
    poptorch = FakePoptorch(options)
    return lambda x, *parameters: op.norm_proxy_norm_act(
        poptorch, x, *parameters, Settings(groups, **settings)
    )


def check(shape, groups, dtype, options, parameter_dtype=torch.float32, **settings):
    x, parameters, grad = reference.problem(shape, dtype)
    parameters = [parameter.to(parameter_dtype) for parameter in parameters]
    actual = reference.gradients(operator(groups, options, **settings), x, parameters, grad)
    expected = reference.truth(x, parameters, grad, groups, **settings)
    tolerance = TOLERANCE[dtype] * (30 if shape[2:] == (1, 1) else 1)  # few elements, whose gradients cancel
    for name, a, e in zip(NAMES, actual, expected):
        kind = x.dtype if name in ("y", "dx") else parameter_dtype
        assert a.dtype == kind and a.shape == e.shape
        assert reference.error(a, e) < max(tolerance, TOLERANCE[kind]), name


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("tiles", [1, 7])
def test_forward_and_every_gradient_are_the_definitions(tiles, mapping, dtype, activation):
    for shape, groups in CASES:
        check(shape, groups, dtype, host.Options(tiles, mapping, judge=True), activation=activation)


@pytest.mark.parametrize("mapping", ["linear", "grouped"])
@pytest.mark.parametrize("shape, groups", [((3, 24, 9, 9), 6), ((1, 1500, 2, 2), 4)])
def test_a_whole_ipu(shape, groups, mapping):
    """1472 tiles: most of them have a few elements, or none; and more channels than tiles."""
    options = host.Options(1472, mapping, judge=True)
    check(shape, groups, torch.float16, options)
    check(shape, groups, torch.float32, options, activation="silu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_without_a_norm_it_is_two_operators(activation, dtype):
    for shape, _ in CASES:
        check(shape, None, dtype, host.Options(5, "grouped", judge=True), activation=activation)
    poptorch = FakePoptorch()
    x, parameters, _ = reference.problem((2, 4, 3, 3), dtype)
    op.norm_proxy_norm_act(poptorch, x, *parameters, Settings())
    assert poptorch.calls == ["ProxyNormStats", "ProxyNormAct"]


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_half_parameters(activation):
    options = host.Options(7, "linear", judge=True)
    for groups in (4, None):
        check((2, 12, 5, 3), groups, torch.float16, options, torch.float16, activation=activation)


@pytest.mark.parametrize(
    "mapping, other", [("linear", "grouped"), ("grouped", "scattered"), ("odd", "single")]
)
def test_the_gradient_may_lie_elsewhere_than_the_activations(mapping, other):
    shape, groups = (2, 12, 5, 3), 4
    x, parameters, grad = reference.problem(shape, torch.float16)
    kinds = [(torch.float16, shape)] + [(torch.float32, (12,))] * 4
    session = host.Session(
        "GroupNormProxyNormAct", kinds, {"groups": groups}, host.Options(7, mapping, judge=True), other
    )
    y, *statistics = session.forward([x, *parameters])
    values = {"in": [x, *parameters], "out": [y, *statistics], "grad_out": [grad]}
    gradients = session.backward([values[kind][index] for kind, index in session.grad_inputs])
    for name, a, e in zip(NAMES[1:], gradients, reference.truth(x, parameters, grad, groups)[1:]):
        assert reference.error(a, e) < 6e-3, name


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_results_do_not_depend_on_tiles_or_mapping_but_for_the_order_of_sums(activation):
    x, parameters, grad = reference.problem((3, 20, 6, 6), torch.float32)
    results = [
        reference.gradients(
            operator(5, host.Options(tiles, mapping), activation=activation), x, parameters, grad
        )
        for tiles in (1, 7, 40)
        for mapping in MAPPINGS
    ]
    for result in results[1:]:
        for name, a, e in zip(NAMES, result, results[0]):
            assert reference.error(a, e) < 1e-5, name


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_judged_and_fast_runs_are_the_same_to_the_bit(activation):
    x, parameters, grad = reference.problem((2, 12, 5, 3), torch.float16)
    judged, fast = (
        reference.gradients(
            operator(4, host.Options(7, "odd", judge), activation=activation), x, parameters, grad
        )
        for judge in (True, False)
    )
    assert all(torch.equal(a, b) for a, b in zip(judged, fast))


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize(
    "quantiles, expectation", [(200, "quantiles"), (31, "quantiles"), (8, "quantiles"), (1, "exact")]
)
def test_the_proxys_statistics_for_narrow_and_wide_proxies(activation, quantiles, expectation):
    """Negative, zero and large deviations: each of the rules that stand for SiLU's points."""
    gamma = torch.tensor([0.0, 0.3, -1.0, 1.39, 1.41, 3.99, -4.01, 9.0])
    beta = torch.tensor([0.5, 0.0, 0.2, -1.0, 1.0, 0.3, 2.0, -3.0])
    proxy_beta, proxy_gamma = torch.full((8,), 0.1), torch.zeros(8)
    kinds = [(torch.float32, (8,))] * 4
    attributes = {"activation": activation, "quantiles": 0 if expectation == "exact" else quantiles}
    session = host.Session("ProxyNormStats", kinds, attributes, host.Options(3, judge=True))
    mean, inverse = session.forward([beta, gamma, proxy_beta, proxy_gamma])
    parameters = (beta, gamma, proxy_beta, proxy_gamma)
    grads = session.backward([beta, gamma, proxy_beta, proxy_gamma, inverse, torch.ones(8), torch.ones(8)])
    if expectation == "exact":
        expected = reference.exact_proxy_statistics(parameters, activation)
        gradients = reference.exact_proxy_gradients(parameters, activation)
    else:
        doubles = [tensor.double().requires_grad_() for tensor in parameters]
        expected = reference.proxy_statistics(*doubles, activation, count=quantiles)
        gradients = torch.autograd.grad(expected[0].sum() + expected[1].sum(), doubles)
    for a, e in zip(grads, gradients):
        assert (a.double() - e).abs().max().item() < 2e-5 * e.abs().max().item() + 1e-6
    for a, e in zip((mean, inverse), expected):
        assert ((a.double() - e).abs() / e.abs().clamp_min(0.1)).max().item() < 5e-6


def test_finite_differences_of_the_operator_itself():
    """In float, through the operator's own forward pass: a check that needs no other implementation."""
    x, parameters, grad = reference.problem((2, 6, 4, 4), torch.float32)
    function = operator(3, host.Options(3), activation="silu")
    analytic = reference.gradients(function, x, parameters, grad)[1:]
    generator = torch.Generator().manual_seed(5)
    for index, (value, gradient) in enumerate(zip([x, *parameters], analytic)):
        direction = torch.randn(value.shape, generator=generator)
        direction /= direction.norm()
        step = 1e-2
        losses = []
        for sign in (1.0, -1.0):
            moved = [x, *parameters]
            moved[index] = value + sign * step * direction
            losses.append((function(*moved).double() * grad.double()).sum().item())
        numeric = (losses[0] - losses[1]) / (2 * step)
        assert (gradient * direction).sum().item() == pytest.approx(numeric, rel=5e-3, abs=2e-3), NAMES[
            1 + index
        ]


def test_a_statistic_that_nobody_used_has_no_gradient():
    """PopART leaves the gradient operator's input unconnected then, if the operator calls it optional."""
    _, parameters, _ = reference.problem((1, 6, 2), torch.float32)
    kinds = [(torch.float32, (6,))] * 4
    doubles = [parameter.double().requires_grad_() for parameter in parameters]
    mean, inverse = reference.proxy_statistics(*doubles)
    for unused, expected in ((1, mean), (0, inverse)):
        session = host.Session("ProxyNormStats", kinds, {}, host.Options(3, judge=True), unused=[unused])
        _, statistic = session.forward(parameters)
        ones = [None if unused == output else torch.ones(6) for output in (0, 1)]
        gradients = session.backward([*parameters, statistic, *ones])
        truth = torch.autograd.grad(expected.sum(), doubles, retain_graph=True)
        for a, e in zip(gradients, truth):
            assert reference.error(a, e) < 1e-5


def test_an_output_without_a_gradient_that_is_needed_is_refused():
    """As PopART refuses to connect an input that is not optional to nothing."""
    kinds = [(torch.float32, (2, 6, 3))] + [(torch.float32, (6,))] * 4
    with pytest.raises(host.HostError, match="input 9 has no gradient to read and is not optional"):
        host.Session("GroupNormProxyNormAct", kinds, {"groups": 2}, unused=[0])


def test_without_the_proxy_it_is_group_norm_and_relu():
    x, parameters, grad = reference.problem((2, 12, 5, 3), torch.float32)
    operators = custom_ops(host.Options(7, "grouped", judge=True))

    def function(x, *parameters):
        attributes = {"groups": 4, "proxy": 0}
        return operators[("ipu_train", "GroupNormProxyNormAct")]([x, *parameters], attributes)[0]

    actual = reference.gradients(function, x, parameters, grad)
    leaves = [tensor.double().requires_grad_() for tensor in (x, parameters[1], parameters[0])]
    y = F.relu(F.group_norm(leaves[0], 4, leaves[1], leaves[2]))
    dx, dgamma, dbeta = torch.autograd.grad(y, leaves, grad.double())
    for a, e in zip(actual, (y.detach(), dx, dbeta, dgamma)):
        assert reference.error(a, e) < 1e-5
    assert all(torch.equal(a, torch.zeros(12)) for a in actual[4:])


def norm_session(shape, groups, options, **attributes):
    kinds = [(torch.float16, shape)] + [(torch.float16, (shape[1],))] * 4
    return host.Session("GroupNormProxyNormAct", kinds, {"groups": groups, **attributes}, options)


def test_only_the_input_is_kept_beside_what_grows_with_channels():
    shape, groups = (4, 32, 12, 12), 8
    session = norm_session(shape, groups, host.Options())
    inputs = [shape] + [(32,)] * 4
    sizes = {"in": inputs, "out": [shape for _, shape in session.outputs]}
    kept = [sizes[kind][index] for kind, index in session.grad_inputs if kind in sizes]
    full_size = torch.Size(shape).numel()
    assert [size for size in kept if torch.Size(size).numel() >= full_size] == [shape]
    assert ("in", 0) in session.grad_inputs and ("out", 0) not in session.grad_inputs
    small = sum(torch.Size(size).numel() for size in kept) - full_size
    assert small == 4 * 32 + 2 * 4 * groups + 2 * 32


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("program", ["forward", "backward"])
def test_temporaries_grow_with_channels_and_tiles_and_not_with_pixels(program, activation):
    """Composed from framework operations, there are several of the activations' full size."""
    small, large = (
        norm_session((4, 32, size, size), 8, host.Options(16, "grouped"), activation=activation).report()[
            program
        ]
        for size in (16, 48)
    )
    for figure in (
        "peak_temporary_bytes",
        "worst_tile_temporary_bytes",
        "constant_bytes",
        "vertex_state_bytes",
    ):
        assert large[figure] <= small[figure], figure
    tensors = 2 if program == "forward" else 3  # x and y, or x and two gradients
    full_size = 2 * 4 * 32 * 48 * 48
    everything = 16 * large["worst_tile_bytes"]
    assert tensors * full_size < everything < 1.15 * tensors * full_size


@pytest.mark.parametrize("mapping", ["linear", "grouped"])
def test_proxy_norm_adds_at_most_a_tenth_to_the_estimated_cycles_of_norm_and_relu(mapping):
    def cycles(proxy):
        report = norm_session((2, 64, 56, 56), 32, host.Options(1472, mapping), proxy=proxy).report()
        return report["forward"]["cycles"] + report["backward"]["cycles"]

    without = cycles(0)
    assert without > 0
    assert cycles(1) <= 1.10 * without


@pytest.mark.parametrize("mapping", ["linear", "grouped4", "grouped", "grouped16", "mixed"])
def test_building_a_graph_takes_a_few_views_for_each_tile_in_any_layout(mapping):
    """Seen in the order of [N, C, H, W], a tensor in channel groups is as many intervals as elements: 200,704 here."""
    tiles = 368
    report = norm_session((4, 64, 28, 28), 32, host.Options(tiles, mapping)).report()
    vertices = report["forward"]["vertices"] + report["backward"]["vertices"]
    assert vertices < 30 * tiles
    assert report["slices"] < 8 * vertices
    for program in ("forward", "backward"):  # nor do pieces describe single elements
        assert report[program]["constant_bytes"] < 250 * tiles


def test_constants_neither_pile_up_nor_repeat():
    """The 53 norms of a ResNet-50 with their gradients, a quarter of the channels on a quarter of the tiles.

    Once, all began on the same tile and each had a table of its own.
    """
    widths = [64] + [w for w, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)) for _ in range(2 * blocks)]
    widths += [4 * w for w, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)) for _ in range(blocks + 1)]
    assert len(widths) == 53
    for activation, some in (("relu", widths), ("silu", widths[-12:])):
        operators = [
            (
                "GroupNormProxyNormAct",
                [(torch.float16, (1, width // 4, 2, 2))] + [(torch.float32, (width // 4,))] * 4,
                {"groups": 16, "activation": activation},
            )
            for width in some
        ]
        found = host.constant_bytes(operators, tiles=368)
        assert max(found) < 3 * sum(found) / len(found)
        assert max(found) < 12_000


def test_other_code_is_another_operator_to_the_executable_cache(tmp_path):
    """PopART's hash covers the operators' attributes, not the vertices: a hash of the code is one of them."""
    kinds = [(torch.float32, (2, 4, 3, 3))] + [(torch.float32, (4,))] * 4
    description = host.Session("GroupNormProxyNormAct", kinds, {"groups": 2}).description
    assert len(description["attributes"]["code"]) == 16
    assert "code" not in description["outline_attributes"]  # within one model it is all the same
    hashes = set()
    for code in ("", "one", "other"):
        folder = tmp_path / f"with {code}"
        folder.mkdir()
        copy_of = shutil.copy(host.library(), str(folder / "library.so"))
        if code:
            (folder / "proxy_norm_codelets.gp").write_text(code)
        library = ctypes.CDLL(copy_of)
        library.host_code_hash.restype = ctypes.c_char_p
        hashes.add(library.host_code_hash())
    assert len(hashes) == 3 and description["attributes"]["code"].encode() in hashes


def test_strided_groups_are_refused():
    """That option of PopART makes other groups; where they are the same ones nothing is to be refused."""
    kinds = [(torch.float32, (2, 6, 3))] + [(torch.float32, (6,))] * 4
    strided = ["groupNormStridedChannelGrouping"]
    with pytest.raises(host.HostError, match="groupNormStridedChannelGrouping is set, but"):
        host.Session("GroupNormProxyNormAct", kinds, {"groups": 2}, session_options=strided)
    for groups in (1, 6):
        host.Session("GroupNormProxyNormAct", kinds, {"groups": groups}, session_options=strided)


def test_small_numbers_are_told_apart():
    """PopART writes floats with six decimals, in which these two are equal."""
    kinds = [(torch.float32, (2, 4, 3, 3))] + [(torch.float32, (4,))] * 4
    for key in ("epsilon", "norm_epsilon"):
        texts = {
            host.Session("GroupNormProxyNormAct", kinds, {"groups": 2, key: value}).description[kind][key]
            for value in (1e-7, 1e-8)
            for kind in ("attributes", "outline_attributes")
        }
        assert len(texts) == 2


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_a_mean_far_from_zero_and_an_outlier_cost_no_accuracy(activation):
    shape, groups = (2, 8, 20, 20), 2
    x, parameters, grad = reference.problem(shape, torch.float32)
    for mapping in ("linear", "grouped"):
        for change in (lambda x: x + 1000.0, lambda x: torch.where(x == x[0, 0, 0, 0], 170.0, x)):
            moved = change(x)
            options = host.Options(7, mapping, judge=True)
            actual = reference.gradients(
                operator(groups, options, activation=activation), moved, parameters, grad
            )
            expected = reference.truth(moved, parameters, grad, groups, activation=activation)
            for name, a, e in zip(NAMES, actual, expected):
                assert reference.error(a, e) < 2e-4, name


def test_more_than_65535_elements_of_a_channel_on_a_tile():
    check((1, 2, 260, 260), 1, torch.float32, host.Options(2, "single"))
    check((1, 8, 260, 260), 1, torch.float32, host.Options(2, "grouped"))


def test_every_attribute_tells_operators_apart():
    """An attribute missing from the outlining attributes would let two different operators share one body."""
    kinds = [(torch.float32, (2, 4, 3, 3))] + [(torch.float32, (4,))] * 4
    base = {
        "activation": "relu",
        "epsilon": 0.03,
        "quantiles": 200,
        "groups": 2,
        "norm_epsilon": 1e-5,
        "proxy": 1,
    }
    changes = {
        "activation": "silu",
        "epsilon": 0.05,
        "quantiles": 0,
        "groups": 4,
        "norm_epsilon": 1e-3,
        "proxy": 0,
    }

    def attributes(changed):
        description = host.Session("GroupNormProxyNormAct", kinds, changed).description
        return description["attributes"], description["outline_attributes"]

    for key, value in changes.items():
        for before, after in zip(attributes(base), attributes({**base, key: value})):
            assert {k for k in after if before[k] != after[k]} == {key}


@pytest.mark.parametrize(
    "name, kinds, attributes, words",
    [
        (
            "GroupNormProxyNormAct",
            [(2, 6, 3)] + [(6,)] * 4,
            {"groups": 4},
            "6 channels do not divide into 4 groups",
        ),
        ("GroupNormProxyNormAct", [(2, 6, 3)] + [(6,)] * 3 + [(5,)], {}, "has shape \\[5\\], not \\[6\\]"),
        (
            "GroupNormProxyNormAct",
            [(2, 6, 3)] + [(6,)] * 4,
            {"activation": "gelu"},
            "activation must be relu or silu",
        ),
        ("GroupNormProxyNormAct", [(2, 6, 3)] + [(6,)] * 4, {"group": 2}, "has no attribute 'group'"),
        ("GroupNormProxyNormAct", [(2, 6, 3)] + [(6,)] * 4, {"epsilon": 0.0}, "epsilon must be positive"),
        (
            "GroupNormProxyNormAct",
            [(2, 6, 3)] + [(6,)] * 4,
            {"groups": 0.5},
            "is missing, or of another type",
        ),
        ("GroupNormProxyNormAct", [(2, 6, 3)] + [(6,)] * 3, {}, "takes 5 inputs, not 4"),
        ("GroupNormProxyNormAct", [(6,)] * 5, {}, "x must be \\[N, C, ...\\]"),
        ("ProxyNorm", [(6,)] * 4, {}, "no operator ipu_train.ProxyNorm of version 1"),
    ],
)
def test_bad_calls_say_what_is_wrong(name, kinds, attributes, words):
    with pytest.raises(host.HostError, match=words):
        host.Session(name, [(torch.float32, shape) for shape in kinds], attributes)


def test_types_that_the_device_does_not_have_are_refused():
    kinds = [(torch.float64, (2, 4, 3))] + [(torch.float64, (4,))] * 4
    with pytest.raises(host.HostError, match="tensors must be float16 or float32"):
        host.Session("GroupNormProxyNormAct", kinds, {})
    kinds = [(torch.float32, (2, 4, 3))] + [(torch.float16, (4,))] * 4
    with pytest.raises(host.HostError, match="float activations need float parameters"):
        host.Session("GroupNormProxyNormAct", kinds, {})


def test_the_codelets_arithmetic_takes_no_name_that_the_device_compiler_has_as_a_type(tmp_path):
    """half and vectors of it are built into popc: as a variable's name such a word may not compile there."""
    words = ["half", "half2", "half4", "float2", "float4", "quarter"]
    source = tmp_path / "arithmetic.cpp"
    source.write_text('#include "proxy_norm_math.hpp"\n')
    command = [*build.compiler(), "-std=c++17", "-fsyntax-only", f"-I{build.ROOM / 'proxy_norm'}"]
    command += [f"-D{word}=short" for word in words]
    run = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_a_training_run_through_the_operator_is_the_same_as_with_pytorchs_operations():
    """Two normalised convolutions, fifteen steps: losses agree to rounding."""
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 6, 6), torch.randint(0, 3, (6,))
    weights = [torch.randn(8, 3, 3, 3) * 0.2, torch.randn(8, 8, 3, 3) * 0.1, torch.randn(3, 8) * 0.3]
    norms = [[torch.full((8,), v) for v in (0.0, 1.0, 0.0, 0.0)] for _ in range(2)]
    poptorch = FakePoptorch()

    def through_operator(x, *parameters):
        return op.norm_proxy_norm_act(poptorch, x, *parameters, Settings(4))

    def composed(x, *parameters):
        return reference.norm_proxy_norm_act(x, 4, *parameters).float()

    def losses(norm):
        tensors = [t.requires_grad_() for t in copy.deepcopy(weights)]
        parameters = [[p.requires_grad_() for p in layer] for layer in copy.deepcopy(norms)]
        optimizer = torch.optim.SGD(tensors + parameters[0] + parameters[1], lr=0.2, momentum=0.9)
        found = []
        for _ in range(15):
            x = images
            for weight, layer in zip(tensors, parameters):
                x = norm(F.conv2d(x, weight, padding=1), *layer)
            loss = F.cross_entropy(x.mean((2, 3)) @ tensors[2].t(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    found = losses(through_operator)
    assert found[-1] < 0.5 * found[0]
    assert found == pytest.approx(losses(composed), rel=2e-3)
    assert len(poptorch.calls) == 30


def test_tensors_without_data_give_tensors_without_data():
    x, parameters, _ = reference.problem((2, 4, 3, 3), torch.float16)
    meta = [tensor.to("meta") for tensor in (x, *parameters)]
    attributes = {"groups": 2}
    outputs = custom_ops()[("ipu_train", "GroupNormProxyNormAct")](meta, attributes)
    assert [o.device.type for o in outputs] == ["meta"] * 5
    assert outputs[0].shape == x.shape and outputs[0].dtype == torch.float16
    assert outputs[1].shape == (2, 2) and outputs[1].dtype == torch.float32


def test_a_missing_library_for_the_sdk_says_how_to_build_it(tmp_path, monkeypatch):
    monkeypatch.setenv("IPU_TRAIN_POPART_OPS", str(tmp_path))
    op.load_library.cache_clear()
    with pytest.raises(RuntimeError, match="enable the Poplar SDK and run `make -C"):
        op.load_library()


@pytest.mark.parametrize("folder", ["here", "."])
def test_a_library_that_does_not_load_says_how_to_build_it(folder, tmp_path, monkeypatch):
    """As one that is built for another SDK; ``.`` is a folder, and no name for the loader to look up."""
    path = tmp_path / folder / "libproxy_norm.so"
    path.parent.mkdir(exist_ok=True)
    path.write_text("of another SDK")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPU_TRAIN_POPART_OPS", folder)
    op.load_library.cache_clear()
    with pytest.raises(RuntimeError, match="do not load.*enable the Poplar SDK.*clean") as refused:
        op.load_library()
    assert str(path) in str(refused.value)
