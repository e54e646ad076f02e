"""Admittances given by poles and residues, as other wave solvers take them."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE

COLUMNS = {"real": 2, "pair": 4, "Yinf": 1}


@dataclass(frozen=True)
class PoleResidues:
    """Y(s) = Yinf + sum A / (s + lambda) + sum [(B + iC) / (s + alpha + i beta) + conjugate].

    Y in m/(s Pa), of exp(+st). constant: Yinf. real: (A, lambda) each. pairs: (B, C, alpha, beta)
    each, as in H. Wang and M. Hornikx, Journal of the Acoustical Society of America 147(4), 2534
    (2020). Poles on the left do not make it passive: `Wall.from_impedance` of it is, and says
    where it is not.
    """

    constant: float
    real: tuple[tuple[float, float], ...]
    pairs: tuple[tuple[float, float, float, float], ...]

    def admittance_at(self, s: Tensor) -> Tensor:
        """Normalised admittance rho c Y of complex s (...) [rad/s]."""
        s = s.to(torch.complex128)
        total = torch.full_like(s, self.constant)
        for residue, pole in self.real:
            total = total + residue / (s + pole)
        for b, c, alpha, beta in self.pairs:
            total = total + complex(b, c) / (s + complex(alpha, beta))
            total = total + complex(b, -c) / (s + complex(alpha, -beta))
        return CHARACTERISTIC_IMPEDANCE * total


def read_pole_residues(path: str | os.PathLike[str]) -> PoleResidues:
    """The set in a CSV file with rows kind,p1,p2,p3,p4.

    kind "real" has A, lambda; "pair" has B, C, alpha, beta; "Yinf" has one number. Lines that
    begin with # and the header are passed over. Raises InputError for a file that is not there or
    holds something else.
    """
    found: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in COLUMNS}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"path must be a readable CSV file, got {path}: {error}") from None
    for row in rows:
        kind, *cells = row
        if kind == "kind":
            continue
        if kind not in COLUMNS:
            raise InputError(f"kind must be one of {', '.join(COLUMNS)} in {path}, got {kind!r}")
        try:
            values = tuple(float(cell) for cell in cells if cell.strip())
        except ValueError:
            raise InputError(f"a row of {path} must hold numbers, got {row}") from None
        if len(values) != COLUMNS[kind] or not all(map(math.isfinite, values)):
            raise InputError(
                f"a row {kind!r} of {path} must hold {COLUMNS[kind]} finite numbers, got {row}"
            )
        found[kind].append(values)
    if not rows:
        raise InputError(f"path must be a CSV file with rows kind,p1,p2,p3,p4, got {path}: empty")
    return PoleResidues(
        sum(value for (value,) in found["Yinf"]),
        tuple((a, pole) for a, pole in found["real"]),
        tuple((b, c, alpha, beta) for b, c, alpha, beta in found["pair"]),
    )
