"""Records the training program of a module on fake tensors: every operation, its shapes, its stage.

Nothing is computed and no memory of the network's size is touched: parameters, buffers and inputs are
replaced by fake ones, the forward pass runs once under a dispatch mode that writes down each ATen operation
below autograd, and, where asked, the backward pass too.
"""

import contextlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from . import operators, shape_rules
from .program import ACTIVATION, BUFFER, INPUT, PARAMETER, Operation, Program, Tensor

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
StageAt = Callable[[str, torch.nn.Module], Optional[int]]
CurrentStage = Callable[[], Optional[int]]


def _storage_key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Recorder(TorchDispatchMode):
    """Writes down every operation that reaches the dispatcher."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import it

    def __init__(self, current_stage: Optional[CurrentStage] = None) -> None:
        super().__init__()
        self.tensors: List[Tensor] = []
        self.index_of: Dict[int, int] = {}  # by address of a storage
        self.keep: List[Any] = []
        self.operations: List[Operation] = []
        self.unknown: Dict[str, int] = {}
        self.phase, self.stage, self.layers = "forward", 0, [""]
        self.current_stage = current_stage

    def tensor(self, value: torch.Tensor, kind: str = ACTIVATION, name: str = "") -> int:
        """Index of the storage behind ``value``, new where it was not seen before."""
        key = _storage_key(value)
        if key not in self.index_of:
            storage = value.untyped_storage()
            size = value.element_size()
            # The storage, so that no address is used twice; not the tensor, or autograd would copy gradients
            # that it may otherwise hand over.
            self.keep.append(storage)
            self.index_of[key] = len(self.tensors)
            self.tensors.append(
                Tensor(
                    len(self.tensors),
                    kind,
                    tuple(value.shape),
                    max(storage.nbytes() // size, value.numel()),
                    max(storage.nbytes(), 0),
                    value.dtype.is_floating_point,
                    name,
                )
            )
        return self.index_of[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        result = shape_rules.result(func, name, args, kwargs)
        if operators.is_free(name):
            return result
        inputs = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, torch.Tensor)]
        outputs = [v for v in tree_flatten(result)[0] if isinstance(v, torch.Tensor)]
        reads = tuple(self.tensor(v) for v in inputs)
        fresh = len(self.tensors)
        writes = tuple(self.tensor(v) for v in outputs)
        if all(w < fresh for w in writes) and not func._schema.is_mutable:
            return result  # a view: no work on an IPU, no new storage
        stage = self.stage
        if self.current_stage is not None and self.phase == "forward":
            found = self.current_stage()
            stage = self.stage = found if found is not None else stage
        kind, attributes, saves, known = operators.describe(name, args, inputs, outputs, reads, writes)
        if not known and self.phase == "forward":
            self.unknown[name] = self.unknown.get(name, 0) + 1
        differentiable = tuple(
            i for i, v in zip(reads, inputs) if v.dtype.is_floating_point and self.tensors[i].requires_grad
        )
        for value, index in zip(outputs, writes):
            if differentiable and value.dtype.is_floating_point:
                self.tensors[index].requires_grad = True
        self.operations.append(
            Operation(
                name,
                kind,
                self.layers[-1],
                stage,
                self.phase,
                reads,
                writes,
                attributes,
                saves,
                differentiable,
            )
        )
        return result


class _Hooks:
    """Forward hooks on every submodule that keep the recorder's layer path and stage up to date."""

    def __init__(
        self,
        module: torch.nn.Module,
        recorder: _Recorder,
        splits: Tuple[str, ...],
        stage_at: Optional[StageAt],
    ) -> None:
        names = dict(module.named_modules())
        missing = [s for s in splits if s not in names]
        if missing:
            near = [n for n in names if n.startswith(missing[0].split(".")[0])][:5]
            nearby = ", ".join(near) or "none"
            raise ValueError(
                f"pipeline split {missing[0]!r}: the model has no such module; near it are {nearby}"
            )
        starts = {name: position + 1 for position, name in enumerate(splits)}
        self.handles = []
        for name, child in names.items():
            before = self._before(recorder, name, starts.get(name), stage_at)
            self.handles.append(child.register_forward_pre_hook(before))
            self.handles.append(child.register_forward_hook(lambda *_: self._after(recorder)))

    @staticmethod
    def _before(
        recorder: _Recorder, name: str, start: Optional[int], stage_at: Optional[StageAt]
    ) -> Callable[[torch.nn.Module, Any], None]:
        def hook(module: torch.nn.Module, _: Any) -> None:
            recorder.layers.append(name)
            stage = stage_at(name, module) if stage_at is not None else None
            if start is not None:
                stage = max(recorder.stage, start)
            if stage is not None:
                recorder.stage = stage

        return hook

    @staticmethod
    def _after(recorder: _Recorder) -> None:
        recorder.layers.pop()

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def _fake(value: Any, device: str) -> Any:
    """A tensor like ``value`` without memory, wherever the original is: on the meta device, or on the CPU under a fake
    tensor mode.
    """
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)


