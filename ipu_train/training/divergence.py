"""What a run does when its loss or its weights are no longer finite.

``stop``      the run ends with an exit status of its own; the last good checkpoint stays.
``skip``      the weight updates of the call are undone and the run goes on with the next images, as dynamic loss
              scaling does when half precision overflows. It brings all state to the host after every call.
``rollback``  weights and optimizer return to the last checkpoint, and the run goes on behind the images that led away
              from it (as Chowdhery et al. 2022, arXiv 2204.02311, section 5.1, did by hand).

Position, schedule and metrics move on in all cases: the images of an undone update are passed over.
"""

from pathlib import Path
from typing import Any, Optional

EXIT_STATUS = 4

STOP, SKIP, ROLLBACK = "stop", "skip", "rollback"


class Diverged(ValueError):
    """A run that has come to NaN and does not go on; the message names the last good checkpoint."""

    exit_status = EXIT_STATUS


def gone(what: str, step: int, good: Optional[Path], why: str = "") -> Diverged:
    """The error that ends a run."""
    kept = (
        f"The last good checkpoint is {good}."
        if good is not None
        else "There is no checkpoint from before; checkpoint.every_steps writes some within an epoch."
    )
    return Diverged(
        f"{what} not finite at step {step}: lower optimizer.learning_rate or, in half precision, "
        f"optimizer.loss_scaling.{why} {kept} To go on from it all the same: --resume with training.on_divergence=skip "
        "or =rollback."
    )


class Limit:
    """Counts what was undone in a row.

    Args:
        most: more than that ends the run.
        in_a_row, total: of the interrupted run.
    """

    def __init__(self, most: int, in_a_row: int = 0, total: int = 0) -> None:
        self.most, self.in_a_row, self.total = most, in_a_row, total

    def count(self) -> bool:
        """One more; tells whether that is still allowed."""
        self.in_a_row += 1
        self.total += 1
        return self.in_a_row <= self.most

    def reset(self) -> None:
        self.in_a_row = 0

    def state(self) -> Any:
        return {"in_a_row": self.in_a_row, "total": self.total}
