"""``ipu-train launch``: works out how a training is started on an IPU-POD, and starts it or prints the line."""

import argparse
import os
import sys
from typing import Any, List, Optional, Tuple

from .arguments import parser as with_configuration


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more; got {text}")
    return int(text)


def _arguments() -> argparse.ArgumentParser:
    parser = with_configuration(
        "launch",
        "Start a training on an IPU-POD: instances, host workers, partition and the arguments of poprun follow from "
        "the configuration. Without the Poplar SDK the same instances run under torchrun on this machine.",
    )
    add = parser.add_argument
    add(
        "--hosts",
        default="localhost",
        metavar="A,B",
        help="hosts that the instances run on (default: this one)",
    )
    add(
        "--ipus",
        type=_number,
        metavar="N",
        help="IPUs that there are; default: as many as the training takes",
    )
    add(
        "--instances",
        type=_number,
        metavar="N",
        help="processes; default: up to 8 a host with 2 replicas each",
    )
    add("--partition", metavar="NAME[:IPUS]", help="V-IPU partition to use; default: poprun makes one")
    add("--vipu-host", metavar="HOST", help="host of the V-IPU server; default: $IPUOF_VIPU_API_HOST")
    add(
        "--interface",
        metavar="NAME",
        help="network interface by which the hosts reach each other, such as eno1",
    )
    add(
        "--images-per-worker",
        type=float,
        metavar="RATE",
        help="images per second that one worker delivers; default: measured here where the images are",
    )
    add("--cores", type=_number, metavar="N", help="cores of each host; default: this machine's")
    add("--dry-run", action="store_true", help="print the line and do not run it")
    return parser


def main(arguments: List[str]) -> int:
    """Print how the training is shared out and the line that starts it; run it unless this is a dry run.

    Raises:
        ConfigError, LaunchError: bad input.
        planning.DoesNotFit: the program does not fit on its IPUs.
    """
    options = _arguments().parse_intermixed_args(arguments)

    from ..config import load
    from ..launching import LaunchError, shape_of

    if options.images_per_worker is not None and not 0 < options.images_per_worker < 1e9:
        raise LaunchError(f"--images-per-worker must be a rate above 0, got {options.images_per_worker:g}")
    resolved = load(options.config, options.overrides)
    if resolved.config.device.profile is not None:
        raise resolved.error(
            "device.profile", "runs one replica and trains nothing: run ipu-train itself, or remove it"
        )
    system = _system(options)
    if resolved.config.knows_its_ipus:
        shape_of(resolved, system)

    from .. import planning
    from ..device import sdk_is_installed, will_be_emulated
    from ..launching.lines import poprun, torchrun
    from ..launching.shape import filling
    from ..launching.workers import measured_rate, workers_for
    from ..planning.workers import cores
    from ..processes.connect import check_together

    traces = planning.Traces()
    resolved = planning.with_splits(resolved, traces=traces)
    shape = shape_of(resolved, system)
    check_together(resolved, shape.instances, will_be_emulated(resolved))
    report = planning.predict(resolved, traces=traces)
    planning.check_filled(resolved)
    if not report.may_fit and not resolved.config.device.allow_out_of_memory:
        raise planning.refuse(report, resolved)
    here = options.images_per_worker
    rate = here if here is not None else measured_rate(resolved)
    workers = workers_for(
        shape,
        report.images_per_second,
        rate,
        options.cores or cores(),
        resolved.config.data.workers,
        here is not None,
    )
    _describe(resolved, shape, report, workers)
    idle = filling(resolved, system, shape)
    if idle:
        print(f"note: {system.ipus - shape.reserved_ipus} of {system.ipus} IPUs stay idle; {idle}")
    training = ["--config", options.config, *options.overrides, f"data.workers={workers.count}"]
    on_pod = poprun(resolved, shape, system, training, options.vipu_host, options.interface)
    if sdk_is_installed():
        print(f"\n{on_pod.text()}")
        return 0 if options.dry_run else _run(on_pod, LaunchError)
    spare = max(0, cores() // shape.instances - 1)
    local = torchrun(shape, [*training[:-1], f"data.workers={min(workers.count, spare)}"])
    print(f"\non the IPU-POD:\n{on_pod.text()}")
    target = resolved.config.device.target
    if target in ("ipu", "ipu_model"):
        if options.dry_run:
            return 0
        raise LaunchError(
            f"device.target is {target}, and this machine has no Poplar SDK: run the line above on the IPU-POD, or set "
            "device.target=auto to train on the emulator here"
        )
    print(f"\non this machine, which has no Poplar SDK, on the emulator:\n{local.text()}")
    return 0 if options.dry_run else _run(local, LaunchError)


def _system(options: Any) -> Any:
    from ..launching import LaunchError, System
    from ..launching.partition import size_of

    name, ipus = _named_partition(options.partition, LaunchError)
    if name is not None and ipus is None:
        ipus = size_of(name, options.vipu_host)
    hosts = tuple(host.strip() for host in options.hosts.split(","))
    return System(hosts, options.ipus, options.instances, name, ipus)


def _named_partition(text: Optional[str], error: Any) -> Tuple[Optional[str], Optional[int]]:
    name, colon, size = (text or "").partition(":")
    if text is not None and (not name or (colon and not size.isdecimal()) or (colon and int(size) < 1)):
        raise error(f"--partition {text}: write NAME, or NAME:IPUS with the number of its IPUs")
    return name or None, int(size) if size else None


def _describe(resolved: Any, shape: Any, report: Any, workers: Any) -> None:
    """How the training is shared out, for people."""
    hosts = "this host" if shape.hosts == ("localhost",) else f"{len(shape.hosts)} host(s)"
    rows = [
        f"{resolved.name}: {shape.replicas} replicas x {shape.ipus_per_replica} IPUs, {shape.reserved_ipus} IPUs "
        f"reserved; global batch {resolved.config.global_batch_size}",
        f"  {shape.instances} instances on {hosts}, {shape.replicas_per_instance} replicas each",
        f"  predicted: {report.images_per_second:,.0f} images/s ({report.verdict})",
        f"  {workers.count} workers for each instance: {workers.how}",
    ]
    print("\n".join(rows))
    if workers.too_slow:
        print(
            f"warning: the hosts deliver {workers.delivered:,.0f} of {workers.wanted:,.0f} images/s: the IPUs will "
            "wait for images. Use more hosts or cores, or smaller pictures on the disk.",
            file=sys.stderr,
        )


def _run(line: Any, error: Any) -> int:
    """Become the launcher, so that signals reach it and its exit status is ours."""
    sys.stdout.flush()
    try:
        os.execvpe(line.command[0], line.command, {**os.environ, **line.environment})
    except OSError as problem:
        raise error(
            f"{line.command[0]} cannot be run: {problem.strerror}. Is the Poplar SDK enabled?"
        ) from problem
