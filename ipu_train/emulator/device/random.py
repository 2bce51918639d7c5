"""The device's random streams.

On an IPU every replica draws from its own generator, seeded once; the host's generators play no part. Here each
micro-batch of each replica gets a fresh stream whose seed is a function of (seed, replica, number of micro-batches
run so far). The whole random state of a device is therefore two integers: cheap to save and exact to restore.
"""

import os
from contextlib import contextmanager
from typing import Iterator, List, Optional, Sequence

import torch

from .._logging import logger
from ..capture.rounding import Noise

_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """A well-mixed 63-bit seed from integers (the splitmix64 finaliser over each; Steele, Lea, Flood 2014)."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state + (value & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


class DeviceRandom:
    """Seeds for the streams of one executor.

    Args:
        seed: from ``Options.randomSeed``; without one it comes from the operating system.
        rounding: the noise of stochastic rounding, which has streams of its own.
        first_replica: index of this process's first replica among those of all processes.

    Attributes:
        known: whether the host knows the state: it has set it, or read it since the last run.
    """

    def __init__(self, seed: Optional[int], rounding: Noise, first_replica: int = 0) -> None:
        self.seed = int.from_bytes(os.urandom(7), "little") if seed is None else seed
        self.counter = 0
        self.known = seed is not None
        self.rounding = rounding
        self.first_replica = first_replica

    @property
    def state(self) -> List[int]:
        """``[seed, micro-batches run]``."""
        return [self.seed, self.counter]

    @state.setter
    def state(self, state: List[int]) -> None:
        self.seed, self.counter = int(state[0]), int(state[1])

    def read(self) -> List[int]:
        """The state, brought to the host."""
        if self.counter and not self.known:
            logger.debug("Reading random seed")
            logger.debug("Reading RNG state")
        self.known = True
        return self.state

    def write(self, state: Sequence[int], attached: bool) -> None:
        """Take over a state, which goes to the device where there is one."""
        self.state, self.known = list(state), True
        self.send(attached)

    def send(self, attached: bool) -> None:
        """What the host knows of the state goes to the device."""
        if attached and self.known:
            logger.debug("Setting random seed to: %d", self.seed)
            if self.counter:
                logger.debug("Setting RNG state")

    def start_micro_batch(self, replica: int) -> None:
        """Point torch's default generators and the rounding generator at this replica's next stream."""
        stream = mix(self.seed, self.first_replica + replica, self.counter)
        _seed_default_generators(stream)
        self.rounding.manual_seed(mix(stream, 1))

    def start_update(self, replica: int) -> None:
        """Let the weight update round with the stream that replica ``replica`` of all processes ended with.

        Every process then rounds its copy of the weights alike.
        """
        self.rounding.go_on_with(mix(mix(self.seed, replica, self.counter - 1), 1))

    def finish_micro_batch(self) -> None:
        """All replicas have run: move on to the next stream."""
        self.counter += 1
        self.known = False


def _seed_default_generators(seed: int) -> None:
    """``torch.manual_seed``, which would also note a seed for GPUs that nothing has run on, each time with a traceback.

    That note would be the host's first seed there, and takes as long as a small layer.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def random_states() -> List[torch.Tensor]:
    """The states of all generators that torch functions draw from by default."""
    states = [torch.get_rng_state()]
    return states + (torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])


@contextmanager
def host_random_untouched() -> Iterator[None]:
    """Run device code without consuming or disturbing the host's random state."""
    host = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(host)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
