"""PopTorch optimizers from the optimizer section of a configuration."""

from typing import Any, Callable, Dict, Iterable, List, Tuple

import torch

from ..config import OptimizerConfig

CLASSES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "lamb": "LAMB"}

# Keys of the section that are no arguments of the optimizer, or are handed over by name below.
_NOT_PASSED = ("learning_rate", "weight_decay")
_TYPES = {"float16": torch.float16, "float32": torch.float32}

Exempt = Callable[[str, torch.Tensor], bool]


def base_learning_rate(config: OptimizerConfig, global_batch_size: int) -> float:
    """The learning rate before the schedule, for the run's own batch size.

    With ``learning_rate_batch_size`` it is scaled linearly with the batch (Goyal et al. 2017, section 2.1).

    Args:
        config: the optimizer section.
        global_batch_size: images of one weight update.
    """
    if config.learning_rate is None:
        raise ValueError("the optimizer section has no learning_rate; build it through OptimizerConfig")
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


def arguments(config: OptimizerConfig) -> Dict[str, Any]:
    """Keyword arguments of the PopTorch optimizer, without the learning rate and the weight decay."""
    result: Dict[str, Any] = {"loss_scaling": config.loss_scaling}
    for key in config.READS[config.name]:
        value = getattr(config, key)
        if key not in _NOT_PASSED and value is not None:
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
) -> Any:
    """The PopTorch optimizer of a configuration.

    Args:
        poptorch: the PopTorch module (or what stands in for it).
        named_parameters: as of ``module.named_parameters()``.
        config: the optimizer section.
        learning_rate: of the first weight update.
        exempt: tells from name and parameter whether it is exempt from weight decay.

    Raises:
        ValueError: no parameter needs a gradient.
    """
    groups = parameter_groups(named_parameters, config.weight_decay or 0.0, exempt)
    if not groups:
        raise ValueError("the model has no parameters to train")
    optimizer = getattr(poptorch.optim, CLASSES[config.name])
    return optimizer(groups, lr=learning_rate, **arguments(config))
