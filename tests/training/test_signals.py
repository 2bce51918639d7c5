"""What each signal does to a process, before training, in it and behind it; without a training."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ipu_train.processes import ProcessLost
from ipu_train.processes.alone import Processes
from ipu_train.training import signals
from ipu_train.training.signals import ExitAtOnce, StopRequest

NUMBERS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def own_handlers():
    """The test's own dispositions, whatever it was started with."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


class Three(Processes):
    """The middle one of three processes, of which the last has received ``theirs``."""

    def __init__(self, index=1, theirs=0):
        self.index, self.count, self.theirs = index, 3, theirs

    def words(self, own):
        return [0, own, self.theirs]


def in_a_fork(body):
    """Exit status of a child that runs ``body``, and what it wrote to standard error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writing, 2)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            body()
        finally:
            os._exit(99)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
    return code, text


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_asks_to_stop_and_is_said_once(number, capsys):
    with StopRequest() as stop:
        assert (stop.requested, stop.exit_status, stop.agree()) == (False, 0, False)
        send(number)
        assert (stop.requested, stop.exit_status, stop.signal) == (True, NUMBERS[number], number)
        assert stop.agree() and stop.agree()
    said = capsys.readouterr().err
    assert said == "\nStopping after this step and saving a checkpoint; once more to stop at once.\n"


def test_handlers_are_put_back():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    before = {number: signal.getsignal(number) for number in NUMBERS}
    with StopRequest():
        assert all(signal.getsignal(number) != before[number] for number in NUMBERS)
    assert {number: signal.getsignal(number) for number in NUMBERS} == before
    send(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_what_is_ignored_stays_ignored():
    """As under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        send(signal.SIGHUP)
        assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("context", [StopRequest, ExitAtOnce])
