"""Which folder a run gets, and which run is meant by --resume."""

import os
import shlex
import shutil
from pathlib import Path

import pytest

from ipu_train import config
from ipu_train.training import run_folder

CHECKPOINT = "checkpoints/step_00000002"


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text("model: {name: resnet8}\ndata: {name: digits}\n")
    return path


def resolved(recipe, *overrides):
    return config.load(recipe, list(overrides))


def begun(recipe, *overrides, name=None):
    """The folder of a run that has begun and saved a checkpoint, under another name than the time if one is given."""
    ours = resolved(recipe, *overrides)
    with run_folder.Claim(run_folder.place(ours), ours) as claim:
        claim.has_begun = True
        saved = claim.folder.path / CHECKPOINT
        saved.mkdir()
        (saved / "state.json").write_text("{}")
        (saved / "SHA256SUMS").write_text("")
    if name is not None:
        return claim.folder.path.rename(claim.folder.path.with_name(name))
    return claim.folder.path


def taken_up(recipe, *overrides):
    return run_folder.place(resolved(recipe, *overrides), True).folder.path.resolve()


def test_jobs_that_start_in_the_same_second_have_a_folder_each(recipe, monkeypatch):
    monkeypatch.setattr(run_folder.time, "strftime", lambda *_: "2026-01-02_03-04-05")
    ours = resolved(recipe)
    places = [run_folder.place(ours) for _ in range(3)]
    assert len({place.folder.path for place in places}) == 1  # all have chosen before any has begun
    first, second, third = (run_folder.Claim(place, ours) for place in places)
    with first, second:
        first.has_begun = second.has_begun = True
        first.folder.metrics.write_text("precious")
    with third:  # after the others have ended
        third.has_begun = True
    names = [claim.folder.path.name for claim in (first, second, third)]
    assert names == ["2026-01-02_03-04-05", "2026-01-02_03-04-05_2", "2026-01-02_03-04-05_3"]
    assert first.folder.metrics.read_text() == "precious"


def test_a_refused_run_leaves_none_of_the_folders_that_it_made(recipe):
    ours = resolved(recipe)
    with pytest.raises(KeyError), run_folder.Claim(run_folder.place(ours), ours):
        raise KeyError
    assert not (recipe.parent / "runs").exists()


