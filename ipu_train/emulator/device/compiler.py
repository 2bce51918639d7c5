"""From a module and one call's arguments to an executable: capture, checks, storage for weights."""

import contextlib
import functools
import warnings
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch

from .._args_parser import Arguments, signature_only
from .._impl import createPoptorchError
from ..capture.control_flow import has_effects, written_slots
from ..capture.dtypes import upload
from ..capture.gradients import NeedsWeightGradients
from ..capture.graph import Graph, Ref, map_structure, references, tensor_paths
from ..capture.overlap import check_overlap
from ..capture.popart_gradients import check_backward
from ..capture.precision import running_statistics
from ..capture.recorder import Recorder
from ..capture.rounding import Noise, make_rounding
from ..capture.stash import recomputes_stages, stashed_tensors
from ..enums import CommGroupType, OutputMode
from ..inspection.compile_log import log_graph, log_placement, log_target
from ..options import Options
from ..settings.popart import validateOptions
from .anchors import Anchor, make_anchors
from .batching import Batching
from .devices import uses_ipu_model
from .executable import Executable, find_loss, named_state, plain
from .float_exceptions import check_node
from .outputs import pack
from .random import random_states
from .replica_groups import make_groups
from .saved_tensors import have_changed, noted


def make_batching(options: Options, training: bool) -> Batching:
    return Batching(
        options.device_iterations,
        options.Training.gradient_accumulation if training else 1,
        options.replication_factor,
        options.input_group_size,
        CommGroupType(options.input_cgt),
        OutputMode(options.output_mode),
        options.output_return_period,
    )


def fused_micro_batches(options: Options, batching: Batching, micro_batch_size: int) -> int:
    """How many micro-batches of a weight update run as one: the largest divisor of A * R within the image limit.

    It is a multiple or a divisor of R, so that the replicas' micro-batches lie alike in every batch.
    """
    emulator = options._Emulator
    if emulator.stack_replicas:
        if batching.group_size != 1:
            raise createPoptorchError("stackReplicas needs an input of its own for each replica.")
        return batching.replicas
    if not emulator.fuse_micro_batches or batching.group_size != 1 or options.anchored_tensors:
        return 1
    replicas = batching.replicas
    total = batching.gradient_accumulation * replicas
    limit = emulator.max_images or total * micro_batch_size
    divisors = [n for n in range(1, total + 1) if total % n == 0 and not (n % replicas and replicas % n)]
    fitting = [n for n in divisors if n * micro_batch_size <= limit]
    return fitting[-1] if fitting else 1


