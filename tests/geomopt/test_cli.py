"""The command line as a user meets it: exit codes, one line an error, an example in every help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geomopt import cli
from geomopt.doctor import examine
from geomopt.runs.store import Run, runs_in

VERBS = ("run", "view", "report", "list", "doctor", "render")
TASK = '''
from dataclasses import dataclass
import time, torch
from optimizers import Box, Budget, Problem, METHODS

@dataclass(frozen=True)
class Valley:
    """A parabola of one unknown."""
    bottom: float = 0.5
    pause: float = 0.0
    broken: bool = False
    data: str = ""

    def method(self):
        return METHODS["adam"]()

    def budget(self):
        return Budget(iterations=30)

    def start(self, device, seed):
        if self.data:
            open(self.data).close()
        return Problem({"x": Box((), -1, 1)}, self.value, differentiable=True, device=device)

    def value(self, named):
        time.sleep(self.pause)
        if self.broken:
            raise RuntimeError("it broke\\nin two lines")
        return (named["x"] - self.bottom) ** 2
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A user's folder: a module with a task of their own and a spec."""
    (tmp_path / "valley.py").write_text(TASK)
    (tmp_path / "valley.toml").write_text(
        'name = "valley"\nproblem = "valley:Valley"\ndevice = "cpu"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("valley", None)


def call(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def start_process(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "geomopt.cli", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_from_the_first_line_to_the_report(here, capsys):
    code, out, err = call(capsys, "run", "valley.toml", "--set", "bottom=0.25", "--seed", "3")
    assert code == 0
    run = runs_in("runs")[0]
    assert run.table["settings"]["bottom"] == 0.25
    assert run.table["seed"] == 3
    assert str(run.folder) in out
    assert "report.html" in out
    assert err.startswith("valley: iterate 0")
    code, out, err = call(capsys, "run", "valley.toml", "--set", "bottom=0.25", "--seed", "3")
    assert (code, err) == (0, "")
    assert "done already; delete the folder to run it again" in out
    assert call(capsys, "report", "runs", "--out", "all.html")[0] == 0
    assert Path("all.html").exists()
    code, out, _ = call(capsys, "list")
    assert code == 0
    for words in ("reconstruct", "adam", run.name, "ok"):
        assert words in out
    code, out, _ = call(capsys, "list", "--methods")
    assert code == 0
    for words in ("when to use it", "lagrange-newton", "gradients", "augmented Lagrangian"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "valley.toml", "--set", "botom=1"], "did you mean 'bottom'?"),
        (
            ["run", "valley.toml", "--set", "bottom=low"],
            "settings.bottom must be a number, got 'low'",
        ),
        (["run", "valley.toml", "--set", "method=adan"], "did you mean 'adam'?"),
        (["run", "valley.toml", "--set", "data=absent.ply"], "absent.ply"),
        (["run", "absent.toml"], "there is no spec file 'absent.toml'"),
        (["run", "vally"], "unknown spec 'vally'"),
        (["run", "valley.toml", "--device", "tpu"], "device must be"),
        (["view", "valley"], "there is no run 'valley'; runs in runs: none"),
        (["view", "."], "is not a run directory"),
        (["report", "nothing"], "there is no run 'nothing'"),
        (["render", "absent.ply", "--out", "views"], "absent.ply"),
    ],
)
def test_bad_input_is_one_line_and_code_2(here, capsys, arguments, message):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("geomopt: ")
    assert err.count("\n") == 1
    assert message in err
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_a_failed_run_is_one_line_and_code_1(here, capsys):
    code, _, err = call(capsys, "run", "valley.toml", "--set", "broken=true")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "RuntimeError: it broke in two lines" in err
    assert "outcome.json" in err


def test_a_place_that_cannot_be_written_is_code_2(here, capsys):
    Path("file").write_text("in the way")
    code, _, err = call(capsys, "run", "valley.toml", "--root", "file")
    assert code == 2
    assert "cannot write file" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_continue(here, number, code):
    child = start_process(here, "run", "valley.toml", "--set", "pause=0.05")
    deadline = time.monotonic() + 60
    while not (runs_in("runs") and runs_in("runs")[0].iterates) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(number)
    out, err = child.communicate()
    assert child.returncode == code
    assert err.splitlines()[-1].endswith("continue with the same command")
    assert "Traceback" not in out + err
    assert runs_in("runs")[0].status == "unfinished"


def test_two_processes_do_not_share_a_run(here, capsys):
    child = start_process(here, "run", "valley.toml", "--set", "pause=0.5")
    try:
        deadline = time.monotonic() + 60
        while not (runs_in("runs") and runs_in("runs")[0].iterates) and time.monotonic() < deadline:
            time.sleep(0.02)
        code, _, err = call(capsys, "run", "valley.toml", "--set", "pause=0.5")
        assert code == 2
        assert f"in use by process {child.pid}" in err
    finally:
        child.kill()
        child.communicate()


def test_a_run_is_found_by_the_beginning_of_its_name(here, capsys):
    call(capsys, "run", "valley.toml")
    call(capsys, "run", "valley.toml", "--seed", "1")
    names = [run.name for run in runs_in("runs")]
    assert cli.find_run(names[0], "runs").name == names[0]
    assert cli.find_run(f"runs/{names[1]}", "elsewhere") == Run(Path("runs") / names[1])
    code, _, err = call(capsys, "report", "valley")
    assert code == 2
    assert "several runs begin with 'valley'" in err


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example(capsys, verb):
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert f"example: geomopt {verb}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["walk"],
        ["run"],
        ["view", "x", "--size", "10"],
        ["render", "m", "--out", "d", "--views", "0"],
    ],
)
def test_usage_errors_are_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: geomopt" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys, geomopt.cli\n"
        "try:\n    geomopt.cli.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(not {'torch', 'warp', 'numpy', 'pyvista', 'rich'}.isdisjoint(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0


def test_render_passes_its_arguments_on(monkeypatch, capsys, tmp_path):
    seen = {}
    monkeypatch.setattr(
        "geomopt.reconstruct.dataset.render_dataset",
        lambda mesh, folder, **options: seen.update(mesh=mesh, folder=folder, **options),
    )
    assert (
        call(capsys, "render", "m.ply", "--out", tmp_path, "--views", "7", "--resolution", "64")[0]
        == 0
    )
    assert seen == {
        "mesh": "m.ply",
        "folder": str(tmp_path),
        "views": 7,
        "resolution": 64,
        "seed": 0,
    }


def test_doctor_tells_what_there_is_and_how_to_get_the_rest(here, capsys):
    code, out, _ = call(capsys, "doctor")
    assert code == 0
    for words in (
        "Python",
        "torch",
        "warp",
        "kernel cache",
        "package sims",
        "nvdiffrast",
        "kaolin",
    ):
        assert words in out
    findings = {one.name: one for one in examine("runs")}
    assert all(one.ok for one in findings.values() if one.needed)
    assert findings["botorch"].ok or "pip install" in findings["botorch"].advice


def test_doctor_notices_a_package_that_hides_ours(here, capsys, monkeypatch):
    (here / "sims").mkdir()
    (here / "sims" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    monkeypatch.delitem(sys.modules, "sims", raising=False)
    code, out, _ = call(capsys, "doctor")
    assert code == 1
    assert "needed and missing: package sims" in out
