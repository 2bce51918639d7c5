"""Throw broken configurations and absurd values at ipu-train, and count what goes wrong.

    python scripts/fuzz_configurations.py [--count 10000] [--seed 0] [--absurd 200] [--out FILE.md]

Three kinds of input:

* fuzzed files: recipes with bytes, lines, keys, values, indentation and whole sections changed, shuffled or repeated;
  YAML bombs, deep nesting, tags that would run code, foreign bases;
* large files;
* absurd values: numbers, texts and lists far outside of what a run can have, for every key, through the command line
  (``ipu-train --config quickstart section.key=value``, each in a process of its own), which must refuse them.

Counted as wrong: a traceback (any exception but ConfigError, or an exit status other than 2), more than 5 s of
processor time (beside importing torch, where only a network can judge), more than 500 MB of memory, and a file that
code in the configuration would have made.
"""

import argparse
import os
import platform
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

import pydantic
import yaml
from broken_configurations import SENTINEL, absurd, fuzzed

from ipu_train import cli, config

LIMIT_SECONDS, LIMIT_BYTES = 5.0, 500 * 10**6


class Finding(NamedTuple):
    """One input that went wrong: its kind, what happened, and the input."""

    kind: str
    what: str
    text: str


class Counts(NamedTuple):
    """What became of the fuzzed files."""

    refused: int
    taken: int
    slowest: float
    findings: List[Finding]


def fuzz_files(count: int, seed: int, folder: Path) -> Counts:
    """Load ``count`` broken files in this process; the seed alone decides them."""
    rng = random.Random(seed)
    sources = [path.read_text(encoding="utf-8") for path in sorted(config.builtin_folder().glob("*.yaml"))]
    sources += [
        config.load(name).dump() for name in ("quickstart", "resnet50_gn_pn", "efficientnet_b4_g16_ln_pn")
    ]
    path, refused, taken, slowest = folder / "fuzzed.yaml", 0, 0, 0.0
    findings: List[Finding] = []
    for number in range(count):
        data = fuzzed(rng, sources)
        path.write_bytes(data)
        started = time.process_time()
        try:
            resolved = config.load(path)
            config.load_text(resolved.dump(), folder / "again.yaml")
            taken += 1
        except config.ConfigError as error:
            str(error)
            refused += 1
        except Exception:
            findings.append(Finding(f"file {number}", traceback.format_exc()[-600:], repr(data[:300])))
        seconds = time.process_time() - started
        slowest = max(slowest, seconds)
        if seconds > LIMIT_SECONDS:
            findings.append(Finding(f"file {number}", f"{seconds:.1f} s", repr(data[:300])))
    return Counts(refused, taken, slowest, findings)


class Ended(NamedTuple):
    """How a process ended: exit status, processor time in seconds, peak memory in bytes, what it wrote as errors."""

    status: int
    seconds: float
    memory: int
    error: str


def forked(work: Callable[[], int], folder: Path) -> Ended:
    """Do some work in a process of its own, which is stopped after 20 seconds of processor time."""
    errors = folder / "stderr"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
            os.dup2(os.open(str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = work()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, code, usage = os.wait4(child, 0)
    status = os.WEXITSTATUS(code) if os.WIFEXITED(code) else -os.WTERMSIG(code)
    text = errors.read_text(encoding="utf-8", errors="replace")
    return Ended(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text)


def _import_torch() -> int:
    import torch

    return 0 if torch.__version__ else 1


def try_absurd(change: List[str], folder: Path, allowed: float) -> Tuple[Optional[Finding], Ended]:
    """Run the command line with the overrides, which it should refuse, in ``allowed`` seconds of processor time."""
    text = " ".join(change)[:200]
    ended = forked(lambda: cli.main(["--config", "quickstart", *change]), folder)
    if ended.status != 2 or "Traceback" in ended.error:
        return Finding("absurd value", f"exit status {ended.status}: {ended.error[-400:]}", text), ended
    if ended.seconds > allowed:
        return Finding("absurd value", f"{ended.seconds:.1f} s of processor time", text), ended
    return None, ended


# -- report ------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--absurd", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=lambda text: Path(text).absolute())  # this leaves the working directory
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(name)
        shutil.copytree(str(config.builtin_folder() / "families"), str(folder / "families"))
        torch_alone = forked(_import_torch, folder)
        ends: List[Ended] = []
        findings: List[Finding] = []
        for change in absurd(arguments.absurd, arguments.seed):
            found, ended = try_absurd(change, folder, LIMIT_SECONDS + torch_alone.seconds)
            ends.append(ended)
            findings += [found] if found else []
        counts = fuzz_files(arguments.count, arguments.seed, folder)
        findings += counts.findings
        if (folder / SENTINEL).exists():
            findings.append(Finding("code", "a configuration ran code", SENTINEL))
    memory = {
        "files": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "absurd values": max((ended.memory for ended in ends), default=0),
    }
    findings += [
        Finding("memory", f"{m / 1e6:,.0f} MB", what) for what, m in memory.items() if m > LIMIT_BYTES
    ]
    quick = [ended.seconds for ended in ends if ended.seconds < torch_alone.seconds]
    rows = [
        ("fuzzed files", f"{arguments.count:,}"),
        ("... refused with messages", f"{counts.refused:,}"),
        ("... still valid: loaded, printed and loaded again", f"{counts.taken:,}"),
        ("... slowest, processor time", f"{counts.slowest:.2f} s"),
        ("... peak memory", f"{memory['files'] / 1e6:,.0f} MB"),
        ("absurd values through the command line", f"{len(ends):,}"),
        (
            "... refused without importing torch",
            f"{len(quick):,}; the slowest in {max(quick, default=0):.2f} s",
        ),
        ("... slowest of all, processor time", f"{max((ended.seconds for ended in ends), default=0):.2f} s"),
        ("... importing torch alone", f"{torch_alone.seconds:.2f} s, {torch_alone.memory / 1e6:,.0f} MB"),
        ("... peak memory", f"{memory['absurd values'] / 1e6:,.0f} MB"),
        ("tracebacks, hangs, wrong exit statuses, absurd values taken", f"{len(findings):,}"),
        ("files made by code in a configuration", f"{sum(found.kind == 'code' for found in findings):,}"),
    ]
    versions = f"Python {platform.python_version()}, pydantic {pydantic.VERSION}, PyYAML {yaml.__version__}"
    command = f"--count {arguments.count} --absurd {arguments.absurd} --seed {arguments.seed}"
    text = "# Fuzzed configurations and absurd values\n\n"
    text += f"`python scripts/fuzz_configurations.py {command}`; {versions}.\n\n| | |\n|---|---|\n"
    text += "".join(f"| {what} | {value} |\n" for what, value in rows)
    text += "".join(f"\n* {found.kind}: {found.what}\n  `{found.text}`\n" for found in findings)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