def test_a_run_that_has_ended_since_the_folder_was_chosen_is_not_overwritten(recipe):
    ours = resolved(recipe, "run_dir=mine")
    place = run_folder.place(ours)
    folder = begun(recipe, "run_dir=mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(run_folder.RunFolderError, match="holds a run already"):
        run_folder.Claim(place, ours).__enter__()
    assert sorted(folder.rglob("*")) == before
    assert taken_up(recipe, "run_dir=mine") == folder.resolve()  # and nobody holds it


def test_a_folder_that_cannot_be_filled_is_left_as_it_was(recipe, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder.durable, "write", full)
    folder = recipe.parent / "mine"
    folder.mkdir()
    for where in ("mine", "new"):
        ours = resolved(recipe, f"run_dir={where}")
        with pytest.raises(run_folder.RunFolderError, match="No space left"):
            run_folder.Claim(run_folder.place(ours), ours).__enter__()
    assert not (folder / "run.lock").exists() and not (recipe.parent / "new").exists()


def test_a_copied_or_moved_run_goes_on_where_it_is_now(recipe):
    original = begun(recipe, "run_dir=mine")
    copy = shutil.copytree(original, recipe.parent / "copy")
    assert taken_up(copy / "config.yaml") == copy.resolve()
    assert taken_up(original / "config.yaml") == original.resolve()
    assert taken_up(copy / "config.yaml", "run_dir=mine") == original.resolve()  # said now
    shutil.rmtree(original)
    assert taken_up(copy / "config.yaml") == copy.resolve()


def test_the_run_that_began_last_is_taken_up_and_not_the_one_that_was_touched_last(recipe):
    older = begun(recipe, name="2026-01-02_03-04-05")
    newer = begun(recipe, name="2026-01-02_03-04-05_10")
    begun(recipe, name="2026-01-02_03-04-05_9")
    (older / "curves.png").write_bytes(b"")
    os.utime(older)
    assert taken_up(recipe) == newer.resolve()
    named = begun(recipe, name="mine")  # its configuration says when: now
    assert taken_up(recipe) == named.resolve()


def test_a_tilde_is_the_home_folder(recipe, monkeypatch):
    home = recipe.parent / "home"
    monkeypatch.setenv("HOME", str(home))
    assert begun(recipe, "run_dir=~/mine") == home / "mine"
    assert taken_up(recipe, "run_dir=~/mine") == (home / "mine").resolve()
    assert taken_up(recipe, "checkpoint.resume=~/mine") == (home / "mine").resolve()
    assert not (recipe.parent / "~").exists()


def test_how_a_run_goes_on_can_be_typed_whatever_its_folder_is_called():
    words = run_folder.go_on(run_folder.RunFolder(Path("my runs/it's #2"))).partition(": ")[2]
    assert shlex.split(words) == ["ipu-train", "--config", "my runs/it's #2/config.yaml", "--resume"]


def test_the_folder_of_the_checkpoints_is_no_run_and_the_message_names_those_that_are(recipe):
    path = begun(recipe, "run_dir=mine")
    with pytest.raises(run_folder.RunFolderError) as caught:
        taken_up(recipe, "checkpoint.resume=mine/checkpoints/")
    assert f"name the run, {path}, or one of them, such as {path / CHECKPOINT}" in str(caught.value)


@pytest.mark.parametrize("inside, asked", [("checkpoints", "step_00000002"), (CHECKPOINT, ".")])
def test_a_checkpoint_may_be_named_from_within_the_run(recipe, monkeypatch, inside, asked):
    path = begun(recipe, "run_dir=mine").resolve()
    monkeypatch.chdir(path / inside)
    assert taken_up(path / "config.yaml", f"run_dir={path}", f"checkpoint.resume={asked}") == path


@pytest.mark.parametrize("call, least", [(0, 3), (5, 4)])
def test_a_run_is_not_taken_up_for_fewer_epochs_than_it_has_behind_it(recipe, call, least):
    recipe.write_text(recipe.read_text() + "schedule: {name: constant}\n")
    path = begun(recipe, "run_dir=mine")
    (path / CHECKPOINT / "state.json").write_text(f'{{"epoch": 3, "call": {call}, "step": 40}}')
    before = (path / "config.yaml").read_bytes()
    shorter = f"training.epochs={least - 1}"
    for others in (["run_dir=mine"], [f"checkpoint.resume={path}"], ["checkpoint.resume=mine", "run_dir=b"]):
        with pytest.raises(run_folder.RunFolderError, match=f"Set it to {least} or more"):
            run_folder.place(resolved(recipe, shorter, *others), resume=True)
    assert (path / "config.yaml").read_bytes() == before and not os.path.exists("b")
    assert taken_up(recipe, "run_dir=mine", f"training.epochs={least}") == path.resolve()


@pytest.mark.parametrize("resume", [False, "auto"])
def test_a_configuration_of_the_users_own_in_the_run_folder_is_not_replaced(recipe, resume):
    mine = recipe.parent / "mine" / "config.yaml"
    mine.parent.mkdir()
    recipe.rename(mine)
    before = mine.read_bytes()
    with pytest.raises(run_folder.RunFolderError, match=r"config\.yaml that no run has written"):
        run_folder.place(resolved(mine, "run_dir=mine"), resume)
    assert mine.read_bytes() == before
    mine.rename(recipe)  # and a run's own is, where it ended before its first checkpoint
    ours = resolved(recipe, "run_dir=mine", "training.epochs=3")
    with run_folder.Claim(run_folder.place(ours), ours) as claim:
        claim.has_begun = True
    assert run_folder.place(resolved(recipe, "run_dir=mine"), resume).is_new


@pytest.mark.parametrize("resume", [False, True, "auto"])
def test_where_a_branch_has_begun_the_message_says_how_it_goes_on(recipe, resume):
    begun(recipe, "run_dir=trunk")
    branch = begun(recipe, "run_dir=branch")
    again = resolved(recipe, "run_dir=branch", "checkpoint.resume=trunk")
    with pytest.raises(run_folder.RunFolderError) as caught:
        run_folder.place(again, resume)
    _, _, command = str(caught.value).partition("Go on with: ")
    words = shlex.split(command)
    assert words[:2] == ["ipu-train", "--config"] and words[3:] == ["--resume"]
    assert taken_up(words[2]) == branch.resolve()


def test_links_to_nowhere_and_files_beside_the_runs_are_no_runs(recipe):
    path = begun(recipe)
    (path.parent / "latest").symlink_to("gone")
    (path.parent / "notes.txt").write_text("")
    assert taken_up(recipe) == path.resolve()


def test_a_checkpoint_that_was_about_to_be_replaced_when_its_process_was_killed_is_gone_on_from(recipe):
    """Between the two renames it has neither its name nor a successor."""
    path = begun(recipe, "run_dir=mine")
    saved = path / CHECKPOINT
    saved.rename(saved.with_name(".step_00000002.4711.replaced"))
    saved.with_name(".step_00000002.4711.partial").mkdir()
    ours = resolved(recipe, "run_dir=mine")
    with pytest.raises(run_folder.RunFolderError, match="holds a run already"):
        run_folder.place(ours)
    for resume in (True, "auto"):
        assert [p.name for p in run_folder.place(ours, resume).candidates] == ["step_00000002"]
    where = run_folder.place(ours, resume=True)
    with run_folder.Claim(where, ours):
        assert os.listdir(path / "checkpoints") == ["step_00000002"]
        assert (where.candidates[0] / "state.json").is_file()
