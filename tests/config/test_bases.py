"""``base: NAME``: files laid over each other, each value knowing the file that it stands in."""

import pytest

from ipu_train.config import ConfigError, load, load_text

BASE = """\
model:
  name: resnet20
  norm: group
data: {name: cifar10}
optimizer:
  name: sgd
  momentum: 0.9
  learning_rate: 0.2
device:
  pipeline_splits: [layer2.0, layer3.0]
"""


@pytest.fixture
def write(tmp_path):
    def one(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return one


def failure(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_keys_are_laid_over_the_base_one_by_one_and_lists_replace(write):
    write("base.yaml", BASE)
    config = load(
        write("top.yaml", "base: base\noptimizer: {momentum: 0.5}\ndevice: {pipeline_splits: [layer3.0]}\n")
    ).config
    assert (config.optimizer.momentum, config.optimizer.learning_rate) == (0.5, 0.2)
    assert config.device.pipeline_splits == ["layer3.0"]
    assert config.model.norm == "group"


@pytest.mark.parametrize("null", ["null", "~"])
def test_null_takes_back_a_section_of_the_base_and_an_empty_one_keeps_it(null, write):
    write("base.yaml", BASE + "averaging: {name: mean, start_epoch: 2}\ntraining: {epochs: 3}\n")
    top = write("top.yaml", f"base: base\naveraging: {null}\ntraining:\n  # epochs: 5\n")
    config = load(top).config
    assert config.averaging.name == "none" and config.training.epochs == 3
    above = load(write("above.yaml", "base: top\naveraging: {name: mean}\n")).config
    assert (above.averaging.name, above.averaging.start_epoch) == ("mean", 0)


def test_null_takes_back_what_the_base_sets(write):
    write("base.yaml", BASE)
    config = load(write("top.yaml", "base: base\noptimizer: {momentum: null}\n")).config
    assert config.optimizer.momentum == 0.0


def test_an_empty_section_leaves_the_base_as_it_is(write):
    write("base.yaml", BASE)
    assert load(write("top.yaml", "base: base\noptimizer:\n")).config.optimizer.momentum == 0.9


def test_options_of_the_model_are_laid_over_too(write):
    write("base.yaml", BASE.replace("  norm: group", "  options: {width: 2.0, zero_init: false}"))
    top = write("top.yaml", "base: base\nmodel: {options: {width: 0.5}}\n")
    assert load(top).config.model.options == {"width": 0.5, "zero_init": False}
    top = write("other.yaml", "base: base\nmodel: {options: {width: null}}\n")
    assert load(top).config.model.options == {"zero_init": False}


def test_origins_name_the_file_and_line_of_each_value(write):
    write("one.yaml", BASE)
    write("two.yaml", "base: one\n\ntraining: {seed: 3}\noptimizer: {momentum: 0.8}\n")
    resolved = load(write("three.yaml", "base: two.yaml\ntraining:\n  epochs: 7\n"), ["training.replicas=2"])
    origins = {path: resolved.origins[path] for path in resolved.origins}
    assert origins["optimizer.learning_rate"] == "one.yaml:8"
    assert origins["optimizer.momentum"] == "two.yaml:4"
    assert origins["training.seed"] == "two.yaml:3"
    assert origins["training.epochs"] == "three.yaml:3"
    assert origins["training.replicas"] == "override"
    assert origins["training.precision"] == "default"


def test_files_of_one_name_are_told_apart_by_their_folders(write, tmp_path):
    write("x.yaml", BASE)
    resolved = load(write("inner/x.yaml", "base: ../x.yaml\ntraining: {seed: 3}\n"))
    assert resolved.origins["model.name"] == f"{tmp_path / 'inner' / '..' / 'x.yaml'}:2"
    assert resolved.origins["training.seed"] == f"{tmp_path / 'inner' / 'x.yaml'}:2"


def test_a_mistake_in_a_base_is_placed_there_and_one_on_top_here(write, tmp_path):
    write("base.yaml", BASE.replace("momentum", "momentun"))
    top = write("top.yaml", "base: base\ntraining: {epochs: 0}\n")
    first, second = failure(top).splitlines()
    assert first.startswith(f"{top}:2: training.epochs: must be at least 1")
    assert second.startswith(f"{tmp_path / 'base.yaml'}:7: optimizer.momentun: unknown key; did you mean")


def test_a_key_of_the_base_that_the_new_choice_does_not_read_is_named_with_its_line(write, tmp_path):
    write("base.yaml", BASE)
    message = failure(write("top.yaml", "base: base\noptimizer: {name: adam}\n"))
    assert f"{tmp_path / 'base.yaml'}:7: optimizer.momentum: adam does not read it" in message
    taken_back = write("top.yaml", "base: base\noptimizer: {name: adam, momentum: null}\n")
    assert load(taken_back).config.optimizer.name == "adam"


def test_the_base_is_a_neighbour_a_path_or_a_recipe(write, tmp_path):
    write("near.yaml", BASE)
    write("deep/far.yaml", BASE)
    for base in ("near", "near.yaml", "./near.yaml", "deep/far", str(tmp_path / "near.yaml")):
        assert load(write("top.yaml", f"base: {base}\n")).config.model.name == "resnet20"
    assert load(write("top.yaml", "base: quickstart\n")).config.model.name == "resnet8"


def test_a_neighbour_wins_over_a_recipe_and_a_file_builds_on_the_recipe_of_its_own_name(write):
    write("resnet50_gn.yaml", BASE)
    assert load(write("top.yaml", "base: resnet50_gn\n")).config.model.name == "resnet20"
    own = write("quickstart.yaml", "base: quickstart\ntraining: {epochs: 2}\n")
    config = load(own).config
    assert (config.model.name, config.training.epochs) == ("resnet8", 2)


@pytest.mark.parametrize(
    "files, message",
    [
        ({"top": "base: top\n"}, "top.yaml:1: base: the bases lead round in a circle: top.yaml -> top.yaml"),
        (
            {"top": "base: one\n", "one": "base: two\n", "two": "\nbase: one\n"},
            "two.yaml:2: base: the bases lead round in a circle: top.yaml -> one.yaml -> two.yaml -> one.yaml",
        ),
        ({"top": "base: tpo\n"}, "top.yaml:1: base: tpo: no such file beside top.yaml, and no recipe"),
        ({"top": "base: resnet50_gnpn\n"}, 'did you mean "resnet50_gn_pn"?'),
        ({"top": "base: no/such.yaml\n"}, "no such file: the folder"),
        ({"top": "base: [a]\n"}, "top.yaml:1: base: must be the name of a recipe or the path of a file"),
        ({"top": "base: ''\n"}, "base: must be the name"),
        ({"top": "base: one\n", "one": "- a\n"}, "one.yaml: holds a list"),
        ({"top": "base: one\n", "one": "a: [\n"}, "one.yaml:2:1: not valid YAML"),
        ({"top": "base: one\nbase: two\n", "one": BASE}, "top.yaml:2: base: given twice"),
        ({"top": "base: .\n"}, "is a folder"),
    ],
)
def test_what_cannot_be_a_base_is_one_message(write, files, message):
    for name, text in files.items():
        write(f"{name}.yaml", text)
    found = failure(write("top.yaml", files["top"]))
    assert message in found and "\n" not in found


def test_long_chains_end(write):
    for number in range(40):
        write(f"f{number}.yaml", f"base: f{number + 1}\n")
    assert "more than 16 files build on each other" in failure(write("f40.yaml", "base: f0\n"))


def test_the_base_cannot_be_overridden(write):
    assert "a base is named in a file" in failure(write("top.yaml", BASE), "base=quickstart")


def test_further_overrides_do_not_read_the_base_again(write, tmp_path):
    base = write("base.yaml", BASE)
    resolved = load(write("top.yaml", "base: base\n"))
    base.unlink()
    assert resolved.changed(["training.seed=5"]).config.optimizer.momentum == 0.9


def test_a_resolved_configuration_needs_no_base(write, tmp_path):
    write("base.yaml", BASE)
    resolved = load(write("top.yaml", "base: base\n"))
    assert load_text(resolved.dump(), tmp_path / "elsewhere" / "config.yaml").config == resolved.config
