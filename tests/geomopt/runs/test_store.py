"""The run directory: readable at every moment, whole after every accident."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from geomopt import files
from geomopt.errors import InputError
from geomopt.runs import lock, store
from geomopt.runs.store import Run, append_iterate, keep_iterates, read_iterates


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "bowl-0123456789ab"
    folder.mkdir()
    (folder / "spec.toml").write_text('name = "bowl"\n', encoding="utf-8")
    return Run.open(folder)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_iterates_come_back_as_columns(run):
    append_iterate(run.iterates_file, {"iteration": 0, "value": 0.1 + 0.2, "terms.mask": 1.0})
    append_iterate(run.iterates_file, {"iteration": 1, "value": math.inf, "events": "restart"})
    columns = run.iterates
    np.testing.assert_array_equal(columns["iteration"], [0, 1])
    assert columns["value"][0] == 0.1 + 0.2
    assert math.isnan(columns["value"][1])
    np.testing.assert_array_equal(columns["terms.mask"], [1.0, math.nan])
    assert columns["events"].tolist() == [None, "restart"]
    # every line is JSON for any reader, so what is not finite is null
    assert (
        json.loads(run.iterates_file.read_text().splitlines()[1], parse_constant=pytest.fail)[
            "value"
        ]
        is None
    )


@pytest.mark.parametrize(
    "torn", ['{"iteration": 2, "val', '{"iteration": 2}', "\x00\x00\x00", '{"iter\n']
)
def test_a_torn_last_line_is_ignored_and_then_dropped(run, torn):
    for iteration in range(2):
        append_iterate(run.iterates_file, {"iteration": iteration})
    whole = run.iterates_file.read_bytes()
    with run.iterates_file.open("a") as file:
        file.write(torn)
    assert [row["iteration"] for row in read_iterates(run.iterates_file)] == [0, 1]
    keep_iterates(run.iterates_file, 2)
    assert run.iterates_file.read_bytes() == whole


def test_rows_past_the_checkpoint_are_dropped(run):
    for iteration in range(5):
        append_iterate(run.iterates_file, {"iteration": iteration})
    keep_iterates(run.iterates_file, 3)
    assert [row["iteration"] for row in read_iterates(run.iterates_file)] == [0, 1, 2]


def test_a_full_disk_leaves_the_old_file(run, monkeypatch):
    file = run.folder / "outcome.json"
    store.write_json(file, {"status": "ok"})
    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(
        files.StorageError, match=r"outcome.json: the disk is full; free some space"
    ):
        store.write_json(file, {"status": "failed"})
    assert file.read_bytes() == before
    assert sorted(path.name for path in run.folder.iterdir()) == ["outcome.json", "spec.toml"]


def test_a_line_that_does_not_fit_is_taken_back(run, monkeypatch):
    append_iterate(run.iterates_file, {"iteration": 0})
    before = run.iterates_file.read_bytes()
    real_open = type(run.iterates_file).open

    class Half:
        """A file on a disk with room for three more bytes."""

        def __init__(self, file):
            self.file, self.room = file, 3

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if self.room == 0:
                full_disk()
            self.room -= (count := self.file.write(data[: self.room]))
            return count

    monkeypatch.setattr(type(run.iterates_file), "open", lambda *a, **k: Half(real_open(*a, **k)))
    with pytest.raises(files.StorageError, match="disk is full"):
        append_iterate(run.iterates_file, {"iteration": 1})
    monkeypatch.undo()
    assert run.iterates_file.read_bytes() == before


def test_no_permission_is_said_with_a_way_out(run, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        files.StorageError, match="no permission to write there; choose another folder"
    ):
        files.write_text(run.folder / "a.txt", "a")


def test_other_errors_pass_through_and_leave_nothing(run):
    def fail_halfway():
        with files.replacing(run.folder / "x.txt") as draft:
            draft.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert [path.name for path in run.folder.iterdir()] == ["spec.toml"]


def test_frames_are_ordered_by_iteration_and_apart_from_artifacts(run):
    run.frames_folder.mkdir(parents=True)
    for name in ("000010.npz", "000002.npz", "1000000.npz", ".000003.1.npz", "other.npz"):
        (run.frames_folder / name).touch()
    (run.artifacts_folder / "mesh.ply").touch()
    assert list(run.frames) == [2, 10, 1000000]
    assert [file.name for file in run.artifacts] == ["mesh.ply"]


def test_a_folder_that_is_no_run_is_refused_with_what_there_is(run):
    with pytest.raises(InputError, match=r"nothing does not exist; runs in .*: bowl-0123456789ab"):
        Run.open(run.folder.parent / "nothing")
    with pytest.raises(InputError, match=r"is not a run directory: it has no spec.toml"):
        Run.open(run.folder.parent)


def test_status_follows_lock_and_outcome(run):
    assert run.status == "unfinished"
    with lock.held(run.lock_file):
        assert run.status == "running"
    assert run.status == "unfinished"
    store.write_json(run.folder / "outcome.json", {"status": "failed"})
    assert run.status == "failed"


def test_the_lock_keeps_a_second_process_out_and_ends_with_its_owner(run):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom geomopt.runs import lock\n"
        "with lock.held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(run.lock_file)], stdout=subprocess.PIPE, env=environment
    )
    try:
        assert owner.stdout.readline().strip() == b"held"
        with (
            pytest.raises(lock.RunBusy, match=f"in use by process {owner.pid}"),
            lock.held(run.lock_file),
        ):
            pass
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    with lock.held(run.lock_file):
        pass
    assert not run.lock_file.exists()
