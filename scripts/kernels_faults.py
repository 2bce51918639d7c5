"""Faults put into copies of the kernels' sources, one at a time, and which test notices each.

    OMP_NUM_THREADS=1 python scripts/kernels_faults.py [NAME ...] [--work FOLDER]

For each fault a copy of the package and of its tests is made and one place in it is changed; then the fault's tests of
tests/kernels run until the first one fails. Prints a table with that test; "not noticed" where all pass. ``--work``
keeps the copies and the libraries built from them in a folder, so that what ran before is not run again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COPIED = ("ipu_train", "kernels", "models", "configs", "tests", "setup.cfg")
MATHS, SWEEP, TASKS, PASSES = (
    "proxy_norm/proxy_norm_math.hpp",
    "proxy_norm/sweep.hpp",
    "proxy_norm/sweep_tasks.hpp",
    "proxy_norm/pass_vertices.hpp",
)
CPU, ROWS = "cpu_kernel/pass.hpp", "cpu_kernel/rows.hpp"
OPERATORS = (
    "test_tables.py",
    "test_operators.py",
    "test_ipu_branch.py",
    "test_host_poplar.py",
)  # the quick ones first
ON_CPU = ("test_cpu.py",)

# name: (what is wrong, file below kernels/, text, text in its place, files of tests)
FAULTS = {
    "misaligned load": (
        "vectors of 64 bits loaded from where a stretch begins, whole word or not",
        SWEEP,
        "(begin + lanes - 1) / lanes * lanes, last = end / lanes * lanes;",
        "begin, last = begin + (end - begin) / lanes * lanes;",
        OPERATORS,
    ),
    "8 elements past": (
        "a group's shift is the mean of its samples and of the 8 elements behind them",
        TASKS,
        "for (unsigned i = 0; i < count; ++i)\n    sum += float(samples[i]);\n  return T(sum / float(count));",
        "for (unsigned i = 0; i < count + 8; ++i)\n    sum += float(samples[i]);\n"
        "  return T(sum / float(count + 8));",
        OPERATORS,
    ),
    "one tensor twice": (
        "the gradients of beta and gamma are one tensor",
        "proxy_norm/passes.cpp",
        '{"gradGamma", out.gamma},',
        '{"gradGamma", out.beta},',
        OPERATORS,
    ),
    "piece count": (
        "a piece of more than 65,535 pixels is not split, its count overflows",
        "proxy_norm/layout.cpp",
        "piece.reps = std::min(left, kLargest);",
        "piece.reps = left;",
        OPERATORS,
    ),
    "no shift": (
        "sums of squares are taken relative to zero",
        TASKS,
        "return T(sum / float(count));",
        "return T(0.0f * sum);",
        OPERATORS,
    ),
    "no shift, CPU": (
        "the same in the CPU kernel",
        CPU,
        "const F shift = sampledMean(n, x);",
        "const F shift = 0;",
        ON_CPU,
    ),
    "no instances": (
        "SiLU's forward vertex is not instantiated",
        "proxy_norm/codelets.cpp",
        "template class SiluForward<half>;\ntemplate class SiluForward<float>;\n",
        "",
        OPERATORS,
    ),
    "throw": (
        "a codelet throws",
        PASSES,
        "void compute(unsigned worker) { checked",
        "void compute(unsigned worker) { if (length == 0) throw 1; checked",
        OPERATORS,
    ),
    "remainder lane": (
        "sums leave out a row's elements in the vector in which the row before it ends",
        ROWS,
        "next.of[k] = border(Vector<F>{}, both.of[k]);",
        "next.of[k] = Vector<F>{};",
        ON_CPU,
    ),
    "grouped stride": (
        "columns of a channel group advance by a vector instead of by the group",
        SWEEP,
        "sweepRows<EachRow, typename VectorOf<T>::Type>(sweep, row + lane, begin, end, width, lanes, 1);",
        "sweepRows<EachRow, typename VectorOf<T>::Type>(sweep, row + lane, begin, end, lanes, lanes, 1);",
        OPERATORS,
    ),
    "shared word": (
        "two workers store halves of one word of 32 bits at a time",
        PASSES,
        "const WordRange range(rows, 4, worker, numWorkers());\n"
        "    for (unsigned row = range.begin; row < range.end; ++row) {\n"
        "      const float center = groupMean[row], steep = groupInverse[row] *",
        "const WordRange range(rows, 1, worker, numWorkers());\n"
        "    for (unsigned row = range.begin; row < range.end; ++row) {\n"
        "      const float center = groupMean[row], steep = groupInverse[row] *",
        OPERATORS,
    ),
    "epsilon outside": (
        "epsilon is added to the group's deviation instead of under its root",
        CPU,
        "1.0 / std::sqrt(total.deviations / double(n) + p.normEps)",
        "1.0 / (std::sqrt(total.deviations / double(n)) + p.normEps)",
        ON_CPU,
    ),
    "swapped gradients": (
        "a channel's gradients of beta and gamma change places",
        PASSES,
        "gradBeta[row] = G(inverse[row] * sums[2]);\n      gradGamma[row] = G(inverse[row] * sums[3]);",
        "gradBeta[row] = G(inverse[row] * sums[3]);\n      gradGamma[row] = G(inverse[row] * sums[2]);",
        OPERATORS,
    ),
    "stale table": (
        "two operators of a graph with different numbers of points read one table",
        "proxy_norm/steps.cpp",
        '"relu" + std::to_string(settings.quantiles)',
        '"relu"',
        OPERATORS,
    ),
    "stale table, SiLU": (
        "the same for SiLU",
        "proxy_norm/steps.cpp",
        'name = "silu" + std::to_string(settings.quantiles);',
        'name = "silu";',
        OPERATORS,
    ),
    "rest forgotten": (
        "what rounding took from the mean is left out of a sum of the backward pass",
        CPU,
        "dSlopeY = r * (sums[i][kDSlopeU] - rest * dSlope);",
        "dSlopeY = r * sums[i][kDSlopeU];",
        ON_CPU,
    ),
    "unchecked": (
        "a NaN of x passes through ReLU's maximum without a norm before it",
        PASSES,
        "checked != 0 ? run<true>(worker) : run<false>(worker);",
        "run<false>(worker);",
        OPERATORS,
    ),
}


def copy_with(fault, folder):
    """A copy of the package whose kernels have the fault, imported from there and nowhere else."""
    _, file, text, instead, _ = FAULTS[fault]
    for name in COPIED:
        source = REPOSITORY / name
        ignored = shutil.ignore_patterns("__pycache__", "build", "*.pyc")
        shutil.copytree(source, folder / name, ignore=ignored) if source.is_dir() else shutil.copy(
            source, folder
        )
    for name in ("kernels", "models", "configs"):
        os.symlink(os.path.join("..", name), str(folder / "ipu_train" / name))
    path = folder / "kernels" / file
    before = path.read_text()
    if before.count(text) != 1:
        raise SystemExit(f"{fault}: the text to be changed is {before.count(text)} times in {file}, not once")
    path.write_text(before.replace(text, instead))


def noticed_by(fault, work):
    """The first test that fails, with its reason; None where all pass."""
    folder = work / re.sub(r"\W+", "_", fault)
    if not folder.exists():
        folder.mkdir(parents=True)
        copy_with(fault, folder)
    tests = [f"tests/kernels/{name}" for name in FAULTS[fault][4]]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "IPU_TRAIN_CACHE": str(folder / "cache")}
    run = subprocess.run(
        command, cwd=str(folder), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = run.stdout.decode(errors="replace")
    (folder / "output.txt").write_text(text)
    if run.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
    reasons = re.findall(r"^E +(.*(?:[Ee]rror|undefined|assert).*)$", text, re.M)
    return (failed.group(1) if failed else text[-300:]), (reasons[-1].strip() if reasons else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", metavar="NAME", help=f"one of: {', '.join(FAULTS)}")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.faults if name not in FAULTS]
    if unknown:
        parser.error(f"unknown fault {unknown[0]!r}")
    with tempfile.TemporaryDirectory() as temporary:
        print("| fault | what is wrong | noticed by |\n|---|---|---|", flush=True)
        for name in arguments.faults or FAULTS:
            found = noticed_by(name, (arguments.work or Path(temporary)).resolve())
            by = "**not noticed**" if found is None else f"`{found[0].rpartition('/')[2]}`"
            print(f"| {name} | {FAULTS[name][0]} | {by} |", flush=True)
            if found and found[1]:
                print(f"<!-- {found[1][:200]} -->", flush=True)


if __name__ == "__main__":
    main()
