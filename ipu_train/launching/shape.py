"""How replicas are shared out: IPUs, hosts and instances of a training, or why they do not fit.

Sources: the PopRun and V-IPU user guides (replicas are divided evenly among instances, instances among hosts; a
partition has a power of two of IPUs), PopTorch (a process drives up to 64 IPUs) and the lines in the READMEs of
Graphcore's CNN application, whose numbers of instances the default follows: as many as leave two replicas each, up to
eight a host.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

from ..config import Resolved

IPUS_PER_MACHINE = 4  # IPU-M2000 and Bow-2000
IPUS_PER_LINK_DOMAIN = 64  # of an IPU-POD64 or a Bow Pod64; larger systems link several
MOST_IPUS_PER_PROCESS = 64
_USUAL_REPLICAS, _MOST_INSTANCES_PER_HOST = 2, 8


class LaunchError(ValueError):
    """A training that cannot be started on this system; the message says what to change."""


@dataclass(frozen=True)
class System:
    """What there is to run on.

    Attributes:
        hosts: names of the hosts that instances run on.
        ipus: of the system, or of the part of it that may be used; None: as many as the training takes.
        instances: wanted; None: chosen here.
        partition, partition_ipus: a V-IPU partition and its size, as far as they are known.
    """

    hosts: Tuple[str, ...] = ("localhost",)
    ipus: Optional[int] = None
    instances: Optional[int] = None
    partition: Optional[str] = None
    partition_ipus: Optional[int] = None


@dataclass(frozen=True)
class Shape:
    """A training on a system: replicas over all instances, IPUs of a replica, instances, IPUs that are reserved."""

    replicas: int
    ipus_per_replica: int
    instances: int
    hosts: Tuple[str, ...]
    reserved_ipus: int

    @property
    def instances_per_host(self) -> int:
        return self.instances // len(self.hosts)

    @property
    def replicas_per_instance(self) -> int:
        return self.replicas // self.instances

    @property
    def link_domains(self) -> int:
        return max(1, self.reserved_ipus // IPUS_PER_LINK_DOMAIN)


def shape_of(resolved: Resolved, system: System) -> Shape:
    """Share out the replicas of a configuration, whose pipeline splits are names by now.

    Raises:
        LaunchError: they do not fit the system, or cannot be shared out evenly.
    """
    config = resolved.config
    replicas, each = config.training.replicas, config.ipus_per_replica
    used = replicas * each
    reserved = power_of_two_from(used)
    _check_hosts(system.hosts, replicas)
    _check_ipus(resolved, system, used, reserved)
    _check_partition(system, reserved)
    instances = system.instances or _usual_instances(replicas, each, len(system.hosts))
    _check_instances(resolved, system, instances)
    return Shape(replicas, each, instances, system.hosts, reserved)


def power_of_two_from(number: int) -> int:
    """The smallest power of two that is no less."""
    return 1 << (number - 1).bit_length()


def divisors(number: int) -> Tuple[int, ...]:
    return tuple(n for n in range(1, number + 1) if number % n == 0)


def _named(numbers: Tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:-1])) + (" or " if len(numbers) > 1 else "") + str(numbers[-1])


def _check_hosts(hosts: Tuple[str, ...], replicas: int) -> None:
    twice = sorted({host for host in hosts if hosts.count(host) > 1})
    if twice or not all(hosts):
        what = f"names {', '.join(twice)} more than once" if twice else "has an empty name"
        raise LaunchError(f"--hosts {what}: name each host once, as in --hosts a,b")
    if replicas % len(hosts):
        raise LaunchError(
            f"{replicas} replicas (training.replicas) cannot be shared out evenly among {len(hosts)} hosts: name "
            f"{_named(divisors(replicas))} of them, or change training.replicas"
        )


def _check_ipus(resolved: Resolved, system: System, used: int, reserved: int) -> None:
    if system.ipus is None:
        return
    training, each = resolved.config.training, resolved.config.ipus_per_replica
    if reserved > system.ipus:
        taken = f", for which {reserved} are reserved, a power of two" if reserved != used else ""
        raise LaunchError(
            f"{training.replicas} replicas x {each} IPUs take {used} IPUs{taken}, and --ipus is {system.ipus}: "
            + _smaller(resolved, system.ipus)
        )


def _smaller(resolved: Resolved, ipus: int) -> str:
    """The overrides with which as many replicas as fit train with the same global batch."""
    training, each = resolved.config.training, resolved.config.ipus_per_replica
    whole = training.replicas * training.gradient_accumulation
    fitting = [
        n for n in divisors(whole) if power_of_two_from(n * each) <= ipus and whole // n >= 2 * each - 1
    ]
    if not fitting:
        return f"a replica alone takes {each}; use a larger system"
    return (
        f"training.replicas={fitting[-1]} training.gradient_accumulation={whole // fitting[-1]} trains with the same "
        "global batch there"
    )


def filling(resolved: Resolved, system: System, shape: Shape) -> Optional[str]:
    """How to use IPUs of the system that stay idle, at the same global batch; None without any, or without a way."""
    if system.ipus is None or 2 * shape.reserved_ipus > system.ipus:
        return None
    training, each = resolved.config.training, shape.ipus_per_replica
    whole = training.replicas * training.gradient_accumulation
    most = [n for n in divisors(whole) if n * each <= system.ipus and whole // n >= 2 * each - 1][-1]
    if most <= training.replicas:
        return None
    return f"training.replicas={most} training.gradient_accumulation={whole // most} would use {most * each}"


def _check_partition(system: System, reserved: int) -> None:
    found = system.partition_ipus
    if found is None:
        return
    name = system.partition or ""
    if found != power_of_two_from(found):
        raise LaunchError(
            f"partition {name} cannot have {found} IPUs: partitions have a power of two of them"
        )
    if found < reserved:
        raise LaunchError(
            f"partition {name} has {found} IPUs, and the training takes {reserved}: make a larger one (vipu create "
            f"partition NAME --size {reserved}), or name none and poprun makes one"
        )


def _usual_instances(replicas: int, ipus_per_replica: int, hosts: int) -> int:
    """Two replicas or more each where there are two, at most eight a host; more where a process could not drive all."""
    on_host = replicas // hosts
    fine = [
        n for n in divisors(on_host) if on_host // n * ipus_per_replica <= MOST_IPUS_PER_PROCESS
    ]  # never empty: a replica of more IPUs than that is refused below
    usual = [n for n in fine if on_host // n >= _USUAL_REPLICAS and n <= _MOST_INSTANCES_PER_HOST]
    return hosts * (usual[-1] if usual else fine[0] if fine else on_host)


def _check_instances(resolved: Resolved, system: System, instances: int) -> None:
    config, hosts = resolved.config, len(system.hosts)
    replicas, each = config.training.replicas, config.ipus_per_replica
    if instances % hosts:
        raise LaunchError(
            f"{instances} instances cannot be shared out evenly among {hosts} hosts: use a multiple"
        )
    if replicas % instances:
        possible = tuple(n for n in divisors(replicas) if n % hosts == 0)
        raise LaunchError(
            f"{replicas} replicas (training.replicas) cannot be shared out evenly among {instances} instances: use "
            f"--instances {_named(possible)}, or change training.replicas"
        )
    local = replicas // instances
    if local * each > MOST_IPUS_PER_PROCESS:
        raise LaunchError(
            f"an instance would drive {local} replicas x {each} IPUs = {local * each} IPUs, and a process can drive "
            f"{MOST_IPUS_PER_PROCESS}: use more instances"
        )
    if config.device.replicated_tensor_sharding and local == 1 and instances > 1:
        raise LaunchError(
            "device.replicated_tensor_sharding spreads the optimizer state over the replicas of one instance, and each "
            "of these has one: use fewer --instances, or take it back"
        )
