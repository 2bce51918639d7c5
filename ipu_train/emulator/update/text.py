"""What the executor logs at debug level when it sends an optimizer to the device (PopTorch 3.4: one line for the graph,
with the defaults, and one for each parameter group, under PopART's names of the hyper-parameters)."""

import logging
from typing import Any, Dict, List

import torch

from .._logging import logger
from .hyper_parameters import Snapshot, optimizerType

# hyper-parameters that PopART keeps for each group; the others are of the graph
_OF_GROUPS = {
    "sgd": ("lr", "weight_decay", "momentum", "dampening", "velocity_scaling"),
    "adam": ("lr", "weight_decay", "beta1", "beta2", "eps"),
    "adamw": ("lr", "weight_decay", "beta1", "beta2", "eps"),
    "lamb": ("lr", "weight_decay", "beta1", "beta2", "eps", "max_weight_norm"),
    "rmsprop": ("lr", "weight_decay", "alpha", "eps", "momentum"),
}


def describe(sent: Snapshot) -> List[str]:
    """``graph optimizer with <type>, <name>=<value>[ (const)], ...`` and the same for each group."""
    kind = optimizerType(sent.kind, sent.settings, sent.groups)
    first_order = "velocity_accum_type" if sent.kind == "sgd" else "first_order_momentum_accum_type"
    shared = [
        f"accumType={_type(sent.settings['accum_type'])}",
        f"firstOrderMomentumAccumType={_type(sent.settings[first_order])}",
        f"secondOrderMomentumAccumType={_type(sent.settings['second_order_momentum_accum_type'])}",
        f"useTfVariant={int(sent.settings['use_tf_variant'])}",
        f"maxGradNorm={sent.settings['max_grad_norm']:g}",
    ]
    loss_scaling = _value("lossScaling", "loss_scaling", sent.settings["loss_scaling"], sent)
    graph = [*_values(sent.defaults, sent, "default"), loss_scaling, *shared]
    lines = ["graph optimizer with " + ", ".join([kind, *graph])]
    for index, group in enumerate(sent.groups):
        texts = [*_values(group, sent, ""), *shared]
        lines.append(f"group {index} optimizer with " + ", ".join([kind, *texts]))
    return lines


def log_update(sent: Snapshot) -> None:
    """Say what is sent to the device."""
    if logger.isEnabledFor(logging.DEBUG):
        for line in describe(sent):
            logger.debug("Updating %s", line)


def _values(values: Dict[str, Any], sent: Snapshot, prefix: str) -> List[str]:
    texts = []
    for name in _OF_GROUPS[sent.kind]:
        value = values[name] if name in values else sent.settings[name]
        attribute = name
        if name == "velocity_scaling" and not sent.settings["use_combined_accum"]:
            # without combined accumulation the velocity is scaled like the gradients that it sums
            attribute, value = "loss_scaling", sent.settings["loss_scaling"]
        texts.append(_value(_camelCase(prefix, name), attribute, value, sent))
    return sorted(texts)


def _value(text: str, attribute: str, value: float, sent: Snapshot) -> str:
    attribute = {"beta1": "betas", "beta2": "betas"}.get(attribute, attribute)
    return f"{text}={value:g}" + (" (const)" if attribute in sent.constants else "")


def _camelCase(prefix: str, name: str) -> str:
    words = {"lr": "learning_rate"}.get(name, name).split("_")
    words = [prefix, *words] if prefix else words
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _type(dtype: torch.dtype) -> str:
    return str(dtype).split(".")[1]
