"""Candidates around a leader: what each attack makes of its slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optimizers.direct_search.archive import Archive
from optimizers.direct_search.attack_steps import sign_step
from optimizers.direct_search.constrained_step import (
    Solve,
    damped_newton,
    model_step,
    quasi_newton,
    steepest,
)
from optimizers.direct_search.linearization import Linearization
from optimizers.direct_search.surrogate_descent import Correction, corrected
from optimizers.evaluation import FEASIBLE, Evaluation, ranking
from optimizers.gradient.quasi_newton import History
from optimizers.problem import Problem
from optimizers.state import restore, snapshot

ATTACKS = ("descent", "quasi-newton", "gauss-newton", "pgd", "fgsm", "l2")
FACTORS = (1.0, 0.5, 2.0)  # of the radius, tried together
MEMORY = 20  # pairs of gradients
WORST = 1  # violated constraints that are attacked one by one
SAME = 1e-9  # share of a radius by which two steps must differ
ROUND_OFF = 1e-15


class Proposals:
    """Candidates, the curvature that past slopes tell, and how far constraints bend.

    steps: (n, d), in units of the scales. multipliers: (m,), of the last step with constraints.
    bends: (m,), the most that a constraint has lately risen above its linearisation, per squared
        length of the step.
    foreseen: (1 + m,), what a surrogate expects of the one candidate that it has chosen.
    promise: decrease of the quasi-Newton model along its whole step; 0 where constraints bend it.
    """

    FIELDS = ("steps", "foreseen", "multipliers", "bends", "promise")

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.start, self.scale, lower, upper = (
            vector.double().cpu()
            for vector in (problem.start, problem.scale, problem.lower, problem.upper)
        )
        self.lower, self.upper = (
            (lower - self.start) / self.scale,
            (upper - self.start) / self.scale,
        )
        self.history = History(MEMORY, self.start)
        self.steps = self.start.new_zeros(0, problem.dimension)
        self.promise = 0.0
        self.correction = Correction(problem.dimension)
        self.multipliers = self.bends = self.foreseen = self.start.new_zeros(0)

    def at(self, place: Tensor) -> Tensor:
        """The design (..., d) of coordinates of the archive, inside the box."""
        points = (self.start + self.scale * place).to(self.problem.start)
        return torch.clamp(points, self.problem.lower, self.problem.upper)

    def points(self, center: Tensor) -> Tensor:
        """The candidates (n, d) as designs."""
        return self.at(center + self.steps)

    def make(
        self,
        kind: str,
        slopes: Linearization,
        radius: float,
        factors: tuple[float, ...],
        constraints: Tensor,
        archive: Archive,
    ) -> None:
        """Candidates of an attack at factors of its radius.

        constraints: true ones (m,) at the point of the slopes.
        """
        if kind == "fgsm":
            steps = self._signs(slopes, radius, constraints, archive)
        else:
            steps = torch.stack(
                [
                    self._model(kind, slopes, factor * radius, constraints, archive.equalities)
                    for factor in factors
                ]
            )
        self.put(steps)

    def put(self, steps: Tensor) -> None:
        """Take steps (n, d), each once and none that leads nowhere."""
        kept: list[Tensor] = []
        for step in steps:
            size = float(step.abs().max())
            if size > 0 and all(float((step - other).abs().max()) > SAME * size for other in kept):
                kept.append(step)
        self.steps = torch.stack(kept) if kept else steps[:0]

    def _room(self, slopes: Linearization) -> tuple[Tensor, Tensor]:
        return self.lower - slopes.point, self.upper - slopes.point

    def _model(
        self, kind: str, slopes: Linearization, radius: float, constraints: Tensor, equalities: int
    ) -> Tensor:
        gradient = slopes.gradient
        norm = max(float(gradient.norm()), torch.finfo(gradient.dtype).tiny)
        solve: Solve = steepest(radius / norm)
        if kind == "gauss-newton":
            solve = damped_newton(slopes.curvature, norm / radius)
        elif kind == "quasi-newton" and len(self.history):
            solve = quasi_newton(self.history)
        room, jacobian = self._room(slopes), slopes.jacobian
        if kind == "quasi-newton":
            self.promise = self._promised(solve, slopes, constraints)

        def step(near: Tensor) -> tuple[Tensor, Tensor]:
            return model_step(gradient, solve, room, radius, near, jacobian, equalities)

        found, self.multipliers = step(constraints)
        if len(self.bends) == len(constraints) > 0:
            found, self.multipliers = step(constraints + self.bends * float(found.dot(found)))
        return found

    def _promised(self, solve: Solve, slopes: Linearization, constraints: Tensor) -> float:
        if len(constraints) or not len(self.history):
            return 0.0
        room, none = self._room(slopes), (constraints, slopes.jacobian)
        step, _ = model_step(slopes.gradient, solve, room, math.inf, *none)
        return -0.5 * float(slopes.gradient.dot(step))

    def _signs(
        self, slopes: Linearization, radius: float, constraints: Tensor, archive: Archive
    ) -> Tensor:
        """Sign steps for the value; where constraints are violated for these first."""
        factors = torch.tensor(FACTORS, dtype=torch.float64)
        self._model("l2", slopes, radius, constraints, archive.equalities)
        toward = slopes.gradient + slopes.jacobian.mT @ self.multipliers
        weights = self._violated(constraints, archive)
        aims = toward.expand(len(factors), -1)
        if bool((weights != 0).any()):
            aims = (slopes.jacobian.mT @ weights).expand(len(factors), -1)
            worst = weights.abs().argsort(descending=True, stable=True)[:WORST]
            single = slopes.jacobian[worst] * weights[worst].sign()[:, None]
            aims = torch.cat((aims, single, toward[None]))
            factors = torch.cat((factors, factors.new_ones(len(single) + 1)))
        room = tuple(side.expand_as(aims) for side in self._room(slopes))
        return sign_step(aims, radius * factors, room)  # pyright: ignore[reportArgumentType]

    def _violated(self, constraints: Tensor, archive: Archive) -> Tensor:
        """What each violated constraint (m,) adds to the slope of the squared excess."""
        if not len(constraints):
            return constraints
        size = torch.from_numpy(archive.scale.copy())
        split = len(constraints) - archive.equalities
        excess = torch.cat((constraints[:split].clamp(min=0.0), constraints[split:]))
        return (excess * (excess.abs() > FEASIBLE)) / size.square()

    def aim(self, slopes: Linearization, constraints: Tensor, archive: Archive) -> Tensor | None:
        """The direction (K,) of an attack in the space of outputs; None for the value alone."""
        if not len(constraints):
            return None
        pull = slopes.pull if len(slopes.pull) else constraints.new_ones(1)
        weights = self._violated(constraints, archive)
        if bool((weights != 0).any()):
            return torch.cat((torch.zeros_like(pull), weights))
        if len(self.multipliers) != len(constraints):
            self.multipliers = torch.zeros_like(constraints)
        return torch.cat((pull, self.multipliers))

    def screen(self, answer: Evaluation, slopes: Linearization, constraints: Tensor) -> None:
        """Keep the candidate that the corrected surrogate likes best.

        Its constraints are moved to the true ones (m,) at the point of the slopes.
        """
        guess = corrected(answer, self.correction.of(self.steps))
        violation = None
        if guess.constraints is not None and len(constraints):
            offset = (constraints - slopes.seen[1:]).to(guess.constraints)
            violation = replace(guess, constraints=guess.constraints + offset).violation
        best = int(ranking(guess.value, violation)[0])
        self.steps = self.steps[best : best + 1]
        parts = [answer.value[best : best + 1]]
        if answer.constraints is not None:
            parts.append(answer.constraints[best])
        self.foreseen = torch.cat(parts).double().cpu()

    def learn_correction(
        self, answer: Evaluation, slopes: Linearization, value: float, constraints: Tensor
    ) -> None:
        """See what the surrogate missed over the step that was tried.

        value, constraints: true ones at the point of the slopes.
        """
        parts = [answer.value[:1].double().cpu()]
        if answer.constraints is not None:
            parts.append(answer.constraints[0].double().cpu())
        base = torch.cat((slopes.seen.new_tensor([value]), constraints))
        true = torch.cat(parts)
        if bool(answer.ok[0]) and len(true) == len(base) == len(self.foreseen):
            self.correction.learn(self.steps[0], true - base - (self.foreseen - slopes.seen))

    def learn_curvature(self, old: Linearization, new: Linearization) -> None:
        """Take the pair of a step and of what it changed in the slopes of the Lagrangian."""
        if old.row < 0 or old.jacobian.shape != new.jacobian.shape:
            return
        change = new.gradient - old.gradient
        if len(self.multipliers) == len(new.jacobian):
            change = change + (new.jacobian - old.jacobian).mT @ self.multipliers
        self.history.take(new.point - old.point, change, ROUND_OFF)

    def learn_bends(
        self, steps: Tensor, answer: Evaluation, slopes: Linearization, constraints: Tensor
    ) -> None:
        """See how far the true constraints have risen above their linearisation."""
        if answer.constraints is None or not bool(answer.ok.any()) or not len(constraints):
            return
        if len(slopes.jacobian) != len(constraints):
            return
        seen = answer.constraints.double().cpu()[answer.ok.cpu()]
        steps = steps[answer.ok.cpu()]
        short = int(steps.norm(dim=1).argmin())
        step = steps[short]
        rise = (seen[short] - constraints - slopes.jacobian @ step) / step.dot(step)
        old = self.bends if len(self.bends) == len(rise) else torch.zeros_like(rise)
        split = len(rise) - answer.equalities
        self.bends = torch.cat(
            (torch.maximum(rise, 0.5 * old)[:split].clamp(min=0.0), rise[split:])
        )

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything."""
        return {
            "own": snapshot(self, self.FIELDS),
            "correction": snapshot(self.correction, Correction.FIELDS),
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same problem."""
        cpu = torch.device("cpu")
        restore(self, self.FIELDS, state["own"], cpu)
        restore(self.correction, Correction.FIELDS, state["correction"], cpu)
        self.history.load_state_dict(state["history"], cpu)
