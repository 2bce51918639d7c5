"""What the weights of a run start from, other than random numbers."""

import json
import os
import re
from pathlib import Path
from typing import Dict, Optional

import torch

from ..config import Resolved
from ..models import LIBRARY_NORM_EPS, OWN, classifier, known_layout, load_checkpoint
from ..processes.alone import ALONE, Processes
from ..tracking import tell
from . import checkpoint, checkpoint_folder
from .checkpoint import Checkpoint
from .foreign_weights import read_file, without_wrapper

Weights = Dict[str, torch.Tensor]

# Of torchvision's EfficientNets B5 to B7, which are those with so many channels before the classifier, and of timm's
# with weights from TensorFlow.
_EPS_FROM_B5, _HEAD_OF_B5 = 1e-3, 2048
_EPS_OF_TF = 1e-3


def load(resolved: Resolved, network: torch.nn.Module, processes: Processes = ALONE) -> None:
    """Load ``model.weights`` into the network, in place; does nothing without them.

    Of several processes only the first one reads them; all begin with its weights.

    Raises:
        ConfigError: there are no such weights, or they are of another network.
    """
    processes.first(lambda: _load(resolved, network))
    processes.take_first(network.state_dict())


def _load(resolved: Resolved, network: torch.nn.Module) -> None:
    model = resolved.config.model
    if model.weights is None:
        return
    last = classifier(model.name) + "."
    if model.new_classifier and not any(name.startswith(last) for name in network.state_dict()):
        raise resolved.error(
            "model.new_classifier",
            f"{model.name} has no layer {last[:-1]}; say what its last one is called: "
            f"@register_model(..., classifier={list(network.state_dict())[-1].rpartition('.')[0]!r})",
        )
    path = Path(os.path.expanduser(model.weights))
    _tell_of_another_architecture(path, model.name)
    try:
        weights = read(path, model.averaged_weights)
        _put(weights, network, model.new_classifier, last, model.norm_eps is not None)
    except (ValueError, RuntimeError) as error:  # RuntimeError: shapes, from load_state_dict
        raise resolved.error("model.weights", str(error)) from error


def _tell_of_another_architecture(path: Path, model: str) -> None:
    """timm's ``config.json`` beside a file of weights names their network, where its weights may fit another one.

    resnetblur50 and resnetaa50 have resnet50's names and shapes, and blur or average what they pass on.
    """
    try:
        theirs = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))["architecture"]
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or another program's
        return
    if path.is_dir() or model in OWN or not isinstance(theirs, str):
        return
    if not re.match(rf"(tf_|tv_|gluon_)?{re.escape(model)}", theirs):  # timm's names for the same networks
        tell(
            f"warning: {path.with_name('config.json')} says that these weights are of {theirs}, and model.name is "
            f"{model}: where names and shapes agree, it may still compute something else with them"
        )


def read(path: Path, averaged: bool = False) -> Weights:
    """The weights in a run folder, a checkpoint of ours, or a file with a state dict.

    Args:
        averaged: the average of the run's weights in place of the weights themselves.

    Raises:
        ValueError: nothing there, unreadable, or without an average.
    """
    if path.is_dir():
        return _of_run(path, averaged)
    if averaged:
        raise ValueError(
            f"averaged_weights is for run folders and checkpoints of ipu-train; {path} is a file"
        )
    return read_file(path)


def _of_run(path: Path, averaged: bool) -> Weights:
    if checkpoint_folder.is_checkpoint(path):
        folder, saved = path, checkpoint.load(path)
    else:
        found_sound, skipped = checkpoint.newest_sound(path / "checkpoints")
        for message in skipped:
            tell(f"Skipped: {message}")
        if found_sound is None:
            raise ValueError(f"no checkpoint in the folder {path}")
        folder, saved = found_sound
    return average_of(folder, saved) if averaged else saved.weights


def average_of(folder: Path, saved: Checkpoint) -> Weights:
    """The average of a run's weights that the checkpoint ``saved`` in ``folder`` holds, in the weights' types.

    Raises:
        ValueError: it holds none.
    """
    prefix = "average/average."
    found = {
        name[len(prefix) :]: t.to(saved.weights[name[len(prefix) :]].dtype)
        for name, t in saved.optimizer.items()
        if name.startswith(prefix)
    }
    if not found:
        raise ValueError(f"{folder} holds no average of the weights")
    return found


def difference(weights: Weights, ours: Weights) -> Optional[str]:
    """In what weights differ from those of a network, in names or shapes; None: in nothing."""
    parts = []
    for words, names in (("lack", set(ours) - set(weights)), ("also hold", set(weights) - set(ours))):
        if names:
            parts.append(f"they {words} {len(names)} tensors, such as {min(names)}")
    if parts:
        return " and ".join(parts)
    for name, value in weights.items():
        if value.shape != ours[name].shape:
            return f"{name} has shape {tuple(value.shape)} there and {tuple(ours[name].shape)} in the model"
        if value.is_floating_point() != ours[name].is_floating_point():
            return f"{name} is {_words(value)} there and {_words(ours[name])} in the model"
    return None


def _tell_of_another_epsilon(weights: Weights, network: torch.nn.Module, chosen: bool) -> None:
    """EfficientNets of the libraries have other epsilons than those of the papers, which no name or shape shows.

    Args:
        weights: of a library, which fit the network.
        chosen: whether the user has given the network's epsilon.
    """
    library = known_layout(list(weights)) or ""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    found = min((norm.eps for norm in norms), default=None)
    if found is None or not library.startswith("EfficientNet"):
        return
    if library == "EfficientNet of torchvision":
        theirs = _EPS_FROM_B5 if len(weights["features.8.0.weight"]) >= _HEAD_OF_B5 else LIBRARY_NORM_EPS
        if found != theirs:
            tell(
                f"warning: torchvision's network of this size has norm_eps {theirs:g}, and the model has {found:g}: it "
                "computes something else with these weights; set model.norm_eps"
            )
    elif not (chosen and found in (LIBRARY_NORM_EPS, _EPS_OF_TF)):
        tell(
            f"warning: timm's efficientnet_ networks have norm_eps {LIBRARY_NORM_EPS:g} and its tf_efficientnet_ ones "
            f"{_EPS_OF_TF:g} (and pad differently), with the same names; the model has {found:g}: set model.norm_eps "
            "to that of the network which these weights are of"
        )


def _words(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).replace("torch.", "")


def _put(
    weights: Weights, network: torch.nn.Module, new_classifier: bool, last: str, eps_chosen: bool
) -> None:
    ours = network.state_dict()
    weights = without_wrapper(weights, ours, known_layout)
    common = len(set(weights) & set(ours))
    if common * 2 < len(ours) and (known_layout(list(weights)) or not common):  # another library's names
        load_checkpoint(network, weights, classifier=not new_classifier)
        _tell_of_another_epsilon(weights, network, eps_chosen)
        return
    counts = {name: value for name, value in ours.items() if name.endswith(".num_batches_tracked")}
    weights = {**counts, **weights}  # which files from before torch 0.4.1 lack
    if new_classifier:
        kept = {name: value for name, value in ours.items() if name.startswith(last)}
        weights = {**{name: v for name, v in weights.items() if not name.startswith(last)}, **kept}
    different = difference(weights, ours)
    if different is not None:
        advice = "; set model.new_classifier to keep the model's own" if different.startswith(last) else ""
        if set(weights) != set(ours):
            different = (
                f"these weights are of another network: {different}; the model and its norm must be the same"
            )
        raise ValueError(different + advice)
    network.load_state_dict(weights)
