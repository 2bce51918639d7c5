"""Published training configurations: a table row in, fits, bytes and images/s out.

The columns are those of a survey of Graphcore's public applications (model, norm, precision, micro-batch,
pipeline splits, recomputation, available memory proportion, optimizer, chip, ...). Cells that read "see
source" take the application's default; what was assumed is said in the note.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from ..settings import Settings
from . import networks

NEEDED = ["model", "dataset_image_size", "norm", "precision", "micro_batch_size", "chip"]

# Pattern of the model column, dashes, blanks and underscores alike -> name in the zoo, norm groups by default.
_MODELS = (
    (r"(?:resnet|rn) ?(50|101|152) ?v2\b", "resnet{0}v2", 32),
    (r"(?:resnet|rn) ?(18|34|50|101|152)\b", "resnet{0}", 32),
    (r"(?:cifar )?resnet ?(8|14|20|32|44|56|110)\b", "resnet{0}", 16),
    (r"resnext ?(14|50|101)\b", "resnext{0}_32x4d", 32),
    (r"resnext ?(29)\b", "resnext{0}_32x4d", 16),
)
# Commits of Graphcore's applications for SDK 1.4 to 2.0, whose SGD has one form, with a velocity scaling: accumulator
# and momentum combined. PopTorch got the separate one in June 2021 ("Add support for SGD2").
_BEFORE_SEPARATE = r"examples:.*@(?:df5dcba|ab50e22|d180551|96fef3f)"
# Names of data sets that hold digits, which are no image size.
_DATASETS = r"cifar[- ]?10+|imagenet[- ]?\d*k\b|ilsvrc[- ]?(?:20)?\d\d\b"
_CHIPS = {
    "mk1": r"\bmk[- ]?(?:1|i)(?:\b|-)|\bipu1\b|\bgc2\b|\bc2\b",
    "mk2": r"\bmk[- ]?(?:2|ii)(?:\b|-)|\bipu2\b|\bgc200\b|\b(?:ipu-?)?m2000\b|\bclassic\b",
    "bow": r"\bbow|\bipu21\b|\bc600\b",
}
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_NO_SPLITS = ("", "none", "n/a", "-", "auto")
_UNKNOWN = ("", "see source", "not stated", "unknown", "n/a", "-", "?")


# What published configurations that state a tuned proportion mostly have, and nearly all of them half
# partials.
_TYPICAL_PROPORTION = 0.2


Row = Dict[str, str]


class Unsupported(ValueError):
    """The row describes something this model or the zoo does not have; the message says what."""


@dataclass(frozen=True)
class Config:
    """A row, understood."""

    model: str
    model_options: Tuple[Tuple[str, object], ...]
    image_size: int
    micro_batch: int
    training: bool
    split_names: Tuple[str, ...]
    stages: int
    settings: Settings
    chips: Tuple[str, ...]
    hold_statistics: bool = False
    recompute_proxy: bool = False
    notes: List[str] = field(default_factory=list, compare=False)


def _number(text: Optional[str], default: Optional[float] = None) -> Optional[float]:
    found = re.search(rf"(?<![\w.]){_NUMBER}", text or "")
    return float(found.group(0)) if found else default


def _count(row: Row, name: str) -> int:
    """A whole number of at least 1, the first that the cell holds; 1 when it holds none or 0."""
    value = _number(row.get(name, ""))
    if value is None or value == 0:
        return 1
    if value < 1 or value != int(value):
        raise Unsupported(f"{name} {row[name]!r} is not a whole number of at least 1")
    return int(value)


def _yes(text: str) -> bool:
    return text.strip().lower().startswith(("true", "yes", "on", "1", "enabled", "half"))


def _model(row: Row) -> Tuple[str, int]:
    text = re.sub(r"[-_\s]+", " ", row["model"].strip().lower())
    found = re.match(r"efficientnet ?(b\d|cifar)\b", text)
    if found:
        grouped = re.search(r"\bg(?:roup)?(?: size)? ?=? ?16\b", text) and "vanilla" not in text
        return f"efficientnet_{found.group(1)}" + ("_g16" if grouped else ""), 4
    for pattern, name, groups in _MODELS:
        found = re.match(pattern, text)
        if found:
            width = re.search(r"\b(\d+)x(\d+)d\b", text)
            if width and "resnext" in name and width.group(0) != "32x4d":
                break
            # Graphcore's code has a ResNet-14 of bottlenecks for ImageNet, which is not the zoo's for CIFAR.
            if (
                name.format(found.group(1)) == "resnet14"
                and "cifar" not in text + row["dataset_image_size"].lower()
            ):
                break
            return name.format(found.group(1)), groups
    other = networks.name_of(text)
    if other is not None:
        return other, 32
    raise Unsupported(f"the zoo has no model {row['model']!r}")


def _image_size(row: Row, model: str, native_size: Optional[Callable[[str], int]], notes: List[str]) -> int:
    """Side in pixels; CIFAR's or the model's own when the cell names none."""
    text = re.sub(_DATASETS, "", row["dataset_image_size"].lower())
    sides = [int(number) for number in re.findall(r"\d+", text)]
    if not sides:
        cifar = "cifar" in row["dataset_image_size"].lower()
        side = 32 if cifar else native_size(model) if native_size else None
        if side is None:
            raise Unsupported(f"image size {row['dataset_image_size']!r} unknown")
        sides = [side]
        notes.append(f"image size taken as {side}")
    if sides[0] < 1:
        raise Unsupported(f"image size {row['dataset_image_size']!r} is none")
    if len(sides) > 1 and sides[1] != sides[0]:
        notes.append(f"image size taken as {sides[0]} x {sides[0]}")
    return sides[0]


def _norm(row: Row, default_groups: int, notes: List[str]) -> Dict[str, Any]:
    text = row.get("norm", "").strip().lower()
    groups = int(_number(row.get("norm_groups", ""), 0) or default_groups)
    if groups < 1:
        raise Unsupported(f"norm_groups {row['norm_groups']!r} is not at least 1")
    proxy = "proxy" in text or re.search(r"\bpn\b", text) is not None
    if text.startswith(("layer", "ln")):
        return {"norm": "group", "norm_groups": 1, "proxy_norm": proxy}
    if text.startswith(("group", "gn")):
        return {"norm": "group", "norm_groups": groups, "proxy_norm": proxy}
    if re.match(r"instance|in\b", text):
        return {"norm": "instance", "proxy_norm": proxy}
    if text.startswith(("none", "no norm")):
        return {"norm": "none", "proxy_norm": False}
    if "batch" not in text and not text.startswith("bn"):
        notes.append(f"norm {row.get('norm', '')!r} taken as batch")
    return {"norm": "batch", "proxy_norm": False}


def _precision(row: Row, notes: List[str]) -> str:
    text = row["precision"].strip().lower()
    found = re.search(r"16\.16|16\.32|32\.32", text)
    if found:
        return found.group(0)
    if re.match(r"(fp|float|f)?32\b|full|single", text):
        return "32.32"
    if not re.match(r"(fp|float|f)?16\b|half|mixed", text):
        notes.append(f"precision {row['precision']!r} taken as 16.16")
    return "16.16"


def _optimizer(row: Row, notes: List[str]) -> str:
    text = row.get("optimizer", "").lower()
    framework = row.get("framework", "")
    for name in ("sgd_combined", "rmsprop", "lars", "adamw", "adam", "lamb", "momentum"):
        if name in text:
            return name
    if text.startswith("sgd"):
        # PopTorch and Keras give SGD a momentum, the TensorFlow 1 application has another name
        if framework in ("TF1", "PopART"):
            return "sgd"
        if framework == "PopTorch" and re.search(_BEFORE_SEPARATE, row.get("source_path_or_url@commit", "")):
            notes.append("accumulator and momentum in one tensor, as in all SDKs before 2.1")
            return "sgd_combined"
        return "momentum"
    if text:
        notes.append(f"optimizer {row['optimizer']!r} taken as momentum")
    return "momentum"


def _checkpoints(text: str) -> Tuple[str, ...]:
    """The layers named after ``checkpoints=`` (or a colon), separated by commas, semicolons or blanks."""
    found = re.search(r"checkpoints?\s*[=:]\s*([^()]*)", text, re.IGNORECASE)
    if not found:
        return ()
    return tuple(n for n in re.split(r"[,;\s\[\]'\"]+", found.group(1)) if n)


def _recompute(row: Row, stages: int, schedule: str) -> Optional[str]:
    text = row.get("recompute", "").strip()
    if _checkpoints(text):
        return "checkpoints"
    lowered = text.lower()
    if (
        lowered.startswith("auto") and row.get("framework") == "PopTorch"
    ):  # the application's word for Standard
        return "standard" if stages == 1 else "pipeline"
    if lowered.startswith(("on", "pipeline", "true", "yes", "all", "recompute", "enabled", "full")):
        return "standard" if stages == 1 else "pipeline"
    if lowered.startswith("standard"):
        return "standard"
    if lowered.startswith(("none", "no", "off", "auto", "false", "disabled")):
        return "none"
    return None if schedule == "pipelined" else "none"


def _schedule(row: Row, stages: int) -> str:
    text = row.get("schedule", "").lower()
    if "sequential" in text:
        return "sequential"
    if "shard" in text:
        return "sharded"
    if stages == 1:
        return "sequential"
    if "interleaved" in text:
        return "interleaved"
    return "grouped" if "group" in text else "pipelined"


def _proportions(row: Row, stages: int, notes: List[str]) -> Union[float, Tuple[float, ...]]:
    text = re.sub(r"ipu\s*\d+\s*[:=]", " ", row.get("available_memory_proportion", "").lower())
    values = [float(v) / (100 if percent else 1) for v, percent in re.findall(rf"({_NUMBER})\s*(%?)", text)]
    beyond = [v for v in values if not 0 <= v <= 1]
    if beyond:
        raise Unsupported(f"available_memory_proportion {beyond[0]:g} is not between 0 and 1")
    if not values:
        notes.append(f"available memory proportion taken as {_TYPICAL_PROPORTION}")
        return _TYPICAL_PROPORTION
    if len(values) == 2 * stages:  # convolution and matrix product of each stage in turn (TensorFlow 1)
        return tuple(values[0::2])
    return values[0] if len(values) == 1 else tuple(values)


def _splits(row: Row, stages: int, notes: List[str]) -> Tuple[str, ...]:
    text = row.get("pipeline_splits", "").strip()
    if "see source" in text.lower() or text.lower() in _NO_SPLITS:
        return ()
    splits = tuple(s for s in re.split(r"[;,\s\[\]'\"]+", text) if s)
    if len(splits) > stages - 1 and stages > 1:
        splits = splits[-(stages - 1) :]
        notes.append("more splits than stages; the last ones were taken")
    return splits


def read_config(row: Row, native_size: Optional[Callable[[str], int]] = None) -> Config:
    """The :class:`Config` of a row; raises :class:`Unsupported` with the reason.

    Args:
        native_size: function model name -> side in pixels its images have, for rows that give none.
    """
    notes: List[str] = []
    row = {name: value or "" for name, value in row.items() if isinstance(name, str)}
    model, default_groups = _model(row)
    norm = _norm(row, default_groups, notes)
    size = _image_size(row, model, native_size, notes)
    batch = _number(row["micro_batch_size"])
    if batch is None or batch < 1 or batch != int(batch):
        raise Unsupported(f"micro-batch {row['micro_batch_size']!r} is not a whole number of at least 1")
    stages = _count(row, "n_pipeline_stages")
    ipus = _count(row, "ipus_per_replica")
    schedule = _schedule(row, max(stages, ipus))
    if schedule != "sequential":
        stages = max(stages, ipus)
    splits = _splits(row, stages, notes)
    if stages > 1 and not splits:
        notes.append("splits not given: cut evenly")
    elif len(splits) < stages - 1:
        notes.append(f"{len(splits)} splits make {len(splits) + 1} stages, not {stages}")
    training = "inference" not in row["model"].lower()
    remarks = row.get("notes", "").lower()
    buffer = re.search(r"all-reduce buffer (\d+)", remarks)
    settings = Settings(
        precision=_precision(row, notes),
        optimizer=_optimizer(row, notes),
        gradient_accumulation=_count(row, "gradient_accumulation"),
        replicas=_count(row, "replicas"),
        schedule=schedule,
        recompute=_recompute(row, stages, schedule),
        checkpoints=_checkpoints(row.get("recompute", "")),
        available_memory_proportion=_proportions(row, stages, notes),
        half_partials=_yes(row.get("half_partials", "")) or "see source" in row.get("half_partials", ""),
        optimizer_offload=_yes(row.get("optimizer_offload", "")),
        weights_offload=re.search(r"weights?\b[^;]*offload|offload[^;]*weight", remarks) is not None,
        replicated_tensor_sharding=_yes(row.get("rts", "")),
        input_bytes_per_element=1 if re.search("8-bit|8 bit|uint8", remarks) else 2,
        all_reduce_buffer_bytes=int(buffer.group(1)) if buffer else None,
        compiler="tensorflow" if row.get("framework", "").upper().startswith("TF") else "popart",
    )
    chip = row["chip"].strip().lower()
    chips = tuple(name for name, pattern in _CHIPS.items() if re.search(pattern, chip))
    if not chips and chip in _UNKNOWN:
        chips = ("mk1", "mk2")
    if not chips:
        raise Unsupported(f"chip {row['chip']!r} is not known")
    if len(chips) > 1:
        notes.append("chip not stated: the first on which it fits")
    classes = re.search(r"cifar[- ]?(10+)", row["dataset_image_size"].lower())
    options = dict(norm, num_classes=int(classes.group(1)) if classes else 1000)
    return Config(
        model,
        tuple(sorted(options.items())),
        size,
        int(batch),
        training,
        splits,
        stages,
        settings,
        chips,
        norm["proxy_norm"],
        norm["proxy_norm"] and row.get("framework") == "TF1",
        notes,
    )
