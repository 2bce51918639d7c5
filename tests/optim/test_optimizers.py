"""The optimizer gets exactly what the configuration says, in PopTorch's words."""

import inspect
import types

import pytest
import torch

from ipu_train.config import OptimizerConfig, section
from ipu_train.config.optimizer import OPTIMIZERS
from ipu_train.optim import build_optimizer
from ipu_train.optim.optimizers import arguments

# Constructor arguments of PopTorch 3.4's optimizers (PopTorch 3.4 sources, python/optim.py).
SIGNATURES = {
    "SGD": "params lr momentum dampening weight_decay nesterov maximize foreach differentiable loss_scaling "
    "velocity_scaling use_combined_accum accum_type velocity_accum_type max_grad_norm",
    "Adam": "params lr betas eps weight_decay amsgrad foreach maximize capturable differentiable fused "
    "loss_scaling "
    "accum_type first_order_momentum_accum_type second_order_momentum_accum_type max_grad_norm",
    "AdamW": "params lr betas eps weight_decay amsgrad maximize foreach capturable differentiable fused "
    "loss_scaling "
    "bias_correction accum_type first_order_momentum_accum_type second_order_momentum_accum_type "
    "max_grad_norm",
    "RMSprop": "params lr alpha eps weight_decay momentum centered foreach maximize differentiable "
    "loss_scaling "
    "accum_type first_order_momentum_accum_type second_order_momentum_accum_type use_tf_variant",
    "LAMB": "params lr betas eps weight_decay bias_correction loss_scaling max_weight_norm accum_type "
    "first_order_momentum_accum_type second_order_momentum_accum_type",
}
NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "lamb": "LAMB"}


def recorder(name):
    """A class that takes exactly PopTorch's arguments and remembers what it was given."""
    words = SIGNATURES[name].split()
    signature = inspect.Signature(
        [inspect.Parameter(w, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for w in words]
    )
    return lambda *args, **keys: (name, signature.bind(*args, **keys).arguments)


recording = types.SimpleNamespace(
    optim=types.SimpleNamespace(**{name: recorder(name) for name in SIGNATURES})
)


def model():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.Linear(4, 2))
    net[2].bias.requires_grad_(False)
    return net


def build(net=None, exempt=lambda name, parameter: parameter.ndim == 1, **keys):
    return build_optimizer(
        recording, (net or model()).named_parameters(), section("optimizer", **keys), 0.25, exempt
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_takes_its_arguments_in_poptorchs_words(name):
    taken, given = build(name=name)
    assert taken == NAMES[name]
    assert given["lr"] == 0.25


@pytest.mark.parametrize(
    "keys, expected",
    [
        (
            {
                "name": "sgd",
                "momentum": 0.9,
                "nesterov": True,
                "max_grad_norm": 1.5,
                "use_combined_accum": True,
            },
            {
                "momentum": 0.9,
                "nesterov": True,
                "max_grad_norm": 1.5,
                "use_combined_accum": True,
                "dampening": 0.0,
            },
        ),
        ({"name": "sgd", "velocity_accum_type": "float16"}, {"velocity_accum_type": torch.float16}),
        ({"name": "adam", "betas": [0.8, 0.99], "eps": 1e-6}, {"betas": (0.8, 0.99), "eps": 1e-6}),
        ({"name": "adamw", "accum_type": "float16"}, {"accum_type": torch.float16}),
        (
            {
                "name": "rmsprop",
                "alpha": 0.95,
                "momentum": 0.9,
                "centered": True,
                "use_tf_variant": True,
                "eps": 1e-3,
            },
            {"alpha": 0.95, "momentum": 0.9, "centered": True, "use_tf_variant": True, "eps": 1e-3},
        ),
        (
            {"name": "lamb", "bias_correction": False, "max_weight_norm": 10.0, "loss_scaling": 128.0},
            {"bias_correction": False, "max_weight_norm": 10.0, "loss_scaling": 128.0},
        ),
    ],
)
def test_settings_arrive_unchanged(keys, expected):
    given = build(**keys)[1]
    assert {key: given[key] for key in expected} == expected


def test_no_clipping_unless_asked():
    assert "max_grad_norm" not in build(name="sgd")[1]


def test_every_setting_of_the_section_reaches_the_optimizer():
    for name, typed in OPTIMIZERS.sections.items():
        if name == "lars":  # updates on the host
            continue
        own = set(typed.model_fields) - set(OptimizerConfig.model_fields)
        config = section("optimizer", name=name, **({"max_grad_norm": 1.0} if "max_grad_norm" in own else {}))
        assert set(arguments(config)) == own | {"loss_scaling", "accum_type"}


def test_exempt_parameters_do_not_decay_and_frozen_ones_are_left_out():
    net = model()
    groups = build(net, name="sgd", weight_decay=0.5)[1]["params"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert [id(p) for p in groups[0]["params"]] == [id(net[0].weight), id(net[2].weight)]
    assert [id(p) for p in groups[1]["params"]] == [id(net[0].bias), id(net[1].weight), id(net[1].bias)]


def test_groups_without_parameters_are_left_out():
    assert len(build(exempt=lambda name, parameter: False)[1]["params"]) == 1
    net = model()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameters to train"):
        build(net)


def test_exempt_is_asked_with_the_name():
    groups = build(exempt=lambda name, parameter: name.startswith("0."))[1]["params"]
    assert [len(group["params"]) for group in groups] == [3, 2]
