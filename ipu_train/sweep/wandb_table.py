"""A sweep to Weights & Biases: every point as a line of its run, the picture, and the saving as summary."""

from pathlib import Path
from typing import Any, Dict, Optional

from ..config import Resolved
from ..tracking.weights_and_biases import WandbRun


def send(folder: Path, base: Resolved, document: Dict[str, Any], picture: Optional[Path]) -> None:
    """Send the points of a sweep; whatever fails there is told once and the sweep goes on."""
    logging = base.config.logging
    run = WandbRun(
        folder, base.config.model_dump(), logging.wandb_project, logging.wandb_entity, f"sweep {base.name}"
    )
    for step, one in enumerate(document["points"]):
        values = {key: value for key, value in one.items() if isinstance(value, (int, float, bool))}
        run.log(f"sweep/{one['norm']}", step, values)
    if picture is not None:
        run.image("sweep/picture", picture, len(document["points"]))
    run.close()
