"""The CPU kernel against the definition in float64."""

import copy
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ipu_train.kernels import composed, cpu, tables
from ipu_train.kernels.settings import Settings
from tests.kernels import reference

USABLE, REASON = cpu.available()
needs_kernel = pytest.mark.skipif(not USABLE, reason=REASON)
NAMES = ("y", "dx", "dbeta", "dgamma", "dproxy_beta", "dproxy_gamma")

# (shape, groups): odd sizes, one pixel, one instance, one group, as many groups as channels, no norm
CASES = [
    ((2, 12, 7, 5), 4),
    ((1, 6, 1, 1), 2),
    ((3, 5, 9), 1),
    ((2, 7, 3, 3), 7),
    ((4, 8), 2),
    ((2, 6, 4, 4), None),
    ((1, 3, 70, 71), 1),  # more than one block of the statistics, and of a row
    ((2, 4, 2, 3, 5), 2),
]


def kernel(groups, implementation=cpu.norm_proxy_norm_act, **options):
    settings = Settings(groups, **options)
    return lambda x, *parameters: implementation(x, *parameters, settings)


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("shape, groups", CASES)
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 2e-5), (torch.float16, 6e-3)]
)
def test_forward_and_every_gradient_are_the_definitions(shape, groups, activation, dtype, tolerance):
    x, parameters, grad = reference.problem(shape, dtype)
    if groups is not None and shape == (1, 6, 1, 1):
        tolerance *= 30  # three elements a group, whose gradients cancel
    actual = reference.gradients(kernel(groups, activation=activation), x, parameters, grad)
    expected = reference.truth(x, parameters, grad, groups, activation=activation)
    for name, a, e in zip(NAMES, actual, expected):
        assert a.shape == e.shape
        assert a.dtype == (dtype if name in ("y", "dx") else parameters[0].dtype)
        assert reference.error(a, e) < tolerance, name


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_gradients_are_finite_differences(activation):
    x, parameters, _ = reference.problem((2, 6, 3, 2))
    leaves = [tensor.requires_grad_() for tensor in (x, *parameters)]
    # five quantiles: at none of these points does a kink of ReLU lie within the step
    function = kernel(3, activation=activation, quantiles=5)
    assert torch.autograd.gradcheck(function, leaves, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("implementation", [cpu.norm_proxy_norm_act, composed.norm_proxy_norm_act])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_the_exact_expectation_is_the_gaussian_integral(implementation, activation):
    if implementation is cpu.norm_proxy_norm_act and not USABLE:
        pytest.skip(REASON)
    mu = torch.tensor([0.0, 1.5, -2.0, 0.3, 6.0, -9.0], dtype=torch.float64)
    sigma = torch.tensor([1.0, 0.5, 3.0, -1.2, 0.2, 1.0], dtype=torch.float64)
    zero = torch.zeros_like(mu)
    # beta = mu, gamma = sigma: on y = -beta / gamma the activation is zero, so out = -m s there, and s from
    # the step to another point
    at_zero, at_two = ((z - mu) / sigma for z in (zero, zero + 2.0))
    x = torch.stack([at_zero, at_two])
    settings = Settings(activation=activation, expectation="exact")
    out = implementation(x, mu, sigma, zero, zero, settings)
    phi_of_two = 2.0 if activation == "relu" else F.silu(torch.tensor(2.0, dtype=torch.float64)).item()
    for channel in range(len(mu)):
        mean, variance = reference.exact_proxy_moments(mu[channel].item(), sigma[channel].item(), activation)
        inverse = (variance + 0.03) ** -0.5
        assert out[0, channel].item() == pytest.approx(-mean * inverse, abs=1e-9)
        assert out[1, channel].item() == pytest.approx((phi_of_two - mean) * inverse, rel=1e-9)


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("expectation", ["quantiles", "exact"])
def test_the_kernel_and_the_composition_agree_on_every_gradient(activation, expectation):
    x, parameters, grad = reference.problem((3, 8, 5, 5))
    options = {"activation": activation, "norm_eps": 1e-3, "expectation": expectation, "quantiles": 50}
    actual = reference.gradients(kernel(2, **options), x, parameters, grad)
    other = reference.gradients(kernel(2, composed.norm_proxy_norm_act, **options), x, parameters, grad)
    for name, a, o in zip(NAMES, actual, other):
        assert reference.error(a, o) < 1e-11, name


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_extreme_parameters_keep_their_accuracy_in_float32(activation):
    """No scale, a negative one, means far from zero on either side, a wide and a collapsed proxy."""
    beta = torch.tensor([0.5, 0.1, 30.0, -30.0, 0.0, 2.0, 0.0])
    gamma = torch.tensor([0.0, -1.5, 1.0, 1.0, 20.0, 1.0, 1e-6])
    proxy_beta = torch.tensor([1.0, -0.5, 0.0, 0.0, 0.0, -2.0, 0.0])
    proxy_gamma = torch.tensor([0.0, 0.2, 0.0, 0.0, 0.5, -1.0, 0.0])
    x, _, grad = reference.problem((4, 7, 6, 6), torch.float32)
    parameters = [beta, gamma, proxy_beta, proxy_gamma]
    actual = reference.gradients(kernel(7, activation=activation), x, parameters, grad)
    expected = reference.truth(x, parameters, grad, 7, activation=activation)
    for channel in range(7):
        for name, a, e in zip(NAMES, actual, expected):
            if a.dim() > 1:
                difference, scale = (
                    (a[:, channel].double() - e[:, channel]).abs().max(),
                    e[:, channel].abs().max(),
                )
            else:
                difference, scale = (a[channel].double() - e[channel]).abs(), e.abs().max()
            assert difference.item() <= 3e-5 * scale.item() + 1e-6, (channel, name)


@needs_kernel
def test_silu_and_its_derivative_are_accurate_wherever_the_argument_lies():
    """From where the exponential underflows to where it overflows, and densely in between."""
    x = torch.cat([torch.linspace(-120, 120, 2401), torch.linspace(-9, 9, 3607)]).view(1, 1, -1)
    zero, one = torch.zeros(1), torch.ones(1)
    leaf = x.clone().requires_grad_()
    y = kernel(None, activation="silu")(leaf, zero, one, zero, zero)
    y.backward(torch.ones_like(y))
    mean, inverse = reference.proxy_statistics(*[p.double() for p in (zero, one, zero, zero)], "silu")
    z = x.double()
    gate = torch.sigmoid(z)
    value, slope = (z * gate - mean) * inverse, (gate + z * gate * (1 - gate)) * inverse
    assert ((y.double() - value).abs() / value.abs().clamp(min=1.0)).max().item() < 4e-7
    # 1 - sigmoid has no digits below those of 1, and is multiplied by z
    assert ((leaf.grad.double() - slope).abs() / (1.0 + z.abs())).max().item() < 2e-7
    for extreme in (float("nan"), float("inf"), -1e30):
        out = kernel(None, activation="silu")(torch.full((1, 1, 9), extreme), zero, one, zero, zero)
        assert torch.isnan(out).all() if extreme != extreme else not torch.isnan(out).any()


@needs_kernel
def test_a_mean_far_from_zero_costs_no_accuracy_of_the_statistics():
    x, parameters, grad = reference.problem((2, 8, 40, 40), torch.float32)
    x = x + 1000.0
    actual = reference.gradients(kernel(2), x, parameters, grad)
    expected = reference.truth(x, parameters, grad, 2)
    # x itself is rounded to 6e-5 there; a variance taken as E[x^2] - E[x]^2 would be off by a tenth
    assert reference.error(actual[0], expected[0]) < 1e-3


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_mean_is_kept_to_more_digits_than_its_type_has(offset, activation):
    """A mean near 10,000 rounded to float32 is off by up to 5e-4, which is 3e-4 of the deviation here."""
    x, parameters, grad = reference.problem((2, 8, 30, 30), torch.float32)
    x = x + offset
    x[0, 0, 0, 0] = offset + 100.0  # an outlier of some sixty deviations
    actual = reference.gradients(kernel(2, activation=activation), x, parameters, grad)
    expected = reference.truth(x, parameters, grad, 2, activation=activation)
    for name, a, e in zip(NAMES, actual, expected):
        assert reference.error(a, e) < 4e-5, name


@needs_kernel
@pytest.mark.parametrize("region", ["PyTorch's threads", "own threads"])
@pytest.mark.parametrize("shape, groups", [((3, 16, 60, 60), 4), ((1, 8, 120, 120), 1)])
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, region, shape, groups):
    if region == "own threads":
        monkeypatch.setattr(cpu, "parallel_region", lambda: None)
    cpu._plan.cache_clear()
    x, parameters, grad = reference.problem(shape, torch.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(reference.gradients(kernel(groups, activation="silu"), x, parameters, grad))
    finally:
        torch.set_num_threads(before)
        cpu._plan.cache_clear()
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@needs_kernel
def test_layouts_other_than_contiguous_are_understood():
    x, parameters, grad = reference.problem((2, 6, 5, 4))
    expected = reference.truth(x, parameters, torch.ones_like(grad), 3)
    for view in (
        x.contiguous(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        ones = torch.ones(()).double().expand(view.shape)  # a gradient without memory of its own, as of a sum
        actual = reference.gradients(kernel(3), view, parameters, ones)
        for a, e in zip(actual, expected):
            assert reference.error(a, e) < 1e-11


@needs_kernel
def test_only_the_input_is_saved_for_the_backward_pass():
    shape, groups = (4, 32, 20, 20), 8
    x, parameters, _ = reference.problem(shape, torch.float32)
    leaves = [tensor.requires_grad_() for tensor in (x, *parameters)]
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = kernel(groups)(*leaves)
    small = 4 * (3 * shape[0] * groups + 10 * shape[1])  # the groups' statistics, the proxy's, the parameters
    assert storages.pop(x.untyped_storage().data_ptr()) == 4 * x.numel()
    assert y.untyped_storage().data_ptr() not in storages
    assert sum(storages.values()) <= small


@needs_kernel
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_diverged_activation_does_not_look_healthy(activation, poison):
    x, parameters, _ = reference.problem((1, 4, 5, 5), torch.float32)
    x[0, 0, 2, 2] = poison
    y = kernel(2, activation=activation)(x, *parameters)
    assert not torch.isfinite(y[0, :2]).any()
    assert torch.isfinite(y[0, 2:]).all()


@needs_kernel
def test_a_second_derivative_is_refused_not_wrong():
    x, parameters, grad = reference.problem((1, 4, 3, 3))
    x.requires_grad_()
    (dx,) = torch.autograd.grad((kernel(2)(x, *parameters) * grad).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        dx.sum().backward()


@needs_kernel
def test_a_second_derivative_is_refused_too_where_the_gradient_is_a_constant_or_x_is_converted():
    x, parameters, _ = reference.problem((2, 4, 3, 3))
    parameters = [parameter.requires_grad_() for parameter in parameters]
    for view in (x, x.contiguous(memory_format=torch.channels_last)):
        leaf = view.detach().requires_grad_()
        gradients = torch.autograd.grad(
            kernel(2)(leaf, *parameters).sum(), [leaf, *parameters], create_graph=True
        )
        for gradient in gradients:
            penalty = gradient.square().sum() + leaf.sum()
            with pytest.raises(RuntimeError, match="differentiable once"):
                torch.autograd.grad(penalty, leaf, retain_graph=True)


@needs_kernel
def test_the_memory_format_stays():
    for shape, order in (((2, 6, 5, 4), torch.channels_last), ((2, 6, 3, 5, 4), torch.channels_last_3d)):
        x, parameters, _ = reference.problem(shape, torch.float32)
        y = kernel(3)(x.contiguous(memory_format=order), *parameters)
        assert y.is_contiguous(memory_format=order) and not y.is_contiguous()
        assert torch.equal(y, kernel(3)(x, *parameters))
        assert kernel(3)(x, *parameters).is_contiguous()


def test_a_torch_function_mode_sees_one_call_that_it_can_replay():
    calls = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            calls.append((function, args, kwargs or {}))
            return function(*args, **(kwargs or {}))

    x, parameters, _ = reference.problem((2, 4, 3, 3))
    with Recorder():
        y = cpu.norm_proxy_norm_act(x, *parameters, settings=Settings(2, "silu"))
    assert [function for function, _, _ in calls] == [cpu.norm_proxy_norm_act]
    function, args, kwargs = calls[0]
    assert all(a is b for a, b in zip(args[1:], parameters)) and args[0] is x
    assert torch.equal(function(*args, **kwargs), y)


def test_tensors_the_kernel_cannot_read_are_composed():
    x, parameters, _ = reference.problem((2, 4, 3, 3), torch.float32)
    y = kernel(2)(x, *parameters)
    meta = kernel(2)(x.to("meta"), *(p.to("meta") for p in parameters))
    assert meta.shape == x.shape and meta.device.type == "meta"
    brain = kernel(2)(x.to(torch.bfloat16), *parameters)
    assert brain.dtype == torch.bfloat16
    assert reference.error(brain, y) < 2e-2
    empty = kernel(2)(x[:0], *parameters)
    assert empty.shape == (0, 4, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of PyTorch deprecate tracing
        traced = torch.jit.trace(kernel(2), (x, *parameters))
    assert reference.error(traced(x + 1.0, *parameters), kernel(2)(x + 1.0, *parameters)) < 1e-5


def test_functional_transforms_work_also_as_the_first_call():
    x, parameters, _ = reference.problem((2, 4, 3, 3))
    function = kernel(2)
    cpu._plan.cache_clear()
    tables.proxy_table.cache_clear()
    gradient = torch.func.grad(lambda x: function(x, *parameters).square().sum())(x)
    expected = x.clone().requires_grad_()
    reference.norm_proxy_norm_act(expected, 2, *parameters).square().sum().backward()
    assert reference.error(gradient, expected.grad) < 1e-10
    plain = function(x, *parameters)  # nothing of the transform has been kept
    assert reference.error(plain, reference.norm_proxy_norm_act(x, 2, *parameters)) < 1e-10


@needs_kernel
def test_threads_of_python_may_call_at_the_same_time():
    x, parameters, grad = reference.problem((2, 16, 30, 30), torch.float32)
    expected = reference.gradients(kernel(4), x, parameters, grad)
    failures = []

    def work():
        for _ in range(5):
            actual = reference.gradients(kernel(4), x, parameters, grad)
            if not all(torch.equal(a, e) for a, e in zip(actual, expected)):
                failures.append(actual)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    "change, words",
    [
        ({"x": torch.zeros(3)}, "must be \\[N, C"),
        ({"groups": 3}, "4 channels do not divide into groups=3"),
        ({"gamma": torch.ones(5)}, "gamma must have shape \\(4,\\)"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"expectation": "median"}, "expectation must be one of"),
        ({"quantiles": 0}, "quantiles must be at least 1"),
        ({"eps": 0.0}, "eps must be positive"),
    ],
)
def test_bad_arguments_say_what_is_wrong(change, words):
    tensors = {
        "x": torch.zeros(2, 4, 3),
        "beta": torch.zeros(4),
        "gamma": torch.ones(4),
        "proxy_beta": torch.zeros(4),
        "proxy_gamma": torch.zeros(4),
    }
    tensors.update({name: change[name] for name in change if name in tensors})
    settings = Settings(groups=2)._replace(**{name: change[name] for name in change if name not in tensors})
    with pytest.raises(ValueError, match=words):
        cpu.norm_proxy_norm_act(**tensors, settings=settings)


@needs_kernel
def test_a_short_training_run_is_the_same_as_with_composed_operations():
    """A convolution between two normalised layers, twenty steps: losses agree to rounding."""
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 8, 8), torch.randint(0, 3, (8,))
    weights = [torch.randn(8, 3, 3, 3) * 0.2, torch.randn(8, 8, 3, 3) * 0.1, torch.randn(3, 8) * 0.3]
    norms = [[torch.full((8,), v) for v in (0.0, 1.0, 0.0, 0.0)] for _ in range(2)]

    def losses(norm):
        tensors = [t.requires_grad_() for t in copy.deepcopy(weights)]
        parameters = [[p.requires_grad_() for p in layer] for layer in copy.deepcopy(norms)]
        optimizer = torch.optim.SGD(tensors + parameters[0] + parameters[1], lr=0.2, momentum=0.9)
        found = []
        for _ in range(20):
            x = images
            for weight, layer in zip(tensors, parameters):
                x = norm(F.conv2d(x, weight, padding=1), *layer, Settings(4))
            loss = F.cross_entropy(x.mean((2, 3)) @ tensors[2].t(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    with_kernel, without = losses(cpu.norm_proxy_norm_act), losses(composed.norm_proxy_norm_act)
    assert with_kernel[-1] < 0.5 * with_kernel[0]
    assert with_kernel == pytest.approx(without, rel=2e-3)
