"""``ipu-train init``: five questions, and a configuration that runs.

What a recipe already says is not written again: where there is one for the network, the new file starts from it.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from .. import outputs
from ..command_line import Parser
from ..config import Resolved, load, load_text, nearest
from ..config.data import SOURCES
from ..config.printing import scalar
from ..config.reference import recipe_values
from ..models import NORM_TRAITS, names, native_image_size

_SOURCES = ("digits", "cifar10", "cifar100", "fashion_mnist", "generated")
_CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "fashion_mnist": 10, "generated": 10}
_IMAGES = {"digits": 1437, "cifar10": 50_000, "cifar100": 50_000, "fashion_mnist": 60_000, "generated": 5_000}
_SMALL = {"digits": "resnet8", "generated": "resnet8"}
_MACHINES: Dict[str, Optional[int]] = {"emulator": None, "pod4": 4, "pod16": 16, "pod64": 64}
_MOST_COUNTED = 100_000


class InitError(ValueError):
    """An answer that cannot be; the message says what can."""


class Answers(NamedTuple):
    """What the five questions ask for.

    Attributes:
        data: the name of a source, or the folder of the images.
        classes: of the images.
        model, norm: as in the section model; the norm with ``+pn`` for Proxy Norm.
        ipus: of the machine; None: the emulator.
    """

    data: str
    classes: int
    model: str
    norm: str
    ipus: Optional[int]

    @property
    def is_folder(self) -> bool:
        return self.data not in SOURCES.sections


def main(arguments: List[str]) -> int:
    """Ask what was not given (or take the usual answer where nobody can be asked) and write the file; gives 0.

    Raises:
        InitError: an answer that cannot be, or a file that is there already.
    """
    options = parser().parse_args(arguments)
    output = Path(options.output)
    if output.exists() and not options.force:
        raise InitError(f"{output} is there already; choose another --output, or overwrite it with --force")
    outputs.check("--output", output)
    text, resolved = configuration(_answers(options), output)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InitError(f"{output} cannot be written: {error.strerror or error}") from error
    print(
        f"{output} trains {resolved.config.model.name} at a global batch of {resolved.config.global_batch_size}:"
    )
    file = shlex.quote(str(output))
    print(f"  ipu-train config --config {file}   what it resolves to\n  ipu-train --config {file}")
    return 0


def parser() -> argparse.ArgumentParser:
    result = Parser(
        prog="ipu-train init",
        description="Ask five questions and write a configuration that runs. Answers can be given as options; what is "
        "not given is asked for at a terminal, and has its usual answer elsewhere.",
    )
    result.add_argument(
        "--data", metavar="FOLDER", help=f"the images' folder, or one of {', '.join(_SOURCES)}"
    )
    result.add_argument("--classes", type=int, metavar="N", help="classes of the images; counted if left out")
    result.add_argument("--model", metavar="NAME", help="a network of `ipu-train models`")
    result.add_argument("--norm", help="such as batch, group or group+pn (with Proxy Norm)")
    result.add_argument("--machine", help=f"{', '.join(_MACHINES)}, or a number of IPUs")
    result.add_argument(
        "--output", default="run.yaml", metavar="FILE", help="file to write (default run.yaml)"
    )
    result.add_argument("--force", action="store_true", help="overwrite the file")
    return result


def _answers(options: argparse.Namespace) -> Answers:
    data = _ask(
        "Images (a folder with one sub-folder a class, or " + ", ".join(_SOURCES) + ")",
        options.data,
        "digits",
    )
    found = _classes_of(data)
    if found is None and options.classes is None and not sys.stdin.isatty():
        raise InitError(f"{data}: there is no such folder here; say how many classes it has with --classes N")
    classes = _number("Classes", _ask("Classes", options.classes, found))
    if found is not None and classes < found:
        raise InitError(f"--classes {classes}: {data} has {found} classes")
    model = _ask("Network (`ipu-train models` lists all)", options.model, _usual_model(data))
    if model not in names():
        raise InitError(
            f"--model {model}: no such network{_hint(model, names())} (`ipu-train models` lists all)"
        )
    norm = _ask("Norm", options.norm, "group+pn")
    _check_norm(norm)
    machine = _ask(f"Machine ({', '.join(_MACHINES)}, or a number of IPUs)", options.machine, "emulator")
    ipus = _MACHINES[machine] if machine in _MACHINES else _number("--machine", machine, _MACHINES)
    return Answers(data, classes, model, norm, ipus)


def _ask(question: str, given: object, usual: object) -> str:
    if given is not None:
        return str(given)
    if not sys.stdin.isatty():
        return str(usual)
    shown = f" [{usual}]" if usual is not None else ""
    while True:
        try:
            answer = input(f"{question}{shown}: ").strip() or ("" if usual is None else str(usual))
        except EOFError:
            print()
            raise InitError("the answers ended before the questions: nothing was written") from None
        if answer:
            return answer


def _number(what: str, text: str, words: Iterable[str] = ()) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100_000:
        others = "".join(f"{word}, " for word in words)
        raise InitError(
            f"{what} {text}: must be {others}{'or ' * bool(others)}a whole number from 1 to 100000"
        )
    return int(text)


def _hint(name: str, known: List[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""


def _check_norm(norm: str) -> None:
    name, plus, proxy = norm.partition("+")
    known = [
        n + end for n, traits in NORM_TRAITS.items() for end in ("", "+pn")[: 1 + traits.takes_proxy_norm]
    ]
    known.remove("none+pn")
    if name not in NORM_TRAITS or (plus and proxy != "pn") or norm not in known:
        raise InitError(f"--norm {norm}: no such norm{_hint(norm, known)} (norms: {', '.join(known)})")


def _folder(data: str) -> Path:
    root = Path(os.path.expanduser(data))
    return root / "train" if (root / "train").is_dir() else root


def _classes_of(data: str) -> Optional[int]:
    """Classes of a source, or class folders of a folder; None for a folder that is not here."""
    if data in _CLASSES:
        return _CLASSES[data]
    folder = _folder(data)
    if not folder.is_dir():
        return None
    found = sum(entry.is_dir() and not entry.name.startswith(".") for entry in os.scandir(str(folder)))
    if found < 2:
        raise InitError(f"{folder}: holds {found} class folders; images lie in one sub-folder a class")
    return found


def _images_of(data: str) -> int:
    """Training images, counted up to a bound; ImageNet's number for a folder that is not here."""
    if data in _IMAGES:
        return _IMAGES[data]
    counted = 0
    for _, _, files in os.walk(str(_folder(data))):
        counted += len(files)
        if counted > _MOST_COUNTED:
            break
    return counted * 4 // 5 if counted else 1_281_167  # a fifth may be split off for validation