def test_a_training_in_a_thread_of_a_program_leaves_the_signals_to_it(context):
    """Python sets handlers in the main thread alone."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    within = []

    def train():
        with context():
            within.append({number: signal.getsignal(number) for number in NUMBERS})

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert within == [before] and {number: signal.getsignal(number) for number in NUMBERS} == before


def test_the_first_signal_decides_the_status(monkeypatch):
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with StopRequest() as stop:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert stop.exit_status == 130


def test_a_second_signal_does_what_it_did_outside():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with StopRequest():
        send(signal.SIGTERM)
        assert heard == []
        send(signal.SIGTERM)
        assert heard == [signal.SIGTERM]


def test_a_second_signal_ends_a_process_that_has_nothing_outside():
    def body():
        with StopRequest():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            time.sleep(5)

    assert in_a_fork(body)[0] == -signal.SIGTERM


@pytest.mark.parametrize("number", NUMBERS)
def test_before_training_a_signal_exits_at_once(number):
    def body():
        with ExitAtOnce():
            send(number)
            time.sleep(5)

    assert in_a_fork(body) == (NUMBERS[number], "\nStopped before training: nothing to save.\n")


def test_a_process_that_is_not_the_first_exits_without_a_word():
    def body():
        with ExitAtOnce(""):
            send(signal.SIGTERM)

    assert in_a_fork(body) == (143, "")


def test_what_was_printed_is_flushed_before_the_exit():
    program = (
        "import os, signal\nfrom ipu_train.training.signals import ExitAtOnce\nprint('so far')\n"
        "with ExitAtOnce(''):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (143, "so far\n")


def test_a_second_signal_exits_at_once_and_says_what_is_the_last():
    def body():
        with ExitAtOnce(), StopRequest(said="first"):
            send(signal.SIGINT)
            send(signal.SIGINT)
            time.sleep(5)

    last = "Stopped at once; the newest checkpoint is the last one written."
    assert in_a_fork(body) == (130, f"\nfirst\n\n{last}\n")


def test_after_training_a_signal_exits_at_once_and_says_that_all_is_saved():
    def body():
        with ExitAtOnce():
            with StopRequest():
                pass
            send(signal.SIGTERM)

    assert in_a_fork(body) == (143, "\nStopped after training: everything is saved.\n")


def test_a_child_is_none_of_its_business():
    """Data workers are forked with the handlers of their parent."""
    with StopRequest() as stop:

        def body():
            send(signal.SIGTERM)
            os._exit(0 if stop.signal is None else 1)

        assert in_a_fork(body) == (0, "")


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), ValueError("I/O operation on closed file")]
)
def test_a_terminal_that_has_gone_is_no_error(monkeypatch, error):
    class Gone:
        def write(self, text):
            raise error

        flush = None

    monkeypatch.setattr(sys, "stderr", Gone())
    with StopRequest() as stop:
        send(signal.SIGHUP)
        assert stop.requested


def test_a_process_that_ends_by_itself_has_received_no_signal(capsys):
    """So the first signal waits, as ever, for what is being saved, and only a second one ends it at once."""
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with StopRequest() as stop:
        stop.end()
        assert (stop.requested, stop.exit_status, stop.signal) == (True, 0, None)
        send(signal.SIGTERM)
        assert heard == [] and stop.signal == signal.SIGTERM
        send(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    assert "Stopping after this step" in capsys.readouterr().err


# -- one of several processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_of_several_all_stop_when_they_have_heard(number, capsys):
    with StopRequest(processes=Three(index=0, theirs=number)) as stop:
        assert not stop.requested
        assert stop.agree()
        assert stop.exit_status == NUMBERS[number]
        assert stop.agree()
    said = capsys.readouterr().err
    name = signal.Signals(number).name
    assert said == (
        f"\nStopping after this step and saving a checkpoint: process 2 of 0 to 2 has received {name}.\n"
    )


def test_of_several_the_own_signal_counts_once_all_have_heard(capsys):
    with StopRequest(processes=Three(index=1)) as stop:
        assert not stop.agree()
        send(signal.SIGINT)
        assert not stop.requested and stop.exit_status == 0
        assert stop.agree() and stop.exit_status == 130
        stop.hear([0, 0, signal.SIGTERM])  # the first that was heard stays
        assert stop.exit_status == 130
    assert capsys.readouterr().err == ""  # the first process speaks


@pytest.mark.parametrize("own", [True, False])
def test_of_several_one_that_cannot_go_on_is_heard_by_all(own, capsys):
    """It is no signal: the status stays 0, and nothing is said of one."""
    words = []
    with StopRequest(processes=Three()) as stop:
        assert not stop.fails
        if own:
            stop.fail()
            assert not stop.fails, "until all have heard"
        words.append(stop.word)
        stop.hear([0, stop.word, 0] if own else [0, 0, -1])
        assert stop.fails and not stop.requested and stop.exit_status == 0
        stop.hear([0, 0, 0])
        assert stop.fails
    assert words == [-1 if own else 0]
    assert capsys.readouterr().err == ""


def test_of_several_the_same_wish_twice_within_seconds_is_one(monkeypatch):
    """A terminal's Ctrl-C reaches every process, and the launcher passes it on."""
    heard, now = [], [100.0]
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with StopRequest(processes=Three()):
        send(signal.SIGINT)
        now[0] = 102.9
        send(signal.SIGINT)
        assert heard == []
        now[0] = 103.0
        send(signal.SIGINT)
        assert heard == [signal.SIGINT]


def test_of_several_one_that_ends_by_itself_is_heard_and_takes_its_first_signals_for_one(monkeypatch, capsys):
    heard, now = [], [100.0]
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with StopRequest(processes=Three(index=0)) as stop:
        stop.end()
        assert not stop.requested and stop.word > 0
        assert stop.agree() and stop.exit_status == 0
        for now[0] in (101.0, 103.9):
            send(signal.SIGTERM)
        assert heard == []
        assert stop.agree()
        now[0] = 104.0
        send(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    assert capsys.readouterr().err == ""  # of the reason the callback speaks


@pytest.mark.parametrize(
    "error, said",
    [
        (None, "\nStopped after training: everything is saved.\n"),
        (ProcessLost("process 2 is gone"), "\nipu-train: process 2 is gone\n"),
        (ValueError("anything"), ""),
    ],
)
def test_of_several_the_launchers_signal_behind_an_error_says_that_error(error, said):
    def body():
        with ExitAtOnce():
            try:
                with StopRequest(processes=Three()):
                    if error is not None:
                        raise error
            except Exception:
                pass
            send(signal.SIGTERM)

    assert in_a_fork(body) == (143, said)
