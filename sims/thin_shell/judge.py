"""What the stages of Newton's method share: when a state is a solution, and what they report."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sims.thin_shell.system import System

STALLED = 100.0  # times the noise at which a residual that falls no more may stand
CLOSE = 1e-3  # of the thickness: a full step so small lets its factor serve again
SHRINKING = 0.05  # of the step before: what a step with an old factor may be
SUFFICIENT = 1e-4  # Armijo's share of the slope
SHORTEST = 1e-9  # share of a step below which a line search gives up
BLIND = 1e-13  # of the energies that cancel in the potential: a fall below it cannot be seen
FAR = 1e3  # times the size of the scene: beyond it full steps have diverged
STUCK = 8  # steps in a row at a saddle that lead nowhere


class NotConverged(RuntimeError):
    """Newton's method found no solution; the state it started from stays valid.

    iterations: how many factorisations it took to find that out.
    """

    def __init__(self, message: str, iterations: int = 0) -> None:
        super().__init__(message)
        self.iterations = iterations


class Blocked(NotConverged):
    """Something is driven into what cannot give way, or held so that nothing can move.

    The message says what is in the way, where, and how much room is left.
    """


class Solution(NamedTuple):
    """Where Newton's method ended.

    unknowns (size,), left out where only the rest is recorded; iterations: factorisations;
    residual: largest force left over the largest force of an element; step [m]: largest last move
    of a vertex; stage: which one got there; stable: whether the Hessian there has no negative
    pivot; smallest_pivot: relative, near zero where the scene is about to buckle or may move
    freely.
    """

    unknowns: Tensor
    iterations: int
    residual: float
    step: float
    stage: str
    stable: bool
    smallest_pivot: float


class Progress(NamedTuple):
    """How a stage ended: its solution or last state, and why it stopped if it did not converge."""

    solution: Solution
    converged: bool
    reason: str


class Judge:
    """Whether a state is a solution: the last move is small and the residual is down to noise."""

    def __init__(self, system: System, tolerance: float, allowed: float):
        self.system, self.tolerance, self.allowed = system, tolerance, allowed
        self.count = 3 * len(system.model.scene.vertices)
        self.free = system.model.free
        self.before = torch.inf
        # coordinates are rounded more coarsely far from where the scene began
        began = system.model.scene.vertices.detach().abs().amax()
        there = began if system.predicted is None else system.predicted[: self.count].abs().amax()
        away = max(1.0, float(there) / max(float(began), 1e-300))
        self.noises = [noise * away for noise in system.model.noise]

    def residual(self, gradient: Tensor, scale: Tensor) -> tuple[float, bool, bool]:
        """The relative residual, whether it is as small as can be asked for, and mere noise."""
        left = torch.where(self.free, gradient, 0.0).abs()
        size = torch.stack([scale.amax(), self.system.loads.abs().amax()]).amax()
        ratios, small, noisy = [], True, True
        parts = left[: self.count], left[self.count :]
        for part, noise in zip(parts, self.noises, strict=True):
            if part.numel():
                worst = float(part.amax())
                most = noise * self.system.model.slenderness
                allowed = max(self.allowed * float(size), most)
                stalled = worst <= STALLED * most and worst > self.before / 2
                small &= worst <= allowed or stalled
                noisy &= worst <= noise
                ratios.append(worst / max(float(size), 1e-300))
        worst = float(left.amax()) if left.numel() else 0.0
        self.before = worst
        return max(ratios, default=0.0), small, noisy

    def move(self, increment: Tensor) -> float:
        """Largest move of a vertex coordinate [m]; a director moves over the shortest edge."""
        moves = increment.abs()
        moves[self.count :] *= self.system.model.shortest
        return float(moves.amax()) if moves.numel() else 0.0