def compile_model(
    model: torch.nn.Module,
    user_model: torch.nn.Module,
    arguments: Arguments,
    options: Options,
    training: bool,
    noise: Noise,
    grouping: Optional[Dict[str, Any]] = None,
    tracks_weights: bool = False,
) -> Tuple[Executable, List[Anchor]]:
    """Capture ``model``'s forward for arguments of a whole call and prepare its storage.

    Args:
        tracks_weights: whether forward differentiates by weights in inference; found out by trying.
        grouping: (group type, replicas in a group, retrieval mode) by name of a weight that replicas do not share.

    Returns:
        The executable, and the tensors that it keeps beside the outputs.

    Raises:
        poptorch.Error: forward does what cannot be compiled; the message says what and where.
        AssertionError: the leading dimension of an input is no multiple of the number of micro-batches.
    """
    validateOptions(options)
    log_target(options)
    _check_types(user_model, arguments)
    batching = make_batching(options, training)
    groups = make_groups(grouping or {}, dict(user_model.named_parameters()), batching.replicas)
    tensors = arguments.tensors()
    sizes = [batching.micro_batch_size(tensor) for tensor in tensors]
    device = torch.device(options._Emulator.device)
    fused = fused_micro_batches(options, batching, max(sizes)) if training and sizes and not groups else 1

    rounding = make_rounding(options.Precision.stochastic_rounding, noise)
    if options.Precision.floating_point_exceptions:
        rounding.in_place = rounding  # checking a rounding needs the values before it
    follows = training or tracks_weights
    recorder = Recorder(
        device,
        rounding,
        options._execution_strategy,
        fused_micro_batches=fused,
        norm_replicas=None if options._Emulator.stack_replicas else batching.replicas,
        permissive=options._Emulator.permissive,
        training=training,
        tracks_weights=follows,
        strided_channel_groups=bool(options._Popart.options.get("groupNormStridedChannelGrouping", False)),
    )
    storages = {}
    for name, host in named_state(user_model):
        storage, half = upload(plain(host), device)
        if name in groups:
            storage = groups[name].to_device(storage).contiguous()
        if isinstance(host, torch.nn.Parameter):
            storage.requires_grad_(follows and host.requires_grad and storage.is_floating_point())
            if half and storage.requires_grad and training:  # the gradient of a float16 weight is float16
                storage.register_hook(rounding.values)
        storages[name] = storage
        recorder.slots.add_state(name, host, storage[0] if name in groups else storage, half)
    _allow_attributes(model, recorder)

    inputs = []
    for tensor, size in zip(tensors, sizes):
        cut = batching.micro_batch(tensor, 0, 0, 0) if fused == 1 else tensor[: fused * size]
        inputs.append(recorder.slots.add_input(*upload(cut, device)))
    try:
        graph, updated_state, updated_inputs, changes_saved = _capture(
            model,
            user_model,
            arguments.with_tensors(inputs),
            recorder,
            training,
            options._module_namescope_enabled,
        )
    except NeedsWeightGradients:
        return compile_model(model, user_model, arguments, options, training, noise, grouping, True)

    log_graph(graph, storages, "half" if options.Precision.partials_type == torch.half else "float")
    weights = {name: storages[name] for name, _ in user_model.named_parameters()}
    anchors = make_anchors(options, batching, graph, weights)
    log_placement(graph, recorder.annotations.stages)
    loss_slot = find_loss(graph) if training else None
    if loss_slot is not None:
        check_backward(graph, loss_slot, recorder.slots, recorder.refusals)
    rounding.own_gradients = not recorder.results.mixes_types
    once_each = [name for name in updated_state if graph.state[name] not in recorder.fused.updated]
    if fused > 1 and once_each and not options._Emulator.stack_replicas:
        raise createPoptorchError(
            f"Micro-batches cannot be fused: forward updates {', '.join(once_each)} once for each micro-batch."
        )
    _check_buffers(user_model, updated_state, options)
    # operators that are called one by one can be checked, generated code cannot
    generated = (
        training and options._Emulator.torch_compile and not options.Precision.floating_point_exceptions
    )
    if generated and graph.half:
        raise createPoptorchError(
            "torchCompile generates float32 code, and this model has float16; switch it off."
        )
    if generated and changes_saved:
        raise createPoptorchError(
            "torchCompile has no code for a forward that changes in place what its gradients need; switch it off."
        )
    check_overlap(graph, options, arguments.tensor_names())
    recorder.annotations.stages.validate(options, training, hardware=not uses_ipu_model(options))
    if training and recomputes_stages(graph, options):
        graph.stashed = stashed_tensors(
            graph, [graph.state[name] for name in weights if weights[name].requires_grad]
        )
    executable = Executable(
        graph=graph,
        batching=batching,
        signature=signature_only(arguments),
        loss_slot=loss_slot,
        keep=[anchor.slot for anchor in anchors if anchor.slot is not None],
        check=check_node if options.Precision.floating_point_exceptions else None,
        generated=generated,
        fused=fused,
        rounding=rounding,
        groups=groups,
        state=storages,
        weights=weights,
        half_weights=[name for name in weights if graph.state[name] in graph.half],
        updated_buffers=updated_state,
        updated_inputs=updated_inputs,
        changes_saved=changes_saved,
    )
    return executable, anchors


def _check_types(model: torch.nn.Module, arguments: Arguments) -> None:
    """Poplar has no bfloat16 (PopART, popx/irlowering.cpp, popType)."""
    named = list(zip(arguments.tensor_names(), arguments.tensors())) + list(named_state(model))
    found = [name for name, tensor in named if tensor.dtype == torch.bfloat16]
    if found:
        raise createPoptorchError(
            f"The data type bfloat16 is not supported in Poplar: {', '.join(found)}. Use float16 or float32."
        )


def _allow_attributes(model: torch.nn.Module, recorder: Recorder) -> None:
    for module in model.modules():
        for _, tensor in tensor_paths(list(vars(module).values())):
            recorder.slots.allow_attribute(tensor)


def _capture(
    model: torch.nn.Module,
    user_model: torch.nn.Module,
    arguments: Arguments,
    recorder: Recorder,
    training: bool,
    names: bool,
) -> Tuple[Graph, List[str], List[int], bool]:
    """Run forward once under the recorder; the host's module is as before afterwards, also when forward fails.

    Returns:
        What was recorded, the names of the state and the numbers of the inputs that forward changes, and whether it
        changes what its gradients need.
    """
    before = [
        (name, module, dict(module._parameters), dict(module._buffers))
        for name, module in user_model.named_modules()
    ]
    state = [recorder.slots.values[slot] for slot in recorder.graph.state.values()]
    versions = [storage._version for storage in state]
    buffers_of = {name for name, _ in user_model.named_buffers()}
    originals = [
        storage.detach().clone() if name in buffers_of else None
        for name, storage in zip(recorder.graph.state, state)
    ]
    inputs = [recorder.slots.values[slot] for slot in recorder.graph.inputs]
    input_versions = [storage._version for storage in inputs]
    random_before = random_states()
    try:
        scopes = module_scopes(model, recorder, names)
        with torch.set_grad_enabled(training or torch.is_grad_enabled()), noted() as saved, scopes, recorder:
            result = arguments.call(model)  # with the hooks of the module, if it has any
        problem = _reassigned(before)
    except Exception as error:
        # what was refused before explains the error better than the error itself
        recorder.refuse(recorder.graph.nodes, error)
        raise
    finally:
        for _, module, parameters, buffers in before:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
    recorder.shadows.check_returned(result)
    graph = recorder.graph
    graph.outputs = pack(result, lambda t: _output(t, recorder))
    graph.mark_needed(has_effects, written_slots, recorder.slots.memory_of)
    recorder.refuse([node for node in graph.nodes if node.needed])
    if problem:
        raise createPoptorchError(problem)
    graph.losses = [(index, slot) for index, slot in graph.losses if graph.nodes[index].needed]
    recorder.constants.keep()
    graph.uses_random = any(not torch.equal(a, b) for a, b in zip(random_before, random_states()))
    _return_statistics_unchanged(recorder)
    updated_inputs = [i for i, (v, t) in enumerate(zip(input_versions, inputs)) if t._version != v]
    changes_saved = have_changed(saved)
    updated_state = []
    for name, storage, version, original in zip(graph.state, state, versions, originals):
        changed = storage._version != version or (original is not None and not torch.equal(original, storage))
        if changed:
            updated_state.append(name)
        if changed and original is not None:
            with torch.no_grad():
                storage.copy_(original)
            storage.detach_()
    return graph, updated_state, updated_inputs, changes_saved


