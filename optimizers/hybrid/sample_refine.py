"""Sample-refine: samples where gradients mislead, gradients where they have earned it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query, best_row, ranking
from optimizers.hybrid.archive import Archive
from optimizers.hybrid.bandit import KEEP, Bandit, gain_between
from optimizers.hybrid.descent import Descent
from optimizers.hybrid.merit import Merit
from optimizers.hybrid.polish import Polish
from optimizers.hybrid.refine import diverse, rank_agreement
from optimizers.hybrid.smooth_start import SmoothStart
from optimizers.hybrid.space import knot_spaces, random_designs
from optimizers.population.cma import Cma, RunningCma
from optimizers.population.recombination import default_population
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, seeded, snapshot
from optimizers.trajectory import Knots

PHASES, FLOORS = ("polish", "population"), (0.15, 0.3)
GENERATIONS = ("refine", "sample")
POLISH = 10  # gradients in one phase of polish
RESERVE = 0.4  # of the budget, kept for the polish of a best point that has not settled
PATIENCE = 3  # phases of polish with hardly a gain until it waits
SETTLED = 1e-3  # of the usual gain of a phase: a polish that gains less can wait
SCREEN, SCREEN_SHARE = 10, 0.05  # generations, and share of the budget, that a screen may take
LEARN = 0.5  # rank agreement from which refined members move, instead of only counting as better


@dataclass(frozen=True)
class SampleRefine:
    """Population search and gradients at once: for many minima, contacts, mistrusted gradients.

    population: candidates in a generation, 4 + 3 ln n by default.
    deviation: first standard deviation, in units of each parameter's scale.
    refined: share of a generation that gradients refine.
    refine_steps: gradients for each of them.
    refine_length: first step of a refinement, in standard deviations of the population.
    knots: how many for each channel of a trajectory at first, 5 by default; or a `Knots`.

    A `Bandit` shares one budget by what each kind of work has gained, first between the polish of
    single points and the population, then between two kinds of generations:

        polish   10 gradients of the descent from the best point (`Polish`: L-BFGS, and cautious
                 steps where gradients turn out to mislead)
        sample   a generation of CMA-ES
        refine   a generation whose best quarter, as far as its members are apart, descends a few
                 steps (`Descent`); the population then learns their better values at the old
                 places, or, while ranks before and after agree (Kendall's tau > 0.5), at the new

    Each run of the population begins at the best of a screen of random designs. One that has
    stalled starts anew with twice the members, away from all minima that were found. Trajectories
    get a fifth of the budget for `Icem` before all else, and are then sampled through few knots,
    twice as many after each stall, and polished step by step. Where the polish has ever been
    ahead, up to 40 % of the budget is kept for the best point; a polish that hardly gains waits
    meanwhile.

    Without gradients only samples are left. Constraints enter by rank, and the polish runs
    under an augmented Lagrangian. After ThinShellLab (Wang et al., 2024), which samples knots
    first and then descends; ours alternates, and lets both prove themselves.
    """

    population: int | None = None
    deviation: float = 0.3
    refined: float = 0.25
    refine_steps: int = 5
    refine_length: float = 0.3
    knots: int | Knots | None = None

    name: ClassVar[str] = "sample-refine"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.population is not None:
            check_count("population", self.population, least=4)
        check_number("deviation", self.deviation, above=0)
        check_number("refined", self.refined, above=0, most=1)
        check_count("refine_steps", self.refine_steps)
        check_number("refine_length", self.refine_length, above=0)
        if self.knots is not None and not isinstance(self.knots, Knots):
            check_count("knots", self.knots)

    def start(self, problem: Problem, seed: int = 0) -> RunningSampleRefine:
        """A running search for this problem."""
        return RunningSampleRefine(self, problem, seed)


class RunningSampleRefine:
    """Sample-refine between ask and tell; see `SampleRefine`.

    points: (P, n), the generation; value, violation, ok: (P,), found there, while it is refined.
    """

    FIELDS = (
        "generator", "best", "done", "phase", "stage", "total", "left", "spent", "before",
        "run_before", "chosen", "counts", "size", "spread", "points", "value", "violation", "ok",
        "members", "originals", "steps", "agreement", "trust", "fresh", "run_best", "unchanged",
        "polished", "settled", "longest_polish", "polish_led", "low_gains", "restarts", "screened",
        "_events",
    )  # fmt: skip

    def __init__(self, settings: SampleRefine, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.best = Incumbent(problem.start)
        self.done: str | None = None
        self.phase, self.stage = "", ""
        self.total = self.left = math.inf
        self.spent = 0.0  # in this phase
        self.before = [math.inf, math.inf]  # value and violation of the best when it began
        self.run_before = [math.inf, math.inf]  # and of the best of this run of the population
        self.first_spaces = knot_spaces(problem, settings.knots)
        self.space, self.chosen = self.first_spaces[0], 0
        self.size = settings.population or default_population(self.space.dimension)
        self.spread = settings.deviation
        self.bandit = Bandit(PHASES, FLOORS)
        self.generations = Bandit(GENERATIONS)
        self.archive = Archive(problem)
        self.merit = Merit(problem.scale)
        self.cma = self._population(self.space.fit(problem.start))
        self.points = problem.start.new_zeros(0, self.space.dimension)
        self.value = self.violation = self.ok = problem.start.new_zeros(0)
        self.members = torch.zeros(0, dtype=torch.long, device=problem.device)
        self.originals = problem.start.new_zeros(0)
        self.steps, self.agreement, self.trust = 0, 0.0, 1.0
        self.descent = Descent(self.points, problem.start.new_zeros(self.space.dimension))
        self.smooth = SmoothStart(problem, not isinstance(settings.knots, Knots), seed)
        self.polish: Polish | None = None
        if not self.smooth.left:
            self.polish = Polish(problem, problem.start, self._lengths(), 0.0)
        self.fresh = Incumbent(problem.start)  # best of the samples since the last polish began
        self.run_best, self.unchanged = Incumbent(problem.start), 0
        self.polished = self.settled = False  # whether a polish of the best point ended, or waits
        self.longest_polish, self.polish_led = 0.0, False
        self.low_gains = 0  # phases of polish in a row
        self.restarts, self.screened = 0, False
        self._events: list[str] = []

    @property
    def counts(self) -> list[int]:
        """Knots of every trajectory."""
        return self.space.counts

    @counts.setter
    def counts(self, counts: list[int]) -> None:
        self.space = self.first_spaces[self.chosen].doubled_to(counts)

    def _population(self, start: Tensor) -> RunningCma:
        settings = Cma(population=self.size, deviation=self.spread, restarts=0)
        seed = int(torch.randint(2**31, (1,), generator=self.generator, device=start.device))
        return settings.start(self.space.box(start), seed)

    def _lengths(self) -> Tensor:
        """First steps (d,) of a cautious polish, from the spread of the population."""
        share = float((self.cma.lengths_of_steps / self.cma.problem.scale).mean())
        return self.settings.refine_length * share * self.problem.scale

    def ask(self, remaining: float = math.inf) -> Query:
        """A generation, a step of refinement, or a point of the polish."""
        if self.total == math.inf:
            self.total = remaining
            self.smooth.allow(remaining)
        self.left = remaining
        if not self.phase:
            self._begin()
        if self.phase == "polish":
            assert self.polish is not None
            return self.polish.ask()
        if self.stage == "steps":
            return self._ask_step()
        if self.stage == "screen":
            return self._ask_screen()
        if self.stage == "smooth":
            return self.smooth.ask(remaining)
        if not len(self.points):
            self.points = self.cma.ask().points
        rows = len(self.points) if remaining >= len(self.points) else max(1, int(remaining))
        tag = "refine, generation" if self.phase == "refine" else "sample"
        return Query(self.space.expand(self.points[:rows]), tag=tag)

    def _ask_screen(self) -> Query:
        """Random designs of every first space, one after the other."""
        count = SCREEN * self.size
        if self.total < math.inf:
            count = min(count, max(self.size, int(SCREEN_SHARE * self.total)), int(self.left))
        count, start = max(count, 1), self.problem.start
        points = random_designs(self.first_spaces, start, count, self.generator)
        return Query(points[:count], tag="screen")

    def _tell_screen(self, query: Query, evaluation: Evaluation) -> None:
        """Let a population begin at the best random design that is far from all minima found."""
        away = evaluation.ok & ~self.archive.repels(query.points)
        if self.restarts and bool(away.any()):
            violation = evaluation.violation[:, None]
            evaluation = Evaluation(evaluation.value, constraints=violation, ok=away)
        count = -(-len(query.points) // len(self.first_spaces))
        self.chosen = best_row(evaluation) // count
        self.space = self.first_spaces[self.chosen]
        self.run_best.offer(query.points, evaluation)
        self.cma = self._population(self.space.fit(self.run_best.x))
        self.stage = ""
        self._end()

    def _ask_step(self) -> Query:
        order = 1 if self.steps < self.settings.refine_steps else 0
        price = self.problem.gradient_cost if order else 1
        rows = max(1, int(self.left / price)) if self.left < math.inf else len(self.members)
        if rows < len(self.members):
            self.descent.keep(rows)
            self.members, self.originals = self.members[:rows], self.originals[:rows]
        points = self.space.expand(self.descent.trial)
        return Query(points, order=order, tag=f"refine, step {self.steps}")

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Take the answer to the query that was asked last, and end the phase when it is time."""
        check_answer(query, evaluation)
        self.spent += len(query.points) * (self.problem.gradient_cost if query.order else 1)
        if self.best.offer(query.points, evaluation):
            self.polished = self.settled = False
        if self.phase == "polish":
            self._tell_polish(query, evaluation)
            return
        self.fresh.offer(query.points, evaluation)
        if self.stage == "steps":
            self._tell_step(evaluation)
        elif self.stage == "screen":
            self._tell_screen(query, evaluation)
        elif self.stage == "smooth":
            self.smooth.tell(query, evaluation)
            self.phase = self.stage = ""
        else:
            self._tell_generation(query, evaluation)

    def _tell_polish(self, query: Query, evaluation: Evaluation) -> None:
        polish = self.polish
        assert polish is not None
        polish.tell(query, evaluation, self.generator)
        if polish.done:
            if math.isfinite(polish.best.value):
                self.archive.add(polish.best.x)
                self.polished = self.polished or torch.equal(polish.best.x, self.best.x)
            self.longest_polish = max(self.longest_polish, polish.spent)
            self.polish = None
        if polish.done or self.spent >= POLISH * self.problem.gradient_cost:
            self._end()

    def _tell_generation(self, query: Query, evaluation: Evaluation) -> None:
        count = len(query.points)
        if count < len(self.points):
            self.points = self.points[:0]
            self._end()
            return
        self.value, self.ok = evaluation.value, evaluation.ok
        self.violation = evaluation.violation
        found = int(evaluation.ok.sum())
        wanted = max(2, round(self.settings.refined * len(self.points)))
        if self.phase == "sample" or found == 0:
            self._learn()
            return
        order = ranking(self.value, self.violation)
        lengths = self.cma.lengths_of_steps
        self.members = diverse(self.points, order[:found], lengths, wanted)
        self.originals = self.merit.of(evaluation)[self.members]
        self.steps, self.stage = 0, "steps"
        first = self.settings.refine_length * self.trust
        self.descent = Descent(self.points[self.members], first * lengths)

    def _tell_step(self, evaluation: Evaluation) -> None:
        descent, rows = self.descent, self.members
        gradient = torch.zeros_like(descent.trial)
        if evaluation.gradient is not None:
            self.merit.learn(evaluation)
            gradient = self.space.pull_back(self.merit.gradient(evaluation), descent.trial)
        better = descent.told(self.merit.of(evaluation), gradient, evaluation.ok)
        self.value = self.value.index_put((rows[better],), evaluation.value[better])
        self.violation = self.violation.index_put((rows[better],), evaluation.violation[better])
        self.steps += 1
        if self.steps <= self.settings.refine_steps:
            box = self.cma.problem
            descent.advance(box.lower, box.upper)
            return
        moved = torch.isfinite(descent.merit)
        tau = rank_agreement(self.originals[moved], descent.merit[moved])
        self.agreement = KEEP * self.agreement + (1 - KEEP) * tau
        share = float(descent.share.median())
        self.trust = min(2.0, max(0.02, self.trust * (share if share < 1 else share**0.5)))
        if self.agreement > LEARN:
            self.cma.inject(rows[moved], descent.best[moved])
        self._learn()

    def _learn(self) -> None:
        """Tell the population its generation, with what refinement has made of it."""
        violation = self.violation[:, None]
        answer = Evaluation(self.value, constraints=violation, ok=self.ok)
        points, self.points, self.stage = self.points, self.points[:0], ""
        self.cma.tell(Query(points), answer)
        if self.run_best.offer(self.space.expand(points), answer):
            self.unchanged = 0
        elif bool(self.ok.any()):
            self.unchanged += 1
        window = 10 + math.ceil(30 * self.space.dimension / self.size)
        if self.unchanged >= window or self.cma.done is not None:
            self._restart()
        self._end()

    def _restart(self) -> None:
        """Twice the knots around the best of the run, or a new run far from all minima."""
        self.unchanged = 0
        if not self.space.is_finest:
            self.space = self.space.doubled()
            self.spread *= 0.5
            self.cma = self._population(self.space.fit(self.run_best.x))
            self._events.append(f"knots doubled to {self.space.counts}")
        else:
            self.archive.add(self.run_best.x)
            self.spread = self.settings.deviation
            self.size *= 2
            self.run_best = Incumbent(self.problem.start)
            self.screened = False
            self.restarts += 1
            self._events.append(f"restart with population {self.size}")
        self.points = self.points.new_zeros(0, self.space.dimension)

    def _begin(self) -> None:
        """Choose the next phase."""
        self.before = [self.best.value, self.best.violation]
        self.run_before = [self.run_best.value, self.run_best.violation]
        self.spent = 0.0
        if self.smooth.left:
            self.phase, self.stage = "sample", "smooth"
            return
        must = self._must_polish()
        self.phase = "polish" if must else self.bandit.choose(self._open())
        if self.phase == "polish":
            if self.polish is None or (must and self.polish.is_behind(self.best)):
                known = (self.polished or self.settled) and not must
                self._polish_from(self.fresh if known else self.best)
            return
        gradients = self.problem.differentiable
        self.phase = self.generations.choose(GENERATIONS) if gradients else "sample"
        if not self.screened:
            self.stage, self.screened = "screen", True

    def _polish_from(self, start: Incumbent) -> None:
        self.polish = Polish(self.problem, start.x, self._lengths(), self.merit.weight)
        self.fresh = Incumbent(self.problem.start)
        self.low_gains = 0

    def _open(self) -> tuple[str, ...]:
        waiting = self.polish is not None or math.isfinite(self.fresh.value)
        return PHASES if self.problem.differentiable and waiting else PHASES[1:]

    def _must_polish(self) -> bool:
        """Whether what is left of the budget is due to the best point."""
        if not self.problem.differentiable or self.polished or not self.polish_led:
            return False
        reserve = RESERVE * self.total
        if self.longest_polish > 0:
            reserve = min(reserve, 2 * self.longest_polish)
        if self.settled:
            reserve *= 0.25
        return self.left <= reserve < math.inf

    def _end(self) -> None:
        now = [self.best.value, self.best.violation]
        gain = gain_between(self.before[0], self.before[1], now[0], now[1])
        polishing = self.phase == "polish"
        self.bandit.told(PHASES[0 if polishing else 1], gain, self.spent, self._open())
        if polishing:
            self.polish_led |= gain > 0 and self.bandit.best() == "polish"
            constrained = self.polish is not None and self.polish.constrained
            low = gain < SETTLED * self.bandit.usual and not constrained  # multipliers take time
            self.low_gains = self.low_gains + 1 if low else 0
            if self.polish is not None and self.low_gains >= PATIENCE:
                self._settle(self.polish)
        elif self.run_best.value < math.inf:
            before, run = self.run_before, self.run_best
            gain = gain_between(before[0], before[1], run.value, run.violation)
            self.generations.told(self.phase, gain, self.spent, GENERATIONS)
        self.phase = self.stage = ""

    def _settle(self, polish: Polish) -> None:
        """Leave a polish that hardly gains for something newer, if there is anything."""
        if math.isfinite(self.fresh.value):
            self.archive.add(polish.best.x)
            self.settled = self.settled or torch.equal(polish.best.x, self.best.x)
            self.polish = None

    @property
    def rows(self) -> int:
        """How many points a generation holds."""
        return self.size

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; points stay."""
        for name in ("best", "fresh", "run_best"):
            setattr(self, name, Incumbent(getattr(self, name).x))
        self.phase = self.stage = ""
        self.points = self.points[:0]
        self.unchanged, self.polished, self.settled, self.done = 0, False, False, None
        self.smooth.objective_changed()
        self.polish = Polish(self.problem, self.best.x, self._lengths(), self.merit.weight)

    def events(self) -> tuple[str, ...]:
        """Restarts and doublings since the last call."""
        happened, self._events = tuple(self._events), []
        return happened

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {
            "search": snapshot(self, self.FIELDS),
            "population": self.cma.state_dict(),
            "bandit": self.bandit.state_dict(),
            "generations": self.generations.state_dict(),
            "archive": self.archive.state_dict(),
            "smooth": self.smooth.state_dict(),
            "weight": self.merit.weight,
            "descent": self.descent.state_dict(),
            "polish": None if self.polish is None else self.polish.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        problem = self.problem
        restore(self, self.FIELDS, state["search"], problem.device)
        settings = Cma(population=self.size, deviation=self.spread, restarts=0)
        self.cma = settings.start(self.space.box(self.space.fit(problem.start)))
        self.cma.load_state_dict(state["population"])
        self.bandit.load_state_dict(state["bandit"])
        self.generations.load_state_dict(state["generations"])
        self.archive.load_state_dict(state["archive"])
        self.smooth.load_state_dict(state["smooth"])
        self.merit.weight = state["weight"]
        self.descent.load_state_dict(state["descent"], problem.device)
        self.polish = None
        if state["polish"] is not None:
            self.polish = Polish(problem, problem.start, self._lengths(), 0.0)
            self.polish.load_state_dict(state["polish"])
