"""What to change when a configuration does not fit, each change with its predicted effect."""

from dataclasses import dataclass, replace

from ipu_train.ipumodel.planner import plan


@dataclass(frozen=True)
class Change:
    """One change of the run: what to set, and the report it would lead to."""

    what: str
    report: object

    @property
    def fits(self):
        return self.report.fits

    def sentence(self):
        """The change and its effect in one line."""
        over = max(0, self.report.worst_tile_bytes - self.report.target.bytes_per_tile)
        verdict = "fits" if self.fits else f"still {over:,} bytes over on the worst tile"
        return f"{self.what}: {verdict}, {self.report.images_per_second:,.0f} images/s"


def _candidates(program, settings):
    """(what, changed settings) of the changes that need no new trace."""
    found = []
    if program.training and settings.recompute_for(program.stages) == "none":
        mode = "pipeline" if program.stages > 1 else "standard"
        found.append((f"recompute activations (recompute: {mode})", {"recompute": mode}))
    if max(settings.proportions(program.stages)) > 0.15:
        found.append(("available_memory_proportion: 0.15", {"available_memory_proportion": 0.15}))
    if not settings.half_partials and settings.half:
        found.append(("half partial sums (half_partials: true)", {"half_partials": True}))
    if program.training and not settings.optimizer_offload and settings.optimizer != "sgd":
        found.append(
            ("optimizer state in streaming memory (optimizer_offload: true)", {"optimizer_offload": True})
        )
    if settings.precision == "16.32":
        found.append(("half master weights (precision: 16.16)", {"precision": "16.16"}))
    if settings.precision == "32.32":
        found.append(("half precision (precision: 16.16)", {"precision": "16.16"}))
    if settings.replicas > 1 and not settings.replicated_tensor_sharding and program.training:
        found.append(
            (
                "share optimizer state among replicas (replicated_tensor_sharding: true)",
                {"replicated_tensor_sharding": True},
            )
        )
    return found


def advise(program, target, settings, retrace=None, count=3):
    """The changes that would help most, best first: those that fit by images/s, then the others by worst
    tile.

    Args:
        program, target, settings: as for :func:`~ipu_train.ipumodel.planner.plan`.
        retrace: function (micro-batch size, number of stages) -> program, for the changes that need a new
        trace:
            half the micro-batch (with twice the gradient accumulation, so the global batch stays) and twice
            as many pipeline stages. It may return None for what it cannot do. Without it these are left out.
        count: how many changes to return at most.
    """
    now = plan(program, target, settings)
    changes = []
    for what, fields in _candidates(program, settings):
        changes.append(Change(what, plan(program, target, replace(settings, **fields))))
    if retrace is not None and program.batch > 1:
        smaller = program.batch // 2
        half = retrace(smaller, program.stages)
        if half is not None:
            more = -(-settings.gradient_accumulation * program.batch // smaller)
            what = f"micro_batch_size: {smaller} (with gradient_accumulation: {more}, the same global batch)"
            changes.append(Change(what, plan(half, target, replace(settings, gradient_accumulation=more))))
    if retrace is not None:
        stages = 2 * program.stages
        longer = retrace(program.batch, stages)
        if longer is not None and longer.stages > program.stages:
            schedule = settings.schedule if settings.schedule != "sequential" else "pipelined"
            changed = replace(settings, schedule=schedule)
            changes.append(Change(f"{longer.stages} pipeline stages", plan(longer, target, changed)))
    useful = [c for c in changes if c.report.worst_tile_bytes < now.worst_tile_bytes]
    useful.sort(
        key=lambda c: (not c.fits, -c.report.images_per_second if c.fits else c.report.worst_tile_bytes)
    )
    return useful[:count]


def out_of_memory_message(report, changes=()):
    """What happened, why, and what to do next, for a report that does not fit."""
    over = [ipu for ipu in report.ipus if not ipu.fits]
    if not over:
        return ""
    lines = [
        f"Out of memory: the program needs {ipu.memory.worst_tile_bytes:,} bytes on the fullest tile of "
        f"IPU {ipu.ipu} "
        f"({report.target.name}: tiles only have {report.target.bytes_per_tile:,})"
        for ipu in over
    ]
    moment = over[0].memory.moment
    lines.append(f"Most memory is in use in the {moment.phase} of {moment.layer or 'the network'}:")
    lines += [
        f"  {size / 1e6:,.1f} MB of {what} of {layer or 'the network'}"
        for layer, what, size in moment.responsible[:3]
    ]
    if changes:
        lines.append("What would help most (predicted):")
        lines += [f"  {change.sentence()}" for change in changes]
    return "\n".join(lines)
