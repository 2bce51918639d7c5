import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from ipu_train.ipumodel.memory import _activation_peak
from ipu_train.ipumodel.program import ACTIVATION
from ipu_train.ipumodel.schedule import (
    BACKWARD,
    FORWARD,
    RECOMPUTE,
    decreasing_intervals,
    needed_for_backward,
    stage_schedule,
)
from ipu_train.ipumodel.settings import Settings
from ipu_train.ipumodel.tracer import trace

from .nets import images, small_net

SETTINGS = Settings()


def steps_of(schedule, phase):
    return [step for step in schedule.steps if step.phase == phase]


@st.composite
def chains(draw):
    """A random sequential network, in-place rectifiers and residual blocks included."""
    channels = draw(st.sampled_from([4, 8]))
    layers = [nn.Conv2d(3, channels, 3, padding=1)]
    for kind in draw(
        st.lists(st.sampled_from(["conv", "norm", "relu", "silu", "residual", "pool"]), max_size=8)
    ):
        layers.append({
            "conv": lambda: nn.Conv2d(channels, channels, 3, padding=1),
            "norm": lambda: nn.GroupNorm(2, channels),
            "relu": lambda: nn.ReLU(inplace=draw(st.booleans())),
            "silu": lambda: nn.SiLU(),
            "residual": lambda: small_net(1, channels).layer1[0],
            "pool": lambda: nn.MaxPool2d(3, 1, 1),
        }[kind]())  # fmt: skip
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*layers)


