"""Options as PopTorch hands them to its core: names, types and ranges (its SessionOptions.cpp)."""

import pytest

from ipu_train import emulator as poptorch
from ipu_train.config.session_options import KINDS
from ipu_train.emulator.settings.session_options import checkSessionOptions


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("outlineThreshold", 10, "Unknown uint64 option outlineThreshold"),
        ("enableOutlining", 0, "Unknown uint64 option enableOutlining"),
        ("autoRecomputation", True, "Unknown bool option autoRecomputation"),
        ("defaultBufferingDepth", 3.0, "Unknown floating point option defaultBufferingDepth"),
        ("numIOTiles", "32", "Unknown string option numIOTiles"),
        ("cachePath", ["x"], "Unknown set / vector option cachePath"),
        ("cachePath", {"x": "y"}, "Unknown map option cachePath"),
        ("device_iterations", True, "Unknown bool option device_iterations"),
        ("virtualGraphMode", 99, "Value for VirtualGraphMode out of range"),
        ("accumulateOuterFragmentSettings.schedule", 4, "AccumulateOuterFragmentSchedule out of range"),
        ("accumulateOuterFragmentSettings.excludedVirtualGraphs", ["x"], "stoi"),
        ("hardwareInstrumentations", {7}, "Value for Instrumentation out of range"),
        ("accumulationFactor", -1, "Unable to cast"),
        ("location_weight", {"wibble": 1}, "Unknown option 'wibble' for tensor location location_weight"),
        ("location_moon", {"onChip": 1}, "Unknown tensor location location_moon"),
        ("hostAllReduce", True, "Unknown bool option hostAllReduce"),
        ("enable_stochastic_rounding", True, "Unknown bool option enable_stochastic_rounding"),
        ("executionPhaseSettings.schedule", 0, "Unknown uint64 option executionPhaseSettings.schedule"),
    ],
)
def test_the_type_of_a_value_picks_the_names(name, value, message):
    """PopTorch's SessionOptionsParser looks a name up among those of the value's Python type."""
    with pytest.raises(poptorch.Error, match=message):
        checkSessionOptions({name: value})


def test_enumerations_end_where_popart_ends_them():
    for name, last in (
        ("autodiffSettings.stitchStrategy", 3),
        ("autoRecomputation", 4),
        ("syntheticDataMode", 3),
        ("batchSerializationSettings.transformContext", 1),
    ):
        checkSessionOptions({name: last})
        with pytest.raises(poptorch.Error, match="out of range"):
            checkSessionOptions({name: last + 1})


@pytest.mark.parametrize("value", [[object()], {"a": None}, {"a": 0.5}, {None: "a"}])
def test_containers_hold_texts_and_integers(value):
    with pytest.raises(poptorch.Error, match="Don't know how to convert type .* to string"):
        checkSessionOptions({"engineOptions": value})
    checkSessionOptions({"engineOptions": {"a": 1}, "customCodelets": ["a"]})


def test_empty_containers_name_nothing():
    checkSessionOptions({"unknown": [], "nothing": {}})


@pytest.mark.parametrize("name", KINDS)
def test_what_a_configuration_hands_through_has_its_type(name):
    values = {
        "true or false": True,
        "a whole number from 0 on": 1,
        "a number": 1.0,
        "text": "x",
        "a list": ["0"],
        "a mapping of names to texts": {"x": "y"},
    }
    checkSessionOptions({name: values[KINDS[name]]})
