"""Mutants of the code that runs depend on most, and how many of them the tests notice (mutmut 3).

    pip install mutmut
    OMP_NUM_THREADS=1 python scripts/mutants.py [--room checkpoints] [--sample 40] [--seed 0] [--work FOLDER]

For each room (checkpoints, data order, signals, the emulator's batching) a copy of the package is made as it is
installed, mutmut changes its functions one small thing at a time, and the room's own quick tests run on a sample of the
mutants, drawn with the seed. With ``--sample 0`` all are tried. Prints for each room how many were noticed, the
survivors with their changes, and a summary; a mutant that no test reaches counts as a survivor.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# room: (modules below the package, tests)
ROOMS = {
    "checkpoints": (
        "training/checkpoint.py training/checkpoint_folder.py training/checkpoint_writer.py",
        "tests/training/test_checkpoint.py tests/training/test_checkpoint_writer.py",
    ),
    "data order": ("data/sampler.py data/keyed.py", "tests/data/test_sampler.py tests/data/test_keyed.py"),
    "signals": ("training/signals.py", "tests/training/test_signals.py"),
    "batching": (
        "emulator/device/batching.py emulator/loading/partition.py",
        "tests/emulator/device/test_batching.py tests/emulator/loading/test_partition.py",
    ),
}
# whose tests reach the code in forks, where mutmut does not see them: all of them are tried on each mutant
FORKING = ("signals",)
STATUS = {
    0: "survived",
    5: "no tests",
    33: "no tests",
    None: "not tried",
}  # of mutmut's exit codes; others: noticed
SETUP = """[mutmut]
source_paths=ipu_train/
only_mutate=
    {modules}
pytest_add_cli_args_test_selection=
    {tests}
also_copy=
    scripts
    setup.cfg
    pyproject.toml
    configs
    docs
max_stack_depth=-1
mutate_only_covered_lines=false
"""


def house(folder, modules, tests):
    """The package as it is installed, its tests, and mutmut's settings."""
    skip = shutil.ignore_patterns("__pycache__", "*.so", "build")
    shutil.copytree(REPOSITORY / "ipu_train", folder / "ipu_train", ignore=skip)
    for name in ("models", "kernels", "configs"):
        shutil.copytree(REPOSITORY / name, folder / "ipu_train" / name, ignore=skip)
    for name in ("tests", "scripts", "configs", "docs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=skip)
    shutil.copy(REPOSITORY / "pyproject.toml", folder / "pyproject.toml")
    lines = [f"ipu_train/{module}" for module in modules.split()], tests.split()
    settings = SETUP.format(modules="\n    ".join(lines[0]), tests="\n    ".join(lines[1]))
    own = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    (folder / "setup.cfg").write_text(f"{own}\n{settings}", encoding="utf-8")


def mutmut(folder, *arguments):
    """What ``mutmut ARGUMENTS`` prints in the folder."""
    paths = [str(folder / "mutants"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def all_tests_for_all(folder):
    """Let mutmut try every test on each mutant, whether it has seen the test reach it or not."""
    path = folder / "mutants" / "mutmut-stats.json"
    stats = json.loads(path.read_text(encoding="utf-8"))
    tests = sorted(stats["duration_by_test"])
    functions = {mutant.rpartition("__mutmut_")[0] for mutant in verdicts(folder)}
    stats["tests_by_mangled_function_name"] = dict.fromkeys(functions, tests)
    path.write_text(json.dumps(stats), encoding="utf-8")


def verdicts(folder):
    """Exit code of the tests by mutant; None where they did not run."""
    found = {}
    for path in sorted((folder / "mutants").rglob("*.py.meta")):
        found.update(json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"])
    return found


def attack(name, sample, seed, work):
    """(noticed, tried, all) of a room's mutants; prints the survivors."""
    folder = Path(work) / name.replace(" ", "_")
    if not folder.exists():
        folder.mkdir(parents=True)
        house(folder, *ROOMS[name])
        said = mutmut(
            folder, "run", "--max-children", "1", "no such mutant"
        )  # makes them and times the tests
        if not verdicts(folder):
            sys.exit(f"{name}: mutmut made no mutants:\n{said[-3000:]}")
        if name in FORKING:
            mutmut(folder, "run", "--max-children", "1", min(verdicts(folder)))  # times the tests
            all_tests_for_all(folder)
    every = sorted(verdicts(folder))
    chosen = every if not sample else random.Random(f"{seed} {name}").sample(every, min(sample, len(every)))
    missing = [mutant for mutant in chosen if verdicts(folder)[mutant] is None]
    said = mutmut(folder, "run", "--max-children", "1", *missing) if missing else ""
    found = verdicts(folder)
    if missing and all(found[mutant] is None for mutant in missing):
        sys.exit(f"{name}: mutmut tried nothing:\n{said[-3000:]}")
    alive = [mutant for mutant in chosen if found[mutant] in STATUS]
    print(
        f"\n{name}: {len(chosen) - len(alive)} of {len(chosen)} noticed, of {len(every)} mutants", flush=True
    )
    for mutant in alive:
        lines = mutmut(folder, "show", mutant).splitlines()
        change = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        print(f"  {STATUS[found[mutant]]}: {mutant}")
        print("\n".join(f"      {line}" for line in change), flush=True)
    return len(chosen) - len(alive), len(chosen), len(every)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="default: all")
    parser.add_argument("--sample", type=int, default=40, help="mutants of a room; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", help="a folder to keep, where a run goes on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or temporary
        counts = [attack(name, options.sample, options.seed, work) for name in options.room or ROOMS]
    noticed, tried, every = map(sum, zip(*counts))
    print(f"\n{noticed} of {tried} noticed ({noticed / tried:.1%}), of {every} mutants; seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