@contextlib.contextmanager
def module_scopes(model: torch.nn.Module, recorder: Recorder, enabled: bool) -> Iterator[None]:
    """Name what is recorded after the modules that it happens in (unless ``Options.disableModuleNamescope``)."""
    if not enabled:
        yield
        return
    names = {id(module): name for name, module in model.named_modules() if name}

    def enter(module: torch.nn.Module, inputs: Any) -> None:
        if id(module) in names:
            recorder.annotations.push_name_scope(names[id(module)].rsplit(".", 1)[-1])

    def leave(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if id(module) in names:
            recorder.annotations.pop_name_scope()

    handles = [
        torch.nn.modules.module.register_module_forward_pre_hook(enter),
        torch.nn.modules.module.register_module_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _output(tensor: torch.Tensor, recorder: Recorder) -> Any:
    slot = recorder.slots.find(tensor)
    if slot is not None:
        return Ref(slot)
    warnings.warn(
        f"Output expected to be on the IPU but is on {tensor.device.type}: it is returned as it is, and does not "
        "change with the inputs.",
        stacklevel=2,
    )
    return tensor


def _return_statistics_unchanged(recorder: Recorder) -> None:
    """Running statistics that forward returns are those that the micro-batch began with.

    torch does not declare a norm's update of them as in-place, so that PopTorch's graph has the variable as it came in
    for what Python reads; Graphcore's public tests of PopTorch expect it so.
    """
    graph = recorder.graph
    statistics = {
        ref.slot
        for node in graph.nodes
        for ref in references(running_statistics(node.function, node.name, node.args, node.kwargs))
    }
    for slot in sorted(statistics.intersection(ref.slot for ref in references(graph.outputs))):
        kept = recorder.slots.add_copy(recorder.slots.values[slot].detach().clone(), slot)
        graph.start_with_copy(slot, kept)
        graph.outputs = map_structure(graph.outputs, functools.partial(_instead, slot, kept), (Ref,))


def _instead(old: int, new: int, ref: Ref) -> Ref:
    return Ref(new) if ref.slot == old else ref


def _reassigned(before: List[Tuple[str, torch.nn.Module, Dict[str, Any], Dict[str, Any]]]) -> str:
    """What forward did to the registration of parameters and buffers; empty when nothing.

    Programs match these messages, so they begin as PopTorch 3.4's do.
    """
    for prefix, module, parameters, buffers in before:
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            continue
        for kind, old, new in (
            ("Parameter", parameters, module._parameters),
            ("Buffer", buffers, module._buffers),
        ):
            for name, tensor in old.items():
                full_name = f"{prefix}.{name}" if prefix else name
                if name not in new:
                    return f"{kind} {full_name} is removed from the model when calling the forward method."
                if new[name] is not tensor:
                    return (
                        f"{kind} {full_name} is reassigned within the model when calling the forward method. This is "
                        f"not supported. Consider using self.{full_name}.copy_(src) to copy data from a source "
                        "tensor, where src is the name of the source tensor."
                    )
    return ""


def _check_buffers(model: torch.nn.Module, updated: List[str], options: Options) -> None:
    """Refuse names of ``updatableNamedBuffers`` that the model lacks, and buffers that would differ between replicas.

    The latter are those that forward updates, unless that is asked for. BatchNorm's own running statistics are let
    through, as Graphcore's CNN application relies on.
    """
    known = {name for name, _ in model.named_buffers()}
    unknown = [name for name in options._updatable_named_buffers or () if name not in known]
    if unknown:
        raise createPoptorchError(
            f"Options.updatableNamedBuffers: the model has no buffer {', '.join(unknown)}."
        )
    if options.replication_factor == 1 or not options.broadcast_buffers:
        return
    native = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
    }
    refused = [name for name in updated if name not in native]
    if refused:
        raise createPoptorchError(
            "PopTorch does not support broadcasting buffers. If your model is able to tolerate buffers becoming out "
            "of sync between replicas, you can disable buffer broadcasting using "
            f"poptorch.Options.broadcastBuffers(False). Forward updates: {', '.join(refused)}."
        )
