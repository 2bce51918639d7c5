"""What the commands do, from Python, with networks, images and callbacks of the user's own."""

import os
from pathlib import Path
from typing import Any, Callable, Iterable, List, Optional, Union

import torch

from . import trainer
from .config import Resolved, load
from .config.data import SOURCES
from .data import DataSource
from .models import OWN, copied, register_model
from .plugins import RegistrationError, register_dataset
from .plugins.datasets import OWN as DATASETS
from .plugins.loading import GIVEN
from .training import checkpoint, checkpoint_folder
from .training.callbacks import Callback
from .training.run_folder import Resume

Model = Union[str, torch.nn.Module, Callable[..., torch.nn.Module]]
Data = Union[str, DataSource, Callable[..., Any]]


def train(
    configuration: Union[str, "os.PathLike[str]", Resolved],
    overrides: Iterable[str] = (),
    *,
    model: Optional[Model] = None,
    data: Optional[Data] = None,
    callbacks: Iterable[Callback] = (),
    resume: Resume = False,
) -> trainer.Outcome:
    """Run a configuration to its end, or until a signal asks to stop.

    Args:
        configuration: a YAML file, a recipe's name, or what ``load`` has made of one.
        overrides: ``section.key=value`` texts.
        model: in place of ``model.name``: a name; a function that makes a network (see ``register_model``); or a
            network, which has its norms and its number of classes, starts from the weights it has, and has the trained
            ones after the run.
        data: in place of the section ``data``: the name of a registered data set; a function registered with
            ``register_dataset``; or a ``DataSource``. Functions that stand in a file are known to the commands by that
            place (``evaluate --run``, ``--resume``), so a program that trains must keep that under
            ``if __name__ == "__main__"``.
        callbacks: told what happens.
        resume: go on with an earlier run: True where there must be one, "auto" where there is one.

    Raises:
        ValueError: bad input anywhere; the message is meant for the user.
    """
    more: List[str] = []
    if data is not None:
        more += _data(data)
    if model is not None:
        more.append(f"model.name={_quoted(_model(model))}")
    if isinstance(configuration, Resolved):
        resolved = configuration.changed([*more, *overrides])
    else:
        resolved = load(configuration, [*more, *overrides])
    outcome = trainer.train(resolved, resume, callbacks)
    if isinstance(model, torch.nn.Module):
        newest = checkpoint_folder.newest(outcome.folder.checkpoints)
        if newest is not None:
            model.load_state_dict(checkpoint.load(newest).weights)
    return outcome


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _model(model: Any) -> str:
    """The name under which a configuration finds it."""
    if isinstance(model, str):
        return model
    if isinstance(model, torch.nn.Module):
        given = model

        def build(num_classes: int, in_channels: int) -> torch.nn.Module:
            return copied(given)

        name = f"{type(model).__name__}{GIVEN}"
        register_model(name, build)
        return name
    known = next((name for name, own in OWN.items() if own.build is model), None)
    place = _place(model)
    if place is not None:
        if known is None:
            register_model(place, model)
        else:
            OWN[place] = OWN[known]
        return place
    if known is None:
        known = f"{getattr(model, '__name__', type(model).__name__)}{GIVEN}"
        register_model(known, model)
    return known


def _place(function: Any) -> Optional[str]:
    """``file.py:function``, by which the run's configuration finds it again; None where there is no such place."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    if code is None or "<" in name or "." in name or not code.co_filename.endswith(".py"):
        return None
    path = Path(code.co_filename).resolve()
    inside = Path.cwd() in path.parents
    return f"{os.path.relpath(str(path)) if inside else path}:{name}"


def _data(data: Any) -> List[str]:
    """Overrides that put registered images in the place of whatever the section data says."""
    if isinstance(data, DataSource):
        name = f"{data.name}{GIVEN}"
        register_dataset(
            name,
            lambda image_size, seed: data,
            num_classes=data.num_classes,
            image_size=data.image_size,
            channels=data.channels,
            class_names=data.class_names,
            mean=data.mean,
            std=data.std,
        )
    elif isinstance(data, str):
        name = data
    else:
        known = next((key for key, own in DATASETS.items() if own.open is data), None)
        if known is None:
            raise RegistrationError(
                "data: takes a DataSource, or a function registered with ipu_train.register_dataset, which tells the "
                f"shape of its images; got {data!r}"
            )
        name = _place(data) or known
        DATASETS[name] = DATASETS[known]
    others = [key for key in SOURCES.order if key not in ("name", "dataset")]
    cleared = [f"data.{key}=null" for key in others]
    return [*cleared, "data.name=registered", f"data.dataset={_quoted(name)}"]
