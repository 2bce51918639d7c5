"""What an executor measures: compilation time, cycles, and when each input and output went over.

Time is that of the machine the emulator runs on. Source: PopTorch 3.4 API reference, ``PoplarExecutor``.
"""

import datetime
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._impl import createPoptorchError
from .._logging import logger

CLOCK_HZ = 1.33e9  # of one GC200 (Graphcore, IPU-M2000 data sheet): converts this machine's time to cycles
_EVENTS = ("input", "input_complete", "output", "output_complete")

Latency = Tuple[float, float, float]


class Timeline:
    """Time stamps in seconds of the steps of one call; a step is one micro-batch on one replica."""

    def __init__(self, inputs: int = 0, outputs: int = 0) -> None:
        self.counters: Dict[str, List[List[float]]] = {
            event: [[] for _ in range(max(1, inputs if event.startswith("input") else outputs))]
            for event in _EVENTS
        }
        self._tensors = {event: inputs if event.startswith("input") else outputs for event in _EVENTS}

    def stamp(self, event: str, steps: int = 1, at: Optional[float] = None) -> None:
        """All tensors of a kind go over now."""
        now = time.perf_counter() if at is None else at
        for stamps in self.counters[event][: self._tensors[event]]:
            stamps.extend([now] * steps)

    def keep_last_outputs(self, steps: int) -> None:
        """Only the last ``steps`` results leave the device."""
        for event in ("output", "output_complete"):
            for stamps in self.counters[event]:
                del stamps[:-steps]

    def latency(self, start: str, end: str) -> Latency:
        """(minimum, maximum, average) of the time between two events of the same step."""
        begins, ends = self._steps(start, max), self._steps(end, min if end == "output" else max)
        if not begins or not ends:
            return (0.0, 0.0, 0.0)
        ratio = max(1, len(begins) // len(ends))
        spans = [stop - begins[min(len(begins), (k + 1) * ratio) - 1] for k, stop in enumerate(ends)]
        spans = [max(0.0, span) for span in spans]
        return (min(spans), max(spans), sum(spans) / len(spans))

    def _steps(self, event: str, pick: Any) -> List[float]:
        """One time for each step: the first or last of its tensors."""
        stamps: Sequence[Sequence[float]] = [s for s in self.counters[event] if s]
        return [pick(step) for step in zip(*stamps)]


class Measurements:
    """What is reported on compilation and on the last call.

    Args:
        options: of the executor.

    Attributes:
        compile_seconds: how long compiling took; None while nothing is compiled.
        timeline: of the last call.
    """

    def __init__(self, options: Any) -> None:
        self.compile_seconds: Optional[float] = None
        self.timeline = Timeline()
        self._options = options
        self._cycles: Optional[int] = None

    def called(self, seconds: float, timeline: Timeline) -> None:
        """Note how long a call took; in cycles of an IPU's clock it is logged where that is asked for."""
        self._cycles = int(seconds * CLOCK_HZ)
        self.timeline = timeline
        if self._options._Popart.options.get("instrumentWithHardwareCycleCounter"):
            logger.info("Total number of IPU cycles: %d", self._cycles)

    def compilationTime(self) -> datetime.timedelta:
        """How long compiling took."""
        if self.compile_seconds is None:
            raise createPoptorchError("Please compile the model to get its compilation time")
        if not self._options._show_compilation_progress_bar:
            raise createPoptorchError(
                "compilationTime() is not available: set showCompilationProgressBar to True"
            )
        return datetime.timedelta(seconds=self.compile_seconds)

    def cycleCount(self) -> int:
        """Cycles of the last call: the time that it took here, at the clock of a Mk2 IPU."""
        if not self._options._Popart.options.get("instrumentWithHardwareCycleCounter"):
            raise createPoptorchError(
                "Cycle count logging is disabled. Please set option logCycleCount to True to enable it."
            )
        if self._cycles is None:
            raise createPoptorchError("Please run the model at least once before obtaining cycle count.")
        return self._cycles

    def getPerfCounters(self) -> Dict[str, List[List[float]]]:
        """Time stamps (seconds) of ``input``, ``input_complete``, ``output`` and ``output_complete``.

        Returns:
            For each of the four a list by tensor of lists by step.
        """
        return {event: [list(s) for s in stamps] for event, stamps in self.timeline.counters.items()}

    def getHostIpuLatency(self) -> Latency:
        """(minimum, maximum, average) seconds that inputs of the last call took to reach the device."""
        return self.timeline.latency("input", "input_complete")

    def getComputeLatency(self) -> Latency:
        """(minimum, maximum, average) seconds from the last input to the first output of a step."""
        return self.timeline.latency("input_complete", "output")

    def getIpuHostLatency(self) -> Latency:
        """(minimum, maximum, average) seconds that outputs took to reach the host."""
        return self.timeline.latency("output", "output_complete")

    def getLatency(self) -> Latency:
        """(minimum, maximum, average) seconds of the whole round trip."""
        return self.timeline.latency("input", "output_complete")
