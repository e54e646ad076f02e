"""Sparse symmetric systems: assembly of element matrices, direct and iterative solution.

The way of one Newton step:

    pattern = SparsePattern.of([unknowns_of_elements], size, free)     # once a topology
    solver = DirectSolver(pattern)                                     # once a topology
    values = pattern.assemble([element_matrices], diagonal)
    step = solver.factorise(values).solve(-gradient[pattern.unknowns])

and where some elements come and go, as contacts do:

    joined = pattern.joined([unknowns_of_contacts])
    solver = solver.renewed(joined)
"""

from geomopt.linear.direct import DirectSolver, Factor, factorise
from geomopt.linear.implicit import sparse_solve
from geomopt.linear.iterative import (
    Iterated,
    IterativeFactor,
    IterativeSolver,
    block_jacobi,
    conjugate_gradient,
)
from geomopt.linear.library import SingularMatrix
from geomopt.linear.pattern import SparsePattern
from geomopt.linear.solver import Solver, open_solver

__all__ = [
    "DirectSolver",
    "Factor",
    "Iterated",
    "IterativeFactor",
    "IterativeSolver",
    "SingularMatrix",
    "Solver",
    "SparsePattern",
    "block_jacobi",
    "conjugate_gradient",
    "factorise",
    "open_solver",
    "sparse_solve",
]
