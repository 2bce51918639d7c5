"""Checkpoints written beside the training: one at a time, never with NaN, and errors arrive where the loop asks."""

import threading

import pytest
import torch

from ipu_train.training import checkpoint, checkpoint_folder
from ipu_train.training.checkpoint import Checkpoint, CheckpointError
from ipu_train.training.checkpoint_writer import CheckpointWriter, NotFinite, is_finite


def state(step, weight=1.0, momentum=0.0, **more):
    weights = {"w": torch.tensor([weight, 1.0]), "count": torch.tensor(3)}
    return Checkpoint(
        weights, {"m": torch.tensor(momentum), "seed": torch.tensor([1])}, {"step": step, **more}
    )


def names(folder):
    return [path.name for path in checkpoint.list_checkpoints(folder)]


@pytest.fixture()
def held(monkeypatch):
    """Holds every write until it is let go; ``begun`` counts those that have begun."""

    class Held:
        def __init__(self):
            self.go, self.begun = threading.Event(), []

    held, original = Held(), checkpoint.save

    def save(folder, saved, *arguments):
        held.begun.append(saved.state["step"])
        assert held.go.wait(20)
        return original(folder, saved, *arguments)

    monkeypatch.setattr(checkpoint, "save", save)
    yield held
    held.go.set()


def test_infinite_weights_are_allowed_where_they_were_infinite_from_the_start():
    inf, nan = float("inf"), float("nan")
    assert not is_finite(state(1, weight=-inf)) and is_finite(state(1, weight=-inf), ["w"])
    assert not is_finite(state(1, weight=nan), ["w"]) and not is_finite(state(1, weight=-inf), ["v"])


def test_what_is_submitted_is_on_the_disk_after_waiting(tmp_path):
    with CheckpointWriter(tmp_path, 2) as writer:
        for step in (1, 2, 3):
            writer.submit(state(step))
        writer.wait()
        assert names(tmp_path) == ["step_00000002", "step_00000003"]
        assert not writer.is_writing
        writer.wait()


@pytest.mark.parametrize(
    "keep_best, kept", [(True, ["step_00000001", "step_00000003"]), (False, ["step_00000003"])]
)
def test_the_best_is_kept_where_that_is_asked_for(tmp_path, keep_best, kept):
    accuracies = {1: 0.9, 2: 0.1, 3: 0.2}
    with CheckpointWriter(tmp_path, 1, keep_best) as writer:
        for step, accuracy in accuracies.items():
            writer.submit(state(step, validation={"accuracy": accuracy}, metric="accuracy"))
    assert names(tmp_path) == kept


def test_the_loop_goes_on_while_it_is_written_and_one_is_written_at_a_time(tmp_path, held):
    with CheckpointWriter(tmp_path, 5) as writer:
        writer.submit(state(1))
        assert writer.is_writing and names(tmp_path) == []
        assert [thread.daemon for thread in threading.enumerate() if thread.name == "checkpoint"] == [True]
        second = threading.Thread(target=writer.submit, args=(state(2),))
        second.start()
        second.join(0.1)
        assert second.is_alive() and held.begun == [1]
        held.go.set()
        second.join()
    assert held.begun == [1, 2] and names(tmp_path) == ["step_00000001", "step_00000002"]


@pytest.mark.parametrize(
    "bad", [{"weight": float("nan")}, {"weight": float("inf")}, {"momentum": float("nan")}]
)
def test_nan_is_never_written(tmp_path, bad):
    assert not is_finite(state(2, **bad))
    writer = CheckpointWriter(tmp_path, 3)
    writer.submit(state(1))
    writer.submit(state(2, **bad))
    with pytest.raises(NotFinite, match="the state after step 2 is not finite"):
        writer.wait()
    assert names(tmp_path) == ["step_00000001"]
    writer.wait()  # told once


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("place", [0, 17, 1000])
def test_one_bad_number_among_many_is_found_wherever_it_stands(dtype, place):
    tensor = torch.linspace(-3, 3, 1001).to(dtype)
    count = torch.tensor([7])  # of whole numbers nothing can be wrong
    assert is_finite(Checkpoint({"weight": tensor, "none": tensor[:0]}, {"step": count, "m": tensor}, {}))
    for bad in (float("nan"), float("inf"), float("-inf")):
        tensor[place] = bad
        assert not is_finite(Checkpoint({"weight": tensor}, {}, {}))
        assert is_finite(Checkpoint({}, {"m": tensor}, {})) == (bad == bad)


