"""Trajectories described by few numbers: knots, their refinement, and limits of motion.

A trajectory is an array (T, c), T steps of c channels, in a flat design (T c,) with time leading.
Sampling searches a few knots, a gradient moves every step; `Knots` is the linear map between the
two, its transpose for gradients, and its least-squares inverse:

    knots = Knots(count=5, steps=80, channels=2)
    trajectory = knots.expand(values)                    # (B, 5 * 2) -> (B, 80 * 2)
    gradient = knots.pull_back(trajectory_gradient)      # (B, 80 * 2) -> (B, 5 * 2)
    finer, values = knots.doubled(), knots.refine(values)  # the same trajectory, more freedom
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number

DEGREE = 3  # of the splines, where there are knots enough
FULL = 0.75  # knots a step from which on splines grow ill-conditioned, and steps serve as well


@dataclass(frozen=True)
class RateLimit:
    """How far a trajectory may move in one step.

    limit: the longest motion of a step, in units of the trajectory.
    groups: channels whose motion is measured together; by default each channel alone.
    weights: of the groups, 1 by default. All channels share one limit then:

        |d| = sum_g w_g |d_g|_2,   d <- d min(1, limit / |d|)

    Without groups every channel is cut, d_j <- clamp(d_j, -limit, limit).
    motions: whether the trajectory already holds the motion of each step (velocities), not
        positions.

    Positions follow their target x as well as the limit allows, y_0 = x_0 and
    y_{t+1} = y_t + d(x_{t+1} - y_t): they never leave a box that holds x, and a trajectory within
    the limit stays as it is. Both maps are differentiable almost everywhere.

    The gripper of ThinShellLab (Wang et al., 2024), whose knots are velocities and whose motion
    |dp| + 0.015 |dtheta| is at most 1 mm a frame, is

        RateLimit(1e-3, groups=((0, 1, 2), (3, 4, 5)), weights=(1.0, 0.015), motions=True)
    """

    limit: float
    groups: tuple[tuple[int, ...], ...] | None = None
    weights: tuple[float, ...] | None = None
    motions: bool = False

    def __post_init__(self) -> None:
        check_number("limit", self.limit, above=0)
        if self.groups is not None:
            groups = tuple(tuple(group) for group in self.groups)
            for channel in (channel for group in groups for channel in group):
                check_count("groups", channel, least=0)
            object.__setattr__(self, "groups", groups)
        if self.weights is not None:
            if self.groups is None or len(self.weights) != len(self.groups):
                raise ValueError(
                    f"weights must be one number for each of the groups {self.groups}, "
                    f"got {self.weights}"
                )
            for weight in self.weights:
                check_number("weights", weight, above=0)
            object.__setattr__(self, "weights", tuple(self.weights))

    def shortened(self, motion: Tensor) -> Tensor:
        """Motions (..., c) cut to the limit."""
        if self.groups is None:
            return motion.clamp(-self.limit, self.limit)
        weights = self.weights or (1.0,) * len(self.groups)
        length = sum(
            weight * torch.linalg.vector_norm(motion[..., list(group)], dim=-1, keepdim=True)
            for weight, group in zip(weights, self.groups, strict=True)
        )
        assert isinstance(length, Tensor)
        return motion * (self.limit / length.clamp(min=self.limit))

    def apply(self, trajectory: Tensor) -> Tensor:
        """The trajectory (..., T, c) that keeps the limit."""
        if self.motions:
            return self.shortened(trajectory)
        change = trajectory.detach().diff(dim=-2)
        if torch.equal(self.shortened(change), change):
            return trajectory
        steps = list(trajectory.unbind(-2))
        for t in range(1, len(steps)):
            steps[t] = steps[t - 1] + self.shortened(steps[t] - steps[t - 1])
        return torch.stack(steps, -2)


@dataclass(frozen=True)
class Knots:
    """From few knots to a trajectory at full resolution: a coarse search space for trajectories.

    count: knots K of each channel, at most `steps`; with as many the map is the identity.
    steps, channels: T and c of the trajectory.
    kind: "cubic", or "constant" for K pieces of equal length with one value each.
    rate_limit: limit of the motion in one step, a number or a `RateLimit`; None is no limit.

        x_t = sum_k W_tk v_k,   W >= 0,   sum_k W_tk = 1

    Cubic W are B-splines with clamped ends over equal pieces (de Boor, 1978), of lower degree with
    fewer than four knots: the first and the last knot are the first and the last step. Because
    every step is a weighted mean of knots, knots inside bounds give trajectories inside them.
    Values are flat, (..., K c) and (..., T c), with time leading.
    """

    count: int
    steps: int
    channels: int = 1
    kind: Literal["cubic", "constant"] = "cubic"
    rate_limit: float | RateLimit | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("channels", self.channels)
        check_count("count", self.count)
        if self.count > self.steps:
            raise ValueError(f"count must be at most steps = {self.steps}, got {self.count}")
        if self.kind not in ("cubic", "constant"):
            raise ValueError(f'kind must be "cubic" or "constant", got {self.kind!r}')
        limit = self.rate_limit
        if limit is not None and not isinstance(limit, RateLimit):
            check_number("rate_limit", limit, above=0)
            limit = RateLimit(float(limit))
            object.__setattr__(self, "rate_limit", limit)
        groups = () if limit is None else limit.groups or ()
        if any(channel >= self.channels for group in groups for channel in group):
            raise ValueError(
                f"groups of rate_limit must hold channels below {self.channels}, got {groups}"
            )

    @property
    def size(self) -> int:
        """How many numbers the knots hold."""
        return self.count * self.channels

    def weights(self, like: Tensor) -> Tensor:
        """The matrix W (T, K) in the precision and on the device of a tensor."""
        return _weights(self.count, self.steps, self.kind).to(like)

    def expand(self, values: Tensor) -> Tensor:
        """Trajectories (..., T c) of knots (..., K c), within the rate limit."""
        limit, trajectory = self.rate_limit, self._linear(values)
        if limit is None:
            return trajectory
        assert isinstance(limit, RateLimit)
        return limit.apply(trajectory.unflatten(-1, (self.steps, self.channels))).flatten(-2)

    def pull_back(self, gradient: Tensor, values: Tensor | None = None) -> Tensor:
        """Gradients (..., K c) with respect to the knots, of those of trajectories (..., T c).

        values: the knots, (..., K c); needed with a rate limit, which cuts differently everywhere.
        """
        if self.rate_limit is None:
            per_step = self._split("gradient", gradient, self.steps)
            return (self.weights(gradient).mT @ per_step).flatten(-2)
        if values is None:
            raise ValueError("pull_back needs values where there is a rate_limit, got None")
        self._split("gradient", gradient, self.steps)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = values.detach().clone().requires_grad_()
            (pulled,) = torch.autograd.grad(self.expand(leaf), leaf, gradient.detach().clone())
        return pulled

    def fit(self, trajectory: Tensor) -> Tensor:
        """The knots (..., K c) whose trajectories are nearest to given ones (..., T c).

        Least squares over all steps, before the rate limit.
        """
        inverse = _inverse(self.count, self.steps, self.kind).to(trajectory)
        return (inverse @ self._split("trajectory", trajectory, self.steps)).flatten(-2)

    def doubled(self) -> Knots:
        """Twice as many pieces: K -> 2 K, and K -> 2 K - 3 for cubic K > 3.

        Where that makes more than three knots for four steps, it is one knot a step. Its
        trajectories include all of this one's; `refine` finds them.
        """
        cubic = self.kind == "cubic" and self.count > DEGREE
        count = 2 * self.count - (DEGREE if cubic else 0)
        return replace(self, count=count if count <= FULL * self.steps else self.steps)

    def refine(self, values: Tensor) -> Tensor:
        """The knots of `doubled()` with the same trajectory as these (..., K c)."""
        return self.doubled().fit(self._linear(values))

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds (K c,) of the knots for bounds (T c,) of the trajectory.

        A knot may go as far as any of the steps that it moves. Where bounds are the same at all
        steps, trajectories keep them; where they vary, clamp the expanded ones.
        """
        low, high = (
            self._split(name, bound, self.steps)[:, None]
            for name, bound in (("lower", lower), ("upper", upper))
        )
        moved = (self.weights(lower) > 0)[..., None]  # (T, K, 1)
        infinity = torch.inf
        lowest = torch.where(moved, low, infinity).amin(0)
        return lowest.flatten(), torch.where(moved, high, -infinity).amax(0).flatten()

    def means(self, values: Tensor) -> Tensor:
        """Weighted means (..., K c) around each knot of something per step (..., T c): scales."""
        weights = self.weights(values)
        per_step = self._split("values", values, self.steps)
        return ((weights / weights.sum(0)).mT @ per_step).flatten(-2)

    def _linear(self, values: Tensor) -> Tensor:
        return (self.weights(values) @ self._split("values", values, self.count)).flatten(-2)

    def _split(self, name: str, flat: Tensor, rows: int) -> Tensor:
        """Flat values (..., rows c) as (..., rows, c)."""
        if flat.ndim == 0 or flat.shape[-1] != rows * self.channels:
            raise ValueError(
                f"{name} must have shape (..., {rows} * {self.channels}), got {tuple(flat.shape)}"
            )
        return flat.unflatten(-1, (rows, self.channels))


