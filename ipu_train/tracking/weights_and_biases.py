"""Metrics to Weights & Biases, as a guest: whatever goes wrong there, the run goes on."""

import os
import queue
import threading
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

from .. import durable
from .progress import tell

_ID_FILE = "wandb_id"
_MOST_WAITING = 1000  # records
_HEAD_START = 10.0  # seconds before training in which wandb may begin

Task = Callable[[Any], Any]


def _logged_in(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False))
    except TypeError:  # versions that always ask; they show a stored key instead
        return bool(wandb.api.api_key)


class WandbRun:
    """A Weights & Biases run; offline when not logged in. The first failure is told once and ends it.

    wandb is called by a thread of its own, so that a service that is down or slow never holds up a step: what does not
    fit into the queue is left out and counted, and at the end the thread is waited for only so long.

    A resumed run folder goes on with the same Weights & Biases run.

    Args:
        run_dir: run folder; wandb keeps its files in there.
        config: the resolved configuration as plain values.
        project, entity, name: where the run is shown, and as what.
        patience: seconds that the end waits for wandb.
    """

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        project: str,
        entity: Optional[str] = None,
        name: Optional[str] = None,
        patience: float = 30.0,
    ):
        self._patience = patience
        self._left_out = 0
        self._run: Any = None  # of the thread alone
        self._tasks: queue.Queue[Optional[Task]] = queue.Queue(_MOST_WAITING)
        self._begun = threading.Event()
        arguments = (Path(run_dir), config, project, entity, name)
        self._thread: Optional[threading.Thread] = threading.Thread(
            target=self._work, args=arguments, name="wandb", daemon=True
        )
        self._thread.start()
        self._begun.wait(_HEAD_START)

    def _work(self, *arguments: Any) -> None:
        try:
            self._run = _start(*arguments)
        except ImportError:
            tell(
                "logging.wandb is on, but wandb is not installed; install ipu-train[wandb] (the run goes on)"
            )
        except Exception as error:
            self._give_up(error)
        self._begun.set()
        while True:
            task = self._tasks.get()
            if task is None:
                return
            if self._run is not None:
                try:
                    task(self._run)
                except Exception as error:
                    self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._run = None
        first = (str(error).strip().splitlines() or [""])[0]
        tell(f"wandb failed and is left out from here on (the run goes on): {type(error).__name__}: {first}")

    def _put(self, task: "Task") -> None:
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            self._left_out += 1

    def log(self, split: str, step: int, values: Dict[str, Any]) -> None:
        """Send values as ``split/name`` for a weight update."""
        named = {f"{split}/{name}": value for name, value in values.items()}
        self._put(lambda run: run.log(named, step=step))

    def image(self, name: str, path: Path, step: int) -> None:
        """Send a picture."""

        def send(run: Any) -> None:
            import wandb

            run.log({name: wandb.Image(str(path))}, step=step)

        self._put(send)

    def close(self) -> None:
        """End the run there, and wait for that as long as the patience lasts."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        try:
            self._tasks.put(lambda run: run.finish(), timeout=self._patience)  # with a full queue, too
            self._tasks.put(None, timeout=self._patience)
            thread.join(self._patience)
        except queue.Full:
            pass
        if thread.is_alive():
            tell(f"wandb has not finished in {self._patience:.0f} seconds and is left behind")
        if self._left_out:
            tell(
                f"wandb was too slow: {self._left_out} of its records were left out (metrics.jsonl has them all)"
            )


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
