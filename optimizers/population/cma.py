"""CMA-ES: first choice without gradients, for up to a few hundred parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query, ranking
from optimizers.population.bounds import BentBox
from optimizers.population.mirroring import mirrored
from optimizers.population.recombination import Recombination, default_population, recombination
from optimizers.population.stopping import stall_reason
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, seeded, snapshot


@dataclass(frozen=True)
class Cma:
    """Active CMA-ES with restarts: when only values are there, or gradients mislead.

    population: candidates in a generation, 4 + 3 ln d by default.
    deviation: first standard deviation, in units of each parameter's scale.
    covariance: "full" learns d^2 numbers; "diagonal" learns d, for several hundred parameters.
    runs: independent searches in one batch; run r draws what a single run with seed + r draws.
    restarts: how often a run that has stalled starts anew from a random point with twice the
        population (Auger and Hansen, 2005).

        y_i = B D z_i,  x_i = m + s y_i,  z_i ~ N(0, I),  z_(i + P/2) = -z_i,  C = B D^2 B^T
        m <- m + s sum_parents w_i y_i
        p_s <- (1 - c_s) p_s + sqrt(c_s (2 - c_s) mu) C^(-1/2) sum_parents w_i y_i
        s <- s exp(c_s / d_s (|p_s| / E|N(0, I)| - 1))
        p_c <- (1 - c_c) p_c + h sqrt(c_c (2 - c_c) mu) sum_parents w_i y_i
        C <- (1 - c_1 - c_mu sum w_i) C + c_1 p_c p_c^T + c_mu sum w_i y_i y_i^T

    where the last sums run over all ranks, the worst with w_i < 0.

    Hansen, The CMA Evolution Strategy: A Tutorial, 2016. Constraints enter by rank: feasible
    candidates by value, then the others by violation; that needs feasible sets with an inside.
    The model lives in the whole space, `BentBox` maps it into the box. Failed candidates rank last
    and are never parents.

    Half of a generation is drawn, in directions that are orthogonal to each other, and mirrored
    (Wang, Emmerich and Bäck, Mirrored Orthogonal Sampling, 2019): a tenth to a third fewer
    evaluations where there is one minimum. Ours: mu is that of mirrored pairs, so that random ranks
    leave the paths at their length, and noise does not end a search.
    """

    population: int | None = None
    deviation: float = 0.2
    covariance: Literal["full", "diagonal"] = "full"
    runs: int = 1
    restarts: int = 9

    name: ClassVar[str] = "cma"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.population is not None:
            check_count("population", self.population, least=4)
        check_number("deviation", self.deviation, above=0)
        if self.covariance not in ("full", "diagonal"):
            raise ValueError(f'covariance must be "full" or "diagonal", got {self.covariance!r}')
        check_count("runs", self.runs)
        check_count("restarts", self.restarts, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningCma:
        """A running search for this problem."""
        return RunningCma(self, problem, seed)


class RunningCma:
    """CMA-ES between ask and tell; see `Cma`.

    Tensors lead with the runs R.
    mean: (R, d), a search point of `BentBox` in units of the scales. deviation: (R,).
    covariance, basis: (R, d, d); (R, d) and None when diagonal.
    lengths: (R, d), square roots of eigenvalues.
    noise, steps: (R, P, d), the z and y of the generation that was asked; P is the largest
        population, runs with smaller ones leave rows unused.
    """

    FIELDS = (
        "mean", "deviation", "covariance", "basis", "lengths", "path_step", "path_covariance",
        "noise", "steps", "asked", "populations", "generations", "restarts", "histories",
        "done", "best", "generators", "_events",
    )  # fmt: skip

    def __init__(self, settings: Cma, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generators = [seeded(problem, seed + run) for run in range(settings.runs)]
        runs, d = settings.runs, problem.dimension
        # the model needs float64 even where values have less: its axes differ a million times
        lower, upper, start, self._scale = (
            vector.double()
            for vector in (problem.lower, problem.upper, problem.start, problem.scale)
        )
        self._box = BentBox(lower / self._scale, upper / self._scale)
        self._diagonal = settings.covariance == "diagonal"
        zeros = start.new_zeros
        self.mean = self._box.search_point(start / self._scale).repeat(runs, 1)
        self.deviation = zeros(runs) + settings.deviation
        identity = torch.eye(d, dtype=start.dtype, device=start.device)
        self._identity = torch.ones_like(start) if self._diagonal else identity
        self.covariance = self._identity.repeat(runs, *[1] * self._identity.ndim)
        self.basis = None if self._diagonal else self.covariance.clone()
        self.lengths = zeros(runs, d) + 1
        self.path_step, self.path_covariance = zeros(runs, d), zeros(runs, d)
        self.noise = self.steps = zeros(runs, 0, d)
        self.asked = 0
        self.populations = [settings.population or default_population(d)] * runs
        self.generations = [0] * runs
        self.restarts = [0] * runs
        self.histories: list[list[float]] = [[] for _ in range(runs)]
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._events: list[str] = []
        self._prepare()

    def _prepare(self) -> None:
        """Weights and rates of every run as tensors (R, ...), from the populations."""
        d, like = self.problem.dimension, self.mean
        rates = [recombination(count, d, self._diagonal) for count in self.populations]
        largest = max(self.populations)
        padded = [rate.weights + (0.0,) * (largest - len(rate.weights)) for rate in rates]
        self._weights = like.new_tensor(padded)
        self._rates: list[Recombination] = rates

        def column(name: str) -> Tensor:
            return like.new_tensor([[getattr(rate, name)] for rate in rates])

        self._rank_one, self._rank_mu = column("rank_one"), column("rank_mu")
        self._keep = 1 - self._rank_one - self._rank_mu * self._weights.sum(1, keepdim=True)
        c_step, c_path, effective = (
            column("path_step"),
            column("path_covariance"),
            column("effective_paired"),
        )
        self._step_keep, self._path_keep = 1 - c_step, 1 - c_path
        self._path_loss = c_path * (2 - c_path)
        self._step_gain = (c_step * (2 - c_step) * effective).sqrt()
        self._path_gain = (self._path_loss * effective).sqrt()
        self._adaptation = (c_step / column("damping"))[:, 0]
        self._expected = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))  # E|N(0, I)|
        # a basis that lags a tenth of the time in which the covariance changes costs nothing
        self._gaps = [max(1, int(1 / (10 * d * (rate.rank_one + rate.rank_mu)))) for rate in rates]
        ranks = torch.arange(largest, device=like.device)
        counts = torch.tensor(self.populations, device=like.device)
        self._used = ranks < counts[:, None]  # (R, P)
        self._full = len(set(self.populations)) == 1

    def ask(self, remaining: float = math.inf) -> Query:
        """One generation of every run, (sum of populations, d), or what the budget allows of it."""
        if self.asked == 0:
            self._draw()
        mean, deviation = self.mean[:, None], self.deviation[:, None, None]
        points = mean + deviation * self.steps
        if self._box.bounded:
            points = self._box.inside(points)
        points = points.flatten(0, 1) if self._full else points[self._used]
        points = (points * self._scale).to(self.problem.dtype)
        if self._box.bounded:
            points = points.clamp(self.problem.lower, self.problem.upper)  # round-off
        if remaining < len(points):
            points = points[: max(1, int(remaining))]
        self.asked = len(points)
        return Query(points, order=0, tag=f"generation {max(self.generations)}")

    def _draw(self) -> None:
        d, dtype, device = self.problem.dimension, self.mean.dtype, self.mean.device
        drawn = [
            torch.randn((count + 1) // 2, d, generator=generator, dtype=dtype, device=device)
            for count, generator in zip(self.populations, self.generators, strict=True)
        ]
        if self._full:
            self.noise = mirrored(torch.stack(drawn), self.populations[0])
        else:
            self.noise = self.mean.new_zeros(len(drawn), max(self.populations), d)
            for run, (rows, count) in enumerate(zip(drawn, self.populations, strict=True)):
                self.noise[run, :count] = mirrored(rows, count)
        steps = self.noise * self.lengths[:, None]
        self.steps = steps if self.basis is None else steps @ self.basis.mT

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Learn from a generation; a part of one, at the end of a budget, only moves the best."""
        check_answer(query, evaluation, expected=self.asked)
        self.best.offer(query.points, evaluation)
        self.asked = 0
        if len(query.points) < sum(self.populations):
            return
        value, ok = self._by_run(evaluation.value, math.inf), self._by_run(evaluation.ok, False)
        violation = None
        if evaluation.constraints is not None:
            violation = self._by_run(evaluation.violation, math.inf)
        order = ranking(value, violation)
        weights = torch.zeros_like(self._weights).scatter_(1, order, self._weights)
        all_ok = bool(evaluation.ok.all())
        if not all_ok:  # a failed candidate may be punished, but must not lead
            weights = weights.where(ok | (weights < 0), 0.0)
            leading = weights.clamp(min=0.0).sum(1, keepdim=True)
            weights = torch.where((weights > 0) & (leading > 0), weights / leading, weights)
        self._update(weights, None if all_ok else ok.any(1))
        self._decompose()
        self._restart_stalled(value, violation, order)

    def inject(self, rows: Tensor, points: Tensor) -> None:
        """Put points (n, d) in the place of the candidates `rows` of a generation not told yet.

        They need not have been drawn. A step y that is longer in the model than draws are,
        |C^(-1/2) y| > sqrt(d) + 2 d / (d + 2), is shortened to that (Hansen, 2011, Injecting
        external solutions into CMA-ES). Only for a single run.
        """
        d = self.problem.dimension
        search = self._box.search_point(points.double() / self._scale)
        steps = (search - self.mean[0]) / self.deviation[0]
        noise = steps if self.basis is None else steps @ self.basis[0]
        noise = noise / self.lengths[0]
        longest = math.sqrt(d) + 2 * d / (d + 2)
        share = (longest / noise.norm(dim=1, keepdim=True)).clamp(max=1.0)
        self.noise, self.steps = self.noise.clone(), self.steps.clone()
        self.noise[0, rows], self.steps[0, rows] = share * noise, share * steps

    @property
    def lengths_of_steps(self) -> Tensor:
        """Standard deviation (d,) of each coordinate of the samples of the first run."""
        if self.basis is None:
            spread = self.lengths[0]
        else:
            spread = (self.basis[0] * self.lengths[0]).norm(dim=1)
        return (self.deviation[0] * spread * self._scale).to(self.problem.dtype)

    def _by_run(self, rows: Tensor, missing: float | bool) -> Tensor:
        """Rows (sum of populations,) of a query as (R, P)."""
        if self._full:
            return rows.view(len(self.populations), -1)
        return rows.new_full(self._used.shape, missing).masked_scatter(self._used, rows)

    def _update(self, weights: Tensor, alive: Tensor | None) -> None:
        """One step of the formulas of `Cma`; runs without one success, not alive, stay."""
        noise, steps, d = self.noise, self.steps, self.problem.dimension
        parents = weights.clamp(min=0.0)[:, None]
        step = (parents @ steps)[:, 0]
        whitened = (parents @ noise)[:, 0]
        if self.basis is not None:
            whitened = (self.basis @ whitened[..., None])[..., 0]
        self.generations = [generation + 1 for generation in self.generations]
        path_step = self._step_keep * self.path_step + self._step_gain * whitened
        length = path_step.norm(dim=1) / self._expected
        horizon = [
            (1.4 + 2 / (d + 1)) * math.sqrt(1 - (1 - rate.path_step) ** (2 * generation))
            for rate, generation in zip(self._rates, self.generations, strict=True)
        ]
        moving = (length < length.new_tensor(horizon)).to(length.dtype)[:, None]
        path = self._path_keep * self.path_covariance + moving * self._path_gain * step
        keep = self._keep + self._rank_one * self._path_loss * (1 - moving)
        # negative weights act on steps of equal length, so none can make C indefinite
        punishment = d / (noise.square().sum(2) + 1e-12)
        shares = torch.where(weights < 0, weights * punishment, weights) * self._rank_mu
        if self.basis is None:
            learnt = (shares[:, None] @ steps.square())[:, 0] + self._rank_one * path.square()
            covariance = keep * self.covariance + learnt
        else:
            learnt = (steps * shares[..., None]).mT @ steps
            learnt = torch.baddbmm(learnt, (self._rank_one * path)[..., None], path[:, None])
            covariance = keep[..., None] * self.covariance + learnt
        mean = self.mean + self.deviation[:, None] * step
        deviation = self.deviation * (self._adaptation * (length - 1)).clamp(max=1.0).exp()
        new = (mean, deviation, covariance, path_step, path)
        names = ("mean", "deviation", "covariance", "path_step", "path_covariance")
        for name, tensor in zip(names, new, strict=True):
            if alive is not None:
                tensor = tensor.where(alive.view(-1, *[1] * (tensor.ndim - 1)), getattr(self, name))
            setattr(self, name, tensor)

    def _decompose(self) -> None:
        """Refresh the lengths and the basis of the runs where they are due."""
        if self.basis is None:
            self.lengths = self.covariance.clamp(min=torch.finfo(self.mean.dtype).tiny).sqrt()
            return
        due = [run for run, gap in enumerate(self._gaps) if self.generations[run] % gap == 0]
        if not due:
            return
        chosen = self.covariance if len(due) == len(self._gaps) else self.covariance[due]
        squares, basis = torch.linalg.eigh((chosen + chosen.mT) / 2)
        floor = squares[:, -1:] * torch.finfo(squares.dtype).eps
        lengths = squares.maximum(floor).sqrt()
        if len(due) == len(self._gaps):
            self.lengths, self.basis = lengths, basis
        else:
            self.lengths = self.lengths.index_put((torch.tensor(due),), lengths)
            self.basis = self.basis.index_put((torch.tensor(due),), basis)

    def _restart_stalled(self, value: Tensor, violation: Tensor | None, order: Tensor) -> None:
        """Note how each run fares, and start those anew that have stalled."""
        ranked = (value if violation is None else value + violation).gather(1, order).double()
        middle = torch.tensor([[count // 2] for count in self.populations], device=value.device)
        shortest, longest = self.lengths.aminmax(dim=1)
        numbers = torch.stack(
            (
                ranked[:, 0],
                ranked.gather(1, middle)[:, 0],
                self.deviation * longest / self.settings.deviation,
                longest / shortest,
            ),
            1,
        )
        for run, (best, middling, step, ratio) in enumerate(numbers.tolist()):
            if not math.isfinite(best):
                continue
            self.histories[run].append(best)
            reason = stall_reason(
                self.histories[run],
                self.populations[run],
                self.problem.dimension,
                middle=middling,
                step=step,
                ratio=ratio,
                round_off=torch.finfo(value.dtype).eps,
            )
            if reason is not None and self.restarts[run] <= self.settings.restarts:
                self._restart(run, reason)

    def _restart(self, run: int, reason: str) -> None:
        self.restarts[run] += 1
        if self.restarts[run] > self.settings.restarts:
            if all(count > self.settings.restarts for count in self.restarts):
                self.done = f"converged: {reason}"
            return
        self.populations[run] *= 2
        label = "" if len(self.populations) == 1 else f" of run {run}"
        self._events.append(f"restart{label} with population {self.populations[run]}, {reason}")
        start = self.problem.sample(1, self.generators[run])[0]
        self.mean[run] = self._box.search_point(start.double() / self._scale)
        self.deviation[run] = self.settings.deviation
        self.covariance[run] = self._identity
        if self.basis is not None:
            self.basis[run] = self._identity
        self.lengths[run] = 1.0
        self.path_step[run] = self.path_covariance[run] = 0.0
        self.generations[run], self.histories[run] = 0, []
        self._prepare()

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return sum(self.populations)

    def objective_changed(self) -> None:
        """Forget the values told so far; the means stay, and look a tenth as far as at first."""
        self.best, self.done = Incumbent(self.best.x), None
        self.histories = [[] for _ in self.histories]
        longest = self.lengths.amax(1)
        self.deviation = torch.maximum(self.deviation, 0.1 * self.settings.deviation / longest)

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
        self._prepare()
