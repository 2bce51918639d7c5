"""Each mistake names its place, the key, what is allowed and the nearest valid name; all come at once."""

from pathlib import Path

import pytest

from ipu_train.config import ConfigError, load, load_text

MINIMAL = "model: {name: resnet20}\ndata: {name: digits}\n"
SOURCE = Path("run.yaml")


def failure(text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_text(text, SOURCE, overrides)
    return str(caught.value)


def test_all_mistakes_of_a_file_and_of_the_overrides_come_at_once_and_in_order():
    text = (
        "model:\n  nrom: group\n"
        "data: {name: cifar11}\n"
        "optimizer:\n  learning_rate: fast\n"
        "schedule: 4\n"
        "training:\n  epochs: 0\n  seed: 1.5\n  seed: 2\n"
        "validtion: {}\n"
    )
    lines = failure(text, "optimizer.beats=0.9", "device.partials=hlaf", "foo").splitlines()
    starts = [
        "run.yaml:1: model.name: is missing",
        'run.yaml:2: model.nrom: unknown key; did you mean "norm"? (allowed in model: name, norm,',
        "run.yaml:3: data.name: must be one of digits, cifar10,",
        "run.yaml:5: optimizer.learning_rate: must be a number; got fast",
        "run.yaml:6: schedule: must be a section of keys, not a single value; got 4 (keys: name,",
        "run.yaml:8: training.epochs: must be at least 1; got 0",
        "run.yaml:9: training.seed: must be a whole number; got 1.5",
        "run.yaml:10: training.seed: given twice; the first time in line 9",
        'run.yaml:11: validtion: unknown key; did you mean "validation"?',
        'override "optimizer.beats=0.9": optimizer.beats: unknown key; did you mean "betas"?',
        'override "device.partials=hlaf": device.partials: must be one of float, half; got hlaf; did',
        'override "foo": is not of the form section.key=value',
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts):
        assert line.startswith(start)


@pytest.mark.parametrize(
    "overrides, blamed",
    [
        (("model.options.width=2", "model.options={width: wide}"), 1),
        (("model.options={width: wide}", "training.epochs=2"), 0),
        (("training.epochs=2", "model.options.width.x=3"), 1),
    ],
)
def test_the_override_that_is_blamed_is_the_one_that_counts(overrides, blamed):
    text = failure(MINIMAL, *overrides)
    assert text.startswith(f'override "{overrides[blamed]}": model.options.width: ') and "\n" not in text


def test_checks_between_sections_run_though_another_section_is_wrong():
    text = MINIMAL + "schedule: {warmup_epochs: 9}\ntraining: {epochs: 3}\ndevice: {threads: 0}\n"
    message = failure(text)
    assert "schedule.warmup_epochs: is longer than the run of 3 epochs" in message
    assert "device.threads: must be at least 1" in message


def test_a_key_in_the_wrong_place_is_pointed_to_the_right_one():
    assert "unknown key; training.epochs exists" in failure(MINIMAL + "epochs: 3\n")
    assert "unknown key; training.micro_batch_size" in failure(MINIMAL + "optimizer: {micro_batch_size: 3}\n")


def test_a_value_without_its_equals_sign_is_told_how_to_be_written():
    message = failure(MINIMAL, "training.epochs", "3")
    assert "has no value; write training.epochs=VALUE, without spaces beside the =" in message


def test_a_norm_with_proxy_norm_in_its_name_is_told_the_two_keys():
    assert "write model.norm=group model.proxy_norm=true" in failure(MINIMAL, "model.norm=group+pn")
    assert 'did you mean "group"?' in failure(MINIMAL, "model.norm=grop")


def test_a_network_in_a_file_is_told_how_to_be_named():
    assert "write my_net.py:FUNCTION" in failure(MINIMAL, "model.name=my_net.py")
    assert "write nets/mine.py:small" in failure(MINIMAL, "model.name=nets.mine.small")


def test_what_a_base_says_and_nothing_reads_is_taken_back_by_an_override_that_is_named():
    with pytest.raises(ConfigError) as caught:
        load("quickstart", ["optimizer.name=adamw"])
    assert "remove it or set it to null (optimizer.nesterov=null)" in str(caught.value)
    load("quickstart", ["optimizer.name=adamw", "optimizer.nesterov=null", "optimizer.momentum=null"])


def test_missing_sections_are_named():
    assert (
        failure("model: {name: resnet20}\n")
        == "run.yaml: data: the section is missing; give at least data.name"
    )


@pytest.mark.parametrize(
    "override, message",
    [
        ("training", "is not of the form"),
        ("=3", "has no key before the ="),
        ("training.=3", "has no key before the ="),
        ("training=3", "training is a section; set its keys one by one"),
        ("epochs=3", 'there is no section "epochs"; did you mean training.epochs?'),
        ("epoch=3", "did you mean training.epochs?"),
        ("lr=3", "did you mean optimizer.learning_rate?"),
        ("wd=3", "did you mean optimizer.weight_decay?"),
        ("batch_size=3", "did you mean training.micro_batch_size?"),
        ("optimizer.lr=3", 'unknown key; did you mean "learning_rate"?'),
        ("model.pn=true", 'unknown key; did you mean "proxy_norm"?'),
        ("trainng.epochs=3", 'did you mean "training"?'),
        ("group+pn", "lists have commas and no spaces"),  # of --norms batch group+pn
        ("training.epochs.x=3", "training.epochs has no keys below it"),
        ("training.epochs=[3", "the value is not valid YAML"),
        ("model.options={a: 1, a: 2}", "given twice"),
    ],
)
def test_overrides_that_cannot_be_understood_are_quoted(override, message):
    text = failure(MINIMAL, override)
    assert text.startswith(f'override "{override}": ') and message in text


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "optimizer: {name: sgd, betas: [0.9, 0.99]}",
            "optimizer.betas: sgd does not read it (only adam, adamw, lamb)",
        ),
        ("optimizer: {name: adam, momentum: 0.9}", "optimizer.momentum: adam does not read it"),
        (
            "optimizer: {name: adamw, bias_correction: false}",
            "optimizer.bias_correction: adamw does not read it",
        ),
        ("optimizer: {name: rmsprop, max_grad_norm: 1}", "optimizer.max_grad_norm: rmsprop does not read it"),
        ("optimizer: {nesterov: true}", "optimizer.nesterov: needs momentum above 0"),
        (
            "optimizer: {nesterov: true, momentum: 0.9, dampening: 0.1}",
            "optimizer.nesterov: needs dampening 0",
        ),
        ("optimizer: {name: adam, betas: [0.9]}", "optimizer.betas: must have at least 2 entries"),
        ("optimizer: {name: adam, betas: [0.9, 1.0]}", "optimizer.betas[1]: must be below 1; got 1.0"),
        ("optimizer: {learning_rate: .nan}", "optimizer.learning_rate: must be"),
        (
            "schedule: {name: cosine, milestones: [0.5]}",
            "schedule.milestones: cosine does not read it (only step)",
        ),
        (
            "schedule: {name: constant, final_learning_rate: 0}",
            "schedule.final_learning_rate: constant does not read",
        ),
        ("schedule: {name: step, milestones: [0.5, 30]}", "schedule.milestones: all must be epochs"),
        ("schedule: {name: step, milestones: [0.7, 0.5]}", "schedule.milestones: must rise"),
        ("schedule: {name: step, milestones: []}", "schedule.milestones: must have at least 1"),
        ("schedule: {name: step, milestones: [5, 30]}", "schedule.milestones: 30 is not before the end"),
        (
            "schedule: {final_learning_rate: 0.5}",
            "schedule.final_learning_rate: is above optimizer.learning_rate (0.1)",
        ),
        (
            "optimizer: {learning_rate: 0.5, learning_rate_batch_size: 256}\n"
            "schedule: {final_learning_rate: 0.1}\ntraining: {micro_batch_size: 16, gradient_accumulation: 2}",
            "is above optimizer.learning_rate (0.0625 at the global batch size of 32)",
        ),
        ("training: {stochastic_rounding: true}", "training.stochastic_rounding: has nothing to round"),
        (
            "optimizer: {automatic_loss_scaling: true}",
            "optimizer.automatic_loss_scaling: watches float16 gradients",
        ),
        ("training: {precision: 16}", "training.precision: must be one of 32.32, 16.32, 16.16; got 16"),
        ("training: {micro_batch_size: true}", "training.micro_batch_size: must be a whole number"),
        ("validation: {every_epochs: 0, micro_batch_size: 4}", "validation.micro_batch_size: not read"),
        ("averaging: {name: mean, decay: 0.9}", "averaging.decay: mean does not read it"),
        ("averaging: {name: mean, start_epoch: 10}", "averaging.start_epoch: is not before the end"),
        ("device: {pipeline_splits: [a, a]}", "device.pipeline_splits: names a more than once"),
        (
            "device: {pipeline_splits: [a], available_memory_proportion: [0.1, 0.2, 0.3]}",
            "device.available_memory_proportion: has 3 numbers for 2 IPUs",
        ),
        ("device: {available_memory_proportion: 1.5}", "must be at most 1; got 1.5"),
        ("device: {target: ipu, compute: cuda}", "device.compute: is for the emulator"),
        (
            "device: {target: ipu_model, fuse_micro_batches: off}",
            "device.fuse_micro_batches: is for the emulator",
        ),
        ("device: {target: ipu, torch_compile: true}", "device.torch_compile: is for the emulator"),
        (
            "training: {precision: 16.16}\ndevice: {torch_compile: true}",
            "device.torch_compile: generates float32 code, and training.precision is 16.16",
        ),
        (
            "device: {torch_compile: true, fp_exceptions: true}",
            "device.torch_compile: generated code is not stopped where fp_exceptions would",
        ),
        ("device: {target: emulator, executable_cache: x}", "device.executable_cache: is for the Poplar SDK"),
    ],
)
def test_settings_that_contradict_each_other(text, message):
    assert f"run.yaml:3: {message}" in failure(MINIMAL + text + "\n") or message in failure(
        MINIMAL + text + "\n"
    )


