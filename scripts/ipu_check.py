"""What ``scripts/ipu_check.sh`` runs: each part in a process of its own, then one report file.

    python scripts/ipu_check.py [--poptorch sdk|emulator] [--report PATH] [--recipes A,B,C] [--limit SECONDS]

A part that fails, hangs or cannot run says so in the report and the next one begins. Exit status 0: every part passed;
1: at least one did not; the report is written either way.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

REPOSITORY = Path(__file__).resolve().parent.parent
MEASURE = Path(__file__).resolve().parent / "ipu_measure.py"
RECIPES = "quickstart,resnet50_gn_pn,efficientnet_b0_g16_ln_pn"
NOT_RUN = 77  # exit status of a part that cannot run here, and says why


class Part(NamedTuple):
    """A finished part of the check."""

    title: str
    verdict: str  # passed, FAILED, not run
    seconds: float
    text: str


def run(title: str, command: List[str], limit: float, environment: Optional[dict] = None) -> Part:
    """Run a command to its end or its time limit; its output becomes the part's text."""
    print(f"{title} ...", flush=True)
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=str(REPOSITORY),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            text=True,
            errors="replace",
        )
        status, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        out = error.stdout or ""
        text = out.decode(errors="replace") if isinstance(out, bytes) else out
        status, text = -1, f"{text}\nstopped after {limit:g} seconds"
    except OSError as error:
        status, text = NOT_RUN, str(error)
    seconds = time.perf_counter() - started
    verdict = {0: "passed", NOT_RUN: "not run"}.get(status, f"FAILED ({status})")
    print(f"{title}: {verdict}, {seconds:.0f} s", flush=True)
    return Part(title, verdict, seconds, text.strip())


def environment(kind: str) -> Part:
    """Versions and hardware, as far as they can be found out."""
    lines = [f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"]
    lines.append(
        f"system: {platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    lines.append("ipu-train: " + (_said(["git", "describe", "--always", "--dirty"]) or "no git checkout"))
    lines += [f"{name}={value}" for name, value in sorted(os.environ.items()) if _tells(name)]
    for tool in (["gc-info", "-l"], ["popc", "--version"]):
        lines.append(f"{' '.join(tool)}: {_said(tool) or 'not found'}")
    asked = run("environment", [sys.executable, str(MEASURE), "environment", "--poptorch", kind], 600)
    return asked._replace(text="\n".join([*lines, asked.text]))


def _tells(name: str) -> bool:
    return name.startswith(("POPLAR_", "POPTORCH_", "POPART_", "IPU")) and not name.endswith(("TOKEN", "KEY"))


def _said(command: List[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(
            command,
            cwd=str(REPOSITORY),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            text=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


def contract_tests(kind: str, limit: float) -> Part:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/contract",
        f"--poptorch={kind}",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    return run("contract tests", [*command, "--tb=short"], limit)


def quick_start(kind: str, folder: str, limit: float) -> Part:
    target = "emulator" if kind == "emulator" else "auto"
    command = [sys.executable, "-m", "ipu_train", "--config", "quickstart", f"device.target={target}"]
    return run("quick start", [*command, "logging.progress=false", f"run_dir={folder}/quickstart"], limit)


def operator(kind: str, limit: float) -> Part:
    """The PopART operator; built first where the SDK is enabled."""
    built = Part("", "", 0.0, "")
    if kind == "sdk" and os.environ.get("POPLAR_SDK_ENABLED"):
        built = run("building the PopART operator", ["make", "-C", "kernels"], limit)
    found = run("PopART operator", [sys.executable, str(MEASURE), "operator", "--poptorch", kind], limit)
    return found._replace(text=f"{built.text}\n{found.text}".strip())


def recipe(kind: str, name: str, folder: str, limit: float) -> Part:
    """Predicted beside measured; the SDK's ``pva`` reads memory from Poplar's profile (``autoReport``)."""
    profile = f"{folder}/profile_{name}"
    options = {"autoReport.directory": profile, "autoReport.outputGraphProfile": "true"}
    command = [sys.executable, str(MEASURE), "recipe", name, "--poptorch", kind, "--profile", profile]
    return run(f"recipe {name}", command, limit, {"POPLAR_ENGINE_OPTIONS": json.dumps(options)})


def report(parts: List[Part], kind: str) -> str:
    """The report as Markdown: a table of verdicts, then what each part said."""
    what = (
        "the Poplar SDK's PopTorch"
        if kind == "sdk"
        else "the embedded emulator (a rehearsal: nothing is measured)"
    )
    lines = [f"# ipu-train check, on {what}", "", "| part | verdict | seconds |", "|---|---|---|"]
    lines += [f"| {part.title} | {part.verdict} | {part.seconds:.0f} |" for part in parts]
    for part in parts:
        lines += ["", f"## {part.title}: {part.verdict}", "", "```", part.text[-20000:], "```"]
    return "\n".join(lines) + "\n"


def _parts(kind: str, recipes: List[str], folder: str, limit: float) -> Iterator[Part]:
    yield environment(kind)
    yield contract_tests(kind, limit)
    yield quick_start(kind, folder, limit)
    yield operator(kind, limit)
    for name in filter(None, recipes):
        yield recipe(kind, name, folder, limit)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--poptorch", choices=("sdk", "emulator"), help="default: sdk where it can be imported"
    )
    parser.add_argument("--report", type=Path, help="default: ipu_check_<time>.md in the present folder")
    parser.add_argument("--recipes", default=RECIPES, help="recipes to measure, separated by commas")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that a part may take (3600)")
    options = parser.parse_args()
    stamp = f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%S}"
    path = Path.cwd() / (options.report or f"ipu_check_{stamp}.md")
    if path.is_dir() or not os.access(str(path.parent), os.W_OK):
        parser.error(f"{path} cannot be written: name a file in a folder that is there, as in --report PATH")
    sys.path.insert(0, str(REPOSITORY))
    from ipu_train.device import sdk_is_installed

    kind = options.poptorch or ("sdk" if sdk_is_installed() else "emulator")
    parts: List[Part] = []
    with tempfile.TemporaryDirectory(prefix="ipu_check_") as folder:
        for part in _parts(kind, options.recipes.split(","), folder, options.limit):
            parts.append(part)
            path.write_text(
                report(parts, kind), encoding="utf-8"
            )  # a check that is stopped leaves what it knows
    print(f"report: {path}")
    return 0 if all(part.verdict == "passed" for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
