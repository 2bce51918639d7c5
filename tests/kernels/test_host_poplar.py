"""The host implementation of Poplar notices what hardware would not forgive, and only that."""

import ctypes
from pathlib import Path

import pytest

from ipu_train.kernels import build

HERE = Path(__file__).resolve().parent

# Each graph in faults.cpp, and words of the message that it must raise.
FAULTS = {
    "workers share a word": "workers 0 and 1 store to one 32-bit word of field 'out'",
    "workers write the same": "store to one 32-bit word of field 'out'",
    "reads its output": "reads the output field 'out' before it has written it",
    "writes its input": "a write to the input field 'in'",
    "writes beyond the end": "a write beyond the ends of field 'out'",
    "reads beyond the end": "reads beyond the ends of some field; it shows in the output field 'out'",
    "reads an InOut that nothing wrote": "reads the output field 'out' before it has written it",
    "leaves an element unwritten": "nobody writes field 'out', byte 46",
    "two vertices write an element": "both write an element of 'out', element 8",
    "two vertices share a word": "both store to a 32-bit word of 'out', element 5",
    "a vertex reads what another writes": "write and read an element of 'out', element 0",
    "works in place on a read-only input": "would write 'in', which is read only",
    "copies to a constant": "a copy to 'one', which is read only",
    "a tensor without a tile": "tensor 'lost' is not mapped to tiles",
    "a vertex without a tile": "vertex Doubles in 'compute' is not mapped to a tile",
    "a tile that does not exist": "a vertex on tile 2",
    "an unconnected field": "field 'out' is not connected",
    "a field without a value": "field 'count' has no initial value",
    "a field of another name": "field 'input' of Doubles does not exist",
    "a tensor of another type": "is of type half, the tensor of float",
    "an unknown codelet": "there is no codelet 'Triples'",
    "codelets that were not added": "there is no codelet 'Doubles'",
    "codelets that cannot be read": "cannot read 'no/such/file.cpp'",
    "reads what nothing wrote": "reads 'in', element 0, which nothing has written",
    "reads after WriteUndef": "reads 'out', element 0, which nothing has written",
    "writes an element twice": "would write one element twice",
}
INNOCENT = [
    "none",
    "none, on another tile",
    "none, two vertices",
    "none, split between words",
    "none, an InOut without contents",
    "none, an InOut with contents",
]
# Operators, and words of the message that each must raise when it is built.
OPERATOR_FAULTS = {
    "twins": "output 1 aliases itself or another output",
    "input": "output 1 aliases an input or a constant",
    "throws": "shape inference throws where a shape is unknown: Invalid input dimension 0",
    "invents": "shape inference makes a shape up where one is unknown",
}


@pytest.fixture(scope="module")
def library():
    try:
        build.compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    folder = build.ROOM / "host_poplar"
    faults = HERE / "faults.cpp"
    sources = [
        faults,
        folder / "session.cpp",
        folder / "mapping.cpp",
        *sorted((folder / "src").glob("*.cpp")),
    ]
    library = build.load(build.shared_library("faults", sources, [folder / "include"], ["-O0"]))
    library.run_case.restype = library.build_operator.restype = ctypes.c_char_p
    return library


@pytest.fixture(scope="module")
def run_case(library):
    faults = str(HERE / "faults.cpp").encode()
    return lambda name: library.run_case(name.encode(), faults).decode()


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_noticed_and_named(run_case, name):
    assert FAULTS[name] in run_case(name)


@pytest.mark.parametrize("name", INNOCENT)
def test_a_sound_graph_is_left_alone(run_case, name):
    assert run_case(name) == ""


@pytest.mark.parametrize("fault", sorted(OPERATOR_FAULTS))
def test_a_faulty_operator_is_refused(library, fault):
    assert OPERATOR_FAULTS[fault] in library.build_operator(fault.encode()).decode()


def test_a_sound_operator_is_built(library):
    assert library.build_operator(b"none").decode() == ""