def test_an_optimizer_may_hold_infinity(tmp_path):
    """A second moment of float16 may; a weight may not."""
    assert is_finite(state(1)) and is_finite(state(1, momentum=float("inf")))


def test_an_error_arrives_with_the_next_checkpoint(tmp_path):
    (tmp_path / "file").write_text("")
    writer = CheckpointWriter(tmp_path / "file", 3)
    writer.submit(state(1))
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint"):
        writer.submit(state(2))


def test_leaving_waits_for_what_is_being_written(tmp_path, held):
    threading.Timer(0.1, held.go.set).start()
    with CheckpointWriter(tmp_path, 3) as writer:
        writer.submit(state(1))
    assert names(tmp_path) == ["step_00000001"]


def test_leaving_with_an_error_waits_and_says_that_error(tmp_path, held):
    threading.Timer(0.1, held.go.set).start()
    with pytest.raises(RuntimeError, match="of the loop"), CheckpointWriter(tmp_path, 3) as writer:
        writer.submit(state(1, weight=float("nan")))
        raise RuntimeError("of the loop")


def test_a_second_ctrl_c_does_not_wait(tmp_path, held):
    with pytest.raises(KeyboardInterrupt), CheckpointWriter(tmp_path, 3) as writer:
        writer.submit(state(1))
        raise KeyboardInterrupt
    assert writer.is_writing
    held.go.set()
    writer.wait()


# -- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state.json", "SHA256SUMS"])
def test_a_damaged_checkpoint_is_one(tmp_path, name):
    folder = tmp_path / "step_00000001"
    folder.mkdir()
    assert not checkpoint_folder.is_checkpoint(folder)
    (folder / name).write_text("")
    assert checkpoint_folder.is_checkpoint(folder)


def test_a_name_in_use_by_what_is_deleted_is_freed(tmp_path):
    folder = checkpoint.save(tmp_path, state(1), 3)
    going = checkpoint_folder.on_its_way(folder, "deleted")
    (going / "inside").mkdir(parents=True)
    checkpoint_folder.remove(folder)
    assert list(tmp_path.iterdir()) == []
    checkpoint_folder.remove(folder)  # gone already


def test_a_state_that_is_no_object_has_no_format(tmp_path):
    folder = checkpoint.save(tmp_path, state(1), 3)
    (folder / "state.json").write_text("[]")
    (folder / "SHA256SUMS").write_bytes(checkpoint._sums(folder))
    with pytest.raises(CheckpointError, match="has format None; this version of ipu-train reads 2"):
        checkpoint.load(folder)


def test_an_error_of_the_disk_is_told_in_its_words(tmp_path, monkeypatch):
    folder = checkpoint.save(tmp_path, state(1), 3)

    def broken(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint, "load_file", broken)
    with pytest.raises(CheckpointError, match="step_00000001: Input/output error$"):
        checkpoint.load(folder)


def test_files_larger_than_a_read_have_the_checksum_of_all(tmp_path):
    import hashlib

    content = bytes(range(256)) * 5000  # 1.28 MB
    (tmp_path / "file").write_bytes(content)
    assert checkpoint._digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_the_newest_sound_one_is_found_and_newer_ones_are_named(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, state(step), 5)
    (tmp_path / "step_00000003" / "metrics.jsonl").write_bytes(b"x")
    found, skipped = checkpoint.newest_sound(tmp_path)
    assert found is not None and found[0].name == "step_00000002" and found[1].state["step"] == 2
    assert len(skipped) == 1 and "step_00000003" in skipped[0] and "metrics.jsonl is damaged" in skipped[0]
    found, skipped = checkpoint.newest_sound(tmp_path, last=1)
    assert found is not None and found[0].name == "step_00000001" and skipped == []
    assert checkpoint.newest_sound(tmp_path / "nothing") == (None, [])
