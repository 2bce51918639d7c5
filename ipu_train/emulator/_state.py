"""What the annotations and operators of a model talk to while its forward is captured.

Both variables are None except while an executor runs a model's ``forward`` to record it. Then

* ``recorder`` is the executor's :class:`~ipu_train.emulator.capture.recorder.Recorder`;
* ``annotations`` is its :class:`~ipu_train.emulator.capture.annotations.Annotations`: what blocks, attributes and name
  scopes report to. It is set alone while a forward is only traced, to predict what it costs.

They are read at the moment they are used, so they cost next to nothing outside of a capture.
"""

import contextlib
from typing import Any, Iterator, Optional

annotations: Optional[Any] = None
recorder: Optional[Any] = None


@contextlib.contextmanager
def reporting_to(other: Optional[Any]) -> Iterator[None]:
    """Meanwhile nothing is recorded, and annotations report to ``other`` (None: to nobody)."""
    global annotations, recorder
    before = annotations, recorder
    annotations, recorder = other, None
    try:
        yield
    finally:
        annotations, recorder = before
