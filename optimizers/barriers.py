"""Barriers around any method: constraints as places where the value is not to be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.constraints import Adapter, inner_settings
from optimizers.evaluation import FEASIBLE, Evaluation, Query
from optimizers.problem import Problem
from optimizers.state import check_answer

PATIENCE = 10  # evaluations for each coordinate until a progressive barrier closes further
CLOSING = 0.25  # what is left of the allowed violation then


@dataclass(frozen=True)
class ExtremeBarrier:
    """Infeasible points count as failed: when constraints tell only yes or no, or must never break.

    method: settings or a name. While no feasible point is known, the violation stands for the
    value. For methods that go by values: a gradient tells nothing of a rim that it must not cross.
    Audet and Dennis, 2006.
    """

    method: Any = "cma"

    name: ClassVar[str] = "extreme-barrier"
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    @property
    def order(self) -> int:
        """That of the method inside."""
        return inner_settings(self.method).order

    def start(self, problem: Problem, seed: int = 0) -> RunningExtremeBarrier:
        """A running search for this problem."""
        return RunningExtremeBarrier(inner_settings(self.method).start(problem, seed), problem)


class RunningExtremeBarrier(Adapter):
    """The adapter between ask and tell; see `ExtremeBarrier`."""

    FIELDS = ("entered", "done", "best")

    def __init__(self, inner: Any, problem: Problem) -> None:
        super().__init__(inner, problem)
        self.entered = False  # whether a feasible point is known

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Tell the method inside the value where it is feasible."""
        check_answer(query, evaluation)
        if not query.is_true or evaluation.constraints is None:
            if query.is_true:
                self.best.offer(query.points, evaluation)
            self.inner.tell(query, evaluation)
            self.done = self.inner.done
            return
        self.best.offer(query.points, evaluation)
        told = _feasible_only(evaluation) if self.entered else of_violation(evaluation)
        self.inner.tell(query, told)
        self.done = self.inner.done
        if not self.entered and self.best.violation <= FEASIBLE:
            self.entered, self.done = True, None
            self.inner.objective_changed()


@dataclass(frozen=True)
class ProgressiveBarrier:
    """A bound on the violation that closes: when the way to the best feasible point leads outside.

    method: settings or a name. Points with a violation v up to the bound are told their value f;
    beyond it they are told the worst such value and more, the farther out the more,

        f_top + s (v - bound)

    with s from the slopes, or the sizes, of f and v. After every 10 (d + 1) evaluations the bound
    becomes a quarter of the violation of the lowest point within it, until that is feasible.

    Audet and Dennis, 2009, where the method inside is always a direct search with two incumbents;
    `DirectSearch` has that barrier built in. Ours works on any single-incumbent method.
    """

    method: Any = "cma"

    name: ClassVar[str] = "progressive-barrier"
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    @property
    def order(self) -> int:
        """That of the method inside."""
        return inner_settings(self.method).order

    def start(self, problem: Problem, seed: int = 0) -> RunningProgressiveBarrier:
        """A running search for this problem."""
        return RunningProgressiveBarrier(inner_settings(self.method).start(problem, seed), problem)


