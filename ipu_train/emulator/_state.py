"""What the annotations of a model talk to while its forward is captured.

``capture`` is None except while an executor runs a model's ``forward`` to record it. Then it is the
executor's recorder, which answers to

* ``enter_block(user_id, ipu_id)``, ``exit_block()``, ``use_auto_id()`` and ``stages``, the
  :class:`~ipu_train.emulator.capture.stages.StageTracker`;
* ``push_attribute(attributes)``, ``pop_attribute()``;
* ``push_name_scope(name)``, ``pop_name_scope()``.

:class:`~ipu_train.emulator.capture.stages.Annotations` implements all of that. Annotations read this module's
variable at the moment they are used, so they cost next to nothing outside of a capture.
"""

from typing import Any, Optional

capture: Optional[Any] = None