def _usual_model(data: str) -> str:
    return _SMALL.get(data, "resnet20" if data in _SOURCES else "resnet50")


def _recipe_of(answers: Answers) -> Optional[Resolved]:
    """The recipe nearest to the answers: of the network, with the norm where there is one."""
    name, _, proxy = answers.norm.partition("+")
    found: List[Tuple[int, str]] = []
    for recipe, values in recipe_values():
        model = values["model"]
        special = any(end in recipe for end in ("_half", "_finetune", "_pretrained", "_pod", "_lars", "_ws"))
        if model["name"] == answers.model and not special:
            found.append((2 * (model.get("norm") == name) + (model.get("proxy_norm") == bool(proxy)), recipe))
    return load(max(found, key=lambda pair: pair[0])[1]) if found else None


def configuration(answers: Answers, output: Path) -> Tuple[str, Resolved]:
    """The text of a configuration for the answers, and what it resolves to.

    Raises:
        ConfigError: together the answers make no run.
    """
    recipe = _recipe_of(answers)
    norm, _, proxy = answers.norm.partition("+")
    sections: Dict[str, Dict[str, object]] = {"model": {}, "data": {}, "training": {}, "device": {}}
    if recipe is None:
        sections["model"]["name"] = answers.model
        sections["optimizer"] = {
            "name": "sgd",
            "learning_rate": 0.1,
            "learning_rate_batch_size": 256,
            "momentum": 0.9,
        }
        sections["schedule"] = {"warmup_epochs": 1}
    sections["model"].update(norm=norm, proxy_norm=bool(proxy))
    if recipe is not None and recipe.config.model.norm != norm:
        sections["model"].update(norm_groups=None, norm_group_size=None)
    _data(answers, recipe, sections["data"])
    if answers.is_folder and _classes_of(answers.data) != answers.classes:
        sections["model"]["num_classes"] = answers.classes
    _shape(answers, recipe, sections)
    lines = [
        f"# {answers.model} with {answers.norm} on {answers.data}, for "
        f"{'the emulator' if answers.ipus is None else f'{answers.ipus} IPUs'}. Written by ipu-train init.",
        f"# Command: ipu-train --config {shlex.quote(str(output))}",
        "",
    ]
    lines += [] if recipe is None else [f"base: {recipe.name}", ""]
    for name, keys in sections.items():
        if keys:
            lines += [f"{name}:", *(f"  {key}: {scalar(value)}" for key, value in keys.items()), ""]
    text = "\n".join(lines)
    return text, load_text(text, output)


