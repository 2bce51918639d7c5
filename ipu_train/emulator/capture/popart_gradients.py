"""Where the backward pass of PopART, which differentiates the graph itself, differs from torch's.

PopART asks every operation that a gradient arrives at for its gradient operations (popart,
willow/src/transforms/autodiff/gradgrower.cpp); what comes before all trained weights PopTorch cuts off first
(poptorch/source/AddDetachOperations.cpp, RequiresGrad.cpp). Padding by reflection or replication then ends compilation
(willow/src/op/pad.cpp; PopTorch's own tests train without them), and so does batch norm with running statistics
(willow/src/op/batchnorm.cpp; PopTorch's test of it freezes all weights). PRelu has no gradient operations at all
(willow/src/op/prelu.cpp), and such an operation gives nothing on: weights that nothing arrives at get no update,
without a word (willow/src/ir.cpp, growGradientVarUpdateOp).
"""

from typing import Iterator, Optional, Sequence, Set

from .._logging import logger
from ..lowering.resizing import why_no_bilinear_gradient
from .graph import Graph, Node
from .refusals import Refusals
from .slots import Slots

_PADS = frozenset(
    ["reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "replication_pad3d"]
)
_WITHOUT_GRADIENT = frozenset(["prelu", "_prelu_kernel"])
_DETACHING = frozenset(["detach", "detach_", "data"])


def passes_no_gradient(operators: Sequence[str]) -> bool:
    """Whether PopART's backward pass ends at a call that arrives there as these ATen operators."""
    return not _WITHOUT_GRADIENT.isdisjoint(operators)


def check_backward(graph: Graph, loss: int, slots: Slots, refusals: Refusals) -> None:
    """Refuse what PopART cannot differentiate, and warn of what its gradients do not get past.

    Raises:
        poptorch.Error: as PopTorch's, from PopART.
    """
    if loss in graph.partial_losses:
        logger.warning("%s", graph.partial_losses[loss])  # PopTorch's own tests train with batchmean
    for node in _met_by_gradients(graph, loss, slots):
        why = _why_no_gradient(node, slots)
        if why is not None:
            refusals.add_text(f"{node.name} at {node.location} cannot be trained through: {why}")
        elif passes_no_gradient(node.operators):
            logger.warning(
                "%s at %s: PopART has no gradient of PRelu. Its slopes do not train, nor does what comes before it "
                "and has no other way to the loss. torch.where(x > 0, x, slope * x) has one.",
                node.name,
                node.location,
            )
    refusals.check()
    _warn_of_no_grad(graph, loss, slots)


def _warn_of_no_grad(graph: Graph, loss: int, slots: Slots) -> None:
    """Warn where only ``torch.no_grad()`` keeps a gradient from weights that train.

    PopTorch's user guide says that it does ("Gradient computation control"), but what its sources look at is whether an
    operand requires a gradient (poptorch/source/RequiresGrad.cpp).
    """
    learned = _depending_on_weights(graph, slots, anywhere=True)
    wanted = {loss} & learned
    for node in reversed(graph.nodes):
        if not wanted.intersection(node.outputs()) or node.name in _DETACHING:
            continue
        if not node.grad_enabled and learned.intersection(node.inputs()):
            logger.warning(
                "%s at %s is within torch.no_grad() and has part in the loss: by PopTorch's sources a gradient may get "
                "past it all the same. Tensor.detach() ends gradients for certain.",
                node.name,
                node.location,
            )
            return
        wanted.update(learned.intersection(node.inputs()))


def _why_no_gradient(node: Node, slots: Slots) -> Optional[str]:
    if not _PADS.isdisjoint(node.operators):
        return (
            'PopART does not support PadGradOp when mode is not "constant". Pad with zeros, or put the border together '
            "with torch.cat"
        )
    if "native_batch_norm" in node.operators and _with_running_statistics(node):
        return (
            "PopART has no gradient of a batch norm in inference mode (module.eval()). Freeze its weights and all "
            "before it (requires_grad=False), or use torchvision.ops.FrozenBatchNorm2d"
        )
    if "upsample_bilinear2d" in node.operators:
        size, new = (slots.values[slot].shape[-2:] for slot in (node.inputs()[0], node.outputs()[0]))
        align_corners = node.kwargs.get("align_corners", node.args[4] if len(node.args) > 4 else False)
        return why_no_bilinear_gradient(size, new, bool(align_corners))
    return None


def _with_running_statistics(node: Node) -> bool:
    if len(node.args) > 5:
        return node.args[5] is False
    uses_batch = node.kwargs.get("training", node.kwargs.get("use_input_stats", node.name == "instance_norm"))
    return uses_batch is False


def _met_by_gradients(graph: Graph, loss: int, slots: Slots) -> Iterator[Node]:
    """The nodes that a gradient of the loss arrives at, the last one first."""
    learned = _depending_on_weights(graph, slots)
    wanted = {loss} & learned
    for node in reversed(graph.nodes):
        if not node.grad_enabled or not wanted.intersection(node.outputs()):
            continue
        yield node
        if not passes_no_gradient(node.operators):
            wanted.update(learned.intersection(node.inputs()))


def _depending_on_weights(graph: Graph, slots: Slots, anywhere: bool = False) -> Set[int]:
    """The slots of floating-point tensors that a weight which trains has part in; ``anywhere``: within no_grad, too."""
    found = {slot for slot in graph.state.values() if slots.values[slot].requires_grad}
    for node in graph.nodes:
        if (
            (node.grad_enabled or anywhere)
            and node.name not in _DETACHING
            and found.intersection(node.inputs())
        ):
            found.update(slot for slot in node.outputs() if slots.values[slot].is_floating_point())
    return found
