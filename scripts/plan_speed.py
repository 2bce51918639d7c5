"""How long whole commands take beside an earlier version: ``plan``, ``sweep`` and ``tune``, imports and all.

    python scripts/plan_speed.py --before FOLDER [--repeats 3] [--markdown scripts/results/plan_speed.md]

FOLDER is a checkout of the earlier version. Both run alternately in one go; the least of the repeats counts, wall-clock
and processor time. ``kept`` is the same command again, with the traces and the plans of convolutions that the first one
kept. The predictions of both versions are compared byte for byte. Run it on an idle machine.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COMMANDS = {
    "plan, ResNet-50": ["plan", "--config", "resnet50_gn_pn", "--json"],
    "plan, EfficientNet-B4": ["plan", "--config", "efficientnet_b4_g16_ln_pn", "--json"],
    "sweep, 3 norms x 6 sizes": [
        *("sweep", "--config", "resnet50_gn_pn", "--norms", "batch,group,group+pn"),
        *("--micro-batch-sizes", "1,2,4,8,16,32", "training.mixup_alpha=0", "--json", "sweep.json"),
    ],
    "tune, 1, 2 and 4 IPUs": ["tune", "--config", "resnet50_gn_pn", "--ipus", "1,2,4", "--output", "tuned.yaml"],
}  # fmt: skip


def run(folder, arguments, cache):
    """(wall seconds, processor seconds, standard output) of a command of the version in ``folder``."""
    with tempfile.TemporaryDirectory() as place:
        # the package as an installation maps it: models, kernels and configs are inside it
        package = Path(place) / "lib" / "ipu_train"
        package.mkdir(parents=True)
        for entry in (folder / "ipu_train").iterdir():
            (package / entry.name).symlink_to(entry)
        for name in ("models", "kernels", "configs"):
            (package / name).symlink_to(folder / name)
        environment = {**os.environ, "PYTHONPATH": str(package.parent), "IPU_TRAIN_CACHE": cache}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "ipu_train", *arguments],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def measure(name, before, repeats):
    """One row of the table; says whether the predictions agree."""
    arguments, found = COMMANDS[name], {}
    with tempfile.TemporaryDirectory() as cache:
        run(REPOSITORY, arguments, cache)  # keeps its plans, and warms the file system
        for _ in range(repeats):
            for version, folder, place in (
                ("before", before, "off"),
                ("now", REPOSITORY, "off"),
                ("kept", REPOSITORY, cache),
            ):
                found.setdefault(version, []).append(run(folder, arguments, place))
    least = {version: [min(row[i] for row in rows) for i in (0, 1)] for version, rows in found.items()}
    outputs = {row[2] for rows in found.values() for row in rows}
    cells = [
        f"{least[version][0]:.1f} s ({least[version][1]:.1f} s)" for version in ("before", "now", "kept")
    ]
    ratios = [f"{least[version][0] / least['before'][0]:.2f}" for version in ("now", "kept")]
    same = "yes" if len(outputs) == 1 else "no"
    return "| " + " | ".join([name, *cells, *ratios, same]) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier version")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="part of a command's name")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    lines = [
        f"`python scripts/plan_speed.py --before FOLDER --repeats {options.repeats}`: wall-clock (processor) time, the "
        f"least of {options.repeats}; Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| command | before | now | now, kept | now / before | kept / before | same output |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in COMMANDS:
        if options.only is None or options.only in name:
            lines.append(measure(name, options.before.resolve(), options.repeats))
            print(lines[-1], flush=True)
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
