"""What ``Block``, ``Attribute`` and ``NameScope`` report while a forward runs (:mod:`ipu_train.emulator._state`)."""

from typing import Any, Dict, List, Optional

from ..settings.strategies import _IExecutionStrategy
from .stages import StageTracker


class Annotations:
    """The blocks, attributes and name scopes around the operation that runs now.

    Args:
        strategy: the options' execution strategy, which turns blocks into stages and IPUs.
    """

    def __init__(self, strategy: _IExecutionStrategy) -> None:
        self.stages = StageTracker(strategy)
        self.attributes: List[Dict[str, Any]] = []
        self.name_scopes: List[str] = []

    def enter_block(self, user_id: Optional[Any], ipu_id: Optional[int]) -> None:
        """A block begins."""
        self.stages.enter(user_id, ipu_id)

    def exit_block(self) -> None:
        """A ``with Block`` scope ends."""
        self.stages.exit()

    def use_auto_id(self) -> None:
        """Number blocks without an id from 0 again."""
        self.stages.useAutoId()

    def push_attribute(self, attributes: Dict[str, Any]) -> None:
        """An ``Attribute`` scope begins."""
        self.attributes.append(attributes)

    def pop_attribute(self) -> None:
        """An ``Attribute`` scope ends."""
        self.attributes.pop()

    def push_name_scope(self, name: str) -> None:
        """A name scope begins."""
        self.name_scopes.append(name)

    def pop_name_scope(self) -> None:
        """A name scope ends; closing more than were opened does nothing."""
        if self.name_scopes:
            self.name_scopes.pop()
