"""From a configuration to its network: built, initialised, and told which of its parameters are trained."""

from typing import Any, Dict, List

import torch

from .config import Config, Resolved, nearest
from .models import OWN, OptionError, build
from .plugins.failures import line_of_user, reason_of


def build_network(resolved: Resolved, num_classes: int, channels: int) -> torch.nn.Module:
    """The network, initialised from ``training.seed``.

    Raises:
        ConfigError: options or groups that the network cannot have, or a network of the user's own that cannot be made.
    """
    torch.manual_seed(resolved.config.training.seed)
    try:
        network = _build(resolved.config, num_classes, channels)
    except OptionError as error:
        raise resolved.error(f"model.options.{error.option}", str(error)) from error
    except (ValueError, TypeError) as error:
        raise resolved.error("model.name", f"{error}{line_of_user(error)}") from error
    except Exception as error:
        if resolved.config.model.name not in OWN:
            raise
        reason = f"the function that makes the network fails: {reason_of(error)}{line_of_user(error)}"
        raise resolved.error("model.name", reason) from error
    freeze(resolved, network)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise resolved.error("model.name", "the network has no parameters to train")
    return network


def _build(config: Config, num_classes: int, channels: int) -> torch.nn.Module:
    model = config.model
    exact = model.proxy_norm_quantiles is None  # expectation exact has none
    quantiles: Dict[str, Any] = {} if exact else {"proxy_norm_quantiles": model.proxy_norm_quantiles}
    return build(
        model.name,
        num_classes=model.num_classes or num_classes,
        norm=model.norm,
        norm_groups=model.norm_groups,
        norm_group_size=model.norm_group_size,
        norm_eps=model.norm_eps,
        proxy_norm=bool(model.proxy_norm),
        proxy_norm_eps=model.proxy_norm_eps,
        proxy_norm_expectation=model.proxy_norm_expectation,
        **quantiles,
        in_channels=channels,
        **model.options,
    )


def freeze(resolved: Resolved, network: torch.nn.Module) -> None:
    """Switch off the gradient of every parameter outside the modules of ``model.train_only``.

    Raises:
        ConfigError: a name that is no module of the network, or modules without parameters.
    """
    trained = resolved.config.model.train_only
    if trained is None:
        return
    names: List[str] = [name for name, _ in network.named_modules() if name]
    for name in trained:
        if name not in names:
            near = nearest(name, names)
            hint = f"; did you mean {near}?" if near else ""
            tops = ", ".join(top for top, _ in network.named_children())
            raise resolved.error(
                "model.train_only", f"{name} is no module of the model{hint} (largest ones: {tops})"
            )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(name.startswith(module + ".") for module in trained))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise resolved.error("model.train_only", f"{', '.join(trained)} has no parameters to train")
