"""Newton's method for shells: full steps first, guarded ones where they fail.

A full step turns elements and so stretches them at second order: the energy of a stiff sheet jumps
by orders of magnitude after a good step, and the next one takes that away. A line search on the
energy would cut the good step. So the stages are

    extrapolated    full steps; the geometric stiffness uses the stress that the last linear step
                    foresaw (Magisano, Leonetti and Garcea 2017, mixed integration points)
    full            full steps with the plain Hessian
    guarded         steps of bounded turn along a direction of descent, halved until the potential
                    falls (Armijo); elements are made positive semi-definite only when the Hessian
                    is not definite

and a stage starts where the first one started. Unknowns that are held move to where they are driven
in the first linear solve, which carries the others along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from geomopt.linear import DirectSolver, SingularMatrix
from sims.thin_shell.system import System

ITERATIONS = {"extrapolated": 12, "full": 20, "guarded": 250}
RESIDUAL = 1e-8  # of the largest force of an element
STALLED = 100.0  # times the noise at which a residual that falls no more may stand
TURN = 0.5  # rad, largest turn of an edge in a guarded step
SUFFICIENT = 1e-4  # Armijo's share of the slope
SHORTEST = 1e-9  # share of a guarded step below which the line search gives up
BLIND = 1e-13  # of the energies that cancel in the potential: a fall below it cannot be seen
FAR = 1e3  # times the size of the scene: beyond it full steps have diverged


class NotConverged(RuntimeError):
    """Newton's method found no solution; the state it started from stays valid."""


class Solution(NamedTuple):
    """Where Newton's method ended.

    unknowns (size,); iterations: linear solves; residual: largest force left over the largest force
    of an element; step [m]: largest last move of a vertex; stage: which one got there; stable:
    whether the Hessian there has no negative pivot; smallest_pivot: relative, near zero where the
    scene is about to buckle or may move freely.
    """

    unknowns: Tensor
    iterations: int
    residual: float
    step: float
    stage: str
    stable: bool
    smallest_pivot: float


class _Progress(NamedTuple):
    solution: Solution
    converged: bool
    reason: str


def solve(
    system: System,
    start: Tensor,
    targets: Tensor,
    solver: DirectSolver,
    tolerance: float,
    stages: Sequence[str] = ("extrapolated", "full", "guarded"),
) -> Solution:
    """Minimise the potential from `start` (size,), with held unknowns at `targets` (size,).

    tolerance [m]: the largest last move of a vertex. A solution of full steps that is a saddle is
    tried again with guarded steps. Raises NotConverged.
    """
    saddle: Solution | None = None
    spent, tried = 0, []
    for stage in stages:
        if saddle is not None and stage != "guarded":
            continue
        run = _guarded if stage == "guarded" else _full_steps
        found, converged, reason = run(system, start, targets, solver, tolerance, stage)
        spent += found.iterations
        found = found._replace(iterations=spent)
        if not converged:
            tried.append(f"{stage}: {reason}")
            continue
        if found.stable or saddle is not None or "guarded" not in stages:
            return found
        saddle = found
    if saddle is not None:
        return saddle._replace(iterations=spent)
    raise NotConverged(
        f"Newton's method did not converge in {spent} iterations ({'; '.join(tried)}): "
        "take a smaller time step or load increment"
    )


class _Judge:
    """Whether a state is a solution: the last move is small and the residual is down to noise."""

    def __init__(self, system: System, tolerance: float):
        self.system, self.tolerance = system, tolerance
        self.count = 3 * len(system.model.scene.vertices)
        self.free = system.model.free
        self.before = torch.inf

    def residual(self, gradient: Tensor, scale: Tensor) -> tuple[float, bool]:
        """The relative residual, and whether it is as small as can be asked for."""
        left = torch.where(self.free, gradient, 0.0).abs()
        size = torch.stack([scale.amax(), self.system.loads.abs().amax()]).amax()
        ratios, small = [], True
        noises = self.system.model.noise
        for part, noise in zip((left[: self.count], left[self.count :]), noises, strict=True):
            if part.numel():
                worst = float(part.amax())
                allowed = max(RESIDUAL * float(size), noise)
                stalled = worst <= STALLED * noise and worst > self.before / 2
                small &= worst <= allowed or stalled
                ratios.append(worst / max(float(size), 1e-300))
        worst = float(left.amax()) if left.numel() else 0.0
        self.before = worst
        return max(ratios, default=0.0), small

    def move(self, increment: Tensor) -> float:
        """Largest move of a vertex coordinate [m]."""
        moved = increment[: self.count]
        return float(moved.abs().amax()) if moved.numel() else 0.0


