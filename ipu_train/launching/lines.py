"""The lines that start a training: ``poprun`` on an IPU-POD, ``torchrun`` on a machine without the Poplar SDK.

Options and environment of ``poprun`` are those of the PopRun user guide and of the lines in the READMEs and
``benchmarks.yml`` of Graphcore's CNN application.
"""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..config import Resolved
from .shape import LaunchError, Shape, System

# what instances on other hosts need of this one's environment
_PASSED_ON = ("LD_LIBRARY_PATH", "OPAL_PREFIX", "PATH", "CPATH", "PYTHONPATH", "POPLAR_ENGINE_OPTIONS")
_WHERE_SET = ("WANDB_API_KEY", "WANDB_MODE", "POPTORCH_LOG_LEVEL", "POPLAR_LOG_LEVEL")
_VIPU_TIMEOUT_S = 800
# the first instance compiles and validates while the others wait for it
_HOST_SYNC_TIMEOUT_S = 900
_CACHE = "runs/executables"


class Line(NamedTuple):
    """A launcher with its options, the program that it starts, and variables beside those that are set."""

    environment: Dict[str, str]
    launcher: List[str]
    program: List[str]

    @property
    def command(self) -> List[str]:
        return [*self.launcher, *self.program]

    def text(self) -> str:
        """For a shell: an option of the launcher a line, then the program."""
        words = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        first = next((i for i, word in enumerate(self.launcher) if word.startswith("--")), len(self.launcher))
        words += map(shlex.quote, self.launcher[:first])
        options = [shlex.quote(word) for word in self.launcher[first:]]
        return " \\\n    ".join([" ".join(words), *options, " ".join(map(shlex.quote, self.program))])


def poprun(
    resolved: Resolved,
    shape: Shape,
    system: System,
    training: Sequence[str],
    vipu_host: Optional[str] = None,
    interface: Optional[str] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> Line:
    """The line for an IPU-POD.

    Args:
        training: what ``ipu-train`` is called with.
        vipu_host: of the V-IPU server.
        interface: network that the hosts reach each other by.
        environment: this process's, by default.

    Raises:
        LaunchError: options of Poplar's engine in the environment that nothing can read.
    """
    values = os.environ if environment is None else environment
    command = ["poprun", "-v", f"--num-instances={shape.instances}", f"--num-replicas={shape.replicas}"]
    command += [f"--ipus-per-replica={shape.ipus_per_replica}"]
    if shape.link_domains > 1:
        command.append(f"--num-ilds={shape.link_domains}")
    if shape.hosts != ("localhost",):
        command.append(f"--host={','.join(shape.hosts)}")
    command.append("--process-placement=spreadnuma")
    vipu_host = vipu_host or values.get("IPUOF_VIPU_API_HOST")
    if vipu_host:
        command.append(f"--vipu-server-host={vipu_host}")
    command += _partition(resolved, system)
    cache = resolved.config.device.executable_cache or _CACHE
    command.append(f"--executable-cache-path={os.path.expanduser(cache)}")
    if interface:
        networks = " ".join(f"--mca {kind}_tcp_if_include {interface}" for kind in ("oob", "btl"))
        command.append(f"--mpi-global-args={networks}")
    if len(shape.hosts) > 1:
        named = [*_PASSED_ON, *(name for name in _WHERE_SET if name in values)]
        exported = " ".join(f"-x {name}" for name in named)
        command.append(f"--mpi-local-args={exported} -x IPUOF_VIPU_API_TIMEOUT={_VIPU_TIMEOUT_S}")
    program = ["ipu-train", *training]
    if resolved.config.device.executable_cache is None:
        program.append(f"device.executable_cache={cache}")
    return Line({"POPLAR_ENGINE_OPTIONS": _engine_options(resolved, values)}, command, program)


def _partition(resolved: Resolved, system: System) -> List[str]:
    if system.partition is None:
        return [
            f"--vipu-partition=ipu_train_{resolved.name}",
            "--update-partition=yes",
            "--remove-partition=yes",
        ]
    fits = "no" if system.partition_ipus is not None else "yes"
    return [
        f"--vipu-partition={system.partition}",
        f"--update-partition={fits}",
        "--reset-partition=no",
        "--remove-partition=no",
    ]


def _engine_options(resolved: Resolved, values: Mapping[str, str]) -> str:
    text = values.get("POPLAR_ENGINE_OPTIONS") or "{}"
    try:
        before = json.loads(text)
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise LaunchError(
            f"the variable POPLAR_ENGINE_OPTIONS is {text!r}, and must be a JSON object of options, such as "
            """'{"opt.enableInlining": "true"}'; unset or mend it"""
        )
    ours = {}
    if "target.hostSyncTimeout" not in resolved.config.device.engine_options:
        ours["target.hostSyncTimeout"] = str(_HOST_SYNC_TIMEOUT_S)
    return json.dumps({**ours, **before})


def torchrun(shape: Shape, training: Sequence[str]) -> Line:
    """The line for this machine, where the emulator stands in for the IPUs."""
    beside = Path(sys.executable).with_name("torchrun")
    on_path = shutil.which("torchrun")
    found = "torchrun" if on_path and Path(on_path) == beside else str(beside)
    begin = [found] if beside.exists() else [sys.executable, "-m", "torch.distributed.run"]
    launcher = [*begin, "--standalone", f"--nproc_per_node={shape.instances}"]
    return Line({}, launcher, ["-m", "ipu_train", *training])
