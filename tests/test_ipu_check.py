"""The check for machines with IPUs writes its report whatever its parts do."""

import importlib.util
import os
import subprocess
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


@pytest.mark.parametrize("where", ["no such folder/report.md", "."])
def test_a_report_that_cannot_be_written_is_told_before_the_first_part(
    check, where, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ipu_check.py", "--report", where])
    monkeypatch.setattr(check, "run", lambda *args, **options: pytest.fail("runs a part"))
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == 2 and "cannot be written" in capsys.readouterr().err


def test_the_report_goes_to_the_folder_that_the_check_is_started_in(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || { pwd; ls "$1"; }\n')
    python.chmod(0o755)
    said = subprocess.run(
        ["bash", str(SCRIPT.with_suffix(".sh"))],
        cwd=str(tmp_path),
        env={**os.environ, "PYTHON": "./python"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split("\n")
    assert said[0] == str(tmp_path) and said[1].endswith("ipu_check.py")
