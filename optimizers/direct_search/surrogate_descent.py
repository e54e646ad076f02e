"""The attack that a surrogate makes possible: descend on it, corrected, within a radius."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optimizers.constraints import AugmentedLagrangian
from optimizers.evaluation import Evaluation, Query
from optimizers.problem import Problem
from optimizers.state import restore, snapshot

PRICE = 1.0  # evaluations that one descent may take
FEWEST, MOST = 3, 25  # gradients of a descent


class Correction:
    """What the slopes of a surrogate lack: e in f(x) ~ s(x) + f(b) - s(b) + e (x - b).

    slopes: (1 + m, d) of the value and the constraints, in units of the scales; empty at first.

        e <- e + (miss - e d) d^T / |d|^2,   miss = f(b + d) - f(b) - (s(b + d) - s(b))

    Broyden, 1965, on the difference of two models; with it the corrected surrogate has the values
    of the true one at both points, as trust-region methods with cheap models ask for (Alexandrov,
    Dennis, Lewis and Torczon, 1998).
    """

    FIELDS = ("slopes",)

    def __init__(self, dimension: int) -> None:
        self.slopes = torch.zeros(0, dimension, dtype=torch.float64)

    def learn(self, step: Tensor, miss: Tensor) -> None:
        """Take the miss (1 + m,) of the surrogate over a step (d,)."""
        if len(self.slopes) != len(miss):
            self.slopes = step.new_zeros(len(miss), len(step))
        if bool(miss.isfinite().all()):
            self.slopes = self.slopes + torch.outer(miss - self.slopes @ step, step) / step.dot(
                step
            )

    def of(self, steps: Tensor) -> Tensor:
        """What to add (n, 1 + m) at steps (n, d); (n, 0) before anything was learnt."""
        return steps @ self.slopes.mT


def corrected(answer: Evaluation, added: Tensor) -> Evaluation:
    """The answer with its values and constraints moved by (n, 1 + m)."""
    if not added.shape[1]:
        return answer
    added = added.to(answer.value)
    constraints = answer.constraints
    if constraints is not None:
        constraints = constraints + added[:, 1:]
    return replace(answer, value=answer.value + added[:, 0], constraints=constraints)


class SurrogateDescent:
    """L-BFGS on a corrected surrogate within the l_inf ball and the box.

    step: (1, d), to the best point so far. done: whether the gradients that it may ask are used up.
    offset: what separates true constraints (m,) from the surrogate's at the start.
    """

    FIELDS = ("rounds", "done", "offset")

    def __init__(
        self,
        problem: Problem,
        point: Tensor,
        radius: float,
        fidelity: float | None,
        correction: Correction,
        offset: Tensor,
    ) -> None:
        self.problem, self.fidelity, self.correction = problem, fidelity, correction
        self.start, self.offset = point, offset
        size = max(radius, 64 * torch.finfo(point.dtype).eps) * problem.scale
        size = torch.maximum(size, 4 * torch.finfo(point.dtype).eps * point.abs())
        lower = torch.maximum(point - size, problem.lower)
        upper = torch.minimum(point + size, problem.upper)
        ball = Problem.box(lower, upper, point, dtype=problem.dtype, device=problem.device)
        self.inner = AugmentedLagrangian("lbfgs").start(ball)
        self.rounds, self.done = 0, False
        self._most = min(max(int(PRICE / problem.cost(1, fidelity)), FEWEST), MOST)

    @property
    def step(self) -> Tensor:
        """Where the surrogate is lowest so far, (1, d) from the start in units of the scales."""
        return ((self.inner.best.x - self.start) / self.problem.scale)[None]

    def ask(self) -> Query:
        """The next point (1, d) with its gradient."""
        return Query(self.inner.ask().points, 1, self.fidelity, tag="attack: descent")

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Go on with the corrected answer."""
        steps = ((query.points - self.start) / self.problem.scale).double().cpu()
        answer = corrected(evaluation, self.correction.of(steps))
        slopes = (self.correction.slopes / self.problem.scale.double().cpu()).to(query.points)
        moved: dict[str, Tensor] = {}
        if len(slopes) and answer.gradient is not None:
            moved["gradient"] = answer.gradient + slopes[0]
        if answer.constraints is not None and len(self.offset):
            moved["constraints"] = answer.constraints + self.offset.to(query.points)
            if len(slopes) and answer.constraint_gradient is not None:
                moved["constraint_gradient"] = answer.constraint_gradient + slopes[1:]
        if moved:
            answer = replace(answer, **moved)
        self.inner.tell(Query(query.points, 1), answer)
        self.rounds += 1
        self.done = self.rounds >= self._most or self.inner.done is not None

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the attack needs to go on."""
        return {"own": snapshot(self, self.FIELDS), "inner": self.inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same start, radius and correction."""
        restore(self, self.FIELDS, state["own"], self.problem.device)
        self.inner.load_state_dict(state["inner"])
