"""The learning rate as a pure function of the weight update."""

import math

from ..config import OptimizerConfig, ScheduleConfig
from ..config.schedule import Cosine, Exponential, Step


def warmup(step: int, warmup_steps: int) -> float:
    """Share of the learning rate in weight update ``step`` (from 0): 1/W, 2/W, ... 1 over W updates, then 1.

    Linear warm-up of Goyal et al. 2017 (arXiv 1706.02677, section 2.2), starting from nearly 0.
    """
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else 1.0


def cosine(learning_rate: float, final: float, progress: float) -> float:
    """Half a cosine from ``learning_rate`` to ``final`` (Loshchilov and Hutter 2017, equation 5, one cycle).

    Args:
        progress: share of the decay that is done, in 0..1.
    """
    return final + (learning_rate - final) * 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def stepped(learning_rate: float, factor: float, milestones: int) -> float:
    """``learning_rate`` after ``milestones`` milestones, each multiplying it by ``factor``."""
    return learning_rate * factor**milestones


def exponential(learning_rate: float, factor: float, periods: float, staircase: bool) -> float:
    """``learning_rate`` times ``factor`` once for each of ``periods``; whole ones only with ``staircase``."""
    return learning_rate * factor ** (math.floor(periods + 1e-9) if staircase else periods)


def learning_rate(
    schedule: ScheduleConfig, base_lr: float, step: int, steps_per_epoch: int, total_epochs: int
) -> float:
    """Learning rate of one weight update.

    Cosine begins when the warm-up ends, and would reach its end at the first update after the run. Milestones
    and the periods of exponential are counted from the start of the run.

    Args:
        schedule: the schedule section of a configuration.
        base_lr: learning rate before the schedule, see :func:`base_learning_rate`.
        step: number of the weight update in the run, from 0.
        steps_per_epoch: weight updates of an epoch.
        total_epochs: epochs of the run.
    """
    total = steps_per_epoch * total_epochs
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if isinstance(schedule, Cosine):
        progress = (step - warmup_steps) / max(1, total - warmup_steps)
        rate = cosine(base_lr, schedule.final_learning_rate, progress)
    elif isinstance(schedule, Step):
        passed = [m for m in schedule.milestones if step >= _steps(m, steps_per_epoch, total)]
        rate = stepped(base_lr, schedule.factor, len(passed))
    elif isinstance(schedule, Exponential):
        periods = step / (steps_per_epoch * schedule.decay_epochs)
        rate = exponential(base_lr, schedule.factor, periods, schedule.staircase)
    else:
        rate = base_lr
    return rate * warmup(step, warmup_steps)


def loss_scaling(optimizer: OptimizerConfig, step: int, steps_per_epoch: int) -> float:
    """Loss scaling of one weight update: multiplied by its factor after each of ``loss_scaling_epochs``."""
    passed = [e for e in optimizer.loss_scaling_epochs or [] if step >= round(e * steps_per_epoch)]
    return stepped(optimizer.loss_scaling, optimizer.loss_scaling_factor or 1.0, len(passed))


def _steps(milestone: float, steps_per_epoch: int, total: int) -> int:
    return round(milestone * (total if milestone < 1 else steps_per_epoch))
