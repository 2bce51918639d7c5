"""What operations cost, each kind of call estimated once: blocks repeat, and so do plans of one network."""

from functools import lru_cache
from typing import Any, Dict, Tuple

from .convolution.forms import PlanOptions
from .costs import OpCost
from .estimators import estimate
from .program import Operation
from .target import Target

_MOST = 20_000  # operations known at a time


class Estimates:
    """Costs by all that :func:`~ipu_train.ipumodel.estimators.estimate` reads of an operation.

    Args:
        target, options, element_bytes: as there.
    """

    def __init__(self, target: Target, options: PlanOptions, element_bytes: int) -> None:
        self._target, self._options, self._element_bytes = target, options, element_bytes
        self._known: Dict[Any, OpCost] = {}
        # the attributes, so that their id stays theirs
        self._seen: Dict[Tuple[Any, ...], Tuple[Any, OpCost]] = {}

    def of(self, op: Operation, backward: bool = False, input_gradient: bool = True) -> OpCost:
        """The cost of one run; not to be changed."""
        count = len(op.differentiable)
        # one operation stays the same in whatever stage it is
        quick = (id(op.attributes), op.operator, op.kind, count, backward, input_gradient)
        seen = self._seen.get(quick)
        if seen is not None:
            return seen[1]
        found = self._of(op, count, backward, input_gradient)
        if len(self._seen) >= _MOST:
            self._seen.clear()
        self._seen[quick] = (op.attributes, found)
        return found

    def _of(self, op: Operation, count: int, backward: bool, input_gradient: bool) -> OpCost:
        key = (op.operator, op.kind, count, backward, input_gradient, *op.attributes.items())
        try:
            return self._known[key]
        except KeyError:
            found = self._estimate(op, backward, input_gradient)
        except TypeError:  # attributes that cannot be compared
            return self._estimate(op, backward, input_gradient)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = found
        return found

    def _estimate(self, op: Operation, backward: bool, input_gradient: bool) -> OpCost:
        return estimate(op, self._target, self._options, self._element_bytes, backward, input_gradient)


@lru_cache(maxsize=32)
def estimates(target: Target, options: PlanOptions, element_bytes: int) -> Estimates:
    """The costs known of a chip, options of the convolutions' planner and a width of activations."""
    return Estimates(target, options, element_bytes)
