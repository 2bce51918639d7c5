"""Weights & Biases gets the metrics, and whatever goes wrong there never ends a run."""

import builtins
import sys
import threading
import types

import pytest

from ipu_train.config import LoggingConfig
from ipu_train.tracking import Tracker, weights_and_biases
from ipu_train.tracking.weights_and_biases import WandbRun

RECORD = {"loss": 0.5, "accuracy": 0.75, "learning_rate": 0.1, "images_per_second": 1000.0}


class FakeWandb(types.ModuleType):
    """The three functions of wandb that are used; each can be told to fail."""

    def __init__(self, logged_in=True, fail=()):
        super().__init__("wandb")
        self.logged_in, self.fail = logged_in, fail
        self.inits, self.logs, self.finished = [], [], 0

    def _maybe(self, what):
        if what in self.fail:
            raise RuntimeError(f"{what} is down\nsecond line")

    def login(self, prompt=True):
        assert prompt is False, "a run must never wait for somebody to type a key"
        self._maybe("login")
        return self.logged_in

    def init(self, **keys):
        self._maybe("init")
        self.inits.append(keys)
        return self

    def log(self, values, step):
        self._maybe("log")
        self.logs.append((step, values))

    def finish(self):
        self._maybe("finish")
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)

    def install(**keys):
        fake = FakeWandb(**keys)
        monkeypatch.setitem(sys.modules, "wandb", fake)
        return fake

    return install


def run(tmp_path, **logging):
    with Tracker(tmp_path, LoggingConfig(wandb=True, **logging), {"seed": 1}, name="quickstart") as tracker:
        for step in (10, 20, 30):
            tracker.train(1, step, *RECORD.values())
        tracker.validation(1, 30, 0.4, 0.8)
        return tracker.records()


def test_every_record_arrives_under_its_split_and_step(wandb, tmp_path):
    fake = wandb()
    run(tmp_path, wandb_project="p", wandb_entity="team")
    assert [step for step, _ in fake.logs] == [10, 20, 30, 30]
    assert fake.logs[0][1] == {"train/epoch": 1, **{f"train/{key}": value for key, value in RECORD.items()}}
    assert fake.logs[3][1] == {"validation/epoch": 1, "validation/loss": 0.4, "validation/accuracy": 0.8}
    assert fake.finished == 1
    given = fake.inits[0]
    assert (given["project"], given["entity"], given["name"]) == ("p", "team", "quickstart")
    assert given["config"] == {"seed": 1} and given["dir"] == str(tmp_path) and given["mode"] is None


def test_without_a_login_it_works_offline(wandb, tmp_path):
    fake = wandb(logged_in=False)
    run(tmp_path)
    assert fake.inits[0]["mode"] == "offline" and len(fake.logs) == 4


def test_a_mode_in_the_environment_wins(wandb, tmp_path, monkeypatch):
    fake = wandb(logged_in=False)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(tmp_path)
    assert fake.inits[0]["mode"] == "disabled"


def test_a_version_that_would_ask_is_not_let_to(wandb, tmp_path):
    fake = wandb()
    fake.login = lambda relogin=None: pytest.fail("asked")
    fake.api = types.SimpleNamespace(api_key=None)
    run(tmp_path)
    assert fake.inits[0]["mode"] == "offline"


def test_a_resumed_run_folder_keeps_its_wandb_run(wandb, tmp_path):
    fake = wandb()
    run(tmp_path)
    run(tmp_path)
    assert fake.inits[0]["id"] == fake.inits[1]["id"] and fake.inits[1]["resume"] == "allow"
    other = tmp_path / "other"
    other.mkdir()
    run(other)
    assert fake.inits[2]["id"] != fake.inits[0]["id"]


@pytest.mark.parametrize("what", ["login", "init", "log", "finish"])
def test_a_failure_is_told_once_and_the_run_goes_on(wandb, tmp_path, capsys, what):
    wandb(fail=(what,))
    records = run(tmp_path)
    assert len(records) == 4
    told = capsys.readouterr().err
    assert told.count("wandb failed") == 1 and f"RuntimeError: {what} is down\n" in told
    assert "second line" not in told


def test_a_missing_wandb_is_told_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    real = builtins.__import__

    def refuse(name, *args, **keys):
        if name == "wandb":
            raise ImportError("No module named 'wandb'")
        return real(name, *args, **keys)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert len(run(tmp_path)) == 4
    assert "install ipu-train[wandb]" in capsys.readouterr().err


def test_wandb_is_left_alone_unless_asked(wandb, tmp_path):
    fake = wandb()
    Tracker(tmp_path, LoggingConfig(), {}).close()
    assert fake.inits == []


@pytest.mark.parametrize("what", ["login", "log"])
def test_a_service_that_hangs_holds_up_no_step(wandb, tmp_path, monkeypatch, capsys, what):
    fake, never = wandb(), threading.Event()
    monkeypatch.setattr(weights_and_biases, "_HEAD_START", 0.01)
    monkeypatch.setattr(weights_and_biases, "_MOST_WAITING", 2)
    monkeypatch.setattr(fake, what, lambda *args, **keys: never.wait())
    run = WandbRun(tmp_path, {}, "project", patience=0.05)
    for step in range(10):
        run.log("train", step, {"loss": 1.0})
    run.close()
    told = capsys.readouterr().err
    assert "has not finished" in told
    assert "too slow" in told
    never.set()


def test_a_slow_service_is_told_the_end_of_the_run_all_the_same(wandb, tmp_path, monkeypatch, capsys):
    fake, hold = wandb(), threading.Event()
    monkeypatch.setattr(weights_and_biases, "_MOST_WAITING", 2)
    monkeypatch.setattr(fake, "log", lambda *args, **keys: hold.wait())
    run = WandbRun(tmp_path, {}, "project")
    run.log("train", 0, {"loss": 1.0})
    while not run._tasks.empty():  # the thread has taken it
        pass
    for step in range(1, 10):
        run.log("train", step, {"loss": 1.0})
    threading.Timer(0.2, hold.set).start()
    run.close()
    assert fake.finished == 1
    assert "7 of its records were left out" in capsys.readouterr().err