def _full_steps(
    system: System,
    start: Tensor,
    targets: Tensor,
    solver: DirectSolver,
    tolerance: float,
    stage: str,
) -> _Progress:
    model, judge = system.model, _Judge(system, tolerance)
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    extrapolated: dict[int, Tensor] = {}
    step, residual, iteration, factor = torch.inf, torch.inf, 0, None

    def report(converged: bool, reason: str = "") -> _Progress:
        negative = factor.negative_pivots if factor is not None else 0
        pivot = factor.smallest_pivot if factor is not None else 0.0
        solution = Solution(unknowns, iteration, residual, step, stage, negative == 0, pivot)
        return _Progress(solution, converged, reason)

    while True:
        near = iteration > 0 and step <= tolerance
        found = system.assemble(unknowns, 1 if near else 2, extrapolated=extrapolated)
        residual, small = judge.residual(found.gradient, found.scale)
        if near and small:
            return report(True)
        if not torch.isfinite(found.gradient).all():
            return report(False, "the forces are not finite")
        if iteration == ITERATIONS[stage]:
            return report(
                False, f"last move {step:.1e} m, residual {residual:.1e} after {iteration}"
            )
        if near:
            found = system.assemble(unknowns, 2, extrapolated=extrapolated)
        try:
            increment, factor = _direction(system, found, shift, solver)
        except SingularMatrix as error:
            return report(False, str(error))
        if stage == "extrapolated":
            extrapolated = system.strains(unknowns, increment)
        unknowns = unknowns + increment
        step, shift = judge.move(increment), torch.zeros_like(shift)
        iteration += 1
        if not step < FAR * model.size:
            return report(False, f"the steps diverge (last move {step:.1e} m)")


def _direction(system: System, found, shift: Tensor, solver: DirectSolver):
    """The move of all unknowns, held ones by `shift`, and the factor of the Hessian."""
    pattern = system.model.pattern
    values = pattern.assemble(found.matrices, system.inertia)
    force = -found.gradient
    if bool(shift.any()):
        force = force - pattern.full_product(found.matrices, shift)
    factor = solver.factorise(values)
    increment = shift.clone()
    increment[pattern.unknowns] = factor.solve(force[pattern.unknowns])
    return increment, factor


def _guarded(
    system: System,
    start: Tensor,
    targets: Tensor,
    solver: DirectSolver,
    tolerance: float,
    stage: str,
) -> _Progress:
    model, judge = system.model, _Judge(system, tolerance)
    unknowns, shift = start, torch.where(model.free, 0.0, targets - start)
    driven = bool(shift.any())
    step, residual, iteration, stable, pivot = torch.inf, torch.inf, 0, True, 0.0

    def report(converged: bool, reason: str = "") -> _Progress:
        solution = Solution(unknowns, iteration, residual, step, stage, stable, pivot)
        return _Progress(solution, converged, reason)

    while iteration < ITERATIONS[stage]:
        found = system.assemble(unknowns, 2)
        residual, small = judge.residual(found.gradient, found.scale)
        if not torch.isfinite(found.gradient).all():
            return report(False, "the forces are not finite")
        if iteration > 0 and step <= tolerance and small:
            return report(True)
        descent, increment, slope = False, shift, 0.0
        for project in (False, True):
            try:
                if project:
                    found = system.assemble(unknowns, 2, project=True)
                increment, factor = _direction(system, found, shift, solver)
            except SingularMatrix as error:
                if project:
                    return report(False, str(error))
                continue
            if not project:
                stable, pivot = factor.negative_pivots == 0, factor.smallest_pivot
            slope = float(found.gradient @ increment)
            descent = driven or (factor.negative_pivots == 0 and slope < 0)
            if descent:
                break
        if not descent and slope >= 0:
            return report(judge.move(increment) <= tolerance and small, "no direction of descent")
        iteration += 1
        if driven:  # the potential before the drive is that of another problem
            share, driven = 1.0, False
        else:
            share = min(1.0, TURN / max(model.largest_turn(increment), 1e-300))
            seen = BLIND * float(found.scale.amax()) * model.size
            while (
                not system.value(unknowns + share * increment)
                <= found.value + SUFFICIENT * share * slope + seen
            ):
                share /= 2
                if share < SHORTEST:
                    return report(False, f"no step lowers the potential (residual {residual:.1e})")
        unknowns = unknowns + share * increment
        step, shift = share * judge.move(increment), torch.zeros_like(shift)
    return report(False, f"last move {step:.1e} m, residual {residual:.1e} after {iteration}")
