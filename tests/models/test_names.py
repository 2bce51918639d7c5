"""What the configuration knows of models and norms without torch is what they are."""

import inspect
import subprocess
import sys
from importlib import import_module
from typing import Union, get_type_hints

import pytest

from ipu_train import models
from ipu_train.models.norms import NORMS


def test_norms_and_what_can_be_set_of_them():
    actual = {name: (kind.takes_groups, kind.takes_proxy_norm) for name, kind in NORMS.items()}
    assert {name: tuple(traits) for name, traits in models.NORM_TRAITS.items()} == actual


@pytest.mark.parametrize("name", models.names())
def test_options_are_the_keyword_arguments_of_the_function_that_makes_the_network(name):
    module, function, fixed, _ = models.MODELS[name]
    make = getattr(import_module(f"ipu_train.models.{module}"), function)
    hints = get_type_hints(make)
    arguments = {p.name: p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY}
    kinds = models.option_kinds(name)
    assert set(kinds) == set(arguments) - set(fixed) | {"weight_standardisation"}
    for option in set(kinds) & set(arguments):
        hint, kind = hints[option], kinds[option]
        types = hint.__args__ if getattr(hint, "__origin__", None) is Union else (hint,)
        assert [t.__name__ for t in types if t is not type(None)] == [kind.kind]
        assert kind.takes_none == (type(None) in types)
        default = arguments[option].default
        assert kind.default == (None if default is inspect.Parameter.empty else default)


def test_names_and_options_need_no_torch():
    code = (
        "import sys; from ipu_train import models\n"
        "models.norm_names(), [models.option_kinds(name) for name in models.names()]\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
