"""Record what PopTorch's own Python front end makes of the table of tiny programs.

    POPTORCH_SOURCES=CHECKOUT python scripts/record_front_end.py FRONT_END

CHECKOUT holds PopTorch 3.4's public sources; FRONT_END is a folder with a ``front_end.py`` whose ``install()`` makes
``import poptorch`` give PopTorch's Python over a stand-in for its compiled core, and a ``poptorch_core`` that notes the
ATen operators it met in ``LOG["ops"]``. Needs Python 3.8 and torch 2.0.1; a few seconds. Neither is part of this
project: the result, ``tests/emulator/lowering/recorded.jsonl``, is, and the emulator is tested against it. Where the
stand-in says something else than PopTorch's sources, the sources win: ``tests/emulator/lowering/corrections.py``.
"""

import json
import logging
import os
import sys
import warnings
from typing import Any, Dict, List

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORDED = os.path.join(REPOSITORY, "tests", "emulator", "lowering", "recorded.jsonl")


def lowered_in(operators: List[str], verdict: str, error: str) -> str:
    """Where PopTorch's sources decide: the files with the lowerings that were met, or what refuses."""
    from ipu_train.emulator.lowering.handlers import HANDLERS, lowered_as

    if verdict == "refused":
        if "Unsupported ops" in error:
            return "ErrorOnUnsupportedAten.cpp: " + error.split("compiled model: ")[-1]
        if "Meta" in error:
            return "TypeInferenceHandler.cpp: no Meta kernel in torch 2.0.1"
        return "stand-in or torch 2.0.1: " + error.split(": ", 1)[-1][:110]
    names = {operator.split("::")[1] for operator in operators if operator.startswith("aten::")}
    files = [
        file
        for file, known in HANDLERS.items()
        if {lowered_as(name) for name in names}.intersection(known.split())
    ]
    return ", ".join(files)


def record(program: Dict[str, Any], poptorch: Any, core: Any) -> Dict[str, Any]:
    """One line of the recorded table."""
    from tests.emulator.lowering.corrections import corrected
    from tests.emulator.lowering.running import outcome

    core.CALLS.clear()
    core.DEVICE.held.clear()
    core.LOG["ops"] = {}
    verdict, result, error = outcome(program, poptorch)
    line = {
        "id": program["id"],
        "verdict": verdict,
        "result": result,
        "where": lowered_in(sorted(core.LOG["ops"]), verdict, error),
    }
    return corrected(line)


def main() -> None:
    """Put every program through the front end and write the table."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("ignore")
    os.environ.setdefault("POPTORCH_LOG_LEVEL", "ERR")
    sys.path[:0] = [REPOSITORY, sys.argv[1]]
    import front_end  # of the folder that the command line names
    import torch

    torch.set_num_threads(1)
    front_end.install()
    import poptorch
    from poptorch import poptorch_core

    logging.getLogger("poptorch::python").setLevel(logging.CRITICAL)
    from tests.emulator.lowering.programs import programs

    lines = [record(program, poptorch, poptorch_core) for program in programs()]
    with open(RECORDED, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    by_sources = sum("front_end" in line for line in lines)
    accepted = sum(line["verdict"] == "accepted" for line in lines)
    print(f"{len(lines)} programs: {accepted} accepted, {len(lines) - accepted} refused")
    print(f"{by_sources} of them are decided by the sources, not by the stand-in")


if __name__ == "__main__":
    main()
