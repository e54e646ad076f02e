"""Functions with known minima, and what makes harder variants of them.

Functions take points (B, d) and return values (B,), with minimum 0 at the origin (`rosenbrock`: at
ones). `shifted`, `rotated`, `noisy` and `failing` make variants of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optimizers.problem import Problem

Function = Callable[[Tensor], Tensor]


def sphere(x: Tensor) -> Tensor:
    """Sum of squares."""
    return x.square().sum(-1)


def ellipsoid(x: Tensor, condition: float = 1e6) -> Tensor:
    """Sum of squares with axes of very different steepness."""
    d = x.shape[-1]
    powers = torch.arange(d, dtype=x.dtype, device=x.device) / max(d - 1, 1)
    return (condition**powers * x.square()).sum(-1)


def rosenbrock(x: Tensor) -> Tensor:
    """A bent valley; minimum 0 at ones."""
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def rastrigin(x: Tensor) -> Tensor:
    """A sphere with a local minimum near every point of integers."""
    return (10 * (1 - torch.cos(2 * math.pi * x)) + x.square()).sum(-1)


def shifted(function: Function, offset: Tensor | float) -> Function:
    """The function moved by offset (d,)."""
    return lambda x: function(x - offset)


def rotated(function: Function, dimension: int, seed: int = 0) -> Function:
    """The function in turned coordinates, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(random).Q
    return lambda x: function(x @ rotation.to(x.device, x.dtype))


def noisy(function: Function, deviation: float, seed: int = 0) -> Function:
    """The function times 1 + deviation * normal noise, drawn anew at each call."""
    generator = torch.Generator().manual_seed(seed)

    def value(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape[:-1], generator=generator, dtype=x.dtype)
        return function(x) * (1 + deviation * noise.to(x.device))

    return value


def failing(function: Function, share: float, seed: int = 0) -> Function:
    """The function, NaN in a random share of the calls."""
    generator = torch.Generator().manual_seed(seed)

    def value(x: Tensor) -> Tensor:
        fails = torch.rand(x.shape[:-1], generator=generator) < share
        return function(x) * torch.where(fails.to(x.device), math.nan, 1.0)

    return value


def boxed(
    function: Callable[[Tensor], Any],
    dimension: int,
    lower: Any = -5.0,
    upper: Any = 5.0,
    start: Any = None,
    **options: Any,
) -> Problem:
    """A differentiable problem in a box from a function of (B, d), by default in a cube.

    lower, upper: numbers or (d,). options: as for `Problem`.
    """
    lower, upper = (
        side if hasattr(side, "__len__") else [side] * dimension for side in (lower, upper)
    )
    options.setdefault("differentiable", True)
    return Problem.from_callable(function, lower, upper, start, batched=True, **options)


def quadratic_program() -> tuple[Problem, Tensor, Tensor]:
    """A problem with two active constraints, its solution (2,) and the multipliers (2,).

    Minimise (x - 2)^2 + (y - 2)^2 under x + y <= 2 and x <= 0.5. At (0.5, 1.5) the
    gradient (-3, -1) is balanced by 1 (1, 1) + 2 (1, 0).
    """

    def fun(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x - 2).square().sum(-1), torch.stack((x.sum(-1) - 2, x[..., 0] - 0.5), -1)

    solution = torch.tensor([0.5, 1.5], dtype=torch.float64)
    return boxed(fun, 2), solution, torch.tensor([1.0, 2.0], dtype=torch.float64)


def split_feasible_set() -> tuple[Problem, float]:
    """A problem whose feasible set has two parts, and its best value.

    Minimise x + y where 1 <= |x| <= 2 and |y| <= 1.
    """

    def fun(x: Tensor) -> tuple[Tensor, Tensor]:
        size = x.abs()
        return x.sum(-1), torch.stack((1 - size[..., 0], size[..., 0] - 2, size[..., 1] - 1), -1)

    return boxed(fun, 2, start=[0.2, 0.5]), -3.0
