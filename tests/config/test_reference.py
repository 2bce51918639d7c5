"""What is said about keys is what the schema does: the page, the explanations and the JSON Schema."""

import json
import random
from pathlib import Path

import jsonschema
import pydantic
import pytest
import yaml

from ipu_train import cli, config
from ipu_train.config import ConfigError, reference
from ipu_train.config.json_schema import json_schema
from ipu_train.config.keys import all_keys, keys_of
from ipu_train.config.schema import CHOICES, SECTIONS

REPOSITORY = Path(__file__).resolve().parent.parent.parent
UPDATE = "run: python scripts/configuration_reference.py"
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def accepts(values):
    return VALIDATOR.is_valid(values)


def recipe(name):
    return yaml.safe_load((config.builtin_folder() / f"{name}.yaml").read_text(encoding="utf-8"))


def test_the_page_and_the_schema_in_the_repository_are_those_of_this_version():
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference.page(), UPDATE
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 11):
        return  # 2.10, the last one for Python 3.8, words unions in another way
    schema = (config.builtin_folder() / "schema.json").read_text(encoding="utf-8")
    assert schema == reference.schema_text(), UPDATE


def test_the_page_has_every_key():
    page = reference.page()
    for found in all_keys():
        assert f"| `{found.name}` |" in page, found.path


def test_the_json_schema_is_one_and_takes_every_recipe():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name in config.builtin_names():
        assert [error.message for error in VALIDATOR.iter_errors(recipe(name))] == [], name


def test_the_json_schema_takes_resolved_configurations():
    for name in ("quickstart", "efficientnet_b4_gn", "resnet50_gn_pn_lars_pod64", "resnet50v2_ln_ws"):
        resolved = yaml.safe_load(config.load(name).dump())
        assert [error.message for error in VALIDATOR.iter_errors(resolved)] == [], name


def misspelt(key, rng):
    i = rng.randrange(len(key))
    return key[:i] + rng.choice("qxz_") + key[i + 1 :]


def test_the_json_schema_refuses_misspelt_sections_and_keys():
    rng = random.Random(0)
    for section in SECTIONS:
        base = {"base": "quickstart"}
        assert not accepts({**base, misspelt(section, rng): {}})
        for key in keys_of(section):
            wrong = misspelt(key, rng)
            if wrong not in keys_of(section):
                assert not accepts({**base, section: {wrong: None}}), wrong


@pytest.mark.parametrize(
    "values",
    [
        {"model": {"name": "resnet20"}},
        {"base": "x", "model": {"name": "resnte20"}},
        {"base": "x", "model": {"norm": "grop"}},
        {"base": "x", "model": {"options": {"widht": 2}}},
        {"base": "x", "training": {"epochs": 0}},
        {"base": "x", "training": {"epochs": "ten"}},
        {"base": "x", "optimizer": {"name": "sgd", "betas": [0.9, 0.99]}},
        {"base": "x", "optimizer": {"betas": [0.9]}},
        {"base": "x", "schedule": {"name": "cosine", "milestones": [1]}},
        {"base": "x", "data": {"name": "digits", "path": "y"}},
        {"base": "x", "data": {"name": "cifar10", "augment": "centre_crop"}},
        {"base": 3},
    ],
)
def test_the_json_schema_refuses_what_the_configuration_refuses(values):
    assert not accepts(values)


def test_defaults_and_nulls_are_taken_by_the_json_schema_as_by_the_configuration():
    for found in all_keys():
        for chosen, default in found.defaults.items():
            inner = {"name": chosen} if chosen and found.name != "name" else {}
            for value in (default, None):
                values = {"base": "x", found.section: {**inner, found.name: value}} if found.section else {}
                assert accepts({"base": "x", **values}), (found.path, value)


@pytest.mark.parametrize("found", list(all_keys()), ids=lambda key: key.path)
def test_every_key_is_explained_in_full(found):
    text = reference.explain(found.path)
    assert text.startswith(found.path + "\n") and found.description in text
    for word in ("  type     ", "  default  "):
        assert word in text
    if found.section in CHOICES and len(found.fields) < len(CHOICES[found.section].sections):
        assert f"read by  {', '.join(found.fields)}" in text


def test_bounds_are_said_as_they_are_checked():
    text = reference.explain("optimizer.momentum")
    assert "a number, at least 0, below 1" in text
    assert "0.0 (sgd, rmsprop); 0.9 (lars)" in text
    for value, taken in ((0.0, True), (1.0 - 2.0**-53, True), (1.0, False), (-1e-300, False)):
        try:
            config.section("optimizer", name="sgd", momentum=value)
            assert taken
        except ValueError:
            assert not taken


def test_recipes_that_set_a_key_are_named():
    text = reference.explain("model.options")
    assert "{weight_standardisation: true}: resnet50v2_ln_ws" in text
    assert "lars: resnet50_gn_pn_lars_pod64" in reference.explain("optimizer.name")


def test_sections_options_and_everything_are_explained():
    everything, optimizer = reference.explain(), reference.explain("optimizer")
    assert all(found.path in everything for found in all_keys())
    assert all(f"optimizer.{key}" in optimizer for key in keys_of("optimizer"))
    assert "resnet20" in reference.explain("model.options.zero_init")
    assert "key by key" in reference.explain("base")


@pytest.mark.parametrize(
    "path, near",
    [
        ("optimizer.momentm", "optimizer.momentum"),
        ("momentum", "optimizer.momentum"),
        ("optimzer", "optimizer"),
        ("model.options.widht", "model.options.width"),
        ("", None),
    ],
)
def test_what_does_not_exist_is_answered_with_the_nearest_key(path, near):
    if near is None:
        assert reference.explain(path)
        return
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        reference.explain(path)


def test_the_command_prints_what_is_asked_for(capsys):
    assert cli.main(["config", "--explain", "training.epochs"]) == 0
    assert "Passes over the training images." in capsys.readouterr().out
    assert cli.main(["config", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert cli.main(["config", "--explain", "training.epoch"]) == 2
    for arguments in ([], ["--explain", "--json-schema"], ["--json-schema", "--config", "quickstart"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["config", *arguments])
        assert stopped.value.code == 2


def test_every_recipe_names_the_schema_for_editors():
    for name in config.builtin_names():
        text = (config.builtin_folder() / f"{name}.yaml").read_text(encoding="utf-8")
        assert "\n# yaml-language-server: $schema=schema.json\n" in text, name
