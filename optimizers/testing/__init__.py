"""Functions and problems with known answers, for tests and benchmarks of optimizers."""

from optimizers.testing.functions import (
    boxed,
    ellipsoid,
    failing,
    noisy,
    quadratic_program,
    rastrigin,
    rosenbrock,
    rotated,
    shifted,
    sphere,
    split_feasible_set,
)

__all__ = [
    "boxed",
    "ellipsoid",
    "failing",
    "noisy",
    "quadratic_program",
    "rastrigin",
    "rosenbrock",
    "rotated",
    "shifted",
    "sphere",
    "split_feasible_set",
]
