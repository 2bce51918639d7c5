"""A captured graph as a Python function without any interpretation: one line for each recorded call."""

import math
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch

from .generated_code import generated
from .graph import Graph, Node, Ref, last_uses, map_structure, references

_PLAIN = (bool, int, str, type(None))


class Program:
    """Runs one micro-batch of a captured graph.

    ``source`` is the generated Python text, kept for reading. Tensors are local variables of the function and are
    deleted after their last use, so that nothing outlives its purpose except what autograd saves.
    """

    def __init__(
        self,
        graph: Graph,
        keep: Sequence[int] = (),
        check: Optional[Callable[..., None]] = None,
        before_write: Optional[Callable[..., None]] = None,
    ) -> None:
        self.graph = graph
        output_slots = [ref.slot for ref in references(graph.outputs)]
        self.returned = list(dict.fromkeys(output_slots + list(keep)))
        groups = [
            ("inputs", list(graph.inputs)),
            ("state", list(graph.state.values())),
            ("constants", list(graph.constants)),
        ]
        self.source, self._run = make_function(groups, graph.nodes, self.returned, check, before_write)

    def generate_code(self) -> None:
        """Run as code that ``torch.compile`` generates, at the first call, for forward and backward."""
        self._run = generated(self._run)

    def run(
        self, inputs: Sequence[torch.Tensor], state: Sequence[torch.Tensor], constants: Sequence[torch.Tensor]
    ) -> Dict[int, torch.Tensor]:
        """The tensors of ``returned`` by slot, for storage tensors in the order of the graph's slots."""
        return dict(zip(self.returned, self._run(inputs, state, constants)))


def make_function(
    groups: Sequence[Tuple[str, Sequence[int]]],
    nodes: Sequence[Node],
    returned: Sequence[int],
    check: Optional[Callable[..., None]] = None,
    before_write: Optional[Callable[..., None]] = None,
) -> Tuple[str, Callable[..., Tuple[torch.Tensor, ...]]]:
    """Python source of a function that runs ``nodes``, and the function.

    Args:
        groups: (name, slots) of each parameter, a sequence of tensors in the order of its slots.
        nodes: what to run, in order.
        returned: slots of the tuple that it returns.
        check: called as ``check(node, inputs, outputs)`` after each node that is needed, with tensors in
            the order of its slots.
        before_write: called with the tensors that a node changes in place, before it.
    """
    scope: Dict[str, Any] = {"inf": math.inf, "nan": math.nan, "no_grad": torch.no_grad}
    lines = [f"def run({', '.join(name for name, _ in groups)}):"]
    for name, slots in groups:
        if slots:
            lines.append(f"    {', '.join(f'v{slot}' for slot in slots)}, = {name}")
    release = last_uses(nodes, returned)
    in_no_grad = False
    for index, node in enumerate(nodes):
        if node.grad_enabled is in_no_grad:  # the mode changes here
            in_no_grad = not node.grad_enabled
            if in_no_grad:
                lines.append("    with no_grad():")
        indent = "        " if in_no_grad else "    "
        if before_write is not None and node.written:
            scope["before_write"] = before_write
            lines.append(f"{indent}before_write({_names(node.written)})")
        for text in _statements(index, node, scope):
            lines.append(indent + text)
        if check is not None and node.needed:
            scope["check"], scope[f"n{index}"] = check, node
            lines.append(f"{indent}check(n{index}, [{_names(node.inputs())}], [{_names(node.outputs())}])")
        if release[index]:
            lines.append(indent + "del " + ", ".join(f"v{slot}" for slot in release[index]))
    lines.append(f"    return ({''.join(f'v{slot}, ' for slot in returned)})")
    source = "\n".join(lines) + "\n"
    exec(compile(source, "<captured forward>", "exec"), scope)
    return source, scope["run"]


def _names(slots: Sequence[int]) -> str:
    return ", ".join(f"v{slot}" for slot in slots)


def _statements(index: int, node: Any, scope: Dict[str, Any]) -> List[str]:
    function = f"f{index}_{node.name}" if node.name.isidentifier() else f"f{index}"
    scope[function] = node.function
    arguments = [_text(value, scope) for value in node.args]
    arguments += [f"{key}={_text(value, scope)}" for key, value in node.kwargs.items()]
    call = f"{function}({', '.join(arguments)})"
    if not node.results:
        return [call]
    if node.results[0][0] == ():
        return [f"v{node.results[0][1]} = {call}"]
    lines = [f"r = {call}"]
    for path, slot in node.results:
        lines.append(f"v{slot} = r{''.join(f'[{step!r}]' for step in path)}")
    return lines + ["del r"]


def _text(value: Any, scope: Dict[str, Any]) -> str:
    """Python source for an argument: literals are written out, anything else becomes a named object."""
    if isinstance(value, Ref):
        return f"v{value.slot}"
    if type(value) in _PLAIN or (type(value) is float):
        return repr(value)
    if type(value) is tuple:
        return f"({''.join(_text(item, scope) + ', ' for item in value)})"
    if type(value) is list:
        return f"[{', '.join(_text(item, scope) for item in value)}]"
    if type(value) is slice:
        return f"slice({_text(value.start, scope)}, {_text(value.stop, scope)}, {_text(value.step, scope)})"
    if type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {_text(item, scope)}" for key, item in value.items()) + "}"
    if references(value):  # a container of another type: build it at run time
        scope.setdefault("rebuild", _rebuild)
        refs = references(value)
        name = f"c{len(scope)}"
        scope[name] = value
        return f"rebuild({name}, {{{', '.join(f'{ref.slot}: v{ref.slot}' for ref in refs)}}})"
    name = f"c{len(scope)}"
    scope[name] = value
    return name


def _rebuild(template: Any, tensors: Dict[int, torch.Tensor]) -> Any:
    return map_structure(template, lambda ref: tensors[ref.slot], (Ref,))
