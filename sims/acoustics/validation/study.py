"""The validation as a study: `geomopt run acoustics-validation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geomopt.errors import InputError
from geomopt.runs.settings import unknown
from geomopt.runs.study import Case, CaseResult
from sims.acoustics.validation import (
    energy_balance,
    modes,
    orders,
    reciprocity,
    reflection,
    reverberation,
    rigid_cube,
)
from sims.acoustics.validation.pictures import draw
from sims.acoustics.validation.rows import Case as Finder
from sims.acoustics.validation.rows import Findings, Row, Scale

FAMILIES = (rigid_cube, reflection, modes, energy_balance, orders, reciprocity, reverberation)
DIGITS = 6  # of numbers in the table


@dataclass(frozen=True)
class AcousticsValidation:
    """Room acoustics against exact solutions and laws.

    scale: "quick" for coarse meshes and short runs, a minute on one core, or "full" for those of
    the tolerances. cases: which ones, all where none is named. Rows without a tolerance are shown
    and not judged. Seconds are of one core.
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
        return {
            name: partial(_run, find, self.scale)
            for name, find in all_cases().items()
            if name in (self.cases or all_cases())
        }


def all_cases() -> dict[str, Finder]:
    """The cases of all families, by name."""
    return {name: case for family in FAMILIES for name, case in family.CASES.items()}


def _run(find: Finder, scale: Scale, folder: Path) -> CaseResult:
    findings = find(scale)
    for picture in findings.pictures:
        draw(picture, folder)
    return CaseResult(rows=[_entry(row) for row in findings.rows], metrics=_worst(findings))


def _entry(row: Row) -> dict[str, Any]:
    """A row in the words of a table."""
    return {
        "case": row.case,
        "quantity": row.quantity,
        "exact": _rounded(row.exact),
        "ours": _rounded(row.ours),
        "error": _rounded(row.error),
        "tolerance": row.tolerance,
        "setting": row.setting,
        "source": row.source,
        "seconds": round(row.seconds, 2),
        "verdict": row.verdict,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _worst(findings: Findings) -> dict[str, float]:
    """The largest error of a judged row over its tolerance: below one all of them pass."""
    judged = [row.error / row.tolerance for row in findings.rows if row.tolerance]
    return {"worst error / tolerance": max(judged)} if judged else {}
