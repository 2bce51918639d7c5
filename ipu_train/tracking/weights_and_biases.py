"""Metrics to Weights & Biases, as a guest: whatever goes wrong there, the run goes on."""

import os
import uuid
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from .. import durable
from .progress import tell

_ID_FILE = "wandb_id"


def _logged_in(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False))
    except TypeError:  # versions that always ask; they show a stored key instead
        return bool(wandb.api.api_key)


class WandbRun:
    """A Weights & Biases run; offline when not logged in. The first failure is told once and ends it.

    A resumed run folder goes on with the same Weights & Biases run.

    Args:
        run_dir: run folder; wandb keeps its files in there.
        config: the resolved configuration as plain values.
        project, entity, name: where the run is shown, and as what.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        project: str,
        entity: Optional[str] = None,
        name: Optional[str] = None,
    ):
        self._run: Any = None
        try:
            self._run = self._start(Path(run_dir), config, project, entity, name)
        except ImportError:
            tell(
                "logging.wandb is on, but wandb is not installed; install ipu-train[wandb] (the run goes on)"
            )
        except Exception as error:
            self._give_up(error)

    @staticmethod
    def _start(run_dir: Path, config: Mapping[str, Any], project: str, entity: Any, name: Any) -> Any:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        if mode is None and not _logged_in(wandb):
            mode = "offline"
        id_file = run_dir / _ID_FILE
        if not id_file.exists():
            durable.write(id_file, uuid.uuid4().hex[:12])
        return wandb.init(
            project=project,
            entity=entity,
            name=name,
            dir=str(run_dir),
            config=dict(config),
            mode=mode,
            id=id_file.read_text().strip(),
            resume="allow",
        )

    def _give_up(self, error: Exception) -> None:
        self._run = None
        first = (str(error).strip().splitlines() or [""])[0]
        tell(f"wandb failed and is left out from here on (the run goes on): {type(error).__name__}: {first}")

    def log(self, split: str, step: int, values: Dict[str, Any]) -> None:
        """Send values as ``split/name`` for a weight update."""
        if self._run is None:
            return
        try:
            self._run.log({f"{split}/{name}": value for name, value in values.items()}, step=step)
        except Exception as error:
            self._give_up(error)

    def image(self, name: str, path: Path, step: int) -> None:
        """Send a picture."""
        if self._run is None:
            return
        try:
            import wandb

            self._run.log({name: wandb.Image(str(path))}, step=step)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:
            self._give_up(error)
        self._run = None
