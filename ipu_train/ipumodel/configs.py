"""Published training configurations: a table row in, fits, bytes and images/s out.

The columns are those of a survey of Graphcore's public applications (model, norm, precision, micro-batch,
pipeline splits, recomputation, available memory proportion, optimizer, chip, ...). Cells that read "see
source" take the application's default; what was assumed is said in the note.
"""

import re
from dataclasses import dataclass, field, replace
from typing import List, Optional, Tuple

from ipu_train.ipumodel.settings import Settings

NEEDED = ["model", "dataset_image_size", "norm", "precision", "micro_batch_size", "chip"]

# Pattern of the model column -> name in the zoo, norm groups by default.
_MODELS = (
    (r"resnet-?(18|34|50|101|152)\b", "resnet{0}", 32),
    (r"(?:cifar_?)?resnet-?(8|14|20|32|44|56|110)\b", "resnet{0}", 16),
    (r"resnext-?(14|50|101)\b", "resnext{0}_32x4d", 32),
    (r"resnext-?(29)\b", "resnext{0}_32x4d", 16),
)


# What published configurations that state a tuned proportion mostly have, and nearly all of them half
# partials.
_TYPICAL_PROPORTION = 0.2


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


def _number(text, default=None):
    found = re.search(r"-?\d+(\.\d+)?", text or "")
    return float(found.group(0)) if found else default


def _model(row):
    text = row["model"].lower()
    found = re.search(r"efficientnet-(b\d|cifar)", text)
    if found:
        grouped = "g16" in text and "vanilla" not in text
        return f"efficientnet_{found.group(1)}" + ("_g16" if grouped else ""), 4
    for pattern, name, groups in _MODELS:
        found = re.match(pattern, text)
        if found:
            return name.format(found.group(1)), groups
    raise Unsupported(f"the zoo has no model {row['model']!r}")


def _norm(row, default_groups, notes):
    text = row.get("norm", "").lower()
    groups = int(_number(row.get("norm_groups", ""), 0) or default_groups)
    proxy = "proxy" in text
    if text.startswith("layer") or text.startswith("ln"):
        return {"norm": "group", "norm_groups": 1, "proxy_norm": proxy}
    if text.startswith("group"):
        return {"norm": "group", "norm_groups": groups, "proxy_norm": proxy}
    if text.startswith("instance"):
        return {"norm": "instance", "proxy_norm": proxy}
    if text.startswith("none"):
        return {"norm": "none", "proxy_norm": False}
    if "batch" not in text:
        notes.append(f"norm {row.get('norm', '')!r} taken as batch")
    return {"norm": "batch", "proxy_norm": False}


def _optimizer(row, notes):
    text = row.get("optimizer", "").lower()
    framework = row.get("framework", "")
    for name in ("sgd_combined", "rmsprop", "lars", "adamw", "adam", "lamb", "momentum"):
        if name in text:
            return name
    if text.startswith(
        "sgd"
    ):  # PopTorch and Keras give SGD a momentum, the TensorFlow 1 application has another name
        return "sgd" if framework in ("TF1", "PopART") else "momentum"
    if text:
        notes.append(f"optimizer {row['optimizer']!r} taken as momentum")
    return "momentum"


def _checkpoints(text):
    found = re.search(r"checkpoints=(\S+)", text)
    if not found:
        return ()
    names = [n.strip().replace("/", ".") for n in found.group(1).split(",") if n.strip()]
    return tuple(re.sub(r"\.bn(\d)", r".norm\1", n) for n in names)


def _recompute(row, stages, schedule):
    text = row.get("recompute", "").strip()
    if _checkpoints(text):
        return "checkpoints"
    lowered = text.lower()
    if lowered.startswith(("on", "pipeline")):
        return "standard" if stages == 1 else "pipeline"
    if lowered.startswith("standard"):
        return "standard"
    if lowered.startswith(("none", "off", "auto")):
        return "none"
    return None if schedule == "pipelined" else "none"


def _schedule(row, stages, ipus):
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


def _proportions(row, stages, notes):
    text = row.get("available_memory_proportion", "")
    values = [float(v) for v in re.findall(r"\d+(?:\.\d+)?", text)]
    if not values:
        notes.append(f"available memory proportion taken as {_TYPICAL_PROPORTION}")
        return _TYPICAL_PROPORTION
    if len(values) == 2 * stages:  # convolution and matrix product of each stage in turn (TensorFlow 1)
        return tuple(values[0::2])
    return values[0] if len(values) == 1 else tuple(values)


