"""The check for machines with IPUs writes its report whatever its parts do."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "ipu_check.py"


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("ipu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "program, limit, verdict, said",
    [
        ("print('fine')", 60, "passed", "fine"),
        ("print('no operator'); raise SystemExit(77)", 60, "not run", "no operator"),
        ("print('before'); raise RuntimeError('broken')", 60, "FAILED (1)", "RuntimeError: broken"),
        (
            "print('begun', flush=True); import time; time.sleep(60)",
            1,
            "FAILED (-1)",
            "stopped after 1 seconds",
        ),
    ],
)
def test_a_part_that_fails_or_hangs_is_a_verdict(check, program, limit, verdict, said):
    part = check.run("a part", [sys.executable, "-S", "-c", program], limit)
    assert part.verdict == verdict
    assert said in part.text
    assert f"| a part | {verdict} |" in check.report([part], "sdk")
    assert said in check.report([part], "sdk")


def test_a_program_that_is_not_there_is_not_run(check):
    assert check.run("a part", ["/no/such/program"], 60).verdict == "not run"


def test_the_report_says_when_nothing_was_measured(check):
    assert "rehearsal: nothing is measured" in check.report([], "emulator")
    assert "rehearsal" not in check.report([], "sdk")
