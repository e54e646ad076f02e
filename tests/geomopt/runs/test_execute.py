"""A run survives everything: kills at any moment, failures, signals, full disks; and the result is
the same.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from bowl import Bowl, BowlProblem

from geomopt.errors import InputError
from geomopt.files import StorageError
from geomopt.runs import store
from geomopt.runs.execute import RunFailed, execute, is_done
from geomopt.runs.interruption import Interrupted
from geomopt.runs.recorder import frame_spacing
from geomopt.runs.spec import apply, resolve
from geomopt.viewer.scene import Scene

HERE = Path(__file__).parent
MINIMAL = {
    "name": "bowl",
    "problem": "bowl:Bowl",
    "device": "cpu",
    "frames": 8,
    "checkpoint_every": 7,
}


def spec_of(*overrides):
    return resolve(apply(MINIMAL, overrides))


def go(root, *overrides):
    return execute(spec_of(*overrides), root, progress=False)


def rows_without_time(run):
    return [{**row, "seconds": None} for row in store.read_iterates(run.iterates_file)]


def outcome_without_time(run):
    return {key: value for key, value in run.outcome.items() if key not in ("seconds", "finished")}


def assert_same(run, other):
    assert rows_without_time(run) == rows_without_time(other)
    assert outcome_without_time(run) == outcome_without_time(other)
    assert list(run.frames) == list(other.frames)
    for mine, theirs in zip(run.frames.values(), other.frames.values(), strict=True):
        a, b = Scene.load(mine).meshes["tetrahedron"], Scene.load(theirs).meshes["tetrahedron"]
        assert torch.equal(a.vertices, b.vertices)
    for mine, theirs in zip(run.artifacts, other.artifacts, strict=True):
        assert mine.read_bytes() == theirs.read_bytes()


def leftovers(run):
    return [path for path in run.folder.rglob("*") if path.name.startswith(".")]


def test_a_run_leaves_everything_behind(tmp_path):
    run = go(tmp_path)
    assert run.folder == tmp_path / spec_of().folder
    assert resolve(run.table) == spec_of()
    assert run.status == "ok"
    outcome = run.outcome
    assert (outcome["reason"], outcome["iterations"], outcome["metrics"]["shape"]) == (
        "iterations",
        60,
        "bowl",
    )
    assert outcome["value"] == pytest.approx(outcome["metrics"]["distance"] ** 2)
    assert [file.name for file in run.artifacts] == ["mesh.ply", "result.txt"]
    assert run.environment["versions"]["torch"] == torch.__version__
    assert run.environment["seed"] == 0
    assert run.iterates["iteration"].tolist() == list(range(60))
    assert "report.html" in os.listdir(run.folder)
    assert not leftovers(run)


def test_a_done_run_returns_at_once(tmp_path, monkeypatch):
    run = go(tmp_path)
    stamp = (run.folder / "outcome.json").stat().st_mtime_ns
    monkeypatch.setattr(Bowl, "start", lambda *_: pytest.fail("it was started again"))
    again = go(tmp_path)
    assert again.folder == run.folder
    assert (run.folder / "outcome.json").stat().st_mtime_ns == stamp


def test_the_frames_are_about_as_many_as_asked_and_end_with_the_result(tmp_path):
    assert list(go(tmp_path).frames) == [*range(0, 60, 8), 59]
    assert not go(tmp_path, "frames=0").frames


@pytest.mark.parametrize("frames", [1, 8, 30])
def test_frame_spacing_keeps_between_half_and_all(frames):
    for iteration in [*range(200), 10_000]:
        spacing = frame_spacing(iteration, frames)
        kept = iteration // spacing + 1
        assert kept <= frames
        assert kept >= min(iteration + 1, frames // 2)


def test_threads_are_given_back(tmp_path):
    seen = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        problem_value = BowlProblem._value

        def value(self, named):
            seen.append(torch.get_num_threads())
            return problem_value(self, named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BowlProblem, "_value", value)
            go(tmp_path)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_failure_is_told_and_the_next_try_continues(tmp_path):
    with pytest.raises(RunFailed, match="RuntimeError: the bowl <broke> & fell"):
        go(tmp_path, "fail_at=25")
    run = store.runs_in(tmp_path)[0]
    for name in (".checkpoint.pt.ab12", ".report.7.html", "artifacts/frames/.000003.7.npz"):
        (run.folder / name).write_text("half")  # as a kill leaves it
    assert run.status == "failed"
    assert "_value" in run.outcome["traceback"]
    assert len(run.iterates["iteration"]) == 25
    assert "the bowl &lt;broke&gt; &amp; fell" in (run.folder / "report.html").read_text()
    # the next try goes on from the checkpoint: 25 more evaluations before the same failure
    with pytest.raises(RunFailed):
        go(tmp_path, "fail_at=25")
    assert len(run.iterates["iteration"]) == 50
    execute(spec_of("fail_at=25"), tmp_path, progress=False)
    assert run.status == "ok"
    assert len(run.environment["continued"]) == 2
    assert rows_without_time(run) == rows_without_time(go(tmp_path))
    assert not leftovers(run)


def test_bad_input_leaves_no_directory(tmp_path):
    with pytest.raises(InputError, match="bowl:Bowl cannot start: no such bowl"):
        go(tmp_path, "start_error='no such bowl'")
    with pytest.raises(InputError, match="No such file"):
        go(tmp_path, "data=absent.txt")
    assert not list(tmp_path.iterdir())


def test_a_bug_in_start_is_a_failed_run(tmp_path):
    with pytest.raises(RunFailed, match="RuntimeError: a bug in start"):
        go(tmp_path, "start_error=bug")
    assert store.runs_in(tmp_path)[0].status == "failed"


def test_a_method_that_does_not_fit_the_problem_is_bad_input(tmp_path, monkeypatch):
    monkeypatch.setattr(
        BowlProblem, "differentiable", property(lambda _: False, lambda *_: None), raising=False
    )
    with pytest.raises(InputError, match="needs gradients"):
        go(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_finite_value_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(BowlProblem, "_value", lambda self, named: named["x"].sum() * torch.nan)
    with pytest.raises(RunFailed, match="all evaluations failed"):
        go(tmp_path, "method=cma")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_iterates_and_the_run_continues(tmp_path, monkeypatch, number):
    value = BowlProblem._value

    def interrupted(self, named):
        if self.asked == 20:
            os.kill(os.getpid(), number)
        return value(self, named)

    monkeypatch.setattr(BowlProblem, "_value", interrupted)
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        go(tmp_path / "a")
    assert stop.value.number == number
    assert signal.getsignal(number) is handler
    run = store.runs_in(tmp_path / "a")[0]
    assert run.status == "unfinished"
    assert len(run.iterates["iteration"]) == 21
    monkeypatch.undo()
    assert_same(go(tmp_path / "a"), go(tmp_path / "b"))


def test_a_damaged_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(RunFailed):
        go(tmp_path, "fail_at=25")
    run = store.runs_in(tmp_path)[0]
    run.checkpoint_file.write_bytes(b"PK nonsense")
    with pytest.raises((InputError, RunFailed), match=r"checkpoint.pt .*damaged"):
        go(tmp_path, "fail_at=25")


@pytest.mark.parametrize("where", ["iterates", "frame", "checkpoint", "artifacts", "outcome"])
def test_a_full_disk_stops_the_run_and_the_same_command_continues_it(tmp_path, monkeypatch, where):
    def refuse(path):
        if {"iterates": "iterates.jsonl", "outcome": "outcome.json", "artifacts": "mesh.ply"}.get(
            where
        ) == path.name:
            return True
        return (where == "frame" and path.name == "000016.npz") or (
            where == "checkpoint" and "checkpoint" in path.name
        )

    count = {"appended": 0}
    real_append, real_replace = store.append_iterate, os.replace

    def append(path, row):
        count["appended"] += 1
        if where == "iterates" and count["appended"] > 12:
            raise StorageError(
                errno.ENOSPC, f"cannot write {path}: the disk is full; free some space"
            )
        real_append(path, row)

    def replace(source, target):
        if refuse(Path(target)) and (where != "checkpoint" or count["appended"] > 20):
            raise OSError(errno.ENOSPC, "No space left on device")
        real_replace(source, target)

    monkeypatch.setattr(store, "append_iterate", append)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        go(tmp_path / "a")
    monkeypatch.undo()
    run = store.runs_in(tmp_path / "a")[0]
    assert run.outcome is None
    assert not leftovers(run)
    assert_same(go(tmp_path / "a"), go(tmp_path / "b"))


def command(root, *overrides):
    code = (
        "import sys\n"
        "from geomopt.runs.execute import execute\n"
        "from geomopt.runs.spec import apply, resolve\n"
        f"execute(resolve(apply({MINIMAL!r}, sys.argv[2:])), sys.argv[1], progress=False)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    return [sys.executable, "-c", code, str(root), *overrides], environment


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_nothing(tmp_path):
    """SIGKILL again and again, at random moments after work has begun; the end equals an unbroken
    run.
    """
    arguments, environment = command(tmp_path / "a", "pause=0.01")
    moments = random.Random(4)
    kills = 0
    for _ in range(5):
        child = subprocess.Popen(arguments, env=environment)
        folder = tmp_path / "a" / spec_of("pause=0.01").folder
        began = folder / "env.json"
        stamp = began.stat().st_mtime_ns if began.exists() else 0
        while child.poll() is None and not (began.exists() and began.stat().st_mtime_ns > stamp):
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.35))
        if child.poll() is not None:
            break
        child.kill()
        child.wait()
        kills += 1
    assert kills >= 2
    assert_same(go(tmp_path / "a", "pause=0.01"), go(tmp_path / "b", "pause=0.01"))
    assert not leftovers(go(tmp_path / "a", "pause=0.01"))


def test_a_kill_while_artifacts_are_written_leaves_none_half_written(tmp_path):
    arguments, environment = command(tmp_path / "a")
    died = subprocess.run(
        arguments, env={**environment, "BOWL_DIES_IN_ARTIFACTS": "1"}, check=False
    )
    assert died.returncode == 9
    run = store.runs_in(tmp_path / "a")[0]
    assert (run.status, run.artifacts) == ("unfinished", [])
    assert_same(go(tmp_path / "a"), go(tmp_path / "b"))
    assert not leftovers(run)


@pytest.mark.parametrize("moment", ["checkpoint", "append", "frame", "report", "outcome"])
def test_a_kill_right_after_each_kind_of_write(tmp_path, monkeypatch, moment):
    """An exception that nothing catches stands for the kill, right behind the write."""

    class Killed(BaseException):
        pass

    def after(function, wanted):
        def wrapped(*arguments, **options):
            result = function(*arguments, **options)
            if wanted(*arguments):
                raise Killed
            return result

        return wrapped

    if moment == "append":
        monkeypatch.setattr(
            store,
            "append_iterate",
            after(store.append_iterate, lambda _, row: row["iteration"] == 23),
        )
    else:
        names = {
            "checkpoint": "checkpoint.pt",
            "frame": "000024.npz",
            "report": "report.html",
            "outcome": "env.json",
        }
        monkeypatch.setattr(
            os, "replace", after(os.replace, lambda _, target: Path(target).name == names[moment])
        )
    with pytest.raises(Killed):
        go(tmp_path / "a")
    monkeypatch.undo()
    assert_same(go(tmp_path / "a"), go(tmp_path / "b"))


def test_json_of_a_run_is_json_for_everyone(tmp_path):
    run = go(tmp_path)
    for name in ("env.json", "outcome.json"):
        json.loads((run.folder / name).read_text(), parse_constant=pytest.fail)
    assert is_done(run)
