"""Puts nodes at the end of the graph that is being recorded."""

from typing import Any, Dict, Sequence, Tuple

from .annotations import Annotations
from .graph import Graph, Node


class Writer:
    """Appends calls to a graph, marked with the blocks, scopes and attributes that they are in.

    Args:
        graph: what it writes to.
        annotations: of the forward that is running.
    """

    def __init__(self, graph: Graph, annotations: Annotations) -> None:
        self._graph = graph
        self._annotations = annotations

    def append(
        self,
        function: Any,
        name: str,
        args: Tuple[Any, ...],
        kwargs: Dict[str, Any],
        grad_enabled: bool,
        location: str,
        results: Sequence[Tuple[Tuple[Any, ...], int]] = (),
    ) -> Node:
        """A node for ``results = function(*args, **kwargs)``, in which :class:`Ref` stand for tensors.

        Raises:
            poptorch.Error: it follows a ``with Block`` scope and is in no block itself.
        """
        place = self._annotations.stages.current()
        node = Node(
            function, name, args, kwargs, list(results), grad_enabled, place.ipu, place.stage, location
        )
        node.scope = "/".join(self._annotations.name_scopes)
        for attributes in self._annotations.attributes:
            node.attributes.update(attributes)
        self._graph.nodes.append(node)
        return node

    def append_after(self, node: Node, function: Any, name: str, args: Tuple[Any, ...], result: int) -> Node:
        """A node that works on what ``node`` has computed, in the name of the same line of user code."""
        return self.append(function, name, args, {}, node.grad_enabled, node.location, [((), result)])
