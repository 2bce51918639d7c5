"""What other libraries put in the place of something while a model is captured, as PyTorch Geometric does."""

import contextlib
from typing import Any, List


class _OverwriteContextManager:
    """Calls ``replace()`` of every registered manager on entering and ``restore()`` on leaving, last one first."""

    _subsitution_manager_types: List[type] = []

    def __init__(self) -> None:
        self.substitution_managers: List[Any] = [kind() for kind in self._subsitution_manager_types]
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> "_OverwriteContextManager":
        with (
            contextlib.ExitStack()
        ) as undo:  # so that whatever was replaced is restored when a later one fails
            for manager in self.substitution_managers:
                manager.replace()
                undo.callback(manager.restore)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._undo.close()

    @classmethod
    def registerSubsitutionManager(cls, type: type) -> None:
        """Use a manager of this type, made without arguments, whenever a model is captured; once is enough."""
        if type not in cls._subsitution_manager_types:
            cls._subsitution_manager_types.append(type)
