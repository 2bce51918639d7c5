"""Runs an executable: micro-batches in the order of the hardware, gradients, weight updates, outputs."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from ..capture.dtypes import upload
from ..capture.graph import references
from ..enums import MeanReductionStrategy, OutputMode, ReductionType
from ..options import Options
from ..update.rules import DeviceOptimizer
from .anchors import Anchor
from .distributed import all_reduce_sum
from .executable import Executable
from .float_exceptions import check_gradients
from .measurements import Timeline
from .random import DeviceRandom

Gradients = Dict[str, torch.Tensor]


class Runner:
    """Executes calls of one executable.

    A call makes D device iterations; when training each of them accumulates the gradients of A micro-batches on each
    of R replicas and then updates the weights once (PopTorch 3.4 user guide, "Efficient data batching").

    Attributes:
        anchors: tensors that are kept beside the outputs.
        timeline: when inputs and outputs of the last call went over.
    """

    def __init__(
        self, executable: Executable, options: Options, random: DeviceRandom, anchors: Sequence[Anchor] = ()
    ) -> None:
        self.executable = executable
        self.batching = executable.batching
        self.random = random
        self.anchors = list(anchors)
        self.draws = executable.graph.uses_random or options.Precision.stochastic_rounding
        self.processes = options.Distributed.numProcesses
        self.mean = options.Training.accumulation_and_replication_reduction_type == ReductionType.Mean
        strategy = options.Training.meanAccumulationAndReplicationReductionStrategy
        self.running_mean = self.mean and strategy == MeanReductionStrategy.Running
        self.check = options.Precision.floating_point_exceptions
        self.output_slots = [ref.slot for ref in references(executable.graph.outputs)]
        self.loss_slot = -1 if executable.loss_slot is None else executable.loss_slot
        self.constants = list(executable.graph.constants.values())
        self.device = torch.device(options._Emulator.device)
        self.synthetic = bool(options._Popart.options.get("syntheticDataMode", 0))
        self.timeline = Timeline()

    def run(
        self, tensors: Sequence[torch.Tensor], optimizer: Optional[DeviceOptimizer]
    ) -> Tuple[Dict[int, torch.Tensor], Dict[int, torch.Tensor]]:
        """One call with whole input tensors.

        Returns:
            Outputs by slot as storage tensors, and by index those inputs that forward updated in place.
        """
        self.timeline = Timeline(len(tensors), len(self.output_slots))
        inputs = [upload(tensor, self.device)[0] for tensor in tensors]
        if self.executable.training:
            assert optimizer is not None
            outputs = self._train(inputs, optimizer)
        else:
            with torch.set_grad_enabled(self.executable.graph.differentiates):
                outputs = self._infer(inputs)
        if self.batching.output_mode in (OutputMode.Final, OutputMode.Sum):
            self.timeline.keep_last_outputs(self.batching.replicas)
        if self.synthetic:  # nothing goes over
            self.timeline = Timeline(len(tensors), len(self.output_slots))
        return outputs, {index: inputs[index] for index in self.executable.updated_inputs}

    # -- inference -----------------------------------------------------------------------------------------------

    def _infer(self, inputs: Sequence[torch.Tensor]) -> Dict[int, torch.Tensor]:
        pieces: Dict[int, List[torch.Tensor]] = {slot: [] for slot in self.output_slots}
        for iteration in range(self.batching.device_iterations):
            for replica in range(self.batching.replicas):
                values = self._forward(inputs, iteration, 0, replica)
                self._keep(values, pieces, iteration, 0)
                self._keep_anchors(values, iteration, 0)
                self._detach_state(replica)
            self.random.finish_micro_batch()
        return {slot: self.batching.join(kept) for slot, kept in pieces.items()}

    def _forward(
        self, inputs: Sequence[torch.Tensor], iteration: int, accumulation: int, replica: int
    ) -> Dict[int, torch.Tensor]:
        if self.draws:
            self.random.start_micro_batch(replica)
        self.timeline.stamp("input")
        cut = [self.batching.micro_batch(tensor, iteration, accumulation, replica) for tensor in inputs]
        self.timeline.stamp("input_complete")
        with self.executable.saving():
            return self.executable.program.run(cut, self.executable.state_of(replica), self.constants)

    def _detach_state(self, replica: int) -> None:
        """What forward has stored in a buffer is a value to the next micro-batch: no gradient goes back through it."""
        for state in self.executable.replica_state[replica]:
            if state.grad_fn is not None:
                state.detach_()

    def _keep(
        self,
        values: Dict[int, torch.Tensor],
        pieces: Dict[int, List[torch.Tensor]],
        iteration: int,
        accumulation: int,
    ) -> None:
        if self.batching.keeps(iteration, accumulation):
            self.timeline.stamp("output")
            for slot in pieces:
                value = values[slot].detach()
                # what forward goes on updating in place must be read now
                pieces[slot].append(value.clone() if self.executable.updated_buffers else value)
            self.timeline.stamp("output_complete")

    def _keep_anchors(
        self,
        values: Dict[int, torch.Tensor],
        iteration: int,
        accumulation: int,
        gradients: Optional[Gradients] = None,
    ) -> None:
        for anchor in self.anchors:
            if anchor.slot is not None:
                anchor.keep(values[anchor.slot], iteration, accumulation)
            elif anchor.of_gradient and gradients is not None and anchor.weight in gradients:
                anchor.keep(gradients[anchor.weight], iteration, accumulation)

    def _keep_loss_scale(self, iteration: int, optimizer: DeviceOptimizer) -> None:
        """The scaling that the losses of this device iteration were multiplied by."""
        for anchor in self.anchors:
            if anchor.of_loss_scale:
                for accumulation in range(self.batching.gradient_accumulation):
                    for _ in range(self.batching.replicas):
                        anchor.keep(torch.tensor(float(optimizer.loss_scaling)), iteration, accumulation)

    # -- training ------------------------------------------------------------------------------------------------

    def _train(self, inputs: Sequence[torch.Tensor], optimizer: DeviceOptimizer) -> Dict[int, torch.Tensor]:
        pieces: Dict[int, List[torch.Tensor]] = {slot: [] for slot in self.output_slots}
        accumulate = self._accumulate
        if self.executable.fused > 1:
            accumulate = self._accumulate_fused
        elif optimizer.settings["accum_type"] == torch.float16 or any(a.of_gradient for a in self.anchors):
            accumulate = self._accumulate_apart
        for iteration in range(self.batching.device_iterations):
            for weight in self.executable.weights.values():
                weight.grad = None
            accumulate(inputs, iteration, optimizer, pieces)
            self._keep_loss_scale(iteration, optimizer)
            if self.draws and self.processes > 1:
                fused = self.executable.fused > 1  # all replicas have one stream then
                self.random.start_update(0 if fused else self.batching.replicas * self.processes - 1)
            optimizer.update(self._reduced_gradients(optimizer))
            for anchor in self.anchors:
                if anchor.weight is not None and not anchor.of_gradient:
                    last = self.batching.gradient_accumulation - 1
                    anchor.keep(self.executable.weights[anchor.weight], iteration, last)
        if self.executable.fused == 1:
            return {slot: self.batching.join(kept) for slot, kept in pieces.items()}
        scalars = self.executable.graph.fused_losses
        return {slot: self.batching.join_fused(kept, slot in scalars) for slot, kept in pieces.items()}

    def _accumulate(self, inputs: Any, iteration: int, optimizer: DeviceOptimizer, pieces: Any) -> None:
        """Forward and backward of every micro-batch of one weight update, one after the other."""
        for accumulation in range(self.batching.gradient_accumulation):
            for replica in range(self.batching.replicas):
                values = self._forward(inputs, iteration, accumulation, replica)
                self._backward(values[self.loss_slot], optimizer, replica)
                self._keep(values, pieces, iteration, accumulation)
                self._keep_anchors(values, iteration, accumulation)
            self.random.finish_micro_batch()

    def _accumulate_apart(self, inputs: Any, iteration: int, optimizer: DeviceOptimizer, pieces: Any) -> None:
        """The same with the accumulators of each replica kept apart from the gradients of a micro-batch.

        For accumulators that are rounded to float16, and for anchored gradients. With the running strategy an
        accumulator holds the mean so far, which float16 has room for where it has none for the sum.
        """
        half = optimizer.settings["accum_type"] == torch.float16
        weights = self.executable.weights
        accumulators: List[Gradients] = [{} for _ in range(self.batching.replicas)]
        for accumulation in range(self.batching.gradient_accumulation):
            share = 1.0 / (accumulation + 1) if self.running_mean else 1.0
            for replica, sums in enumerate(accumulators):
                for weight in weights.values():
                    weight.grad = None
                values = self._forward(inputs, iteration, accumulation, replica)
                self._backward(values[self.loss_slot], optimizer, replica)
                self._keep(values, pieces, iteration, accumulation)
                gradients = {name: w.grad for name, w in weights.items() if w.grad is not None}
                self._keep_anchors(values, iteration, accumulation, gradients)
                for name, gradient in gradients.items():
                    before = sums.get(name)
                    if self.running_mean:
                        gradient = gradient * share
                        before = before * (1.0 - share) if before is not None else None
                    sums[name] = gradient if before is None else before + gradient
                    if half:  # may be the gradient itself, which is let go here
                        self.executable.rounding.values_(sums[name])
            self.random.finish_micro_batch()
        for name, weight in weights.items():
            found = [sums[name] for sums in accumulators if name in sums]
            weight.grad = None
            if found:
                weight.grad = found[0] if len(found) == 1 else torch.stack(found).sum(0)
                if self.running_mean:  # the reduction below divides by A once more
                    weight.grad = weight.grad * self.batching.gradient_accumulation

    def _accumulate_fused(self, inputs: Any, iteration: int, optimizer: DeviceOptimizer, pieces: Any) -> None:
        """The same with several micro-batches in one batch; only where images interact in batch norm alone."""
        whole = [self.batching.weight_update_batch(tensor, iteration) for tensor in inputs]
        total = self.batching.gradient_accumulation * self.batching.replicas
        parts: Dict[int, List[torch.Tensor]] = {slot: [] for slot in pieces}
        for start in range(0, total, self.executable.fused):
            if self.draws:
                self.random.start_micro_batch(0)
            self.timeline.stamp("input", self.executable.fused)
            cut = []
            for tensor in whole:
                size = tensor.shape[0] // total
                cut.append(tensor[start * size : (start + self.executable.fused) * size])
            self.timeline.stamp("input_complete", self.executable.fused)
            # running statistics are those of the replica whose micro-batch comes first
            replica = start % self.batching.replicas
            with self.executable.saving():
                values = self.executable.program.run(cut, self.executable.state_of(replica), self.constants)
            self._backward(values[self.loss_slot], optimizer, replica)
            self.random.finish_micro_batch()
            kept_here = self.batching.keeps(iteration, self.batching.gradient_accumulation - 1)
            steps = self.executable.fused if kept_here else 0
            self.timeline.stamp("output", steps)
            for slot in parts:
                parts[slot].append(values[slot].detach())
            self.timeline.stamp("output_complete", steps)
        for slot, kept in parts.items():
            pieces[slot].append(kept[0] if len(kept) == 1 else torch.cat(kept))

    def _backward(self, loss: torch.Tensor, optimizer: DeviceOptimizer, replica: int) -> None:
        if loss.requires_grad:
            loss.backward(torch.full_like(loss, optimizer.loss_scaling))
            if self.check:
                weights = self.executable.weights.items()
                check_gradients({name: w.grad for name, w in weights if w.grad is not None})
        self._detach_state(replica)

    def _reduced_gradients(self, optimizer: DeviceOptimizer) -> Gradients:
        """Gradients summed over micro-batches and replicas (of all processes), without loss scaling; mean if asked.

        The mean divides by all replicas, also for a weight whose gradients are summed in a group of them only
        (PopTorch 3.4: a loss that is a mean over a shard of the output counts for one replica of all).
        """
        gradients = {n: w.grad for n, w in self.executable.weights.items() if w.grad is not None}
        values = list(gradients.values())
        if self.processes > 1:
            all_reduce_sum(values)
        divisor = optimizer.loss_scaling
        micro_batches = self.batching.gradient_accumulation * self.batching.replicas * self.processes
        optimizer.adapt_loss_scaling(values, micro_batches)
        if self.mean:
            divisor *= micro_batches
        if divisor != 1.0 and values:
            torch._foreach_mul_(values, 1.0 / divisor)
        return gradients
