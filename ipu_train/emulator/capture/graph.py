"""The static graph that a captured forward becomes: a list of nodes over numbered tensor slots."""

import copy
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch


class Ref:
    """Stands for the tensor of a slot inside a node's arguments or a program's outputs."""

    __slots__ = ("slot",)

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __repr__(self) -> str:
        return f"v{self.slot}"


class Node:
    """One recorded call: ``results = function(*args, **kwargs)`` with slots in the place of tensors.

    ``results`` lists (path into the returned object, slot); an empty path is the returned object itself. A node
    without results is kept for its side effect (``x[0] = y``).
    """

    __slots__ = (
        "args", "attributes", "function", "grad_enabled", "ipu", "kwargs", "location", "name", "needed", "operators",
        "refused", "results", "scope", "stage", "written",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        args: Tuple[Any, ...],
        kwargs: Dict[str, Any],
        results: List[Tuple[Tuple[Any, ...], int]],
        grad_enabled: bool,
        ipu: int = 0,
        stage: int = 0,
        location: str = "",
    ) -> None:
        self.function = function
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.results = results
        self.grad_enabled = grad_enabled
        self.ipu = ipu
        self.stage = stage
        self.location = location
        self.operators: Sequence[str] = ()  # ATen's, that PopTorch meets the call as
        self.refused: List[str] = []  # why it cannot be compiled, unless it is dead code
        self.scope = ""  # names of the modules and name scopes around it
        self.attributes: Dict[str, Any] = {}  # of the Attribute scopes around it
        self.written: List[int] = []  # slots among its inputs whose tensors it changes in place
        self.needed = True  # rather than dead code, which PopART does not run

    def inputs(self) -> List[int]:
        """Slots that the node reads."""
        return [ref.slot for ref in references((self.args, self.kwargs))]

    def outputs(self) -> List[int]:
        return [slot for _, slot in self.results]

    def __repr__(self) -> str:
        results = ", ".join(f"v{slot}" for slot in self.outputs())
        return f"{results or '_'} = {self.name}{self.args!r}"


class Packed:
    """A container that is taken apart while it is inside a graph: its items, and what makes a container of new ones."""

    def __init__(self, items: List[Any], rebuild: Callable[[List[Any]], Any]) -> None:
        self.items = items
        self.rebuild = rebuild


def map_structure(value: Any, visit: Callable[[Any], Any], leaf: Tuple[type, ...]) -> Any:
    """A copy of nested tuples, lists, dicts and slices with ``visit`` applied to every instance of ``leaf``."""
    if isinstance(value, leaf):
        return visit(value)
    if isinstance(value, (tuple, list)):
        mapped = [map_structure(item, visit, leaf) for item in value]
        if all(new is old for new, old in zip(mapped, value)):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*mapped)
        if type(value).__module__ == "torch.return_types":
            return type(value)(mapped)
        return tuple(mapped) if isinstance(value, tuple) else mapped
    if isinstance(value, dict):
        items = {key: map_structure(item, visit, leaf) for key, item in value.items()}
        return items if type(value) is dict else like_dict(value, items)
    if isinstance(value, Packed):
        return Packed([map_structure(item, visit, leaf) for item in value.items], value.rebuild)
    if isinstance(value, slice):
        parts = [map_structure(part, visit, leaf) for part in (value.start, value.stop, value.step)]
        return slice(*parts)
    return value


def like_dict(original: Dict[Any, Any], items: Dict[Any, Any]) -> Dict[Any, Any]:
    """A dict of the type, attributes and key order of ``original`` with other values."""
    same = copy.copy(original)
    for key, item in items.items():
        same[key] = item
    return same


def references(value: Any) -> List[Ref]:
    """Every :class:`Ref` in a nested structure, in order."""
    found: List[Ref] = []

    def note(ref: Ref) -> Ref:
        found.append(ref)
        return ref

    map_structure(value, note, (Ref,))
    return found


