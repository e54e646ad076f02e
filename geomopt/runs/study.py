"""A study: a task that has cases to go through instead of a problem to optimize.

A validation against published solutions is one, and so is the training of a few surrogates. Its
task is a frozen dataclass of settings with

    plan(device, seed) -> {name: case}        ValueError or OSError there: bad input

where a case is called with a folder for its artifacts and returns a `CaseResult`. The spec of a
study has neither method nor budget. Cases are done in order, each leaves one line in cases.jsonl,
and a run that was killed goes on after the last one; one that fails does not stop the others, makes
the run a failed one, and is tried again when the same command is given.
"""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from geomopt import files
from geomopt.errors import InputError
from geomopt.files import StorageError
from geomopt.runs import store
from geomopt.runs.interruption import Interrupted, Interruption
from geomopt.runs.progress import Progress
from geomopt.runs.store import Run

VERDICTS = ("pass", "miss", "report")


@dataclass(frozen=True)
class CaseResult:
    """What a case gives besides its artifacts.

    metrics: numbers and texts by name. rows: of a table with the same columns in each; a column
    "verdict", one of VERDICTS, is counted over all cases and coloured in the report.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()


Case = Callable[[Path], CaseResult]


class Study(Protocol):
    """What `problem` names in the spec of a study."""

    def plan(self, device: torch.device, seed: int) -> Mapping[str, Case]:
        """The cases by name; raises ValueError or OSError for settings that cannot be used."""
        ...


def is_study(task: Any) -> bool:
    """Whether a task, or its class, is a study."""
    return hasattr(task, "plan")


def check_plan(cases: Mapping[str, Case]) -> Mapping[str, Case]:
    """The cases, whose names must do as names of folders."""
    if not cases:
        raise InputError("a study must have at least one case, got none")
    for name in cases:
        if not re.fullmatch(r"\w[\w.+-]*", name) or name == store.FRAMES:
            raise InputError(
                "the name of a case must consist of letters, digits and . _ + - since it names a "
                f"folder, got {name!r}"
            )
    return cases


def go_through(
    cases: Mapping[str, Case], run: Run, interruption: Interruption, shown: Progress
) -> list[dict[str, Any]]:
    """Do the cases that are not done yet; gives the records of all, in order.

    A signal ends the case at once, and nothing of it is kept.
    """
    records = {
        record["case"]: record for record in store.read_cases(run) if record["status"] == "ok"
    }
    files.write_text(run.cases_file, "".join(json.dumps(r) + "\n" for r in records.values()))
    for place, (name, case) in enumerate(cases.items()):
        shown.step(place / len(cases), f"{place} of {len(cases)} cases", name)
        if name not in records:
            record = _do(name, case, run)
            interruption.patient = True
            store.append_case(run, record)
            interruption.patient = False
            if interruption.requested is not None:
                raise Interrupted(interruption.requested)
            records[name] = record
    shown.step(1.0, f"{len(cases)} of {len(cases)} cases", "done")
    return [records[name] for name in cases]


def _do(name: str, case: Case, run: Run) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        with store.new_artifacts(run, name) as folder:
            result = case(folder)
    except StorageError:
        raise
    except Exception as error:
        return {
            "case": name,
            "status": "failed",
            "error": f"{type(error).__name__}: {' '.join(str(error).split())}",
            "traceback": "".join(traceback.format_exception(error)),
            "seconds": time.perf_counter() - began,
        }
    return {
        "case": name,
        "status": "ok",
        "metrics": _plain(result.metrics),
        "rows": [_plain(row) for row in result.rows],
        "seconds": time.perf_counter() - began,
    }


def outcome_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How a study ended: "failed" if a case did, how many cases, and how often which verdict."""
    failed = [record for record in records if record["status"] == "failed"]
    outcome = {
        "status": "failed" if failed else "ok",
        "cases": len(records),
        "metrics": verdicts([row for record in records for row in record.get("rows", ())]),
    }
    if failed:
        names = "; ".join(f"{record['case']}: {record['error']}" for record in failed)
        outcome["error"] = f"{len(failed)} of {len(records)} cases failed: {names}"
        outcome["traceback"] = "\n".join(record["traceback"] for record in failed)
    return outcome


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows have which verdict; empty where none has any."""
    given = [row["verdict"] for row in rows if "verdict" in row]
    return {name: given.count(name) for name in VERDICTS} if given else {}


def _plain(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {n: value.item() if hasattr(value, "item") else value for n, value in entries.items()}
