"""Studies are runs: they survive kills and failures of a case, and are listed and reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import ladder
import pytest

from geomopt import cli
from geomopt.errors import InputError
from geomopt.runs import report, store
from geomopt.runs.execute import RunFailed, execute
from geomopt.runs.interruption import Interrupted
from geomopt.runs.spec import apply, resolve

HERE = Path(__file__).parent
MINIMAL = {"name": "ladder", "problem": "ladder:Ladder", "device": "cpu"}


@pytest.fixture(autouse=True)
def _nothing_done():
    ladder.begun.clear()


def spec_of(*overrides):
    return resolve(apply(MINIMAL, overrides))


def go(root, *overrides):
    return execute(spec_of(*overrides), root, progress=False)


def without_time(run):
    return [{**case, "seconds": None} for case in run.cases]


def artifacts(run):
    return {
        file.relative_to(run.artifacts_folder).as_posix(): file.read_text()
        for file in run.artifacts
    }


def test_a_study_leaves_everything_behind(tmp_path):
    run = go(tmp_path, "seed=3")
    assert resolve(run.table) == spec_of("seed=3")
    assert run.status == "ok"
    assert [case["case"] for case in run.cases] == [f"rung-{rung}" for rung in range(4)]
    assert run.cases[2]["metrics"] == {"height": pytest.approx(0.6)}
    assert run.cases[2]["rows"] == [{"rung": 2, "height": pytest.approx(0.6), "verdict": "report"}]
    assert run.outcome["metrics"] == {"pass": 2, "miss": 1, "report": 1}
    assert run.outcome["seconds"].keys() == {"start", *(f"rung-{rung}" for rung in range(4))}
    assert artifacts(run) == {f"rung-{rung}/height.txt": str(rung + 3) for rung in range(4)}
    go(tmp_path, "seed=3")
    assert len(ladder.begun) == 4


def test_a_spec_of_a_study_has_neither_method_nor_budget():
    assert not {"method", "budget", "frames", "checkpoint_every"} & spec_of().table.keys()
    for override in ("method=adam", "budget.iterations=3", "frames=2"):
        with pytest.raises(InputError, match="is a study"):
            spec_of(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("start_error='no such ladder'", "ladder:Ladder cannot start: no such ladder"),
        ("rungs=0", "at least one case"),
        ("names='../x'", "name of a case"),
        ("names=a/b", "name of a case"),
    ],
)
def test_bad_input_leaves_no_directory(tmp_path, override, message):
    with pytest.raises(InputError, match=message):
        go(tmp_path, override)
    assert not list(tmp_path.iterdir())


def test_a_case_that_fails_stops_no_other_and_is_tried_again(tmp_path):
    mended = tmp_path / "mended"
    settings = ("broken=1", f"mended={mended}")
    with pytest.raises(RunFailed, match=r"1 of 4 cases failed: rung-1: RuntimeError: the rung"):
        go(tmp_path / "runs", *settings)
    run = store.runs_in(tmp_path / "runs")[0]
    assert run.status == "failed"
    assert [case["status"] for case in run.cases] == ["ok", "failed", "ok", "ok"]
    assert "_climb" in run.cases[1]["traceback"]
    assert "rung-1/height.txt" not in artifacts(run)
    assert "the rung &lt;broke&gt; &amp; fell" in (run.folder / "report.html").read_text()
    ladder.begun.clear()
    mended.touch()
    run = go(tmp_path / "runs", *settings)
    assert ladder.begun == ["rung-1"]
    assert run.status == "ok"
    assert "error" not in run.outcome
    assert artifacts(run).keys() == {f"rung-{rung}/height.txt" for rung in range(4)}


def test_a_killed_study_goes_on_after_its_last_case(tmp_path):
    code = (
        "import sys\n"
        "from geomopt.runs.execute import execute\n"
        "from geomopt.runs.spec import resolve\n"
        f"execute(resolve({MINIMAL!r}), sys.argv[1], progress=False)"
    )
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "LADDER_DIES_AT": "2"}
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    run = store.runs_in(tmp_path / "a")[0]
    assert run.status == "unfinished"
    assert [case["case"] for case in run.cases] == ["rung-0", "rung-1"]
    with run.cases_file.open("a") as file:
        file.write('{"case": "rung-2", "sta')  # as a kill in the middle of a line leaves it
    run, other = go(tmp_path / "a"), go(tmp_path / "b")
    assert ladder.begun == ["rung-2", "rung-3", *(f"rung-{rung}" for rung in range(4))]
    assert without_time(run) == without_time(other)
    assert artifacts(run) == artifacts(other)
    assert not list(run.folder.rglob(".*"))


def test_a_signal_ends_the_case_and_the_same_command_goes_on(tmp_path, monkeypatch):
    climb = ladder.Ladder._climb

    def interrupted(self, rung, seed, folder):
        result = climb(self, rung, seed, folder)
        if rung == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(ladder.Ladder, "_climb", interrupted)
    with pytest.raises(Interrupted):
        go(tmp_path)
    monkeypatch.undo()
    run = store.runs_in(tmp_path)[0]
    assert [case["case"] for case in run.cases] == ["rung-0", "rung-1"]
    ladder.begun.clear()
    assert go(tmp_path).status == "ok"
    assert ladder.begun == ["rung-2", "rung-3"]


def test_a_full_disk_stops_the_study(tmp_path, monkeypatch):
    replace = os.replace

    def refuse(source, target):
        if Path(target).name == "height.txt":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="the disk is full"):
        go(tmp_path)
    monkeypatch.undo()
    assert go(tmp_path).status == "ok"


def test_the_command_line_runs_lists_and_reports_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("ladder.toml").write_text('name = "ladder"\nproblem = "ladder:Ladder"\ndevice = "cpu"\n')
    assert cli.main(["run", "ladder.toml"]) == 0
    out, err = capsys.readouterr()
    assert "4 cases done" in out
    assert "miss 1" in out
    assert err.startswith("ladder: 0 of 4 cases  rung-0")
    assert err.splitlines()[-1].startswith("ladder: 4 of 4 cases")
    assert cli.main(["list"]) == 0
    assert "4 cases" in capsys.readouterr().out
    assert cli.main(["report", "runs", "--out", "all.html"]) == 0
    assert cli.main(["run", "ladder.toml", "--set", "broken=0"]) == 1
    assert "1 of 4 cases failed" in capsys.readouterr().err


def test_a_report_has_a_part_for_each_case(tmp_path):
    run = go(tmp_path)
    text = report.write(run).read_text()
    for rung in range(4):
        assert f"<h2 id='rung-{rung}'>" in text
    assert "<span class='chip failed'>miss</span>" in text
    assert "artifacts/rung-3/height.txt" in text
