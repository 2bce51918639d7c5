"""Runs an executable: micro-batches in the order of the hardware, gradients, weight updates, outputs."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from ._compiler import Executable
from ._distributed import all_reduce_sum
from ._dtypes import upload
from ._graph import references
from ._precision import round_in_place
from ._random import DeviceRandom
from ._update_rules import DeviceOptimizer
from .enums import ReductionType
from .options import Options


class Runner:
    """Executes calls of one executable.

    A call makes D device iterations; when training each of them accumulates the gradients of A micro-batches on each
    of R replicas and then updates the weights once (PopTorch 3.4 user guide, "Efficient data batching").
    """

    def __init__(self, executable: Executable, options: Options, random: DeviceRandom) -> None:
        self.executable = executable
        self.batching = executable.batching
        self.random = random
        self.draws = executable.graph.uses_random or options.Precision.stochastic_rounding
        self.processes = options.Distributed.numProcesses
        self.mean = options.Training.accumulation_and_replication_reduction_type == ReductionType.Mean
        self.output_slots = [ref.slot for ref in references(executable.graph.outputs)]
        self.constants = list(executable.graph.constants.values())
        self.device = torch.device(options._Emulator.device)

    def run(
        self, tensors: Sequence[torch.Tensor], optimizer: Optional[DeviceOptimizer]
    ) -> Tuple[Dict[int, torch.Tensor], Dict[int, torch.Tensor]]:
        """One call with whole input tensors.

        Returns:
            Outputs by slot as storage tensors, and by index those inputs that forward updated in place.
        """
        inputs = [upload(tensor, self.device)[0] for tensor in tensors]
        if self.executable.training:
            outputs = self._train(inputs, optimizer)
        else:
            with torch.no_grad():
                outputs = self._infer(inputs)
        return outputs, {index: inputs[index] for index in self.executable.updated_inputs}

    # -- inference -----------------------------------------------------------------------------------------------

    def _infer(self, inputs: Sequence[torch.Tensor]) -> Dict[int, torch.Tensor]:
        pieces: Dict[int, List[torch.Tensor]] = {slot: [] for slot in self.output_slots}
        for iteration in range(self.batching.device_iterations):
            for replica in range(self.batching.replicas):
                values = self._forward(inputs, iteration, 0, replica)
                self._keep(values, pieces, iteration, 0)
            self.random.finish_micro_batch()
        return {slot: self.batching.join(kept) for slot, kept in pieces.items()}

    def _forward(
        self, inputs: Sequence[torch.Tensor], iteration: int, accumulation: int, replica: int
    ) -> Dict[int, torch.Tensor]:
        if self.draws:
            self.random.start_micro_batch(replica)
        cut = [self.batching.micro_batch(tensor, iteration, accumulation, replica) for tensor in inputs]
        return self.executable.program.run(cut, self.executable.replica_state[replica], self.constants)

    def _keep(
        self,
        values: Dict[int, torch.Tensor],
        pieces: Dict[int, List[torch.Tensor]],
        iteration: int,
        accumulation: int,
    ) -> None:
        if self.batching.keeps(iteration, accumulation):
            for slot in pieces:
                value = values[slot].detach()
                # what forward goes on updating in place must be read now
                pieces[slot].append(value.clone() if self.executable.updated_buffers else value)

    # -- training ------------------------------------------------------------------------------------------------

    def _train(self, inputs: Sequence[torch.Tensor], optimizer: DeviceOptimizer) -> Dict[int, torch.Tensor]:
        pieces: Dict[int, List[torch.Tensor]] = {slot: [] for slot in self.output_slots}
        accumulate = self._accumulate_fused if self.executable.fused > 1 else self._accumulate
        for iteration in range(self.batching.device_iterations):
            for weight in self.executable.weights.values():
                weight.grad = None
            accumulate(inputs, iteration, optimizer, pieces)
            optimizer.update(self._reduced_gradients(optimizer))
        if self.executable.fused == 1:
            return {slot: self.batching.join(kept) for slot, kept in pieces.items()}
        scalars = self.executable.graph.fused_losses
        return {slot: self.batching.join_fused(kept, slot in scalars) for slot, kept in pieces.items()}

    def _accumulate(self, inputs: Any, iteration: int, optimizer: DeviceOptimizer, pieces: Any) -> None:
        """Forward and backward of every micro-batch of one weight update, one after the other."""
        for accumulation in range(self.batching.gradient_accumulation):
            for replica in range(self.batching.replicas):
                values = self._forward(inputs, iteration, accumulation, replica)
                self._backward(values[self.executable.loss_slot], optimizer)
                self._keep(values, pieces, iteration, accumulation)
            self.random.finish_micro_batch()

    def _accumulate_fused(self, inputs: Any, iteration: int, optimizer: DeviceOptimizer, pieces: Any) -> None:
        """The same with several micro-batches in one batch; only for models whose images do not interact."""
        whole = [self.batching.weight_update_batch(tensor, iteration) for tensor in inputs]
        total = self.batching.gradient_accumulation * self.batching.replicas
        parts: Dict[int, List[torch.Tensor]] = {slot: [] for slot in pieces}
        for start in range(0, total, self.executable.fused):
            if self.draws:
                self.random.start_micro_batch(0)
            cut = []
            for tensor in whole:
                size = tensor.shape[0] // total
                cut.append(tensor[start * size : (start + self.executable.fused) * size])
            values = self.executable.program.run(cut, self.executable.replica_state[0], self.constants)
            self._backward(values[self.executable.loss_slot], optimizer)
            self.random.finish_micro_batch()
            for slot in parts:
                parts[slot].append(values[slot].detach())
        for slot, kept in parts.items():
            pieces[slot].append(kept[0] if len(kept) == 1 else torch.cat(kept))

    def _backward(self, loss: torch.Tensor, optimizer: DeviceOptimizer) -> None:
        if loss.requires_grad:
            loss.backward(torch.full_like(loss, optimizer.settings["loss_scaling"]))
        if optimizer.settings["accum_type"] == torch.float16:
            for weight in self.executable.weights.values():
                if weight.grad is not None:
                    round_in_place(weight.grad)

    def _reduced_gradients(self, optimizer: DeviceOptimizer) -> Dict[str, torch.Tensor]:
        """Gradients summed over micro-batches and replicas (of all processes), without loss scaling; mean if asked."""
        gradients = {n: w.grad for n, w in self.executable.weights.items() if w.grad is not None}
        values = list(gradients.values())
        if self.processes > 1:
            all_reduce_sum(values)
        divisor = optimizer.settings["loss_scaling"]
        if self.mean:
            divisor *= self.batching.gradient_accumulation * self.batching.replicas * self.processes
        if divisor != 1.0 and values:
            torch._foreach_mul_(values, 1.0 / divisor)
        return gradients
