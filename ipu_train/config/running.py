"""What is kept and told of a run: the sections logging and checkpoint."""

from typing import Optional

from pydantic import Field

from .base import MOST_EPOCHS, MOST_UPDATES, AutoFlag, Flag, Section, Text


class LoggingConfig(Section):
    """What a run tells, to whom."""

    every_steps: int = Field(
        10,
        ge=1,
        le=MOST_UPDATES,
        description="Weight updates between two training lines of metrics.jsonl.",
    )
    inspect_every: Optional[int] = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="Epochs between two lines of powers.jsonl: the power terms of every norm, as means over the weight "
        "updates of that epoch (see `ipu-train inspect`). null: none, and no cost.",
    )
    progress: AutoFlag = Field("auto", description="Progress bar. auto: when standard error is a terminal.")
    wandb: Flag = Field(False, description="Send metrics to Weights & Biases (offline when not logged in).")
    wandb_project: Text = Field("ipu-train", description="Project of the Weights & Biases run.")
    wandb_entity: Optional[Text] = Field(
        None, description="Team or user of the Weights & Biases run. null: yours."
    )
    tensorboard: Flag = Field(
        False, description="Write event files for TensorBoard into tensorboard/ of the run folder."
    )
    csv: Flag = Field(False, description="Write metrics.csv, the lines of metrics.jsonl as a table, too.")
    stalled_after: Optional[float] = Field(
        600.0,
        gt=0,
        le=10**7,
        description="Seconds without movement after which a run names the stage it is in. null: never.",
    )
    plots: Flag = Field(
        True, description="Write report.html and draw curves.png (needs matplotlib) in the run folder."
    )


class CheckpointConfig(Section):
    """What is kept so that a run can go on."""

    every_epochs: int = Field(
        1, ge=0, le=MOST_EPOCHS, description="Epochs between two checkpoints; 0: only the last one."
    )
    every_steps: Optional[int] = Field(
        None, ge=1, le=MOST_UPDATES, description="Weight updates between two further checkpoints."
    )
    keep: int = Field(3, ge=1, le=MOST_EPOCHS, description="Newest checkpoints kept; older ones are deleted.")
    keep_best: Flag = Field(
        True,
        description="Keep the checkpoint of the best validation (validation.metric) too, however old it is.",
    )
    resume: Optional[Text] = Field(
        None,
        description="Checkpoint or run folder to go on from (with another run_dir, the run branches off); latest: "
        "run_dir's newest one, as --resume; auto: that, or a new run where there is none. null: start anew.",
    )
