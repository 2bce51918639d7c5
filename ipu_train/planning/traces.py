"""Traces of configured networks, kept: two of one network give every micro-batch size and every pipeline split.

Importing this module imports no torch, and a network whose traces are kept needs none.
"""

from typing import Dict, Iterable, List, Optional, Tuple

from ..config import ConfigError, Resolved
from ..device_options import fused_on_ipus
from ..ipumodel.program import Program
from ..ipumodel.report import Report
from ..ipumodel.rescale import at_batch, at_splits
from ..models import OWN
from . import kept
from .images import Images, images_of

_KEPT = 8  # networks; a trace holds some thousand small objects


class Traces:
    """Programs of configurations for the IPU model. Not for several threads at once.

    Attributes:
        settled: the question and the plan that automatic pipeline splits were last found by, so that who asks for the
            plan of the configuration with these splits need not wait for it again.
    """

    def __init__(self) -> None:
        self._traced: Dict[str, List[Program]] = {}  # of each network: two traces, with batches above 1
        self._programs: Dict[Tuple[str, int], Program] = {}
        self.settled: Optional[Tuple[str, Report]] = None

    def program(self, resolved: Resolved, channels: int, size: int, classes: int) -> Program:
        """The training program of one micro-batch, cut at ``device.pipeline_splits``.

        Args:
            resolved: the configuration.
            channels, size, classes: of the images; size is the side in pixels.

        Raises:
            ConfigError: the model cannot be built, or a pipeline split names no module.
        """
        program = self._whole(resolved, Images(channels, size, classes))
        splits = resolved.config.device.pipeline_splits
        if not splits:
            return program
        try:
            return at_splits(program, splits)
        except ValueError as error:
            raise resolved.error("device.pipeline_splits", str(error)) from error

    def prepare(self, configurations: Iterable[Resolved]) -> None:
        """Trace what the configurations' networks need, so that copies of these traces in other processes need not.

        A network that cannot be run on its images is left out: it is refused where it is asked for.

        Raises:
            ConfigError: a model cannot be built.
        """
        sizes: Dict[str, Dict[int, Resolved]] = {}
        for resolved in configurations:
            batch = resolved.config.training.micro_batch_size
            sizes.setdefault(key_of_network(resolved, images_of(resolved)), {})[batch] = resolved
        for of_network in sizes.values():
            for batch in sorted(of_network):
                try:
                    self._whole(of_network[batch], images_of(of_network[batch]))
                except ConfigError:
                    raise
                except (RuntimeError, ValueError):
                    break

    def itself(self) -> "Traces":
        """What worker processes begin with: these traces."""
        return self

    def batch_independent(self, resolved: Resolved) -> bool:
        """Whether each image's output in training is a function of that image alone.

        Raises:
            ConfigError: the model cannot be built.
        """
        images, model = images_of(resolved), resolved.config.model.name
        network_key = key_of_network(resolved, images)
        found = kept.batch_independent(network_key, model)
        if found is None:
            from .tracing import is_batch_independent

            found = is_batch_independent(resolved, images)
            kept.keep_batch_independent(network_key, model, found)
        return found

    def _whole(self, resolved: Resolved, images: Images) -> Program:
        network_key = key_of_network(resolved, images)
        batch = resolved.config.training.micro_batch_size
        if network_key not in self._traced:
            if len(self._traced) >= _KEPT:
                self._traced.clear()
                self._programs.clear()
            self._traced[network_key] = []
            for program in kept.traces(network_key, resolved.config.model.name):
                self._remember(network_key, program)
        key = (network_key, batch)
        if key not in self._programs:
            self._programs[key] = self._scaled(network_key, batch) or self._trace(
                network_key, resolved, images
            )
        return self._programs[key]

    def _remember(self, network_key: str, program: Program) -> None:
        self._programs[network_key, program.batch] = program
        if program.batch > 1 and len(self._traced[network_key]) < 2:
            self._traced[network_key].append(program)

    def _scaled(self, network_key: str, batch: int) -> Optional[Program]:
        """From two traces of other batches; batch 1 is traced, since torch may take other routes there."""
        traced = self._traced[network_key]
        return at_batch(traced[0], traced[1], batch) if len(traced) == 2 and batch > 1 else None

    def _trace(self, network_key: str, resolved: Resolved, images: Images) -> Program:
        if resolved.config.model.name in OWN:
            from .own_networks import traced_own as traced
        else:
            from .tracing import traced

        program = traced(resolved, images)
        self._remember(network_key, program)
        kept.keep_trace(network_key, resolved.config.model.name, program)
        return program


def key_of_network(resolved: Resolved, images: Images) -> str:
    """All that a trace depends on beside the micro-batch size and what ``kept`` names its file by."""
    return repr((resolved.config.model, tuple(images), tuple(fused_on_ipus(resolved.config))))