class RunningProgressiveBarrier(Adapter):
    """The adapter between ask and tell; see `ProgressiveBarrier`.

    bound: largest violation that counts as inside. leader, leader_violation: lowest value inside
    and its violation. top: largest value seen. steepness: s of `ProgressiveBarrier`, 0 while
    unknown. waited: evaluations since the bound closed.
    """

    FIELDS = (
        "bound", "leader", "leader_violation", "top", "steepness", "waited", "done", "best",
    )  # fmt: skip

    def __init__(self, inner: Any, problem: Problem) -> None:
        super().__init__(inner, problem)
        self.bound = self.leader = self.leader_violation = math.inf
        self.top, self.steepness, self.waited = -math.inf, 0.0, 0

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Tell the method inside the value within the bound, and close it when it is time."""
        check_answer(query, evaluation)
        if query.is_true:
            self.best.offer(query.points, evaluation)
        if not query.is_true or evaluation.constraints is None:
            self.inner.tell(query, evaluation)
            self.done = self.inner.done
            return
        if bool(evaluation.ok.any()):
            self._measure(evaluation)
        self.inner.tell(query, self._merit(evaluation))
        self.done = self.inner.done
        self.waited += len(evaluation.value)
        patience = PATIENCE * (1 + self.problem.dimension)
        stalled = self.waited >= patience or self.done is not None
        if stalled and math.isfinite(self.leader) and self.bound > FEASIBLE:
            self.bound = max(FEASIBLE, CLOSING * self.leader_violation)
            self.waited, self.leader, self.done = 0, math.inf, None
            self.inner.objective_changed()

    def _measure(self, evaluation: Evaluation) -> None:
        """Note the lowest value inside, the largest of all, and how f and v compare."""
        value, violation = evaluation.value, evaluation.violation
        self.top = max(self.top, float(value[evaluation.ok].max()))
        inside = value.masked_fill(violation > self.bound, math.inf)
        row = int(inside.argmin())
        if float(inside[row]) < self.leader:
            self.leader, self.leader_violation = float(inside[row]), float(violation[row])
        if self.steepness == 0.0:
            outside = evaluation.ok & (violation > 0)
            if bool(outside.any()):
                self.steepness = self._compared(evaluation, outside)

    def _compared(self, evaluation: Evaluation, outside: Tensor) -> float:
        if evaluation.gradient is not None and evaluation.constraint_gradient is not None:
            scale, pull = self.problem.scale, _violation_gradient(evaluation)
            rise = (evaluation.gradient[outside] * scale).norm(dim=1).mean()
            fall = (pull[outside] * scale).norm(dim=1).mean()
        else:
            rise, fall = (
                evaluation.value[outside].abs().mean(),
                evaluation.violation[outside].mean(),
            )
        ratio = float(rise / fall) if fall > 0 else 1.0
        return ratio if 0 < ratio < math.inf else 1.0

    def _merit(self, evaluation: Evaluation) -> Evaluation:
        violation = evaluation.violation
        outside = violation > self.bound
        steep = self.steepness or 1.0
        beyond = self.top + steep * (violation - self.bound)
        value = torch.where(outside, beyond, evaluation.value)
        gradient = evaluation.gradient
        if gradient is not None and evaluation.constraint_gradient is not None:
            pull = steep * _violation_gradient(evaluation)
            gradient = torch.where(outside[:, None], pull, gradient)
        return Evaluation(
            value, gradient=gradient, ok=evaluation.ok,
            outputs=evaluation.outputs, curvature=evaluation.curvature,
        )  # fmt: skip


def _violation_gradient(evaluation: Evaluation) -> Tensor:
    """Gradient (B, d) of the summed violation."""
    assert evaluation.constraints is not None
    assert evaluation.constraint_gradient is not None
    sign = (evaluation.constraints > 0).to(evaluation.value.dtype)
    if evaluation.equalities:
        split = sign.shape[1] - evaluation.equalities
        sign = torch.cat((sign[:, :split], evaluation.constraints[:, split:].sign()), 1)
    sign = sign.masked_fill(~evaluation.ok[:, None], 0.0)
    return (sign[:, None] @ evaluation.constraint_gradient)[:, 0]


def _feasible_only(evaluation: Evaluation) -> Evaluation:
    """The value, with every infeasible row failed."""
    return Evaluation(
        evaluation.value, gradient=evaluation.gradient,
        ok=evaluation.ok & (evaluation.violation <= FEASIBLE),
        outputs=evaluation.outputs, curvature=evaluation.curvature,
    )  # fmt: skip


def of_violation(evaluation: Evaluation) -> Evaluation:
    """The violation in place of the value."""
    gradient = None
    if evaluation.constraint_gradient is not None:
        gradient = _violation_gradient(evaluation)
    return Evaluation(
        evaluation.violation, gradient=gradient, ok=evaluation.ok, curvature=evaluation.curvature
    )
