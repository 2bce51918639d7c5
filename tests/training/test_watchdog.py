"""The watchdog names the stage in which nothing moves, and says nothing while something does."""

import math
import re
import threading
import time

import pytest

from ipu_train import config, trainer
from ipu_train.training.watchdog import Watchdog


class Messages:
    """Collects what is said, and lets a test wait for it."""

    def __init__(self):
        self.said, self.more = [], threading.Event()

    def __call__(self, message):
        self.said.append(message)
        self.more.set()

    def until(self, text, count=1):
        """Wait until that many messages hold ``text``, whatever else was said before."""
        ends = time.monotonic() + 60
        while sum(text in message for message in self.said) < count:
            assert self.more.wait(max(0.0, ends - time.monotonic())), self.said
            self.more.clear()


def test_it_names_the_stage_that_takes_too_long_again_and_again():
    messages = Messages()
    with Watchdog(0.02, messages) as watchdog:
        watchdog.at("waiting for images")
        messages.until("waiting for images", 3)
        watchdog.at("validating")
        messages.until("validating")
    assert all(message.startswith("Nothing has moved for ") for message in messages.said)


def test_it_is_silent_while_something_moves():
    messages = Messages()
    with Watchdog(30, messages) as watchdog:
        for step in range(100):
            watchdog.at(f"training step {step}")
    assert messages.said == []


def test_the_wait_doubles():
    messages = Messages()
    with Watchdog(0.05, messages):
        started = time.monotonic()
        time.sleep(1.2)
    took = time.monotonic() - started + 0.05
    assert 1 <= len(messages.said) <= 1 + math.log2(took / 0.05)  # at 0.05, 0.1, 0.2, 0.4, 0.8


def test_items_pass_through_and_waiting_for_them_is_a_stage():
    messages = Messages()

    def slow():
        yield 1
        messages.until("waiting for images")
        yield 2

    with Watchdog(0.02, messages) as watchdog:
        found = []
        for item in watchdog.waiting_for("images", slow()):
            found.append(item)
    assert found == [1, 2]


@pytest.mark.parametrize("patience", [None, 0.01])
def test_it_ends_with_its_run(patience):
    before = threading.active_count()
    with Watchdog(patience, Messages()):
        pass
    assert threading.active_count() == before


RECIPE = """
model: {name: resnet8, norm: group, norm_groups: 2, options: {width: 0.25}}
data: {name: generated, length: 8, image_size: 8, num_classes: 4}
training: {epochs: 1, micro_batch_size: 4}
validation: {every_epochs: 0}
logging: {stalled_after: 0.05, progress: false, plots: false}
device: {threads: 1}
"""


def test_a_run_that_hangs_in_a_step_says_so_after_as_long_as_asked(tmp_path, monkeypatch, capsys):
    call, said = trainer._call, []

    def hangs(*arguments):
        ends = time.monotonic() + 60
        while not re.search(r"Nothing has moved for \d+ seconds: training step 1\n", "".join(said)):
            assert time.monotonic() < ends, said
            time.sleep(0.02)
            said.append(capsys.readouterr().err)
        return call(*arguments)

    monkeypatch.setattr(trainer, "_call", hangs)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    outcome = trainer.train(config.load(tmp_path / "tiny.yaml", [f"run_dir={tmp_path / 'run'}"]))
    assert outcome.status == 0