def _data(answers: Answers, recipe: Optional[Resolved], data: Dict[str, object]) -> None:
    """The images; what the recipe sets for another source is taken back."""
    before = {} if recipe is None else recipe.config.values()["data"]
    if answers.is_folder:
        data.update(name="imagefolder", path=answers.data)
        if before.get("name") != "imagefolder" or before.get("image_size") != native_image_size(
            answers.model
        ):
            data["image_size"] = native_image_size(answers.model)
        return
    data["name"] = answers.data
    if before.get("name") not in (None, answers.data):
        data.update(
            {key: None for key in ("path", "validation_fraction", "augment", "image_size") if key in before}
        )
    if answers.data == "generated" and native_image_size(answers.model) != 32:
        data["image_size"] = native_image_size(answers.model)
    if answers.data == "generated" and answers.classes != _CLASSES["generated"]:
        data["num_classes"] = answers.classes


def _shape(answers: Answers, recipe: Optional[Resolved], sections: Dict[str, Dict[str, object]]) -> None:
    """Micro-batch, accumulation and replicas: the recipe's global batch, or what the images and the machine allow."""
    training, device = sections["training"], sections["device"]
    micro, per_replica, wanted = 8, 1, 128
    if recipe is not None:
        micro, per_replica = recipe.config.training.micro_batch_size, recipe.config.ipus_per_replica
        wanted = recipe.config.global_batch_size
    else:
        training["epochs"] = 30
    if answers.ipus is None:
        device["target"] = "emulator"
        replicas = recipe.config.training.replicas if recipe is not None else 2
    else:
        replicas = answers.ipus // per_replica
        if replicas < 1:
            raise InitError(
                f"--machine {answers.ipus}: a replica of {answers.model} takes {per_replica} IPUs"
            )
    most = max(1, _images_of(answers.data) // 8)  # eight weight updates an epoch, or more
    least = 2 * per_replica - 1  # micro-batches that fill a pipeline
    wanted = min(wanted, most)
    while micro > 1 and replicas * micro * least > wanted:
        micro //= 2
    while replicas > 1 and replicas * micro * least > wanted:
        replicas //= 2
    accumulation = max(least, wanted // (micro * replicas))
    training.update(micro_batch_size=micro, gradient_accumulation=accumulation, replicas=replicas)
    if recipe is None or recipe.config.optimizer.learning_rate_batch_size is not None:
        return
    # the recipe's learning rate belongs to its own global batch
    if micro * accumulation * replicas != recipe.config.global_batch_size:
        sections["optimizer"] = {"learning_rate_batch_size": recipe.config.global_batch_size}
