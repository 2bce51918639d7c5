"""The emulator beside PopTorch's own front end: verdict, dtype and shape of hundreds of tiny programs.

What is compared with is recorded by ``scripts/record_front_end.py`` and corrected by PopTorch's C++ sources.
"""

import collections
import json
import re
from pathlib import Path

import pytest

import ipu_train.emulator as poptorch

from .corrections import ACCEPTED, REFUSED
from .programs import programs
from .running import outcome

RECORDED = {
    line["id"]: line
    for line in map(json.loads, (Path(__file__).parent / "recorded.jsonl").read_text().splitlines())
}
FAMILIES = collections.defaultdict(list)  # the dtype variants of a program in one test
for _program in programs():
    FAMILIES[_program["id"].partition("-")[0]].append(_program)


def test_the_table_is_that_of_the_programs():
    assert sorted(RECORDED) == sorted(program["id"] for program in programs())
    assert len(RECORDED) >= 300
    verdicts = collections.Counter(line["verdict"] for line in RECORDED.values())
    assert min(verdicts["accepted"], verdicts["refused"]) >= 100


def test_every_correction_names_the_source_that_decides():
    assert {name.partition("-")[0] for name in set(ACCEPTED).union(REFUSED)} <= set(FAMILIES)
    assert not set(ACCEPTED).intersection(REFUSED)
    for line in RECORDED.values():
        if "front_end" in line:
            assert re.search(r"\.cpp|\.py|PopART", line["where"]), line["id"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_verdict_dtype_and_shape_are_poptorchs(family):
    for program in FAMILIES[family]:
        expected = RECORDED[program["id"]]
        verdict, result, error = outcome(program, poptorch)
        assert verdict == expected["verdict"], f"{program}: {error or result}; {expected['where']}"
        assert result == expected["result"], f"{program}; {expected['where']}"
