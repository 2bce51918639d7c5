"""PopTorch optimizers from the optimizer section of a configuration."""

from typing import Any, Callable, Dict, Iterable, List, Tuple

import torch

from ..config import OptimizerConfig
from ..config.optimizer import Adam, AdamW, RmsProp

# lars: PopTorch has none; its device side only hands out gradients (see host_update.py)
CLASSES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "lamb": "LAMB",
    "lars": "SGD",
}

# Keys of the section that are no arguments of the optimizer, or are handed over by name below.
_NOT_PASSED = (
    "name",
    "learning_rate",
    "learning_rate_batch_size",
    "weight_decay",
    "loss_scaling_epochs",
    "loss_scaling_factor",
    "automatic_loss_scaling",
)
_LARS_PASSES = ("loss_scaling", "accum_type")  # the device only hands out gradients
_TYPES = {"float16": torch.float16, "float32": torch.float32}

# All powers of two, so that scaling rounds nothing. EPS dwarfs every root mean square gradient.
GRADIENT_SCALE = 2.0**30
EPS = 2.0**40

Exempt = Callable[[str, torch.Tensor], bool]


def base_learning_rate(config: OptimizerConfig, global_batch_size: int) -> float:
    """The learning rate before the schedule, for the run's own batch size.

    With ``learning_rate_batch_size`` it is scaled linearly with the batch (Goyal et al. 2017, section 2.1).

    Args:
        config: the optimizer section.
        global_batch_size: images of one weight update.
    """
    if config.learning_rate_batch_size is None:
        return config.learning_rate
    return config.learning_rate * global_batch_size / config.learning_rate_batch_size


def parameter_groups(
    named_parameters: Iterable[Tuple[str, torch.nn.Parameter]], weight_decay: float, exempt: Exempt
) -> List[Dict[str, Any]]:
    """Two groups, in the order of the parameters: those that decay, and those that are exempt.

    Parameters that need no gradient are left out, and so is a group without parameters.

    Args:
        named_parameters: as of ``module.named_parameters()``.
        weight_decay: of the first group; the second has 0.
        exempt: tells from name and parameter whether it is exempt.
    """
    groups: List[Dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            groups[bool(exempt(name, parameter))]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def read_out_group(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> Dict[str, Any]:
    """A parameter group of the configuration's PopTorch optimizer that does ``w -= GRADIENT_SCALE * g``.

    sgd (and lars, which uses it): no momentum. rmsprop, adam, adamw: an eps beside which the root of the second moment
    vanishes, made up for by the learning rate; TensorFlow's rmsprop has eps inside the root.

    Raises:
        ValueError: lamb, whose trust ratio undoes any scaling.
    """
    group: Dict[str, Any] = {"params": list(parameters), "weight_decay": 0.0}
    if config.name in ("sgd", "lars"):
        group.update(lr=GRADIENT_SCALE, momentum=0.0, dampening=0.0)
    elif isinstance(config, RmsProp):
        root = EPS**0.5 if config.use_tf_variant else EPS
        group.update(lr=GRADIENT_SCALE * root, eps=EPS, momentum=0.0)
    elif isinstance(config, (Adam, AdamW)):
        group.update(lr=GRADIENT_SCALE * EPS, eps=EPS, betas=(0.0, config.betas[1]))
    else:
        raise ValueError(f"gradients cannot be read through {config.name}; choose another optimizer")
    return group


def arguments(config: OptimizerConfig) -> Dict[str, Any]:
    """Keyword arguments of the PopTorch optimizer, without the learning rate and the weight decay."""
    result: Dict[str, Any] = {}
    for key, value in config.model_dump().items():
        passed = key in _LARS_PASSES if config.name == "lars" else key not in _NOT_PASSED
        if passed and value is not None:
            result[key] = _TYPES[value] if key.endswith("accum_type") else value
    if "betas" in result:
        result["betas"] = tuple(result["betas"])
    return result


def build_optimizer(
    poptorch: Any,
    named_parameters: Iterable[Tuple[str, torch.nn.Parameter]],
    config: OptimizerConfig,
    learning_rate: float,
    exempt: Exempt,
    read_out: Iterable[torch.nn.Parameter] = (),
) -> Any:
    """The PopTorch optimizer of a configuration.

    Args:
        poptorch: the PopTorch module (or what stands in for it).
        named_parameters: as of ``module.named_parameters()``.
        config: the optimizer section.
        learning_rate: of the first weight update.
        exempt: tells from name and parameter whether it is exempt from weight decay.
        read_out: parameters that the host updates; their gradients are read through the last group.

    Raises:
        ValueError: no parameter needs a gradient.
    """
    on_host = {id(parameter): parameter for parameter in read_out}
    trained = [(name, p) for name, p in named_parameters if id(p) not in on_host]
    groups = parameter_groups(trained, config.weight_decay, exempt)
    if on_host:
        groups.append(read_out_group(config, on_host.values()))
    if not groups:
        raise ValueError("the model has no parameters to train")
    optimizer = getattr(poptorch.optim, CLASSES[config.name])
    return optimizer(groups, lr=learning_rate, **arguments(config))
