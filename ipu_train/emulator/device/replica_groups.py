"""Weights that differ between groups of replicas (PopTorch 3.4 user guide, "Grouping tensor weights across replicas").

The host tensor has one extra leading dimension, a slice for each group. A replica's forward sees the slice of its group
without that dimension, so gradients add up within a group by themselves, and optimizer state is shaped like the whole.
"""

from typing import Any, Dict, List, NamedTuple

import torch

from .._impl import createPoptorchError
from ..enums import CommGroupType, VariableRetrievalMode


class ReplicaGroups(NamedTuple):
    """How R replicas are divided for one weight.

    Attributes:
        group_type: Consecutive, Orthogonal or NoGrouping.
        size: replicas in a group.
        replicas: R.
        retrieval: what the host gets back: one slice of each group, or one of each replica.
    """

    group_type: CommGroupType
    size: int
    replicas: int
    retrieval: VariableRetrievalMode

    @property
    def groups(self) -> int:
        return self.replicas // self.size

    def group_of(self, replica: int) -> int:
        if self.group_type == CommGroupType.Orthogonal:
            return replica % self.groups
        return replica // self.size

    def to_host(self, stored: torch.Tensor) -> torch.Tensor:
        """``[groups, ...]`` on the device as the host gets it."""
        if self.retrieval != VariableRetrievalMode.AllReplicas:
            return stored
        return stored[[self.group_of(replica) for replica in range(self.replicas)]]

    def to_device(self, host: torch.Tensor) -> torch.Tensor:
        """The host's tensor, one slice for each group or each replica, as ``[groups, ...]``."""
        if self.retrieval != VariableRetrievalMode.AllReplicas or host.shape[0] != self.replicas:
            return host
        first = {self.group_of(replica): replica for replica in reversed(range(self.replicas))}
        return host[[first[group] for group in range(self.groups)]]


def make_groups(
    asked: Dict[str, Any], parameters: Dict[str, torch.Tensor], replicas: int
) -> Dict[str, ReplicaGroups]:
    """Groups by name of the weight, for those that are grouped at all.

    Raises:
        poptorch.Error: groups that do not divide the replicas, or a tensor without one slice for each group.
    """
    groups = {}
    for name, (group_type, size, retrieval) in asked.items():
        if group_type == CommGroupType.All:
            continue  # one group of all replicas is what every weight has
        if group_type == CommGroupType.NoGrouping:
            size = 1
        if size < 1 or replicas % size:
            raise createPoptorchError(
                f"replicaGrouping of {name}: groups of {size} do not divide {replicas} replicas"
            )
        made = ReplicaGroups(CommGroupType(group_type), size, replicas, retrieval)
        shape = tuple(parameters[name].shape)
        if shape[0] not in (made.groups, replicas):
            raise createPoptorchError(
                f"replicaGrouping of {name}: a tensor of shape {shape} needs a leading dimension of {made.groups}, one "
                f"slice for each group of {size} of the {replicas} replicas"
            )
        groups[name] = made
    return groups


class ParameterProxy:
    """A parameter as an executor hands it out: the parameter itself, and :meth:`replicaGrouping`."""

    def __init__(self, parameter: torch.nn.Parameter, name: str, executor: Any) -> None:
        object.__setattr__(self, "_parameter", parameter)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_executor", executor)

    def replicaGrouping(
        self,
        comm_group_type: CommGroupType,
        shards: int,
        variable_retrieval_mode: VariableRetrievalMode,
    ) -> None:
        """Let the weight differ between groups of replicas. Call it before compiling.

        Args:
            comm_group_type: which replicas form a group.
            shards: replicas in a group.
            variable_retrieval_mode: read back one slice of each group, or one of each replica.

        Raises:
            poptorch.Error: a scalar parameter, which has no leading dimension; or a compiled model.
        """
        assert isinstance(comm_group_type, CommGroupType), (
            f"Expected a CommGroupType, not {comm_group_type!r}"
        )
        assert isinstance(variable_retrieval_mode, VariableRetrievalMode), (
            f"Expected a VariableRetrievalMode, not {variable_retrieval_mode!r}"
        )
        if not self._parameter.shape:
            raise createPoptorchError(
                f"Cannot group the replicas of {self._name}: scalar parameters have no leading dimension to hold one "
                "value for each group"
            )
        if self._executor.isCompiled():
            raise createPoptorchError("replicaGrouping() must be called before the model is compiled")
        self._executor.per_replica_params[self._name] = (comm_group_type, shards, variable_retrieval_mode)

    @property  # type: ignore[misc]  # isinstance shall see a parameter
    def __class__(self) -> type:
        return type(self._parameter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parameter, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._parameter, name, value)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*[_bare(a) for a in args], **{k: _bare(v) for k, v in (kwargs or {}).items()})


def _bare(value: Any) -> Any:
    if type(value) is ParameterProxy:
        return object.__getattribute__(value, "_parameter")
    if isinstance(value, (list, tuple)) and any(type(item) is ParameterProxy for item in value):
        return type(value)(_bare(item) for item in value)
    return value


def _forward(name: str) -> Any:
    def method(self: ParameterProxy, *args: Any) -> Any:
        return getattr(self._parameter, name)(*[_bare(arg) for arg in args])

    return method


_OPERATORS: List[str] = [
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__matmul__",
    "__rmatmul__", "__pow__", "__neg__", "__getitem__", "__setitem__", "__len__", "__iter__", "__eq__", "__ne__",
    "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__float__", "__int__", "__repr__", "__iadd__", "__imul__",
]  # fmt: skip
for _name in _OPERATORS:  # Python looks these up on the class, past __getattr__
    setattr(ParameterProxy, _name, _forward(_name))
ParameterProxy.__hash__ = lambda self: hash(_bare(self))  # type: ignore[method-assign, assignment]
