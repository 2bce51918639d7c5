"""The batching algebra: how a call's tensors are cut into micro-batches and how results are put together.

D device iterations, A micro-batches of gradient accumulation, R replicas in G = R / S input groups of S replicas. The
leading dimension of every input is laid out ``[D, A, G, B]`` with B the micro-batch size, outermost first (PopTorch
3.4 user guide, "Efficient data batching").
"""

from typing import List, Sequence

import torch

from .._impl import createPoptorchError
from ..enums import CommGroupType, OutputMode


class Batching:
    """The factors of one executor.

    Attributes:
        device_iterations, gradient_accumulation, replicas, group_size: D, A, R and S.
    """

    def __init__(
        self,
        device_iterations: int,
        gradient_accumulation: int,
        replicas: int,
        group_size: int = 1,
        group_type: CommGroupType = CommGroupType.Consecutive,
        output_mode: OutputMode = OutputMode.Final,
        output_return_period: int = 1,
    ) -> None:
        self.device_iterations = device_iterations
        self.gradient_accumulation = gradient_accumulation
        self.replicas = replicas
        self.groups = replicas // group_size
        self.group_size = group_size
        self.group_type = group_type
        self.output_mode = output_mode
        self.period = output_return_period
        if output_mode == OutputMode.EveryN and device_iterations % output_return_period:
            raise createPoptorchError(
                f"OutputMode.EveryN: the output return period ({output_return_period}) must divide "
                f"deviceIterations ({device_iterations})."
            )

    @property
    def micro_batches(self) -> int:
        """N = D * A * G, the number of micro-batches that the leading dimension of an input holds."""
        return self.device_iterations * self.gradient_accumulation * self.groups

    def micro_batch_size(self, tensor: torch.Tensor) -> int:
        """B for an input tensor; a 0-dim tensor counts as one element.

        Raises:
            AssertionError: the leading dimension is not a multiple of N.
        """
        size = tensor.shape[0] if tensor.dim() else 1
        assert size % self.micro_batches == 0, (
            f"Invalid batch dimension: In the input {tuple(tensor.shape)}, the batch dimension ({size}) must be a "
            f"multiple of Options.deviceIterations ({self.device_iterations}) * "
            f"Options.replicationFactor / input group size ({self.groups}) * "
            f"Options.Training.gradientAccumulation ({self.gradient_accumulation}) = {self.micro_batches}, because "
            "it is used to calculate the size of a micro-batch"
        )
        return size // self.micro_batches

    def group_of(self, replica: int) -> int:
        """The input group that a replica reads."""
        if self.group_type == CommGroupType.Orthogonal:
            return replica % self.groups
        return replica // self.group_size

    def micro_batch(
        self, tensor: torch.Tensor, iteration: int, accumulation: int, replica: int
    ) -> torch.Tensor:
        """The slice of an input that one replica reads in one micro-batch."""
        if tensor.dim() == 0:
            return tensor
        size = tensor.shape[0] // self.micro_batches
        index = iteration * self.gradient_accumulation + accumulation
        index = index * self.groups + self.group_of(replica)
        return tensor[index * size : (index + 1) * size]

    def weight_update_batch(self, tensor: torch.Tensor, iteration: int) -> torch.Tensor:
        """All micro-batches of one device iteration as one batch, in the order ``[A, G, B]``."""
        size = tensor.shape[0] // self.device_iterations
        return tensor[iteration * size : (iteration + 1) * size]

    # -- outputs -------------------------------------------------------------------------------------------------

    def keeps(self, iteration: int, accumulation: int) -> bool:
        """Whether the output mode returns (or sums) what this micro-batch computes."""
        if self.output_mode == OutputMode.Final:
            return iteration == self.device_iterations - 1 and accumulation == self.gradient_accumulation - 1
        if self.output_mode == OutputMode.EveryN:
            return (iteration + 1) % self.period == 0
        return True

    def join(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """One output from the kept micro-batch results, ordered ``[D, A, R]``.

        A single piece keeps its shape; several are concatenated along the leading dimension, scalars becoming a
        vector. With ``OutputMode.Sum`` the pieces of each replica are added first.
        """
        if self.output_mode == OutputMode.Sum:
            pieces = self._sum_per_replica(pieces)
        if len(pieces) == 1:
            return pieces[0]
        return torch.stack(list(pieces)) if pieces[0].dim() == 0 else torch.cat(list(pieces))

    def _sum_per_replica(self, pieces: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        totals = [piece.clone() for piece in pieces[: self.replicas]]
        for index in range(self.replicas, len(pieces)):
            totals[index % self.replicas] += pieces[index]
        return totals

    def join_fused(self, updates: Sequence[torch.Tensor], scalar: bool) -> torch.Tensor:
        """As :meth:`join`, for results that hold all micro-batches of a weight update in the order ``[A, R]``.

        Args:
            updates: one tensor for each device iteration, ``[A * R]`` for ``scalar`` results (a loss of each
                micro-batch), else ``[A * R * B, ...]``.
        """
        pieces = []
        for iteration, update in enumerate(updates):
            rest = update.shape[1:] if scalar else (-1,) + tuple(update.shape[1:])
            by_replica = update.reshape((self.gradient_accumulation, self.replicas) + tuple(rest))
            if self.output_mode == OutputMode.Sum:
                pieces.append(by_replica.sum(0, keepdim=True, dtype=update.dtype))
            elif self.keeps(iteration, self.gradient_accumulation - 1):
                pieces.append(by_replica[-1:] if self.output_mode == OutputMode.Final else by_replica)
        if self.output_mode == OutputMode.Sum:
            pieces = [torch.stack(pieces).sum(0, dtype=pieces[0].dtype)]
        joined = torch.cat(pieces).flatten(0, 1)
        if scalar:
            return joined[0] if joined.shape[0] == 1 else joined
        return joined.flatten(0, 1)
