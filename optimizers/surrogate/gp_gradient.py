"""Gradients from past values: a Gaussian process that learns the slope it steps along."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, seeded, snapshot
from optimizers.surrogate.control_variate import ControlVariate
from optimizers.surrogate.gaussian_process import condition, fit
from optimizers.surrogate.model_step import LocalModel, learn, lowest_in_box, quadratic

PATIENCE = 100  # failures in a row before a run gives up
REACH = 3.0  # lengthscale over the middle distance of the window; longer loses digits
SMALLEST = 1e-8  # radius at which a search has converged, in units of the scales
LARGEST = 1.0
KEPT = 2000  # observations that are remembered
DOUBTS = 4  # steps rejected in a row after which the centre is asked again, to see the noise
ROUND_OFF = 1e3  # units of the last place by which two answers of one point may differ


@dataclass(frozen=True)
class GpGradient:
    """Values only, smooth functions, 10 <= d <= 300, each evaluation dear: gradients from the past.

    window: nearest observations that the model sees; 3 d between 100 and 300 by default.
    radius: first half width of the trust region, in units of each parameter's scale.
    uncertainty: gradient variance over squared gradient up to which steps are taken on the model.
    batch: points of a query that improves the gradient; d / 50 by default.
    kernel: "rbf" or "matern52".
    restarts: how often a search that has converged starts anew from a random point.
    use_models: let a cheap model of the problem foretell, as far as it has earned it.

    With observations X, y, the prior mean q(x) = (x - c)^T H (x - c) / 2 and z = y - q(X):

        mu'(x) = H (x - c) + d_x k(x, X) (K + s I)^-1 (z - level)
        V'(x) = d_x d_x' k - d_x k(x, X) (K + s I)^-1 d_x' k(X, x)
        x <- argmin mu in the trust region,   H <- H + Hessian of the posterior mean of z

    While tr V' <= uncertainty |mu'|^2 the minimiser of mu is followed through many virtual steps
    for one evaluation. Else, at first or after a failed step, the eigenvectors of V' with the
    largest variance are asked.

    Beside a cheap model e of the problem, with slope g and Hessian B at the centre c, a second
    process runs whose prior mean has a control variate, rho (g (x - c) + (x - c)^T B (x - c) / 2):

        mu'(x) = rho e'(x) + H (x - c) + d_x k(x, X) (K + s I)^-1 (z - level)
        rho = cov(f, e) / var(e) in the window, shrunk to 0 as the correlation is lost

    It is followed while it foretells new values clearly better than the one without. Questions to e
    cost at most a quarter of what true values cost, and two evaluations.

    Shu, Dai, Sng, Verma, Jaillet and Low, Zeroth-order optimization with trajectory-informed
    derivative estimation, 2023, section 3. Ours: the trust region; H, which hands the curvature on
    when points leave the window, as the models of least change in NEWUOA do (Powell, 2004);
    variances by eigenvectors instead of random candidates; noise found by likelihood; constraints
    as further outputs of the same process, with the merit f + penalty * violation; the control
    variate, which in FZooS (Shu et al., Federated zeroth-order optimization using
    trajectory-informed surrogate gradients, 2023) stands between the clients of one server.
    """

    window: int | None = None
    radius: float = 0.1
    uncertainty: float = 1.0
    batch: int | None = None
    kernel: Literal["rbf", "matern52"] = "rbf"
    restarts: int = 9
    use_models: bool = True

    name: ClassVar[str] = "gp-gradient"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.window is not None:
            check_count("window", self.window, least=4)
        check_number("radius", self.radius, above=0)
        check_number("uncertainty", self.uncertainty, above=0)
        if self.batch is not None:
            check_count("batch", self.batch)
        if self.kernel not in ("rbf", "matern52"):
            raise ValueError(f'kernel must be "rbf" or "matern52", got {self.kernel!r}')
        check_count("restarts", self.restarts, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningGpGradient:
        """A running search for this problem."""
        return RunningGpGradient(self, problem, seed)


class RunningGpGradient:
    """The search between ask and tell; see `GpGradient`.

    Points are in units of the scales, in float64.
    points: (N, d), outputs: (N, 1 + m), values and constraints of what succeeded since a restart.
    guesses: (N,), the cheap model at the points: nan where not asked, +inf where it failed.
    centre: (d,), reached: (1 + m,), its outputs. curvature: (1 + m, d, d), the matrices H, and
    remainder those of the process with the cheap model.
    foretold: (2, B), values of the points asked without and with that model, (0,) for none.
    promised: decrease of the merit that the model promises for a step, nan while it asks for slope.
    noisy: whether one point has answered differently. deviation: of the noise of the value.
    """

    FIELDS = (
        "points", "outputs", "guesses", "centre", "reached", "curvature", "remainder", "foretold",
        "radius", "promised", "asked", "noisy", "deviation", "fitted", "probed", "penalty",
        "rejected", "searches", "failures", "restarted", "tag", "done", "best", "generator",
        "_events",
    )  # fmt: skip

    def __init__(self, settings: GpGradient, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        d = problem.dimension
        self._scale = problem.scale.double()
        self._lower, self._upper = problem.lower / self._scale, problem.upper / self._scale
        self._window = settings.window or min(max(3 * d, 100), 300)
        self._batch = settings.batch or max(1, d // 50)
        self.centre = (problem.start / self._scale).double()
        self.points = self.asked = self.centre.new_zeros(0, d)
        self.outputs = self.reached = self.guesses = self.foretold = self.centre.new_zeros(0)
        self.curvature = self.remainder = self.centre.new_zeros(0, d, d)
        self.variate = ControlVariate(problem) if problem.models and settings.use_models else None
        self.radius, self.promised = settings.radius, math.nan
        self.noisy, self.deviation, self.fitted, self.probed = False, 0.0, 0, 0
        self.penalty, self.tag = 0.0, ""
        self.rejected, self.searches, self.failures, self.restarted = 0, 0, 0, 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []

    def ask(self, remaining: float = math.inf) -> Query:
        """A step, points around the centre that tell most of the gradient, or cheap questions."""
        if self.variate is not None and len(self.points) and not len(self.asked):
            place = self.centre, self.radius
            query = self.variate.ask(self.points, self.guesses, *place, remaining)
            if query is not None:
                return query
        if not len(self.asked):
            self.promised, self.tag, self.foretold = math.nan, "slope", self.centre[:0]
            planned = self._plan()
            self.asked = planned if remaining >= len(planned) else planned[: max(1, int(remaining))]
        points = (self.asked * self._scale).to(self.problem.dtype)
        points = points.clamp(self.problem.lower, self.problem.upper)
        return Query(points, tag=self.tag)

    def _plan(self) -> Tensor:
        """The points to be asked next, (B, d)."""
        if not len(self.points):
            return self._first()[None]
        if self.rejected >= DOUBTS and not self.noisy and len(self.points) > 2 * self.probed:
            self.probed, self.tag = len(self.points), "repeat"
            return self.centre[None]
        if len(self.points) < 3:
            downhill = None if self.variate is None else self.variate.downhill
            if len(self.points) == 1 and downhill is not None:
                return self._around(downhill[None])
            random = torch.randn(
                self.points.shape[1], self._batch, generator=self.generator,
                dtype=torch.float64, device=self.points.device,
            )  # fmt: skip
            return self._around(torch.linalg.qr(random).Q.T)
        for _ in range(60):
            models = self._models()
            believed = self.variate is not None and self.variate.believed
            model = models[-1] if believed else models[0]
            uncertain, slope = model.uncertainty()
            first = len(self.points) <= self.points.shape[1]
            if uncertain > self.settings.uncertainty and (first or self.rejected):
                self.searches += self._batch
                if self.searches >= 3 * self._batch:
                    self.rejected = self.searches = 0
                covariance = model.process.gradient_covariance(torch.zeros_like(self.centre)[None])
                directions = torch.linalg.eigh(covariance[0]).eigenvectors[:, -self._batch :].T
                return self._foretell(models, self._around(directions, slope))
            step, promised = self._step(model)
            self._bend(models)
            if promised > 1e-15 * float(self.reached[0].abs()) + 0.1 * self.deviation:
                self.promised, self.tag = promised, "step"
                point = (self.centre + self.radius * step).clamp(self._lower, self._upper)
                return self._foretell(models, point[None])
            self.radius *= 0.5
            self.rejected, self.searches = self.rejected + 1, 0
            if self._converged():
                break
        return self._anew()

    def _first(self) -> Tensor:
        """The start, or while it fails points ever farther from it, (d,)."""
        if not self.failures:
            return self.centre
        share = min(1.0, 0.01 * 1.2**self.failures)
        sample = self.problem.sample(1, self.generator)[0].double() / self._scale
        return self.centre.lerp(sample, share)

    def _around(self, directions: Tensor, slope: Tensor | None = None) -> Tensor:
        """Points at the trust region's distance along unit vectors (B, d), downhill if known."""
        if slope is not None:
            uphill = directions @ slope > 0
            directions = torch.where(uphill[:, None], -directions, directions)
        step = 0.5 * self.radius * math.sqrt(len(self.centre)) * directions
        forth = self.centre + step
        out = (forth < self._lower) | (forth > self._upper)  # a bound must not flatten the step
        return torch.where(out, self.centre - step, forth).clamp(self._lower, self._upper)

    def _models(self) -> list[LocalModel]:
        """The model over (x - c) / radius, and that with the control variate where there is one."""
        steps = (self.points - self.centre) / self.radius
        distance = steps.norm(dim=1)
        near = distance.argsort(stable=True)[: self._window]
        steps, outputs = steps[near], self.outputs[near]
        d = steps.shape[1]
        spread = max(float(distance[near].median()), math.sqrt(d))
        lengths = steps.new_full((d,), REACH * spread)
        if self.noisy and len(self.points) - self.fitted >= max(10, d // 2):
            self._denoise(steps, outputs[:, :1], lengths)
        slope = outputs.new_zeros(outputs.shape[1], d)
        curvature = self.curvature * self.radius**2
        prior = quadratic(steps, slope, curvature)
        kind = self.settings.kernel, self.deviation
        models = [LocalModel(learn(steps, outputs - prior, lengths, *kind), slope, curvature)]
        known = steps, outputs[:, 0], self.guesses[near]
        share = self.variate and self.variate.share(*known, self.centre, self.radius)
        if share:
            slope, curvature = slope.clone(), self.remainder * self.radius**2
            prior = quadratic(steps, slope, curvature)
            prior[:, 0] += share[0]
            slope[0], curvature[0] = share[1], curvature[0] + share[2]
            process = learn(steps, outputs - prior, lengths, *kind)
            models.append(LocalModel(process, slope, curvature))
        if self.noisy:  # a lucky answer must not hold the centre
            self.reached = models[0].mean(torch.zeros_like(self.centre)[None])[0]
        return models

    def _bend(self, models: list[LocalModel]) -> None:
        """Hand the Hessian of each posterior mean on to its prior mean."""
        origin = torch.zeros_like(self.centre)
        bent = [model.process.mean_hessian(origin) / self.radius**2 for model in models]
        self.curvature = self.curvature + bent[0]
        if len(models) > 1:
            self.remainder = self.remainder + bent[1]

    def _foretell(self, models: list[LocalModel], points: Tensor) -> Tensor:
        """The points, after a note of what both models say of them."""
        if len(models) > 1:
            steps = (points - self.centre) / self.radius
            self.foretold = torch.stack([model.mean(steps)[:, 0] for model in models])
        return points

    def _denoise(self, steps: Tensor, values: Tensor, lengths: Tensor) -> None:
        """The standard deviation of the noise, of the highest posterior density."""
        kernel, self.fitted = self.settings.kernel, len(self.points)
        scales, noise = fit(steps, values, lengths, 1e-2, kernel, shared=True, iterations=8)
        variance = float(condition(steps, values, scales, noise, kernel).variance[0])
        self.deviation = math.sqrt(noise * variance)

    def _step(self, model: LocalModel) -> tuple[Tensor, float]:
        """The model's minimiser (d,) in the trust region, in units of it, and what it promises."""
        lower = ((self._lower - self.centre) / self.radius).clamp(min=-1.0)
        upper = ((self._upper - self.centre) / self.radius).clamp(max=1.0)
        step, self.penalty = lowest_in_box(
            model, lower, upper, self.penalty, self.problem.equalities
        )
        here, there = model(torch.zeros_like(step))[0], model(step)[0]
        return step, float(self._merit(here) - self._merit(there))

    def _merit(self, outputs: Tensor) -> Tensor:
        """f + penalty * violation of outputs (..., 1 + m)."""
        count = outputs.shape[-1] - self.problem.equalities
        wrong = outputs[..., 1:count].clamp(min=0.0).sum(-1) + outputs[..., count:].abs().sum(-1)
        return outputs[..., 0] + self.penalty * wrong

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Learn the answers, move the centre, and adapt the trust region."""
        if query.fidelity is not None and self.variate is not None:
            self.guesses = self.variate.tell(query, evaluation, self.guesses)
            return
        check_answer(query, evaluation, len(self.asked))
        if self.variate is not None:
            self.variate.earn(self.foretold, evaluation)
        self.best.offer(query.points, evaluation)
        self.asked = self.asked[:0]
        ok = evaluation.ok
        self.failures = 0 if bool(ok.any()) else self.failures + 1
        if self.failures >= PATIENCE:
            some = self.best.value < math.inf
            self.done = f"converged: {PATIENCE} failures" if some else "all evaluations failed"
        if bool(ok.any()):
            self._learn(query.points[ok], evaluation)
        elif len(self.points):
            self._judge(-1.0)

    def _learn(self, points: Tensor, evaluation: Evaluation) -> None:
        outputs = evaluation.value[:, None]
        if evaluation.constraints is not None:
            outputs = torch.cat((outputs, evaluation.constraints), 1)
        outputs = outputs[evaluation.ok].double()
        points = points.double() / self._scale
        before = len(self.points)
        self.points = torch.cat((self.points, points))[-KEPT:]
        self.outputs = torch.cat((self.outputs, outputs))[-KEPT:] if before else outputs
        self.guesses = torch.cat((self.guesses, points.new_full((len(points),), math.nan)))[-KEPT:]
        merit = self._merit(outputs)
        row = int(merit.argmin())
        if self.tag == "repeat":
            allowed = ROUND_OFF * torch.finfo(self.problem.dtype).eps * outputs.abs().max()
            self.noisy = bool((outputs[0] - self.reached).abs().max() > allowed)
            if not self.noisy:
                self.points, self.outputs = self.points[:-1], self.outputs[:-1]
                self.guesses = self.guesses[:-1]
            return
        if not before:
            self.centre, self.reached = points[row], outputs[row]
            d = points.shape[1]
            if len(self.curvature) != outputs.shape[1]:
                self.curvature = self.remainder = points.new_zeros(outputs.shape[1], d, d)
            return
        gain = float(self._merit(self.reached) - merit[row])
        if math.isfinite(self.promised):
            slack = 2 * self.deviation
            self._judge((gain + slack) / (self.promised + slack))
        if gain > 0:
            if math.isfinite(self.promised) and self.radius < LARGEST:
                width = float((points[row] - self.centre).abs().max())
                if (gain + 1e-300) / self.promised > 0.7 and width > 0.99 * self.radius:
                    self.radius = min(LARGEST, 1.5 * self.radius)
            self.centre, self.reached = points[row], outputs[row]

    def _judge(self, quality: float) -> None:
        """Shrink the trust region after a step whose gain was a small share of the promise."""
        self.searches = 0
        if quality > 0.1:
            self.rejected = 0
            return
        self.rejected += 1
        self.radius *= 0.7

    def _converged(self) -> bool:
        floor = SMALLEST * max(1.0, float(self.centre.abs().max()))
        return self.radius < floor

    def _anew(self) -> Tensor:
        """Begin again at a random point; (1, d). The last time it ends the run instead."""
        self.restarted += 1
        if self.restarted > self.settings.restarts:
            self.done = "converged: trust region"
            return self.centre[None]
        self._events.append("restart, the trust region has converged")
        self._forget()
        self.centre = self.problem.sample(1, self.generator)[0].double() / self._scale
        return self.centre[None]

    @property
    def rows(self) -> int:
        """How many points a full query holds; a step holds one."""
        return self._batch

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; the centre stays."""
        self._forget()
        if self.best.value < math.inf:
            self.centre = self.best.x.double() / self._scale
        self.best = Incumbent(self.best.x)

    def _forget(self) -> None:
        self.points, self.outputs, self.asked = (self.points[:0],) * 3
        self.reached, self.guesses, self.foretold = (self.reached[:0],) * 3
        self.curvature = self.remainder = self.curvature[:0]
        if self.variate is not None:
            self.variate.forget()
        self.radius, self.rejected, self.searches = self.settings.radius, 0, 0
        self.deviation, self.fitted, self.probed, self.done = 0.0, 0, 0, None

    def events(self) -> tuple[str, ...]:
        """The restarts since the last call."""
        happened, self._events = tuple(self._events), []
        return happened

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        state = snapshot(self, self.FIELDS)
        return state if self.variate is None else {**state, **self.variate.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        own = dict(state)
        if self.variate is not None:
            names = own.keys() & ControlVariate.FIELDS
            self.variate.load_state_dict({name: own.pop(name) for name in names})
        restore(self, self.FIELDS, own, self.problem.device)
