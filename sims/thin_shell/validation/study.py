"""The validation as a study: `geomopt run shell-validation`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geomopt.errors import InputError
from geomopt.runs.settings import unknown
from geomopt.runs.study import Case, CaseResult
from sims.thin_shell import validation
from sims.thin_shell.validation.pictures import draw
from sims.thin_shell.validation.rows import Case as Finder
from sims.thin_shell.validation.rows import Findings, Row, Scale


@dataclass(frozen=True)
class ShellValidation:
    """Thin shells against published and closed solutions.

    scale: "quick" for coarse meshes, two minutes on one core, or "full" for those of the
    tolerances. cases: which ones, all where none is named. Rows without a tolerance show how a
    coarser mesh or another model does and are not judged. Seconds are of one core.
    """

    scale: Scale = "full"
    cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = all_cases()
        for name in self.cases:
            if name not in known:
                raise unknown(f"case {name!r}", name, known)

    def plan(self, device: torch.device, seed: int) -> Mapping[str, Case]:
        """The chosen cases; raises InputError for a device other than the CPU."""
        if device.type != "cpu":
            raise InputError(f"device must be 'cpu' for a validation, got {str(device)!r}")
        known = all_cases()
        return {
            name: partial(_run, find, self.scale)
            for name, find in known.items()
            if name in (self.cases or known)
        }


def all_cases() -> dict[str, Finder]:
    """The cases of all families, by name."""
    modules = [
        importlib.import_module(f"{validation.__name__}.{info.name}")
        for info in pkgutil.iter_modules(validation.__path__)
        if info.name != __name__.rpartition(".")[2]
    ]
    return {name: case for module in modules for name, case in getattr(module, "CASES", {}).items()}


def _run(find: Finder, scale: Scale, folder: Path) -> CaseResult:
    findings = find(scale)
    draw(findings, folder)
    return CaseResult(rows=[_entry(row) for row in findings.rows], metrics=_worst(findings))


def _entry(row: Row) -> dict[str, Any]:
    """A row in the words of a table; errors as percentages of the reference."""
    entry = asdict(row)
    for name in ("error", "tolerance"):
        share = entry.pop(name)
        entry[f"{name} [%]"] = None if share is None else round(100 * share, 3)
    entry["iterations"], entry["seconds"] = round(row.iterations, 1), round(row.seconds, 2)
    place = list(entry).index("ours") + 1
    ordered = [*list(entry)[:place], "error [%]", "tolerance [%]", "mesh", "iterations", "seconds"]
    return {name: entry[name] for name in ordered} | {"verdict": row.verdict}


def _worst(findings: Findings) -> dict[str, float]:
    """The largest error of a judged row over its tolerance: below one all of them pass."""
    judged = [abs(row.error) / row.tolerance for row in findings.rows if row.tolerance]
    return {"worst error / tolerance": max(judged)} if judged else {}