def tensor_paths(value: Any, path: Tuple[Any, ...] = ()) -> List[Tuple[Tuple[Any, ...], torch.Tensor]]:
    """(path, tensor) for every tensor in what a function returned."""
    if isinstance(value, torch.Tensor):
        return [(path, value)]
    if isinstance(value, (tuple, list)):
        return [item for i, part in enumerate(value) for item in tensor_paths(part, path + (i,))]
    if isinstance(value, dict):
        return [item for key, part in value.items() for item in tensor_paths(part, path + (key,))]
    return []


class Graph:
    """What capturing a forward yields; everything that a program or a report is made from.

    ``inputs``, ``state`` and ``constants`` map to the slots that are filled before the first node runs; ``half`` holds
    the slots that a device stores as float16; ``outputs`` is the returned structure with :class:`Ref` for tensors.
    """

    def __init__(self) -> None:
        self.nodes: List[Node] = []
        self.inputs: List[int] = []
        self.state: Dict[str, int] = {}
        self.constants: Dict[int, torch.Tensor] = {}
        self.half: set = set()
        self.outputs: Any = None
        self.losses: List[Tuple[int, int]] = []  # (index of the node, slot of its result)
        self.multi_convs: List[List[Node]] = []  # convolutions that are planned together
        self.stashed: set = set()  # (slot, IPU) of what a pipeline keeps for its backward pass
        self.partial_losses: Dict[int, str] = {}  # by slot of a loss, why the gradient begins before it
        self.unmarked_losses: List[str] = []  # what torch calls a loss and PopTorch does not
        self.fused_losses: set = set()  # slots that hold one value for each micro-batch of a fused batch
        self.uses_random = False
        self.differentiates = False  # forward asks for gradients itself

    def ancestors(self, slot: int) -> set:
        """Indices of the nodes that the value of ``slot`` depends on."""
        wanted = {slot}
        found = set()
        for index in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[index]
            if wanted.intersection(node.outputs()):
                found.add(index)
                wanted.update(node.inputs())
        return found

    def mark_needed(
        self,
        effects: Callable[[Node], bool],
        written: Callable[[Node], Sequence[int]],
        memory_of: Callable[[int], int],
    ) -> None:
        """Tell the nodes that PopART runs from those that it prunes, in-place writes that nobody reads among them.

        Args:
            effects: whether a node does something that no tensor shows.
            written: slots whose tensors a node changes in place.
            memory_of: the same for slots that share memory.
        """
        wanted = {ref.slot for ref in references(self.outputs)}
        read = {memory_of(slot) for slot in [*wanted, *self.inputs, *self.state.values()]}
        for node in reversed(self.nodes):
            changes = any(memory_of(slot) in read for slot in written(node))
            node.needed = changes or effects(node) or bool(wanted.intersection(node.outputs()))
            if node.needed:
                wanted.update(node.inputs())
                read.update(map(memory_of, node.inputs()))

    def start_with_copy(self, source: int, target: int) -> None:
        """Put a node at the front that copies the tensor in ``source`` to ``target``."""
        first = self.nodes[0]
        node = Node(
            torch.clone, "clone", (Ref(source),), {}, [((), target)], False, first.ipu, first.stage, first.location
        )  # fmt: skip
        self.nodes.insert(0, node)
        self.losses = [(index + 1, slot) for index, slot in self.losses]

    def loss_slot(self) -> Optional[int]:
        """The slot where backward starts, None when there is no loss.

        A loss that feeds another one is an ordinary reduction (PopTorch 3.4: losses followed by ``identity_loss``).

        Raises:
            ValueError: more than one independent loss; the message names them.
        """
        final = list(self.losses)
        for _, slot in self.losses:
            feeding = self.ancestors(slot)
            final = [(i, s) for i, s in final if s == slot or i not in feeding]
        if len(final) > 1:
            raise ValueError(", ".join(self.nodes[index].name for index, _ in final))
        return final[0][1] if final else None


def last_uses(nodes: Sequence[Node], keep: Sequence[int]) -> Dict[int, List[int]]:
    """For each node index the slots that nothing reads after it, so that their memory can be given back."""
    seen = set(keep)
    release: Dict[int, List[int]] = {}
    for index in range(len(nodes) - 1, -1, -1):
        touched = set(nodes[index].inputs()) | set(nodes[index].outputs())
        release[index] = sorted(touched - seen)
        seen |= touched
    return release