@lru_cache(maxsize=64)
def _weights(count: int, steps: int, kind: str) -> Tensor:
    """The matrix W (T, K) of `Knots`, float64."""
    if count == steps:
        return torch.eye(steps, dtype=torch.float64)
    if kind == "constant":
        # pieces nest: floor(floor(2 t K / T) / 2) = floor(t K / T)
        piece = torch.arange(steps) * count // steps
        return torch.nn.functional.one_hot(piece, count).double()
    degree = min(DEGREE, count - 1)
    ends = torch.zeros(degree, dtype=torch.float64)
    breaks = torch.cat((ends, torch.linspace(0, 1, count - degree + 1, dtype=ends.dtype), ends + 1))
    at = torch.linspace(0, 1, steps, dtype=torch.float64)
    piece = (torch.arange(steps) * (count - degree) // max(steps - 1, 1)).clamp(
        max=count - degree - 1
    )
    basis = torch.nn.functional.one_hot(piece + degree, len(breaks) - 1).double()  # (T, ...)
    for order in range(1, degree + 1):  # Cox and de Boor
        width = breaks[order:] - breaks[:-order]
        share = torch.where(width > 0, (at[:, None] - breaks[:-order]) / width, 0.0)
        basis = share[:, :-1] * basis[:, :-1] + (
            torch.where(width[1:] > 0, 1 - share[:, 1:], 0.0) * basis[:, 1:]
        )
    return basis.clamp(min=0.0)  # round-off


@lru_cache(maxsize=64)
def _inverse(count: int, steps: int, kind: str) -> Tensor:
    """The pseudoinverse (K, T) of W, float64."""
    return torch.linalg.pinv(_weights(count, steps, kind))
