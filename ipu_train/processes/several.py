"""What several processes of one training do together.

``popdist`` says which replicas are whose, and Horovod carries what the hosts tell each other, as in Graphcore's
applications; on the emulator both are its stand-ins.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch

from .alone import Processes, Value
from .lost import Elsewhere, ProcessLost

BAD_INPUT = 2  # exit status of an error that has none of its own
_INTERRUPTED = 130  # exit status of KeyboardInterrupt
# how a process ends: as if it had called sys.exit, or with an error; 0 while it goes on
_EXITS, _FAILS = 1, 2


class Several(Processes):
    """This process among several.

    Args:
        index, count, local_index: see :class:`~ipu_train.processes.Launched`.
        new_options: ``popdist.poptorch.Options``.
        hvd: ``horovod.torch``, initialised.
        notice: where processes that end leave word for the others, or None; see ``notice.Notice``.
    """

    def __init__(
        self, index: int, count: int, local_index: int, new_options: Any, hvd: Any, notice: Any
    ) -> None:
        self.index, self.count, self.local_index = index, count, local_index
        self._new_options, self._hvd, self._notice = new_options, hvd, notice
        self._agreed = False  # on ending

    def options(self, poptorch: Any, ipus_per_replica: int, replicas: int) -> Any:
        return self._new_options(ipus_per_replica=ipus_per_replica)

    # -- errors --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        failure: Optional[BaseException] = None
        try:
            yield
        except (ProcessLost, Elsewhere):
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            failure = error
        try:
            how, status = self._rows(torch.tensor(_ending(failure))).max(0).values.tolist()
        except (ProcessLost, Elsewhere):
            if isinstance(failure, KeyboardInterrupt):  # a terminal's has reached the others, too
                raise failure from None
            raise
        if not how:
            return
        texts = [self._object_of(index, str(failure)) for index in range(self.count)]
        self._agreed = True
        if failure is None or texts[self.index] in texts[: self.index]:
            raise _elsewhere(how, status) from failure
        raise failure

    def first(self, compute: Callable[[], Value]) -> Value:
        failure: Optional[BaseException] = None
        value: Any = None
        if self.is_first:
            try:
                value = compute()
            except (Exception, SystemExit) as error:
                failure = error
        with self._connected():
            (how, status), value = self._hvd.broadcast_object((_ending(failure), value), root_rank=0)
        if how:
            self._agreed = True
            raise failure if failure is not None else _elsewhere(how, status)
        return value

    def in_turn(self, compute: Callable[[], Value]) -> Value:
        values: List[Value] = []
        for turn in (True, False):
            with self.together():
                if turn == (self.local_index == 0):
                    values.append(compute())
        return values[0]

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        from ..emulator.device.distributed import Disconnected

        try:
            yield
        except Disconnected as error:
            raise self._lost() from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Around Horovod's calls, whose errors are RuntimeErrors."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost() from error

    def _lost(self) -> Exception:
        """What to raise when another process is found gone: one of those that are left speaks."""
        speaks = self.is_first if self._notice is None else self._notice.may_speak(self.index)
        if not speaks:
            return Elsewhere()
        return ProcessLost(
            "another process of this training has ended, and so do the others (the launcher says which one and how). "
            + self.how_to_go_on
        )

    # -- values --------------------------------------------------------------------------------------------------

    def _rows(self, own: torch.Tensor) -> torch.Tensor:
        """``[n]`` of each process as ``[processes, n]``."""
        with self._connected():
            return self._hvd.allgather(own.reshape(1, -1))

    def _object_of(self, index: int, own: Any) -> Any:
        with self._connected():
            return self._hvd.broadcast_object(own, root_rank=index)

    def outputs(self, results: Sequence[torch.Tensor], stop: Any) -> List[torch.Tensor]:
        word = torch.tensor([float(stop.word)], dtype=torch.float64)
        rows = self._rows(torch.cat([word, *(result.double().reshape(-1) for result in results)]))
        stop.hear([int(row) for row in rows[:, 0].tolist()])
        gathered, start = [], 1
        for result in results:
            end = start + result.numel()
            gathered.append(rows[:, start:end].reshape(-1).to(result.dtype))
            start = end
        return gathered

    def sums(self, values: Sequence[float]) -> List[float]:
        return self._rows(torch.tensor(list(values), dtype=torch.float64)).sum(0).tolist()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._connected():
            return self._hvd.allreduce(tensor, op=self._hvd.Sum)

    def words(self, own: int) -> List[int]:
        return [int(row) for row in self._rows(torch.tensor([float(own)])).reshape(-1).tolist()]

    def take_first(self, tensors: Dict[str, torch.Tensor]) -> None:
        if tensors:
            with self._connected():
                self._hvd.broadcast_parameters(tensors, root_rank=0)

    def random_state(self, own: List[int]) -> List[int]:
        rows = self._rows(torch.tensor(own, dtype=torch.int64))
        return own if bool((rows == rows[0]).all()) else rows.reshape(-1).tolist()

    # -- the end -------------------------------------------------------------------------------------------------

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None or self._agreed:
            with contextlib.suppress(ProcessLost, Elsewhere):  # all is done
                self._rows(torch.zeros(1))  # nobody goes while others still need it
        elif self._notice is not None:
            from ..emulator.device.distributed import leave

            silent = isinstance(error, Elsewhere)
            if not silent and not isinstance(error, ProcessLost):
                # an error that all processes have come to by themselves is told once
                silent = not self._notice.may_speak(self.index)
            leave(error)  # who waits for this process, and not for the one that is gone, would do so for ever
            self._notice.linger(self.index, self.count)
            if silent:
                raise Elsewhere(getattr(error, "exit_status", BAD_INPUT)) from error


def _ending(failure: Optional[BaseException]) -> Tuple[int, int]:
    """How a process ends that raises this, and its exit status."""
    if failure is None:
        return 0, 0
    if isinstance(failure, KeyboardInterrupt):
        return _EXITS, _INTERRUPTED
    if isinstance(failure, SystemExit):
        code = failure.code  # None is success, a text is printed
        return _EXITS, code & 0xFF if isinstance(code, int) else int(code is not None)
    return _FAILS, getattr(failure, "exit_status", BAD_INPUT)


def _elsewhere(how: int, status: int) -> BaseException:
    """What ends the processes that have no reason of their own, in silence."""
    return SystemExit(status) if how == _EXITS else Elsewhere(status)