def read_config(row):
    """The :class:`Config` of a row; raises :class:`Unsupported` with the reason."""
    notes = []
    model, default_groups = _model(row)
    norm = _norm(row, default_groups, notes)
    size = _number(re.sub(r"cifar-?10+", "", row["dataset_image_size"].lower()))
    batch = _number(row["micro_batch_size"])
    if size is None or batch is None:
        raise Unsupported(
            f"micro-batch {row['micro_batch_size']!r} or image size {row['dataset_image_size']!r} unknown"
        )
    stages = int(_number(row.get("n_pipeline_stages", ""), 1) or 1)
    ipus = int(_number(row.get("ipus_per_replica", ""), 1) or 1)
    schedule = _schedule(row, max(stages, ipus), ipus)
    if schedule != "sequential":
        stages = max(stages, ipus)
    text = row.get("pipeline_splits", "").strip()
    splits = tuple(s for s in re.split(r"[;\s]+", text) if s) if text and "see source" not in text else ()
    if len(splits) > stages - 1 and stages > 1:
        splits = splits[-(stages - 1) :]
        notes.append("more splits than stages; the last ones were taken")
    if stages > 1 and not splits:
        notes.append("splits not given: cut evenly")
    training = "inference" not in row["model"].lower()
    remarks = row.get("notes", "").lower()
    buffer = re.search(r"all-reduce buffer (\d+)", remarks)
    offload = row.get("optimizer_offload", "").lower()
    precision = (re.search(r"(16\.16|16\.32|32\.32)", row["precision"]) or re.search("()", "")).group(
        1
    ) or "16.16"
    settings = Settings(
        precision=precision,
        optimizer=_optimizer(row, notes),
        gradient_accumulation=int(_number(row.get("gradient_accumulation", ""), 1) or 1),
        replicas=int(_number(row.get("replicas", ""), 1) or 1),
        schedule=schedule,
        recompute=_recompute(row, stages, schedule),
        checkpoints=_checkpoints(row.get("recompute", "")),
        available_memory_proportion=_proportions(row, stages, notes),
        half_partials=row.get("half_partials", "").strip().lower() in ("true", "see source"),
        optimizer_offload=offload.startswith(("on", "true")),
        weights_offload="offload" in remarks and "weight" in remarks,
        replicated_tensor_sharding=row.get("rts", "").lower() in ("true", "on"),
        input_bytes_per_element=1 if re.search("8-bit|8 bit|uint8", remarks) else 2,
        all_reduce_buffer_bytes=int(buffer.group(1)) if buffer else None,
    )
    chip = row["chip"].lower()
    chips = tuple(name for name in ("mk1", "mk2", "bow") if name in chip)
    if not chips:
        raise Unsupported(f"chip {row['chip']!r} is not known")
    if len(chips) > 1:
        notes.append("chip not stated: the first on which it fits")
    options = dict(norm, num_classes=10 if "cifar" in row["dataset_image_size"].lower() else 1000)
    return Config(
        model,
        tuple(sorted(options.items())),
        int(size),
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


class Predictor:
    """Plans configurations; traces and plans are kept, so tables of similar rows are quick.

    Args:
        build: function (name, **options) -> module, the zoo.
    """

    def __init__(self, build):
        self.build = build
        self.models, self.programs, self.reports = {}, {}, {}

    def model(self, config):
        key = (config.model, config.model_options)
        if key not in self.models:
            model = self.build(config.model, **dict(config.model_options))
            if config.hold_statistics:  # the paper computes proxy statistics once for each weight update
                for module in model.modules():
                    if hasattr(module, "hold"):
                        module.hold()
            self.models = {key: model}  # one at a time
        return self.models[key]

    def _settings(self, config):
        """Graphcore's TensorFlow code keeps only the inputs of Proxy Norm and runs it again in the backward
        pass.
        """
        if not config.recompute_proxy:
            return config.settings
        modules = self.model(config).named_modules()
        again = tuple(name for name, module in modules if getattr(module, "proxy", None) is not None)
        return replace(config.settings, run_again=again)

    def program(self, config):
        import torch

        from ipu_train.ipumodel.splits import even_splits, module_names, translate
        from ipu_train.ipumodel.tracer import trace

        key = (
            config.model,
            config.model_options,
            config.image_size,
            config.micro_batch,
            config.training,
            config.split_names,
            config.stages,
        )
        if key not in self.programs:
            model = self.model(config)
            names = module_names(model)
            image = torch.zeros(config.micro_batch, 3, config.image_size, config.image_size, device="meta")
            splits = tuple(translate(name, names) for name in config.split_names)
            if config.stages > 1 and not splits:
                splits = even_splits(trace(model, image, training=config.training), names, config.stages)
            order = {name: position for position, name in enumerate(names)}
            splits = tuple(sorted(splits, key=order.get))
            self.programs = {key: trace(model, image, training=config.training, splits=splits)}
        return self.programs[key]

    def predict(self, config):
        """The :class:`~ipu_train.ipumodel.report.Report` of a configuration, on the first chip on which it
        fits.
        """
        from ipu_train.ipumodel.planner import plan
        from ipu_train.ipumodel.target import Target

        report: Optional[object] = None
        for chip in config.chips:
            key = (
                chip,
                config.model,
                config.model_options,
                config.image_size,
                config.micro_batch,
                config.training,
                config.split_names,
                config.stages,
                config.settings,
            )
            if key not in self.reports:
                self.reports[key] = plan(self.program(config), Target.named(chip), self._settings(config))
            report = self.reports[key]
            if report.fits:
                break
        return report
