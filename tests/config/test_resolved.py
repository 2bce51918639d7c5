"""What a configuration resolves to, where its values come from, and that it can be run again."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ipu_train.config import Config, ConfigError, load_text
from ipu_train.config.keys import all_keys
from ipu_train.config.printing import scalar
from ipu_train.config.reader import parse

MINIMAL = "model: {name: resnet20}\ndata: {name: digits}\n"
SOURCE = Path("somewhere/run.yaml")


def resolve(text, *overrides):
    return load_text(text, SOURCE, overrides)


def again(resolved):
    return load_text(resolved.dump(), Path("config.yaml"))


@pytest.mark.parametrize("text", ["16.16", "'16.16'", '"16.16"'])
def test_precision_needs_no_quotes(text):
    assert resolve(MINIMAL + f"training: {{precision: {text}}}").config.training.precision == "16.16"


@pytest.mark.parametrize("name", ["2024_11_30", "007", "1.10", "0x10", "1e3", "1_0.5", "+1", ".inf"])
def test_a_name_that_looks_like_a_number_keeps_its_spelling(name):
    text = MINIMAL + f"run_dir: {name}\nlogging: {{wandb_project: {name}}}\n"
    for resolved in (
        resolve(text),
        resolve(MINIMAL, f"run_dir={name}", f"logging.wandb_project={name}"),
        again(resolve(text)),
    ):
        assert resolved.config.run_dir == resolved.config.logging.wandb_project == name
    listed = resolve(MINIMAL, f"device.pipeline_splits=[{name}, layer]", f"model.train_only=[fc, {name}]")
    assert listed.config.device.pipeline_splits == [name, "layer"]
    assert listed.config.model.train_only == ["fc", name]


@pytest.mark.parametrize("text, expected", [("on", True), ("No", False), ("true", True), ("OFF", False)])
def test_flags_take_the_usual_words(text, expected):
    assert resolve(MINIMAL + f"logging: {{plots: {text}}}").config.logging.plots is expected


@pytest.mark.parametrize(
    "text, expected", [("off", "off"), ("false", "off"), ("auto", "auto"), ("true", "auto")]
)
def test_fusing_is_auto_or_off(text, expected):
    config = resolve(MINIMAL + f"device: {{fuse_micro_batches: {text}}}").config
    assert config.device.fuse_micro_batches == expected


def test_progress_is_auto_or_a_flag():
    for text, expected in (("auto", "auto"), ("no", False), ("true", True)):
        assert resolve(MINIMAL, f"logging.progress={text}").config.logging.progress == expected


def test_overrides_take_any_yaml_value_and_make_missing_sections():
    config = resolve(
        MINIMAL,
        "optimizer.learning_rate=1e-4",
        "schedule.name=step",
        "schedule.milestones=[0.25, 0.5]",
        "model.name=efficientnet_b0",
        "model.options.dropout=0.2",
        "model.options.dropout=0.3",
        "model.options.activation=relu",
        "model.options.depth=null",
        "run_dir=out/a=b",
        "device.available_memory_proportion=0.2",
    ).config
    assert config.optimizer.learning_rate == 1e-4
    assert config.schedule.milestones == [0.25, 0.5]
    assert config.model.options == {"dropout": 0.3, "activation": "relu"}
    assert config.run_dir == "out/a=b"
    assert config.device.available_memory_proportion == [0.2]


def test_the_global_batch_size_is_the_product_of_the_three():
    config = resolve(
        MINIMAL + "training: {micro_batch_size: 4, gradient_accumulation: 8, replicas: 3}"
    ).config
    assert config.global_batch_size == 96
    assert config.validation_micro_batch_size == 4


def test_defaults_depend_on_what_is_chosen():
    assert resolve(MINIMAL).config.model.proxy_norm is True
    assert resolve(MINIMAL, "model.norm=batch").config.model.proxy_norm is False
    assert resolve(MINIMAL).config.data.augment == "shift"
    folder = ("data.name=imagefolder", "data.path=x", "data.validation_fraction=null")
    assert resolve(MINIMAL, *folder, "data.image_size=32").config.data.augment == "flip_crop"
    assert resolve(MINIMAL, *folder, "data.image_size=224").config.data.augment == "random_resized_crop"
    assert resolve(MINIMAL).config.optimizer.weight_decay == 0
    assert resolve(MINIMAL, "optimizer.name=adamw").config.optimizer.weight_decay == 0.01
    assert resolve(MINIMAL, "optimizer.name=adamw").config.values()["optimizer"]["momentum"] is None


def test_origins_tell_file_line_override_and_default():
    text = MINIMAL + "training:\n  epochs: 3\n  seed: 1\n"
    resolved = resolve(text, "training.seed=2", "model.options.width=2")
    assert resolved.origins["training.epochs"] == "run.yaml:4"
    assert resolved.origins["training.seed"] == "override"
    assert resolved.origins["model.options.width"] == "override"
    assert resolved.origins["training.replicas"] == "default"
    printed = resolved.explain()
    assert next(line for line in printed.splitlines() if "epochs: 3" in line).endswith("# run.yaml:4")
    assert load_text(printed, SOURCE).config == resolved.config


def test_another_room_can_place_its_own_error():
    resolved = resolve("model:\n  name: resnet20\ndata: {name: digits}\n")
    error = resolved.error("model.name", "too large")
    assert isinstance(error, ConfigError) and str(error) == "run.yaml:2: model.name: too large"


def test_an_error_is_placed_at_the_override_of_its_own_key():
    """device.recompute is the beginning of device.recompute_checkpoints, and another key."""
    checkpoints = "device.recompute_checkpoints=[nowhere]"
    resolved = resolve(MINIMAL, checkpoints, "device.recompute=checkpoints", "model.options.width=64")
    wrong = resolved.error("device.recompute_checkpoints", "no such module")
    assert str(wrong) == f'override "{checkpoints}": device.recompute_checkpoints: no such module'
    large = resolved.error("model.options", "too large")
    assert str(large) == 'override "model.options.width=64": model.options: too large'
    filed = resolve(
        MINIMAL + "device:\n  engine_options:\n    opt.useAutoloader: true\n", "training.epochs=2"
    )
    assert str(filed.error("device.engine_options", "no")).startswith("run.yaml:5: device.engine_options: ")
    inside = resolve(MINIMAL, "model.options={width: 2}").error("model.options.width", "too large")
    assert str(inside) == 'override "model.options={width: 2}": model.options.width: too large'


NAMES = [
    "off",
    "1e-4",
    "~",
    "",
    "a: b",
    "#x",
    "tab\there",
    "two\nlines",
    "ä",
    "16.16",
    "1:30",
    "'",
    '"',
    "- a",
    "<<",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(NAMES)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES[:4]), inner, max_size=2)
    ),
    max_leaves=6,
)


PRINTABLE = st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=6).filter(
    lambda text: text.strip()
)


@settings(max_examples=150, deadline=None)
@given(value=VALUES)
def test_whatever_is_printed_reads_as_the_same_value(value):
    read, _, problems = parse(scalar(value), "x")
    assert not problems
    assert read == value and type(read) is type(value)


@settings(max_examples=100, deadline=None)
@given(rate=st.floats(min_value=1e-300, max_value=1e6), name=PRINTABLE)
def test_the_resolved_configuration_runs_again_as_it_is(rate, name):
    config = Config.model_validate(
        {
            "model": {"name": "efficientnet_b0", "options": {"dropout": 0.5}, "weights": name},
            "data": {"name": "digits"},
            "optimizer": {"learning_rate": rate, "name": "lamb"},
            "training": {"precision": "16.16"},
            "run_dir": name,
        }
    )
    resolved = resolve(MINIMAL)._replace(config=config)
    assert again(resolved).config == config
    assert again(resolved).config.optimizer.learning_rate == rate  # every digit


def test_the_dump_means_the_same_to_any_yaml_reader():
    resolved = resolve(MINIMAL + "training: {precision: 16.16}\ndevice: {fuse_micro_batches: off}\n")
    assert yaml.safe_load(resolved.dump())["device"]["fuse_micro_batches"] == "off"
    assert yaml.safe_load(resolved.dump())["training"]["precision"] == "16.16"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "lamb"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "exponential"])
@pytest.mark.parametrize("data", ["digits", "cifar10", "generated", "synthetic"])
def test_every_choice_resolves_and_runs_again(optimizer, schedule, data):
    resolved = resolve(
        MINIMAL, f"optimizer.name={optimizer}", f"schedule.name={schedule}", f"data.name={data}"
    )
    assert again(resolved).config == resolved.config


def test_every_key_is_described():
    for key in all_keys():
        assert key.description.endswith("."), key.path
        assert all(field.description or key.name == "name" for field in key.fields.values()), key.path


def test_the_room_imports_no_torch():
    code = "import sys, ipu_train.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
