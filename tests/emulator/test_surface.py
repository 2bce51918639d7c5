"""The public surface is PopTorch 3.4's: names, parameters, their order and plain defaults.

``surface.jsonl`` holds what the Python sources of PopTorch 3.4 (graphcore/poptorch, python/) declare: a line for each
public function, method, property and member of an enum. Kept out are workers and hooks that programs do not call.
"""

import ast
import inspect
import json
from pathlib import Path

import pytest

from ipu_train import emulator as poptorch

RECORDED = [json.loads(line) for line in Path(__file__).with_name("surface.jsonl").read_text().splitlines()]
# more parameters than there, behind the same ones; and what only PopTorch itself calls
WIDER = {"testing.allclose", "optim.Optimizer.__init__", "PoplarExecutor.__init__", "Phase.__init__"}


def found(name):
    here = poptorch
    for part in name.split("."):
        here = inspect.getattr_static(here, part) if inspect.isclass(here) else getattr(here, part)
    return getattr(here, "__func__", here)


def declared(function):
    for parameter in inspect.signature(function).parameters.values():
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        yield stars + parameter.name, parameter.default


def test_the_table_is_all_there():
    assert len(RECORDED) > 150
    assert {"Options.deviceIterations", "PoplarExecutor.load_state_dict"} <= {
        line["name"] for line in RECORDED
    }


@pytest.mark.parametrize("line", RECORDED, ids=lambda line: line["name"])
def test_as_in_poptorch(line):
    here = found(line["name"])
    if isinstance(line["parameters"], str) or line["name"] in WIDER:
        return
    there = [text.partition("=") for text in line["parameters"]]
    ours = list(declared(here))
    assert [name for name, _ in ours] == [name for name, _, _ in there]
    for (name, default), (_, has_default, text) in zip(ours, there):
        assert (default is not inspect.Parameter.empty) == bool(has_default), name
        try:
            expected = ast.literal_eval(text) if has_default else default
        except ValueError:  # a name or a call: only that there is a default can be compared
            continue
        assert default == expected, name