@pytest.mark.parametrize(
    "model, message",
    [
        ("{name: resnet20, norm: none, proxy_norm: true}", "model.proxy_norm: needs a norm"),
        (
            "{name: resnet20, proxy_norm: off, proxy_norm_eps: 0.1}",
            "model.proxy_norm_eps: set, but proxy_norm is false",
        ),
        (
            "{name: resnet20, norm: layer, norm_group_size: 4}",
            "model.norm_group_size: read by norm group only",
        ),
        (
            "{name: resnet20, norm_groups: 4, norm_group_size: 4}",
            "model.norm_group_size: is 4, and norm_groups is 4",
        ),
        ("{name: resnet20, norm: layer, norm_groups: 4}", "model.norm_groups: read by norm group only"),
        (
            "{name: resnet20, proxy_norm_expectation: exact, proxy_norm_quantiles: 9}",
            "model.proxy_norm_quantiles: not read",
        ),
        (
            "{name: resnet20, norm: batch, norm_replicas: 2}",
            "model.norm_replicas: read by norm sync_batch only",
        ),
        (
            "{name: resnet20, averaged_weights: true}",
            "model.averaged_weights: set, but no weights are loaded",
        ),
        (
            "{name: resnet20, norm: batch, proxy_norm_statistics: per_update}",
            "model.proxy_norm_statistics: set, but proxy_norm is false",
        ),
    ],
)
def test_model_settings_that_contradict_each_other(model, message):
    assert message in failure(f"model: {model}\ndata: {{name: digits}}\n")


@pytest.mark.parametrize(
    "data, message",
    [
        ("{name: imagefolder}", "data.path: is missing (Folder of the data set"),
        ("{name: digits, path: x}", "data.path: digits does not read it"),
        ("{name: cifar10, validation_fraction: 0.1}", "data.validation_fraction: cifar10 does not read it"),
        ("{name: digits, augment: none, crop_padding: 2}", "data.crop_padding: not read by augment none"),
        (
            "{name: cifar10, augment: random_resized_crop}",
            "got random_resized_crop (random_resized_crop is for imagefolder, webdataset, packed only)",
        ),
        (
            "{name: cifar10, augment: centre_crop}",
            "(centre_crop is for imagefolder, webdataset, packed only)",
        ),
        ("{name: cifar10, mean: [0.5, 0.5, 0.5]}", "data.std: mean and std are given together"),
        ("{name: cifar10, mean: [0.5], std: [0.2, 0.2]}", "data.std: has 2 channels and mean has 1"),
        ("{name: synthetic, channels: 2}", "data.channels: must be one of 1, 3; got 2"),
    ],
)
def test_data_settings_that_contradict_each_other(data, message):
    assert message in failure(f"model: {{name: resnet20}}\ndata: {data}\n")
