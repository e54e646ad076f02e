"""Where a population searches: knots in place of trajectories, all other parameters as they are."""

from __future__ import annotations

from torch import Generator, Tensor, cat

from optimizers.problem import Box, Problem
from optimizers.trajectory import Knots

FIRST_KNOTS = 5  # of each channel, where nothing else is asked for
KINDS = ("constant", "cubic")  # jumps suit switches and impacts, splines suit smooth motion


class KnotSpace:
    """The parameters of a problem with its trajectories described by knots, z (n,) for x (d,).

    knots: for every trajectory its slice of x and its `Knots`; empty is the identity.
    dimension: n, at most d.
    """

    def __init__(self, problem: Problem, knots: list[tuple[slice, Knots]]) -> None:
        self.problem = problem
        self.knots = sorted(knots, key=lambda item: item[0].start)
        self._parts: list[tuple[slice, slice, Knots | None]] = []  # of x, of z
        at = taken = 0
        for part, map_ in [*self.knots, (slice(problem.dimension, problem.dimension), None)]:
            if part.start > at:
                size = part.start - at
                self._parts.append((slice(at, part.start), slice(taken, taken + size), None))
                taken += size
            if map_ is not None:
                self._parts.append((part, slice(taken, taken + map_.size), map_))
                taken += map_.size
            at = part.stop
        self.dimension = taken
        self.is_identity = all(
            map_.count == map_.steps and map_.rate_limit is None for _, map_ in self.knots
        )

    def expand(self, points: Tensor) -> Tensor:
        """x (B, d) of search points z (B, n), inside the box."""
        if self.is_identity:
            return points
        rows = [
            points[:, coarse] if map_ is None else map_.expand(points[:, coarse])
            for _, coarse, map_ in self._parts
        ]
        return cat(rows, 1).clamp(self.problem.lower, self.problem.upper)

    def pull_back(self, gradient: Tensor, points: Tensor) -> Tensor:
        """Gradients (B, n) with respect to search points (B, n), of those with respect to x."""
        if self.is_identity:
            return gradient
        rows = [
            gradient[..., fine]
            if map_ is None
            else map_.pull_back(gradient[..., fine], points[..., coarse])
            for fine, coarse, map_ in self._parts
        ]
        return cat(rows, -1)

    def fit(self, x: Tensor) -> Tensor:
        """The search points (..., n) nearest to x (..., d)."""
        if self.is_identity:
            return x
        rows = [
            x[..., fine] if map_ is None else map_.fit(x[..., fine])
            for fine, _, map_ in self._parts
        ]
        return cat(rows, -1)

    def box(self, start: Tensor) -> Problem:
        """The box of the search points, with a start (n,), to run a method in."""
        problem = self.problem
        lower, upper, scale = [], [], []
        for fine, _, map_ in self._parts:
            low, high, unit = problem.lower[fine], problem.upper[fine], problem.scale[fine]
            if map_ is not None:
                low, high = map_.bounds(low, high)
                unit = map_.means(unit)
            for parts, part in ((lower, low), (upper, high), (scale, unit)):
                parts.append(part)
        box = Box(self.dimension, cat(lower), cat(upper), start, cat(scale))
        return Problem({"z": box}, dtype=problem.dtype, device=problem.device)

    @property
    def is_finest(self) -> bool:
        """Whether there is no knot left to add."""
        return all(map_.count == map_.steps for _, map_ in self.knots)

    def doubled(self) -> KnotSpace:
        """The space with twice the knots, in which every point of this one has its like."""
        return KnotSpace(self.problem, [(part, map_.doubled()) for part, map_ in self.knots])

    def doubled_to(self, counts: list[int]) -> KnotSpace:
        """The space with these counts of knots, which some doublings of this one have."""
        space = self
        while space.counts != counts:
            space = space.doubled()
        return space

    @property
    def counts(self) -> list[int]:
        """The knots of every trajectory, in the order of x."""
        return [map_.count for _, map_ in self.knots]


def knot_spaces(problem: Problem, knots: int | Knots | None) -> list[KnotSpace]:
    """The first, coarsest spaces of a problem: with trajectories both kinds of knots.

    knots: how many for each channel of its trajectories; or a `Knots` for every trajectory of its
        size, and for the whole design where no part is called a trajectory.
    Raises ValueError where a `Knots` fits nothing.
    """
    parts = [
        (part, shape[0], (part.stop - part.start) // shape[0])
        for part, shape in problem.trajectories.values()
    ]
    if not isinstance(knots, Knots):
        if not parts:
            return [KnotSpace(problem, [])]
        count = FIRST_KNOTS if knots is None else knots
        return [
            KnotSpace(problem, [(p, Knots(min(count, t), t, c, kind)) for p, t, c in parts])
            for kind in KINDS
        ]
    if not parts:
        parts = [(slice(0, problem.dimension), knots.steps, problem.dimension // knots.steps)]
    fitting = [(p, knots) for p, t, c in parts if (t, c) == (knots.steps, knots.channels)]
    if not fitting:
        sizes = ", ".join(f"({t}, {c})" for _, t, c in parts)
        raise ValueError(
            f"knots must be of a trajectory of this problem, (steps, channels) of {sizes}, "
            f"got ({knots.steps}, {knots.channels})"
        )
    return [KnotSpace(problem, fitting)]


def random_designs(
    spaces: list[KnotSpace], start: Tensor, count: int, generator: Generator
) -> Tensor:
    """Designs x (B, d), as many of each space, one space after the other, count <= B."""
    each = -(-count // len(spaces))
    boxes = [space.box(space.fit(start)) for space in spaces]
    drawn = [box.sample(each, generator) for box in boxes]
    return cat([space.expand(z) for space, z in zip(spaces, drawn, strict=True)])
