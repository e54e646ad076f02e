"""Bayesian optimization by BoTorch: for values so dear that seconds of thought are cheap."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count
from optimizers.evaluation import FEASIBLE, Evaluation, Incumbent, Query, ranking
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, seeded, snapshot
from optimizers.surrogate.bayes_model import Kernel, fitted_models, refit, secluded

PATIENCE = 100  # failures in a row before a run gives up
LOCAL = 20  # dimensions above which a trust region is used
FIRST, LARGEST, SMALLEST = 0.8, 1.6, 2.0**-7  # lengths of the trust region
SUCCESSES = 3  # in a row that double it
KEPT = 256  # observations of the model; its price grows with their cube
CHEAP = 8  # cheaper answers in a row at most
REACH = 3.0  # half width where a side is free, in units of the scale
BAND = 0.01  # half width of an equality, in units of its deviation
SAMPLES, STARTS, STEPS = 512, 8, 100  # of the search for the acquisition's maximum


@dataclass(frozen=True)
class Bayes:
    """A few hundred evaluations that take minutes each, at most about 20 parameters.

    kernel: "matern52", or "infinite-width-network" for values that are not stationary.
    design: points of the first Sobol design, 2 (d + 1) by default; the start is one of them.
    trust_region: None takes one above 20 dimensions.

    A Gaussian process with a lengthscale for each parameter (Hvarfner, Hellsten and Nardi, 2024) is
    fitted by BoTorch, and the point with the largest logarithm of

        E max(best - f(x), 0) prod_j P(g_j(x) <= 0)

    is asked (Ament, Daulton, Eriksson, Balandat and Bakshy, 2023; Gardner et al., 2014). The trust
    region is that of TuRBO (Eriksson et al., 2019): length 0.8 of the box, doubled after 3
    successes, halved after d failures, begun anew below 2^-7. With cheaper models the fidelity is
    one more input of the process; at the chosen point that model is asked which lowers the variance
    of the true value most per price. Ours: a failed point counts as the worst value seen, once its
    three neighbours failed too; where a side is free the region ends 3 scales from the start and
    doubles when the best comes near its end; the 256 observations nearest to the best are kept in
    the model.
    Needs the extra `bayes`.
    """

    kernel: Kernel = "matern52"
    design: int | None = None
    trust_region: bool | None = None

    name: ClassVar[str] = "bayes"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.kernel not in ("matern52", "infinite-width-network"):
            raise ValueError(
                f'kernel must be "matern52" or "infinite-width-network", got {self.kernel!r}'
            )
        if self.design is not None:
            check_count("design", self.design, least=2)
        if self.trust_region not in (None, True, False):
            raise ValueError(f"trust_region must be True, False or None, got {self.trust_region!r}")

    def start(self, problem: Problem, seed: int = 0) -> RunningBayes:
        """A running search for this problem."""
        if importlib.util.find_spec("botorch") is None:
            raise ImportError(
                "method 'bayes' needs the package botorch: pip install geomopt[bayes]"
            )
        return RunningBayes(self, problem, seed)


class RunningBayes:
    """The search between ask and tell; see `Bayes`.

    points: (N, d), what was told since a restart, in float64; outputs: (N, 1 + m).
    succeeded: (N,). levels: (N,), the fidelity of each answer, 1 for the true model.
    hyperparameters: of each part of the model. fitted: points at the last fit.
    design: (n, d), first points still to be asked. low, high: (d,), the region.
    """

    FIELDS = (
        "points", "outputs", "succeeded", "levels", "hyperparameters", "fitted", "design",
        "low", "high", "length", "successes", "setbacks", "cheap", "failures", "asked", "level",
        "done", "best", "generator", "_events",
    )  # fmt: skip

    def __init__(self, settings: Bayes, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        d, start, scale = problem.dimension, problem.start.double(), problem.scale.double()
        lower, upper = problem.lower.double(), problem.upper.double()
        self.low = torch.where(lower.isfinite(), lower, start - REACH * scale)
        self.high = torch.where(upper.isfinite(), upper, start + REACH * scale)
        self.points = start.new_zeros(0, d)
        self.outputs = start.new_zeros(0, 0)
        self.succeeded = torch.zeros(0, dtype=torch.bool, device=start.device)
        self.levels = start.new_zeros(0)
        self.hyperparameters: list[list[Tensor]] = []
        self.fitted, self.length, self.successes, self.setbacks = 0, FIRST, 0, 0
        self.cheap, self.failures = 0, 0
        self.asked, self.level = self.points, 1.0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        given = settings.trust_region
        self._local = d > LOCAL if given is None else given
        self._count = settings.design or 2 * (d + 1)
        self.design = self._sobol(self._count)
        self.design[0] = start

    def _seed(self) -> int:
        device = self.problem.device
        return int(torch.randint(2**31 - 1, (1,), generator=self.generator, device=device))

    def _sobol(self, count: int) -> Tensor:
        """Points (count, d) that fill the region evenly."""
        engine = torch.quasirandom.SobolEngine(self.problem.dimension, True, seed=self._seed())
        unit = engine.draw(count, dtype=torch.float64).to(self.low.device)
        return self.low + unit * (self.high - self.low)

    def ask(self, remaining: float = math.inf) -> Query:
        """The first design in one batch, then one point a query."""
        if not len(self.asked):
            self.asked, self.level = self._plan()
            fits = remaining >= len(self.asked)
            self.asked = self.asked if fits else self.asked[: max(1, int(remaining))]
            self.design = self.design[len(self.asked) :]
        fidelity = None if self.level == 1.0 else self.level
        points = self.asked.to(self.problem.dtype)
        tag = "design" if len(self.points) < self._count else "acquisition"
        points = points.clamp(self.problem.lower, self.problem.upper)
        return Query(points, fidelity=fidelity, tag=tag)

    def _plan(self) -> tuple[Tensor, float]:
        if len(self.design):
            return self.design, 1.0
        if int((self.succeeded & (self.levels == 1.0)).sum()) < 2:
            self.design = self._sobol(1)
            return self.design, 1.0
        if self._local and self.length < SMALLEST:
            self._restart()
            return self.design, 1.0
        with secluded(self._seed(), self.problem.device):
            return self._acquired()

    def _restart(self) -> None:
        self._events.append("restart, the trust region has converged")
        self.points, self.outputs = self.points[:0], self.outputs[:0]
        self.succeeded, self.levels = self.succeeded[:0], self.levels[:0]
        self.hyperparameters, self.fitted = [], 0
        self.length, self.successes, self.setbacks = FIRST, 0, 0
        self.design = self._sobol(self._count)

    def _acquired(self) -> tuple[Tensor, float]:
        """The point (1, d) with the largest acquisition, and the fidelity to ask it at."""
        from botorch.acquisition.analytic import (
            LogConstrainedExpectedImprovement,
            LogExpectedImprovement,
        )
        from botorch.optim import optimize_acqf

        unit, outputs, levels, centre = self._data()
        several = bool(self.problem.models)
        inputs = torch.cat((unit, levels[:, None]), 1) if several else unit
        model, self.hyperparameters = fitted_models(
            inputs, outputs, self.settings.kernel, several, self.hyperparameters
        )
        if len(self.points) >= min(1.1 * self.fitted, self.fitted + 20):
            self.hyperparameters, self.fitted = refit(model), len(self.points)
        model.eval()
        true = levels == 1.0
        with torch.no_grad():
            means = model.models[0].posterior(inputs[true]).mean[:, 0]
        wrong = self._violation(outputs[true])
        feasible = wrong <= FEASIBLE
        goal = means[feasible].max() if bool(feasible.any()) else means.min()
        if outputs.shape[1] == 1:
            acquisition = LogExpectedImprovement(model.models[0], goal)
        else:
            limits = self._limits(outputs)
            acquisition = LogConstrainedExpectedImprovement(model, goal, 0, limits)
        bounds = self._bounds(centre)
        fixed = {unit.shape[1]: 1.0} if several else None
        if several:
            bounds = torch.cat((bounds, torch.ones_like(bounds[:, :1])), 1)
        found, _ = optimize_acqf(
            acquisition, bounds, q=1, num_restarts=STARTS, raw_samples=SAMPLES,
            fixed_features=fixed,
            options={"maxiter": STEPS, "sample_around_best": outputs.shape[1] == 1},
        )  # fmt: skip
        found = found.detach()
        level = self._cheapest(model.models[0], found) if several else 1.0
        point = self.low + found[:, : unit.shape[1]] * (self.high - self.low)
        return point, level

    def _data(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Inputs in the unit cube, outputs, fidelities, and the best true point of them (d,)."""
        true = self.succeeded & (self.levels == 1.0)
        rows = true.nonzero()[:, 0]
        order = ranking(self.outputs[rows, 0], self._violation(self.outputs[rows]))
        best = rows[order[0]]
        self._widen(self.points[best])
        unit = (self.points - self.low) / (self.high - self.low)
        outputs = self.outputs.clone()
        outputs[~self.succeeded] = self.outputs[self.succeeded].amax(0)
        apart = torch.cdist(unit, unit).fill_diagonal_(math.inf)
        nearest = apart.argsort(dim=1, stable=True)[:, :3]
        told = self.succeeded | ~self.succeeded[nearest].any(1)  # a few may be bad luck
        away = (unit - unit[best]).norm(dim=1).masked_fill(~told, math.inf)
        near = away.argsort(stable=True)[: min(KEPT, int(told.sum()))]
        return unit[near], outputs[near], self.levels[near], unit[best]

    def _widen(self, best: Tensor) -> None:
        """Double the region on a free side where the best point comes near its end."""
        width = self.high - self.low
        low = self.problem.lower.isinf() & (best - self.low < 0.1 * width)
        high = self.problem.upper.isinf() & (self.high - best < 0.1 * width)
        self.low, self.high = self.low - width * low, self.high + width * high

    def _bounds(self, centre: Tensor) -> Tensor:
        """The trust region in the unit cube, (2, d); longer where the value changes slowly."""
        if not self._local:
            return torch.stack((torch.zeros_like(centre), torch.ones_like(centre)))
        weights = torch.ones_like(centre)
        for numbers in self.hyperparameters[0]:
            if numbers.numel() == len(centre):
                weights = numbers.reshape(-1).to(centre).abs()
        weights = weights / weights.log().mean().exp()
        half = 0.5 * self.length * weights.clamp(0.2, 5.0)
        return torch.stack(((centre - half).clamp(0.0, 1.0), (centre + half).clamp(0.0, 1.0)))

    def _limits(self, outputs: Tensor) -> dict[int, tuple[float | None, float | None]]:
        last = outputs.shape[1] - self.problem.equalities
        band = BAND * outputs.std(0)
        return {
            j: (None, 0.0) if j < last else (-float(band[j]), float(band[j]))
            for j in range(1, outputs.shape[1])
        }

    def _violation(self, outputs: Tensor) -> Tensor:
        last = outputs.shape[1] - self.problem.equalities
        return outputs[:, 1:last].clamp(min=0.0).sum(1) + outputs[:, last:].abs().sum(1)

    def _cheapest(self, model: Any, found: Tensor) -> float:
        """The fidelity whose answer at the point lowers the true value's variance most per price.

        cov(f, f_s)^2 / (var(f_s) + noise) / price.
        """
        if self.cheap >= CHEAP:
            return 1.0
        levels = [*(self.problem.models or {}), 1.0]
        rows = found.repeat(len(levels), 1)
        rows[:, -1] = torch.tensor(levels, dtype=found.dtype)
        with torch.no_grad():
            covariance = model.posterior(rows).distribution.covariance_matrix
        own = covariance.diagonal() + 1e-6 * covariance.diagonal().max().clamp(min=1e-300)
        prices = [self.problem.cost(fidelity=level) for level in levels[:-1]] + [1.0]
        gains = covariance[:, -1].square() / own / torch.tensor(prices, dtype=found.dtype)
        return float(levels[int(gains.argmax())])

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Learn the answers, and adapt the trust region."""
        check_answer(query, evaluation, len(self.asked))
        ok, true = evaluation.ok, self.level == 1.0
        columns = [evaluation.value[:, None]]
        if evaluation.constraints is not None:
            columns.append(evaluation.constraints)
        outputs = torch.cat(columns, 1).double()
        known = len(self.points)
        self.points = torch.cat((self.points, self.asked))
        self.outputs = torch.cat((self.outputs, outputs)) if known else outputs
        self.succeeded = torch.cat((self.succeeded, ok))
        self.levels = torch.cat((self.levels, self.levels.new_full((len(ok),), self.level)))
        self.asked = self.asked[:0]
        better = self.best.offer(query.points, evaluation) if true else False
        self.cheap = 0 if true else self.cheap + 1
        self.failures = 0 if bool(ok.any()) else self.failures + 1
        if self.failures >= PATIENCE:
            some = self.best.value < math.inf
            self.done = f"converged: {PATIENCE} failures" if some else "all evaluations failed"
        if self._local and true and known >= self._count:
            self._adapt(better)

    def _adapt(self, better: bool) -> None:
        self.successes = self.successes + 1 if better else 0
        self.setbacks = 0 if better else self.setbacks + 1
        if self.successes >= SUCCESSES:
            self.length, self.successes = min(LARGEST, 2 * self.length), 0
        elif self.setbacks >= max(4, self.problem.dimension):
            self.length, self.setbacks = 0.5 * self.length, 0

    @property
    def rows(self) -> int:
        """How many points a full query holds after the first design."""
        return 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; the best stays."""
        best = self.best.x.double()
        self._restart()
        self._events, self.done, self.asked = [], None, self.asked[:0]
        self.design[0] = best
        self.best = Incumbent(self.best.x)

    def events(self) -> tuple[str, ...]:
        """The restarts since the last call."""
        happened, self._events = tuple(self._events), []
        return happened

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state, self.problem.device)
