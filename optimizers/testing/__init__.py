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
from optimizers.testing.trajectories import (
    Toy,
    ball_through_gate,
    block_pushing,
    breaking_wall,
    cart_pole,
    trajectory_toys,
)
from optimizers.testing.untrusted import untrusted_gradients

__all__ = [
    "Toy",
    "ball_through_gate",
    "block_pushing",
    "boxed",
    "breaking_wall",
    "cart_pole",
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
    "trajectory_toys",
    "untrusted_gradients",
]
