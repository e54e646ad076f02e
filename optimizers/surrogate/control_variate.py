"""A cheap model as a control variate: what is known of it, and how far it has earned belief."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.evaluation import Evaluation, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot
from optimizers.surrogate.model_step import quadratic

SHARE = 0.25  # of what true values have cost that questions to the model may cost
ADVANCE = 2.0  # evaluations that they may cost beside, so that a search can begin with them
STALE = 0.1  # share of a change of the gradient, not foretold, from which curvature is asked anew
FRESH = 0.5  # the same, up to which the curvature is taken for known
MEMORY = 0.7  # of the record of foretold values
CREDIT, EARNED = -0.5, -0.2  # the record at first, which one bad answer spoils, and the one needed
DIFFERENCE = 0.01  # of the trust region, between the values that stand in for a gradient


def coefficient(values: Tensor, guesses: Tensor) -> float:
    """How much of a model's change to expect of the true values, 0 where it tells nothing.

        rho = cov(f, c) / var(c) max(0, 1 - (1 - r^2) (n - 1) / (n - 2)),  r = corr(f, c)

    values: (n,), f. guesses: (n,), c at the same points; entries that are not finite are left out.
    The first factor is the least-squares slope, the coefficient of least variance of f - rho c; the
    second, the adjusted coefficient of determination, is 0 for what chance alone would explain.
    """
    known = guesses.isfinite()
    count = int(known.sum())
    if count < 3:
        return 0.0
    true, cheap = values[known], guesses[known]
    true, cheap = true - true.mean(), cheap - cheap.mean()
    together, own = float(true @ cheap), float(cheap @ cheap)
    both = own * float(true @ true)
    if not 0 < both < math.inf:
        return 0.0
    unexplained = max(0.0, 1 - together**2 / both) * (count - 1) / (count - 2)
    return together / own * max(0.0, 1 - unexplained)


class ControlVariate:
    """The questions to a problem's cheap model, and a quadratic of its answers.

    fidelity: the cheapest model with gradients, else the cheapest.
    at, slope, bend: (d,), (d,), (d, d), where its gradient was asked last, the gradient, and the
        Hessian, corrected between answers by the least symmetric change that explains the last two
        gradients (Powell, 1970).
    pending: (n, d), points of the question that waits for an answer; kind: "values" or "slope".
    purse: evaluations that questions may cost now. live: whether the last question for a slope was
        answered. record: mean log of the error of the values foretold with the model over that
        without it.
    """

    FIELDS = (
        "at", "slope", "bend", "visited", "pending", "kind", "purse", "missed", "live", "record",
    )  # fmt: skip

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        models = problem.models
        cheapest = min(models, key=lambda key: (models[key].cost, key))
        self.fidelity = cheapest if problem.surrogate is None else problem.surrogate
        self.differentiable = models[self.fidelity].differentiable
        self._scale = problem.scale.double()
        d = problem.dimension
        self.at = self.slope = self._scale.new_zeros(d)
        self.visited = self._scale.new_full((d,), math.nan)
        self.bend = self._scale.new_zeros(d, d)
        self.pending, self.kind = self._scale.new_zeros(0, d), ""
        self.purse, self.missed, self.live, self.record = ADVANCE, math.inf, False, CREDIT

    def ask(
        self, points: Tensor, guesses: Tensor, centre: Tensor, radius: float, remaining: float
    ) -> Query | None:
        """The next question, None where there is none or it is too dear.

        points: (N, d) in units of the scales, guesses: (N,), nan where the model was not asked yet.
        """
        price = self.problem.cost(0, self.fidelity)
        means = min(self.purse, remaining - 1)  # an evaluation must be left for what is learnt
        if not len(self.pending) and not torch.equal(centre, self.visited):
            self._plan_slope(centre, radius, means)
        if not len(self.pending):
            unknown = points[guesses.isnan()]
            if len(unknown) and price * len(unknown) <= means:
                self.pending, self.kind = unknown, "values"
        if not len(self.pending):
            return None
        designs = (self.pending * self._scale).to(self.problem.dtype)
        designs = designs.clamp(self.problem.lower, self.problem.upper)
        order = {"values": 0, "differences": 0, "slope": 1, "curvature": 2}[self.kind]
        return Query(designs, order=order, fidelity=self.fidelity, tag="model")

    def _plan_slope(self, centre: Tensor, radius: float, means: float) -> None:
        """Ask for the gradient at a centre, with the curvature where that changes much."""
        if self.differentiable:
            if self.problem.cost(2, self.fidelity) <= means and self.missed > STALE:
                self.pending, self.kind = centre[None], "curvature"
            elif self.problem.cost(1, self.fidelity) <= means:
                self.pending, self.kind = centre[None], "slope"
        elif (len(centre) + 1) * self.problem.cost(0, self.fidelity) <= min(means, 1.0):
            size = max(DIFFERENCE * radius, torch.finfo(self.problem.dtype).eps ** (1 / 3))
            beyond = centre + size > self.problem.upper / self._scale
            steps = torch.where(beyond, -size, size)
            bounds = self.problem.lower / self._scale, self.problem.upper / self._scale
            beside = (centre + torch.diag(steps)).clamp(*bounds)
            self.pending = torch.cat((centre[None], beside))
            self.kind = "differences"

    def tell(self, query: Query, evaluation: Evaluation, guesses: Tensor) -> Tensor:
        """Take the answer; the guesses (N,) with what it adds to them."""
        check_answer(query, evaluation, len(self.pending))
        points, kind = self.pending, self.kind
        self.pending, self.kind = points[:0], ""
        self.purse -= len(points) * self.problem.cost(query.order, self.fidelity)
        values = evaluation.value.double()
        if kind == "values":
            guesses = guesses.clone()
            guesses[guesses.isnan()] = values  # +inf where it failed: not to be asked again
            return guesses
        self.visited, self.live = points[0], bool(evaluation.ok.all())
        if not self.live:
            return guesses
        if kind == "differences":
            steps = (points[1:] - points[0]).diagonal()
            slope = (values[1:] - values[0]) / torch.where(steps == 0, 1.0, steps)
        else:
            assert evaluation.gradient is not None
            slope = evaluation.gradient[0].double() * self._scale
        if kind == "curvature":
            assert evaluation.curvature is not None
            self.bend = self._scale[:, None] * evaluation.curvature[0].double() * self._scale
            self.missed = 0.0
        else:
            self._correct(points[0] - self.at, slope - self.slope)
        self.at, self.slope = points[0], slope
        return guesses

    def _correct(self, step: Tensor, change: Tensor) -> None:
        """H <- H + (r s^T + s r^T) / s^T s - (r^T s) s s^T / (s^T s)^2,  r = change - H s."""
        length = float(step @ step)
        if not bool(self.slope.any()) or length == 0:
            return
        wrong = change - self.bend @ step
        self.missed = max(self.missed, float(wrong.norm() / change.norm().clamp(min=1e-300)))
        both = torch.outer(wrong, step) / length
        self.bend = self.bend + both + both.T
        self.bend = self.bend - float(wrong @ step) / length**2 * torch.outer(step, step)

    @property
    def downhill(self) -> Tensor | None:
        """The unit vector (d,) along which the model falls most where its slope was asked last."""
        known = self.live and bool(self.slope.any())
        return -self.slope / self.slope.norm() if known else None

    def share(
        self, steps: Tensor, values: Tensor, guesses: Tensor, centre: Tensor, radius: float
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """What the model adds to a prior mean over steps (n, d), in units of the radius.

        values, guesses: (n,), of which the first stand nearest to the centre.
        Returns rho times the changes (n,) from the centre to the steps, and the slope (d,) and
        Hessian (d, d) of rho times the model there; None while it has nothing to say.
        """
        weight = coefficient(values, guesses) if self.live else 0.0
        if not weight:
            return None
        slope = weight * radius * (self.slope + self.bend @ (centre - self.at))
        bend = weight * radius**2 * self.bend
        changes = quadratic(steps, slope[None], bend[None])[:, 0]
        if self.missed <= FRESH and bool(guesses[0].isfinite()):
            # then the process has to learn nothing but the difference of the two functions, and
            # else what the quadratic lacks as well
            changes = torch.where(guesses.isfinite(), weight * (guesses - guesses[0]), changes)
        return changes, slope, bend

    def earn(self, foretold: Tensor, evaluation: Evaluation) -> None:
        """Compare B true values with what was foretold, (2, B) without and with the model."""
        self.purse += SHARE * len(evaluation.value)
        if not len(foretold) or not bool(evaluation.ok.any()):
            return
        foretold = foretold[:, : len(evaluation.ok)][:, evaluation.ok]
        values = evaluation.value[evaluation.ok].double()
        errors = (foretold - values).abs() + 1e-12 * values.abs() + 1e-300
        ratio = float((errors[1] / errors[0]).log().clamp(-2.0, 2.0).mean())
        self.record = MEMORY * self.record + (1 - MEMORY) * ratio

    @property
    def believed(self) -> bool:
        """Whether true values were foretold clearly better with the model than without."""
        return self.record < EARNED

    def forget(self) -> None:
        """Begin anew: another objective, or another place."""
        self.pending, self.kind, self.live, self.record = self.pending[:0], "", False, CREDIT
        self.visited = torch.full_like(self.visited, math.nan)
        self.missed, self.slope = math.inf, torch.zeros_like(self.slope)
        self.bend = torch.zeros_like(self.bend)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything that is known."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state for the same problem."""
        restore(self, self.FIELDS, state, self.problem.device)
