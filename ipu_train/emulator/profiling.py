"""``poptorch.profiling``: trace points for Graphcore's profiler, which do nothing without it."""

import contextlib
from typing import Any, Iterator


class Channel:
    """A named stream of trace points. Without the profiler's library every method does nothing.

    Args:
        name: of the channel in the profiler.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def instrument(self, obj: Any, *methods: str) -> Any:
        """Trace calls of these methods.

        Returns:
            ``obj``.
        """
        return obj

    @contextlib.contextmanager
    def tracepoint(self, name: str) -> Iterator[None]:
        """Trace what is inside ``with channel.tracepoint("name")``."""
        yield
