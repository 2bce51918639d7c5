"""The progress bar of a run, and short messages that do not tear it."""

import sys
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Iterator, Optional

from tqdm import tqdm

from ..outputs import going_on

_FORMAT = "{desc} {percentage:3.0f}%|{bar:20}| {rate_noinv_fmt}{postfix}, {remaining} left"


_silent = False


def silence() -> None:
    """Let this process tell nothing from now on: another one of the same training does."""
    global _silent
    _silent = True


def tell(message: str) -> None:
    """One line on standard error, above a progress bar if there is one."""
    if not _silent:
        with going_on(sys.stderr):
            tqdm.write(message, file=sys.stderr)


@contextmanager
def counting(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, for work that tells how much of how much is done; nothing elsewhere."""
    with tqdm(desc=name, unit="", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar:

        def told(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield told


class Progress:
    """One bar over the whole run, counted in images: epoch, loss, accuracy, images per second, time left.

    Args:
        images: of all epochs of the run.
        epochs: of the run.
        done: images that an interrupted run had seen already.
        show: true, false, or "auto": when standard error is a terminal.
    """

    def __init__(self, images: int, epochs: int, done: int = 0, show: Any = "auto"):
        self.epochs = epochs
        visible = sys.stderr.isatty() if show == "auto" else bool(show)
        bar = partial(
            tqdm,
            total=images,
            initial=done,
            unit=" images",
            unit_scale=True,
            bar_format=_FORMAT,
            dynamic_ncols=True,
            file=sys.stderr,
        )
        self.bar: Any = bar(disable=True)
        if visible:
            with going_on(sys.stderr):
                self.bar = bar()

    @property
    def visible(self) -> bool:
        return not self.bar.disable

    def update(
        self, images: int, epoch: int, loss: Optional[float] = None, accuracy: Optional[float] = None
    ) -> None:
        """Move on by ``images`` in ``epoch`` (from 1); loss and accuracy (0..1) are shown when given."""
        self.bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
        if loss is not None:
            shown = f"loss {loss:.4f}" + (f", accuracy {accuracy:.2%}" if accuracy is not None else "")
            self.bar.set_postfix_str(shown, refresh=False)
        with going_on(sys.stderr):
            self.bar.update(images)

    def close(self) -> None:
        with going_on(sys.stderr):
            self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
