"""From a configuration to a prediction of memory and cycles, before anything runs."""

from typing import Dict, Optional

from ..config import Resolved
from ..ipumodel.planner import plan
from ..ipumodel.program import Program
from ..ipumodel.report import Report
from ..ipumodel.target import Target
from .images import Images, assumed_classes, images_of
from .settings import question, settings_of
from .settle import settled
from .traces import Traces


def predict(resolved: Resolved, images: Optional[Images] = None, traces: Optional[Traces] = None) -> Report:
    """Memory and cycles of one training step of a configuration, on the chip ``device.chip``.

    Args:
        resolved: the configuration.
        images: shape of the images, where it is known better than the configuration tells.
        traces: of earlier predictions, so that a network is traced once for many.

    Raises:
        ConfigError: the model cannot be built, or a pipeline split or a recomputation checkpoint names no module.
    """
    images, traces = images or images_of(resolved), traces or Traces()
    resolved = with_splits(resolved, images, traces)
    if traces.settled is not None and traces.settled[0] == question(resolved, images):
        _refuse_unknown_checkpoints(resolved, traces.settled[1].program)
        return traces.settled[1]
    program = traces.program(resolved, images.channels, images.size, images.classes)
    _refuse_unknown_checkpoints(resolved, program)
    return plan(program, Target.named(resolved.config.device.chip), settings_of(resolved))


def _refuse_unknown_checkpoints(resolved: Resolved, program: Program) -> None:
    """What a misspelt name would plan is a program without that checkpoint."""
    layers = {op.layer for op in program.operations}
    for name in resolved.config.device.recompute_checkpoints:
        if not any(layer == name or layer.startswith(name + ".") for layer in layers):
            raise resolved.error(
                "device.recompute_checkpoints", f"{name}: no module of the network computes under it"
            )


def with_splits(
    resolved: Resolved, images: Optional[Images] = None, traces: Optional[Traces] = None
) -> Resolved:
    """The configuration with the best pipeline splits in the place of ``device.pipeline_splits: auto``.

    Raises:
        ConfigError: the model cannot be built, or not be split into ``device.ipus_per_replica`` stages.
    """
    return settled(resolved, images, traces)


def describe(resolved: Resolved, report: Report) -> str:
    """The table of a plan under a line that says what was planned."""
    config = resolved.config
    model: Dict[str, object] = {
        "model": config.model.name,
        "norm": config.model.norm + ("+pn" if config.model.proxy_norm else ""),
        "global batch size": config.global_batch_size,
    }
    head = ", ".join(f"{key} {value}" for key, value in model.items())
    if assumed_classes(resolved):
        head += (
            f"\n{images_of(resolved).classes:,} classes are planned for, since no images at {config.data.path} tell "
            "their number; model.num_classes does"
        )
    return f"{resolved.name}: {head}\n{report.table()}"
