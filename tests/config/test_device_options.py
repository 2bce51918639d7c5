"""Options of the section device that would do nothing, or that PopTorch would not take, are refused with the reason."""

from pathlib import Path

import pytest

from ipu_train.config import ConfigError, load_text
from ipu_train.config.session_options import KINDS, OWN_KEYS, REFUSED

BASE = "model: {name: resnet8, norm: group, norm_groups: 4}\ndata: {name: digits}\n"
ACCUMULATED = "training.gradient_accumulation=4"
SPLIT = "device.pipeline_splits=[layer2]"


def device(*overrides):
    return load_text(BASE, Path("x.yaml"), overrides).config.device


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["device.io_tiles=33", ACCUMULATED], "must be even, got 33"),
        (["device.io_tiles=24", ACCUMULATED], "must be at least 32"),
        (["device.io_tiles=32"], "overlap with the micro-batch before, and a call has one"),
        (["device.io_tiles=32", ACCUMULATED, SPLIT], "does not overlap the transfers of a pipeline"),
        (["device.io_tiles=32", ACCUMULATED, "device.output_mode=final"], "needs output_mode sum or all"),
        (["device.activation_offload=true", SPLIT], "a pipeline has several in flight"),
        (["device.activation_offload=true", "device.chip=mk1"], "machines with mk1 do not have"),
        (["device.weight_offload=true", "device.chip=mk1"], "machines with mk1 do not have"),
        (["device.sync_pattern=single_pipeline"], "a replica has one"),
        (["device.sync_pattern=replica_and_ladder"], "training.replicas is 1"),
        (["device.deterministic_workers=portable"], "nothing to act on without training.stochastic_rounding"),
        (["device.output_mode=all"], "a call of the device has one micro-batch"),
        (["device.output_mode=every_n", ACCUMULATED], "give both or neither"),
        (["device.output_every=2", ACCUMULATED], "give both or neither"),
        (
            ["device.output_mode=every_n", "device.output_every=2", "training.device_iterations=3"],
            "must divide training.device_iterations (3)",
        ),
        (["device.output_mode=all", ACCUMULATED, "logging.inspect_every=1"], "which needs sum"),
        (["device.synthetic_data=true"], "validation.every_epochs: device.synthetic_data leaves nothing"),
        (["device.synthetic_data=true", "device.prefetch_depth=2"], "nothing is exchanged with the host"),
        (["device.fp_exceptions=true", "training.on_divergence=skip"], "stops the device before"),
        (["device.target=emulator", "device.session_options.enableStableNorm=true"], "is for the Poplar SDK"),
        (["device.engine_options.opt.enableInlining=perhaps"], "must be one of true, false; got perhaps"),
        (["device.engine_options.opt.enableinlining=true"], "did you mean opt.enableInlining?"),
        (["device.engine_options.optt.enableX=true"], "begin with one of autoReport, debug"),
        (["device.engine_options.target.deterministicWorkers=true"], "set by device.deterministic_workers"),
        (["device.session_options.enableStablNorm=true"], "did you mean enableStableNorm?"),
        (["device.session_options.enableStableNorm=1"], "must be true or false, got 1"),
        (["device.session_options.autoRecomputation=1"], "is set by device.recompute"),
        (["device.session_options.disableOptimizerStateTensorStreams=true"], "checkpoints could not read"),
    ],
)
def test_what_would_have_no_effect_or_is_unknown_is_refused(overrides, message):
    with pytest.raises(ConfigError) as error:
        device(*overrides)
    assert message in str(error.value)


def test_names_with_dots_are_one_name_and_values_are_what_poplar_and_popart_take():
    found = device(
        "device.engine_options.opt.enableMultiAccessCopies=false",
        "device.engine_options.target.hostSyncTimeout=900",
        "device.session_options.outlineThreshold=10",
        "device.session_options.accumulateOuterFragmentSettings.schedule=3",
    )
    assert found.engine_options == {"opt.enableMultiAccessCopies": "false", "target.hostSyncTimeout": "900"}
    assert found.session_options == {"outlineThreshold": 10.0, "accumulateOuterFragmentSettings.schedule": 3}
    assert isinstance(found.session_options["outlineThreshold"], float)  # PopTorch goes by the type


def test_a_resolved_configuration_with_such_options_resolves_to_itself():
    overrides = (
        "device.engine_options.opt.internalExchangeOptimisationTarget=memory",
        "device.session_options={gclOptions: {useSynclessCollectives: 'true'}}",
        "device.deterministic_workers=true",
        "training.stochastic_rounding=true",
        "training.precision=16.32",
    )
    resolved = load_text(BASE, Path("x.yaml"), overrides)
    assert resolved.config.device.deterministic_workers == "true"
    assert load_text(resolved.dump(), Path("y.yaml"), ()).config == resolved.config


def test_every_option_that_popart_takes_is_handed_through_owned_or_refused_once():
    from ipu_train.emulator.settings.session_options import NAMES

    groups = [set(KINDS), set(OWN_KEYS), set(REFUSED)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert set().union(*groups) == {
        name for name in NAMES if "_" not in name
    }  # the others are PopTorch's own


MOMENTUM, SHARED = "optimizer.momentum=0.9", "training.replicas=2"
OFFLOAD, SHARDING = "device.optimizer_offload=true", "device.replicated_tensor_sharding=true"
COMBINED = "optimizer.use_combined_accum=true"


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["device.partials=half"], ["device.partials: half has no effect in precision 32.32"]),
        (["device.partials=half", "training.precision=16.32"], []),
        ([SHARDING, MOMENTUM], ["device.replicated_tensor_sharding: one replica"]),
        ([SHARDING, MOMENTUM, SHARED], []),
        ([OFFLOAD], ["device.optimizer_offload: has no effect, because sgd without optimizer.momentum"]),
        ([OFFLOAD, MOMENTUM], []),
        ([OFFLOAD, "optimizer.name=adamw"], []),
        ([OFFLOAD, "optimizer.name=lars"], ["device.optimizer_offload: has no effect, because lars"]),
        ([OFFLOAD, MOMENTUM, COMBINED], []),
        ([OFFLOAD, MOMENTUM, COMBINED, ACCUMULATED], ["device.optimizer_offload: has no effect, because"]),
        ([OFFLOAD, SHARDING], ["device.optimizer_offload: has", "device.replicated_tensor_sharding: has"]),
    ],
)
def test_options_that_change_nothing_beside_the_others_are_warned_of(overrides, said):
    lines = load_text(BASE, Path("x.yaml"), overrides).config.without_effect()
    assert len(lines) == len(said)
    assert all(line.startswith(beginning) for line, beginning in zip(lines, said))
