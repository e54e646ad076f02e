"""The run directory: everything one run did, readable at any moment.

spec.toml        fully resolved, reloads to the same run
env.json         versions, device, commit, seed, when it was started and continued
iterates.jsonl   one line an iterate, appended; a torn last line is ignored
checkpoint.pt    the optimizer's state, replaced atomically
cases.jsonl      of a study, in place of these two: one line a case, appended
outcome.json     written last, atomically: status, value, metrics, seconds, error text
artifacts/       what the problem wrote; frames/ in it holds the viewer's timeline
report.html      one file, opens offline
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geomopt import files
from geomopt.errors import InputError
from geomopt.runs import lock

FRAMES = "frames"
_FRAME = re.compile(r"(\d+)\.npz")


@dataclass(frozen=True)
class Run:
    """A run directory to read. Nothing is cached but the spec, so a growing run can be followed."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder; raises InputError if that is not a run directory."""
        folder = Path(folder)
        if not (folder / "spec.toml").is_file():
            what = (
                "is not a run directory: it has no spec.toml"
                if folder.is_dir()
                else "does not exist"
            )
            near = (
                sorted(run.folder.name for run in runs_in(folder.parent))
                if folder.parent.is_dir()
                else []
            )
            there = f"; runs in {folder.parent}: {', '.join(near)}" if near else ""
            raise InputError(f"{folder} {what}{there}")
        return cls(folder)

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.folder.resolve().name

    @cached_property
    def table(self) -> dict[str, Any]:
        """The resolved spec as plain tables; needs no problem module."""
        return tomllib.loads((self.folder / "spec.toml").read_text(encoding="utf-8"))

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, device, commit, seed and times; empty before the run has begun."""
        return _read_json(self.folder / "env.json") or {}

    @property
    def outcome(self) -> dict[str, Any] | None:
        """How the run ended, or None."""
        return _read_json(self.folder / "outcome.json")

    @property
    def status(self) -> str:
        """One of "ok", "failed", "running", and "unfinished" for one that can be continued."""
        outcome = self.outcome
        if outcome is not None:
            return outcome["status"]
        return "running" if lock.is_held(self.lock_file) else "unfinished"

    @property
    def iterates(self) -> dict[str, np.ndarray]:
        """Columns of the iterates: iteration, value, ... and "terms.<name>", each (n,); what was
        not finite is NaN.
        """
        rows = read_iterates(self.iterates_file)
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {}
        for name in names:
            values = [row.get(name) for row in rows]
            numeric = all(value is None or isinstance(value, int | float) for value in values)
            filled = (
                [math.nan if value is None else value for value in values] if numeric else values
            )
            columns[name] = np.array(filled)
        return columns

    @property
    def frames(self) -> dict[int, Path]:
        """Iteration to file of the timeline's scenes, in order."""
        found = {}
        for file in self.frames_folder.glob("*.npz"):
            match = _FRAME.fullmatch(file.name)
            if match:
                found[int(match.group(1))] = file
        return dict(sorted(found.items()))

    @property
    def artifacts(self) -> list[Path]:
        """Files that the problem wrote, sorted by name."""
        if not self.artifacts_folder.is_dir():
            return []
        files_there = (file for file in self.artifacts_folder.rglob("*") if file.is_file())
        return sorted(file for file in files_there if self.frames_folder not in file.parents)

    @property
    def cases(self) -> list[dict[str, Any]]:
        """The cases of a study that have ended: case, status, metrics, rows, seconds, error."""
        return read_cases(self)

    @property
    def checkpoint_file(self) -> Path:
        """Where the optimizer's state is kept."""
        return self.folder / "checkpoint.pt"

    @property
    def iterates_file(self) -> Path:
        """Where the iterates are appended."""
        return self.folder / "iterates.jsonl"

    @property
    def cases_file(self) -> Path:
        """Where the cases of a study are appended."""
        return self.folder / "cases.jsonl"

    @property
    def artifacts_folder(self) -> Path:
        """Where the results are."""
        return self.folder / "artifacts"

    @property
    def frames_folder(self) -> Path:
        """Where the timeline's scenes are."""
        return self.artifacts_folder / FRAMES

    @property
    def lock_file(self) -> Path:
        """What a working process holds."""
        return self.folder / ".lock"

    def frame_file(self, iteration: int) -> Path:
        """File of the scene of one iteration."""
        return self.frames_folder / f"{iteration:06d}.npz"


def runs_in(root: str | Path) -> list[Run]:
    """The runs directly below a folder, oldest first."""
    specs = sorted(Path(root).glob("*/spec.toml"), key=lambda file: (file.stat().st_mtime, file))
    return [Run(file.parent) for file in specs]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically; numbers that are not finite become null, since JSON has none."""
    files.write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False) + "\n")


def append_iterate(path: Path, row: Mapping[str, Any]) -> None:
    """Append one iterate as a line of JSON."""
    files.append_line(path, json.dumps(_finite(row)))


def read_iterates(path: Path) -> list[dict[str, Any]]:
    """The iterates as rows; a last line that is torn is left out."""
    return [json.loads(line) for line in _whole_lines(path)]


def keep_iterates(path: Path, stop: int) -> list[dict[str, Any]]:
    """Drop the rows of iteration `stop` and later, and a torn last line; returns the rows that
    stay.
    """
    lines = _whole_lines(path)
    rows = [json.loads(line) for line in lines]
    kept = [(line, row) for line, row in zip(lines, rows, strict=True) if row["iteration"] < stop]
    if path.exists():
        files.write_text(path, "".join(line + "\n" for line, _ in kept))
    return [row for _, row in kept]


def append_case(run: Run, record: Mapping[str, Any]) -> None:
    """Append the record of a case that has ended."""
    files.append_line(run.cases_file, json.dumps(_finite(record)))


def read_cases(run: Run) -> list[dict[str, Any]]:
    """The records of the cases that have ended; a last line that is torn is left out."""
    return [json.loads(line) for line in _whole_lines(run.cases_file)]


@contextmanager
def new_artifacts(run: Run, place: str = "") -> Iterator[Path]:
    """A folder for artifacts, which are moved below `place` when the block ends and all are whole,
    or vanish if it fails. A folder of frames in it goes to the timeline of the run."""
    drafts = run.folder / ".artifacts"
    shutil.rmtree(drafts, ignore_errors=True)
    try:
        with files.storage_errors(run.artifacts_folder):
            drafts.mkdir()
            yield drafts
            for file in sorted(drafts.rglob("*")):
                if file.is_file():
                    relative = file.relative_to(drafts)
                    within = "" if relative.parts[0] == FRAMES else place
                    target = run.artifacts_folder / within / relative
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file, target)
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def _whole_lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    # what follows the last line end was cut off while it was written
    whole = data[: data.rfind(b"\n") + 1].decode().splitlines()
    if whole:
        try:
            json.loads(whole[-1])
        except ValueError:
            whole.pop()
    return whole


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