def _fake_tensor_mode() -> Any:
    # imports torch's compiler, which takes as long as torch itself
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def cross_entropy(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The default loss of ``trace``: softmax cross entropy of logits [N, K] with class indices [N]."""
    return torch.nn.functional.cross_entropy(output.float(), labels)


def _loss_of(
    module: Callable[..., Any],
    fake_inputs: Sequence[Any],
    loss: Optional[Loss],
    labels: Optional[torch.Tensor],
) -> Tuple[torch.Tensor, List[torch.Tensor]]:
    output = module(*fake_inputs)
    tensors = [v for v in tree_flatten(output)[0] if isinstance(v, torch.Tensor)]
    if loss is None:
        scalars = [v for v in tensors if v.numel() == 1 and v.dtype.is_floating_point]
        return (scalars[-1] if scalars else tensors[0].float().sum()), tensors
    if labels is None:
        labels = torch.zeros(tensors[0].shape[0], dtype=torch.int64, device=tensors[0].device)
    return loss(tensors[0], labels), tensors


def trace(
    module: torch.nn.Module,
    example_inputs: Any,
    loss: Optional[Loss] = cross_entropy,
    labels: Optional[torch.Tensor] = None,
    training: bool = True,
    splits: Sequence[str] = (),
    stage_at: Optional[StageAt] = None,
    current_stage: Optional[CurrentStage] = None,
    record_backward: bool = False,
    bare: bool = False,
) -> Program:
    """Records a module's program.

    Args:
        module: any ``nn.Module``; left as it was.
        example_inputs: the positional inputs of one micro-batch (tensors; their values are never read).
        loss: function (first output, labels) -> scalar; None when the module itself returns its loss (its last
            scalar output, as PopTorch models do; else the sum of the first output).
        labels: example labels; by default class indices [N].
        training: whether to record a training step (else the forward pass alone, without gradients).
        splits: names of modules with which a new pipeline stage begins, in order of execution.
        stage_at: function (module name, module) -> stage or None, asked whenever a module begins.
        current_stage: function () -> stage or None, asked at every operation (for block scopes).
        record_backward: also record torch's own backward pass and saved tensors (see ``plain_torch.py``). The
            IPU's backward pass does not need it: it follows from the forward operations.
        bare: on tensors of the meta device rather than fake ones: the same program in half the time, and without
            torch's compiler being imported, for modules that compute with nothing but their state and inputs and
            ask no tensor for its device.

    Raises:
        ValueError: a split names no module.
    """
    inputs = example_inputs if isinstance(example_inputs, (list, tuple)) else (example_inputs,)
    recorder = _Recorder(current_stage)
    hooks = _Hooks(module, recorder, tuple(splits), stage_at)
    saved: List[torch.Tensor] = []
    was_training = module.training
    module.train(training)
    try:
        with contextlib.ExitStack() as stack:
            if not bare:
                stack.enter_context(_fake_tensor_mode())
            device = "meta" if bare else "cpu"
            state: Dict[str, torch.Tensor] = {}
            for name, value in module.named_parameters():
                fake = _fake(value, device).requires_grad_(training and value.requires_grad)
                state[name] = fake
                index = recorder.tensor(fake, PARAMETER, name)
                recorder.tensors[index].requires_grad = fake.requires_grad
            for name, value in module.named_buffers():
                state[name] = _fake(value, device)
                recorder.tensor(state[name], BUFFER, name)
            fake_inputs = tree_map(lambda v: _fake(v, device), tuple(inputs))
            for position, value in enumerate(tree_flatten(fake_inputs)[0]):
                if isinstance(value, torch.Tensor):
                    recorder.tensor(value, INPUT, f"input {position}")
            fake_labels = _fake(labels, device) if labels is not None else None

            def pack(value: torch.Tensor) -> torch.Tensor:
                saved.append(value)
                return value

            stack.enter_context(torch.set_grad_enabled(training))
            if record_backward:
                stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value))
            stack.enter_context(recorder)

            def run(*args: Any) -> Any:
                return torch.func.functional_call(module, state, args)

            if training:
                value, outputs = _loss_of(run, fake_inputs, loss, fake_labels)
                outputs = outputs + [value]
            else:
                outputs = [v for v in tree_flatten(run(*fake_inputs))[0] if isinstance(v, torch.Tensor)]
            if training and record_backward:
                recorder.phase = "backward"
                value.backward()
                for fake in state.values():
                    if fake.grad is not None:
                        recorder.tensors[recorder.tensor(fake.grad)].is_gradient = True
            kept = tuple(sorted({recorder.tensor(v) for v in saved}))
            held = tuple(sorted({recorder.tensor(v) for v in outputs}))
    finally:
        hooks.remove()
        module.train(was_training)
    first = next((v for v in tree_flatten(tuple(inputs))[0] if isinstance(v, torch.Tensor)), None)
    return Program(
        recorder.tensors,
        recorder.operations,
        batch=int(first.shape[0]) if first is not None and first.dim() else 1,
        training=training,
        outputs=held,
        unknown=recorder.unknown,
        saved_by_torch=kept,
        stage_names=("",) + tuple(splits),
    )
