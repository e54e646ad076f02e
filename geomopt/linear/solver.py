"""The one place that turns the name of a linear solver into a solver."""

from __future__ import annotations

from geomopt.errors import InputError
from geomopt.linear.direct import LIBRARIES, DirectSolver
from geomopt.linear.iterative import IterativeSolver
from geomopt.linear.pattern import SparsePattern

Solver = DirectSolver | IterativeSolver
SOLVERS = ("auto", *LIBRARIES, "cg")


def open_solver(pattern: SparsePattern, name: str) -> Solver:
    """A solver for matrices on a pattern: "auto", a library of `DirectSolver`, or "cg".

    Raises InputError for another name, BackendUnavailable for a library that is not installed.
    """
    if name not in SOLVERS:
        raise InputError(f"linear must be one of {SOLVERS}, got {name!r}")
    return IterativeSolver(pattern) if name == "cg" else DirectSolver(pattern, name)
