"""Plans kept between commands: the same to the last bit, found once, and never a reason to fail."""

import os
import sqlite3

import pytest

from ipu_train.ipumodel import store
from ipu_train.ipumodel.convolution import kept, plan
from ipu_train.ipumodel.convolution.forms import PlanOptions
from ipu_train.ipumodel.convolution.params import ConvParams, problem_of
from ipu_train.ipumodel.target import Target

TARGET = Target.named("mk2")
OPTIONS = PlanOptions(available_memory_proportion=0.3)
PROBLEMS = [
    plan.canonical(problem_of(ConvParams(4, 1, 64, 128, (14, 14), (3, 3), (2, 2), (1, 1), (1, 1)), which))
    for which in ("forward", "backward", "weights")
]


@pytest.fixture()
def folder(tmp_path):
    kept.keep_in(tmp_path / "plans")
    yield tmp_path / "plans"
    kept.keep_in(None)


def planned(problem, search=None):
    return kept.kept(
        problem,
        TARGET,
        OPTIONS,
        search or (lambda: plan.plan_problem(problem, TARGET, OPTIONS)),
        plan.ConvPlan,
    )


def never():
    raise AssertionError("searched again")


def test_a_kept_plan_is_the_searched_one_to_the_last_bit(folder):
    for problem in PROBLEMS:
        found = planned(problem)
        kept.keep_in(folder)  # as another process opens it
        again = planned(problem, never)
        assert again == found == plan.plan_problem(problem, TARGET, OPTIONS)
        assert repr(again) == repr(found)


def test_what_a_plan_depends_on_names_it(folder):
    found = planned(PROBLEMS[0])
    with pytest.raises(AssertionError, match="searched again"):
        kept.kept(PROBLEMS[0], Target.named("mk1"), OPTIONS, never, plan.ConvPlan)
    with pytest.raises(AssertionError, match="searched again"):
        kept.kept(PROBLEMS[0], TARGET, PlanOptions(0.6), never, plan.ConvPlan)
    assert planned(PROBLEMS[0], never) == found


def test_another_version_of_the_planner_finds_nothing(folder, monkeypatch):
    planned(PROBLEMS[0])
    monkeypatch.setattr(kept, "version", lambda: "another")
    kept.keep_in(folder)
    with pytest.raises(AssertionError, match="searched again"):
        planned(PROBLEMS[0], never)


@pytest.mark.parametrize("harm", ["damaged", "a folder", "another table", "locked"])
def test_a_file_that_cannot_be_used_changes_nothing(folder, harm, monkeypatch):
    file = folder / f"plans-{kept.version()}.sqlite"
    holder = None
    if harm == "damaged":
        file.write_bytes(b"no database" * 1000)
    elif harm == "a folder":
        file.mkdir()
    elif harm == "another table":
        sqlite3.connect(str(file)).execute("CREATE TABLE plans (x)").connection.commit()
    else:
        monkeypatch.setattr(store, "_WAIT_IN_S", 0.05)
        holder = sqlite3.connect(str(file), isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
    assert planned(PROBLEMS[0]) == plan.plan_problem(PROBLEMS[0], TARGET, OPTIONS)
    if holder is not None:
        holder.close()


def test_a_place_that_cannot_be_made_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    kept.keep_in(tmp_path / "file" / "plans")
    assert planned(PROBLEMS[0], lambda: "searched") == "searched"


def test_files_of_old_versions_go(folder):
    for number in range(9):
        path = folder / f"plans-{number}.sqlite"
        path.write_text("")
        os.utime(path, (1000.0 - number, 1000.0 - number))  # the first is the newest
    kept.keep_in(folder)
    assert sorted(path.name for path in folder.glob("plans-*")) == [f"plans-{n}.sqlite" for n in range(4)]