def pool_before_norm():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 1, 1), nn.GroupNorm(2, 4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip


@settings(max_examples=25)
@example(
    model=pool_before_norm(), mode="checkpoints"
)  # the norm runs again for its statistics, its result is kept
@given(model=chains(), mode=st.sampled_from(["pipeline", "checkpoints"]))
def test_recomputation_never_raises_the_peak_of_activations(model, mode):
    program = trace(model, images())
    chosen = Settings(checkpoints=("1", "3")) if mode == "checkpoints" else SETTINGS
    plain = stage_schedule(program, SETTINGS, None, "none")
    again = stage_schedule(program, chosen, None, mode)
    before = _activation_peak(plain, len(plain.steps))
    assert _activation_peak(again, len(again.steps)) <= before + 1


@settings(max_examples=25)
@given(model=chains(), mode=st.sampled_from(["none", "standard", "pipeline"]))
def test_whatever_a_backward_step_reads_exists_when_it_runs(model, mode):
    program = trace(model, images())
    schedule = stage_schedule(program, SETTINGS, None, mode)
    wanted = needed_for_backward(program.forward())
    for position, step in enumerate(schedule.steps):
        if step.phase != BACKWARD:
            continue
        live = {
            i.tensor for i in schedule.intervals if i.start <= position <= i.end and "gradient" not in i.label
        }
        missing = [t for t in step.op.saves if program.tensors[t].kind == ACTIVATION and t not in live]
        assert not missing and set(step.op.saves) <= wanted


@given(model=chains())
def test_the_backward_pass_runs_each_operation_once_in_reverse(model):
    program = trace(model, images())
    schedule = stage_schedule(program, SETTINGS, None, "none")
    forward = [op for op in program.forward() if op.differentiable]
    assert [s.op for s in steps_of(schedule, BACKWARD)] == forward[::-1]
    assert not steps_of(schedule, RECOMPUTE)


def test_pipeline_recomputation_keeps_only_what_enters_the_stage():
    program = trace(small_net(blocks=4), images(), splits=["layer1.2"])
    schedule = stage_schedule(program, SETTINGS, 0, "pipeline", last_stage=False, flush=True)
    kept = [program.tensors[i].kind for i in schedule.stored]
    assert kept == ["input"]
    computed_again = {step.op.layer for step in steps_of(schedule, RECOMPUTE)}
    assert {"stem", "layer1.0.conv1", "layer1.1.conv1"} <= computed_again


def test_the_last_stage_is_not_computed_twice():
    program = trace(small_net(blocks=4), images(), splits=["layer1.2"])
    schedule = stage_schedule(program, SETTINGS, 1, "pipeline", last_stage=True)
    assert not steps_of(schedule, RECOMPUTE)


@given(count=st.integers(1, 2000))
def test_standard_recomputation_looks_at_intervals_that_shrink(count):
    """PopART's ``intervals.cpp``: the first spans 0.75 sqrt(2 n) operations, each later one is one shorter."""
    found = decreasing_intervals(count)
    assert [i for begin, end in found for i in range(begin, end)] == list(range(count))
    lengths = [end - begin for begin, end in found]
    assert lengths[0] == max(1, int((int((2 * count) ** 0.5) - 1) * 0.75))
    assert all(b == max(1, a - 1) for a, b in zip(lengths, lengths[1:]))


def test_standard_recomputation_keeps_the_smallest_live_set_of_each_interval_and_all_at_the_end():
    # 25 operations of rising size, each read by the next: intervals of 4, 3, 2 and 1, and then single operations
    layers = [nn.Conv2d(c, c + 1, 1, bias=False) for c in range(1, 23)]
    program = trace(nn.Sequential(*layers), torch.zeros(2, 1, 4, 4), loss=lambda y, _: y.sum().neg())
    assert len(program.forward()) == 25
    schedule = stage_schedule(program, SETTINGS, None, "standard")
    kept = [n for n, op in enumerate(program.forward()) if op.writes[0] in schedule.stored]
    assert kept == [0, 4, 7, *range(9, 21)]  # the last convolution's result is read by no backward step
    again = [step.op.layer for step in steps_of(schedule, RECOMPUTE)]
    assert sorted(int(layer) for layer in again) == [1, 2, 3, 5, 6, 8]


def test_in_a_pipeline_standard_recomputation_runs_every_stage_again():
    program = trace(small_net(blocks=4), images(), splits=["layer1.2"])
    for stage, entry in ((0, "stem"), (1, "layer1.2.conv1")):
        schedule = stage_schedule(
            program, SETTINGS, stage, "standard", last_stage=stage == 1, flush=stage == 0
        )
        assert entry in {step.op.layer for step in steps_of(schedule, RECOMPUTE)}


def test_on_one_ipu_nothing_between_the_last_checkpoint_and_the_loss_runs_again():
    program = trace(small_net(blocks=4), images())
    schedule = stage_schedule(program, Settings(checkpoints=("layer1.1",)), None, "checkpoints")
    again = {step.op.layer for step in steps_of(schedule, RECOMPUTE)}
    assert {"stem", "layer1.0.conv1", "layer1.1.conv1"} <= again
    assert not any(layer.startswith(("layer1.2", "layer1.3", "fc")) for layer in again)


def test_a_checkpoint_with_a_way_past_it_saves_only_its_branch():
    """PopART's RecomputeAll walks back from the loss, here around the checkpoint through the block's shortcut."""
    program = trace(small_net(blocks=4), images())
    schedule = stage_schedule(program, Settings(checkpoints=("layer1.2.norm",)), None, "checkpoints")
    again = {step.op.layer for step in steps_of(schedule, RECOMPUTE)}
    assert again <= {"layer1.2.conv1", "layer1.2.norm"}


def test_named_checkpoints_are_kept_and_shorten_recomputation():
    program = trace(small_net(blocks=6), images(), splits=["layer1.5"])

    def again(names):
        chosen = Settings(checkpoints=names)
        schedule = stage_schedule(program, chosen, 0, "checkpoints", last_stage=False, flush=True)
        return len(schedule.stored), len(steps_of(schedule, RECOMPUTE))

    (few, longer), (more, shorter) = again(()), again(("layer1.0.norm", "layer1.1.norm", "layer1.2.norm"))
    assert more == few + 3
    assert shorter < longer


def test_without_recomputation_memory_is_the_sum_of_what_popart_keeps():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False))
    program = trace(model, torch.zeros(4, 3, 10, 10), loss=None)
    schedule = stage_schedule(program, SETTINGS, None, "none")
    image, rectified = 4 * 3 * 10 * 10 * 2, 4 * 8 * 8 * 8 * 2  # float16
    assert sum(schedule.stored.values()) == image + rectified
    assert len(steps_of(schedule, FORWARD)) == len(program.forward())
