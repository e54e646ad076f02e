"""Direct search with directional attacks: gradients propose, values decide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_number
from optimizers.direct_search.attack import Attack, RunningAttack
from optimizers.direct_search.attacked import Attacked
from optimizers.direct_search.covering import LARGEST, DirectSearch
from optimizers.direct_search.credit import Credit
from optimizers.direct_search.linearization import Linearization, Source, slopes_of
from optimizers.direct_search.proposals import ATTACKS, FACTORS, Proposals
from optimizers.direct_search.surrogate_descent import SurrogateDescent
from optimizers.evaluation import FEASIBLE, Evaluation, Incumbent, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot

SUFFICIENT = 1e-4  # gain per squared radius, in units of the spread of values
COSTLIEST = 0.25  # share of what was spent since the last curvature that the next may take
TRIALS = 4  # along one quasi-Newton step, before it has failed
EXACT = 3  # prices of a gradient up to which the curvature of a plain value may be asked for
SEARCH = "search"
SHARE = 0.1  # of what is spent that the direct search gets at least, beside true gradients
LARGER = 0.4  # the same where slopes are not those of the true model, or values have stalled
WATCH = 60  # evaluations, and one for each parameter, until a stall is seen
HEALTHY = 0.01  # share of what curvature promised that a step has to bring


@dataclass(frozen=True)
class AttackSearch:
    """Direct search with directional attacks: when a gradient or a surrogate helps part of the way.

    attacks: which ones, of "descent", "quasi-newton", "gauss-newton", "pgd", "fgsm" and "l2"; by
        default all, without "descent" and "pgd" where gradients have the price of the true model.
    search: False leaves the direct search out, but for a start that can be evaluated.
    radius: first radius of the attacks, in units of each parameter's scale.
    floor: radius of an attack at which it begins anew.

    Around the leader x of the direct search, slopes are asked of the surrogate where there is one,
    else of the true model where it has gradients, else by differences. An attack turns them into
    steps of the radii r, r / 2 and 2 r, and only true values judge them: by the progressive
    barrier, and as a success if

        f - f_new >= 1e-4 r^2 times the spread of recent values

    Then r follows the step that won; else the attack looks closer, and sleeps the longer the more
    often it fails. Attacks take turns by what they gain per price (`Credit`). While all sleep or
    earn less than it, and with a tenth of the evaluations at least, more where values stall or
    slopes are guessed, the direct search goes on: polls and covering points never end, and what
    they guarantee for values that jump or fail is kept. A surrogate is corrected by what true
    values have shown of its slopes.

    Where constraints are near, steps respect their linearisation, bent by what the last steps have
    shown; where some are violated, attacks on these join in.

    Bouchet and Vidal, Optimization by Directional Attacks, 2025, algorithm 2. Ours: the steps with
    curvature, constraints in the steps and no fixed penalty, radii that begin anew, credit.
    """

    attacks: tuple[str, ...] | None = None
    search: bool = True
    radius: float = 0.1
    floor: float = 1e-9

    name: ClassVar[str] = "attack-search"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.attacks is not None:
            object.__setattr__(self, "attacks", tuple(self.attacks))
            if not self.attacks or not set(self.attacks) <= set(ATTACKS):
                raise ValueError(f"attacks must be some of {ATTACKS}, got {self.attacks!r}")
        if not isinstance(self.search, bool):
            raise TypeError(f"search must be True or False, got {type(self.search).__name__}")
        check_number("radius", self.radius, above=0, most=1)
        check_number("floor", self.floor, above=0, below=self.radius)

    def start(self, problem: Problem, seed: int = 0) -> RunningAttackSearch:
        """A running search for this problem."""
        return RunningAttackSearch(self, problem, seed)


class RunningAttackSearch:
    """The search between ask and tell; see `AttackSearch`.

    search: the direct search; it holds the archive of true values and the leaders.
    arm: whose turn it is. phase: "idle" between two turns, "search", "slopes", "attack" while a
        projected attack runs, "screen" while a surrogate looks at the candidates, "trial".
    attacked: the point whose slopes are asked for.
    floors: how often a radius fell to its floor since the last success.
    price: of the turn. spent: since the beginning; searched: by the direct search; curved: what
        was spent when a curvature was last asked for.
    """

    FIELDS = (
        "phase", "arm", "floors", "price", "spent", "searched", "curved", "barren",
        "spacing", "asked", "trials", "done",
    )  # fmt: skip

    def __init__(self, settings: AttackSearch, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.search = DirectSearch().start(problem, seed)
        self.source = Source(problem)
        self.arms = settings.attacks or self._suitable()
        self.credit = Credit((*self.arms, SEARCH), settings.radius)
        self.slopes = Linearization(problem.dimension)
        self.proposals = Proposals(problem)
        self.attack: RunningAttack | SurrogateDescent | None = None
        self.phase, self.arm = "idle", SEARCH
        self.attacked = Attacked(self.search.archive)
        self.floors = 0
        self.price = self.spent = self.searched = self.curved = 0.0
        self.barren = -1  # row of a base where no slopes are to be had
        self.spacing = problem.start.new_zeros(1, problem.dimension)
        self.asked = self.trials = 0
        self.done: str | None = None

    def _suitable(self) -> tuple[str, ...]:
        """Attacks that can pay with these slopes."""
        source, names = self.source, list(ATTACKS)
        if source.is_true:
            names.remove("pgd")
        if source.is_true or not source.white:
            names.remove("descent")
        exact = source.white and source.price(2) <= EXACT * source.price(1)
        if not self.problem.composite and source.is_true and not exact:
            names.remove("gauss-newton")
        return tuple(names)

    @property
    def _is_modest(self) -> bool:
        """Whether slopes are dear, and the models of the direct search tell as much."""
        dear = self.source.is_true and not self.source.white and not self.problem.composite
        return dear and self.settings.search and self.problem.dimension <= LARGEST

    @property
    def best(self) -> Incumbent:
        """The best point told so far."""
        return self.search.best

    def ask(self, remaining: float = math.inf) -> Query:
        """Points (B, d): of the direct search, of slopes of order 1 or 2, or trials."""
        while self.phase == "idle":
            self._begin_turn(remaining)
        query = self._query(remaining)
        self.asked = len(query.points)
        return query

    def _query(self, remaining: float) -> Query:
        if self.phase == "search":
            query = self.search.ask(remaining)
            if self.search.phase == "start" and self.source.white and self.source.is_true:
                return Query(query.points, 1, tag=query.tag)  # its slopes are asked for next
            return query
        if self.phase == "slopes":
            order = 2 if self.arm == "gauss-newton" else 1
            radius = self.credit.radius(self.arm)
            query, self.spacing = self.source.query(self._base_point(), order, radius)
            return query
        if self.phase == "attack":
            assert self.attack is not None
            return self.attack.ask()
        points = self.proposals.points(self.slopes.point)
        if self.phase == "screen":
            return Query(points, 0, self.source.fidelity, tag="screen")
        order = int(self._is_bold() and len(points) == 1)
        return Query(points[: max(1, int(min(remaining, len(points))))], order, tag=self.arm)

    def _is_bold(self) -> bool:
        """Whether one trial is so likely to win that its slopes are asked for at once."""
        known = self.arm == "quasi-newton" and len(self.proposals.history) > 0
        cheap = self.source.white and self.source.is_true
        return cheap and known

    def _base_point(self) -> Tensor:
        return self.proposals.at(self.attacked.point)

    def _begin_anew(self) -> None:
        """Follow the direct search to where it has begun anew."""
        self.attacked.begin(self.search.barrier.begin)
        self.floors = 0
        self.credit = Credit((*self.arms, SEARCH), self.settings.radius)
        self.slopes = Linearization(self.problem.dimension)
        self.proposals = Proposals(self.problem)

    def _begin_turn(self, remaining: float) -> None:
        self.price, self.trials = 0.0, 0
        self.attacked.mark()
        arm = self._picked(remaining)
        if arm is None:
            self.phase, self.arm = "search", SEARCH
            return
        self.arm, self.phase = arm, "slopes"
        if self._known(arm):
            self._propose()

    def _known(self, arm: str) -> bool:
        """Whether the slopes that an attack needs are there already."""
        here = self.slopes.row == self.attacked.row
        return here and (arm != "gauss-newton" or len(self.slopes.curvature) > 0)

    def _picked(self, remaining: float) -> str | None:
        if self.attacked.row < 0 or self.attacked.row == self.barren:
            return None
        usable = {arm for arm in self.arms if self._affordable(arm, remaining)}
        arm = self.credit.pick(usable)
        if not self.settings.search:
            while arm is None and usable:
                self.credit.tick()
                arm = self.credit.pick(usable)
            return arm
        self.attacked.watch(self.spent, WATCH + self.problem.dimension)
        certain = self.source.is_true and not self.attacked.stalled
        share = SHARE if certain else LARGER
        if self.searched + self.problem.dimension + 1 <= share * self.spent:
            return None
        return None if arm is None or self.credit.beats(SEARCH, arm) else arm

    def _affordable(self, arm: str, remaining: float) -> bool:
        if self._known(arm):
            return True
        price = self.source.price(2 if arm == "gauss-newton" else 1)
        if self._is_modest and self.spent - self.searched + price > SHARE * self.spent:
            return False
        allowed = max(2 * self.source.price(1), COSTLIEST * (self.spent - self.curved))
        return price + 1 <= remaining and (price <= allowed or self.credit.leads(arm))

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Take slopes, screened candidates or true values, and go on with the turn."""
        check_answer(query, evaluation, expected=self.asked)
        price = self.problem.cost(query.order, query.fidelity, query.target is not None)
        self.price += price * len(query.points)
        self.spent += price * len(query.points)
        if self.phase == "search":
            self._tell_search(query, evaluation)
        elif self.phase == "trial":
            self._judge(query, evaluation)
        elif self.phase == "slopes":
            self._tell_slopes(query, evaluation)
        elif self.phase == "attack":
            self._tell_attack(query, evaluation)
        else:
            self.proposals.screen(evaluation, self.slopes, self._constraints())
            self.phase = "trial"

    def _tell_search(self, query: Query, evaluation: Evaluation) -> None:
        self.searched += self.problem.cost(query.order) * len(query.points)
        self.search.tell(query, evaluation)
        self.done = self.search.done
        if self.search.barrier.begin > self.attacked.begun:
            self._begin_anew()
        self.attacked.look()
        if query.order == 1 and bool(evaluation.ok[0]):
            self._learn_slopes(self.attacked.row, self.attacked.point, evaluation)
        if len(self.search.queue):
            return
        if math.isfinite(self.attacked.before[0]):
            self.credit.reward(SEARCH, self.attacked.gain(), self.price)
            self.credit.tick()
        self.phase = "idle"

    def _learn_slopes(self, row: int, point: Tensor, answer: Evaluation) -> None:
        """Linearise at a row of the archive, and learn curvature from what the slopes changed."""
        old = self.slopes
        self.slopes = Linearization(self.problem.dimension)
        self.slopes.take(row, point, answer, self.proposals.scale)
        if not self.source.is_true:
            self.slopes.correct(self.proposals.correction.slopes)
        self.proposals.learn_curvature(old, self.slopes)
        self.barren = -1 if self.slopes.tells else row

    def _tell_slopes(self, query: Query, evaluation: Evaluation) -> None:
        row, point = self.attacked.row, self.attacked.point
        if query.is_true and not self.source.white:
            self.search.learn(query.points, evaluation)
        self.curved = self.spent if query.order == 2 else self.curved
        answer = slopes_of(evaluation, self.spacing, self.source.white)
        if not bool(answer.ok[0]):
            self.barren = row
        else:
            self._learn_slopes(row, point, answer)
        if self.barren == row:
            self._end_turn(0.0)
        else:
            self._propose()

    def _constraints(self) -> Tensor:
        """True constraints (m,) at the point of the slopes."""
        return torch.from_numpy(self.search.archive.constraints[self.slopes.row].copy())

    def _propose(self) -> None:
        """Turn slopes into candidates."""
        slopes, radius = self.slopes, self.credit.radius(self.arm)
        constraints = self._constraints()
        if self.arm in ("pgd", "descent"):
            self.attack = self._running_attack(radius)
            self.phase = "attack"
            return
        factors = (2.0,) if self._is_bold() else FACTORS
        self.proposals.make(self.arm, slopes, radius, factors, constraints, self.search.archive)
        self._try()

    def _running_attack(self, radius: float) -> RunningAttack | SurrogateDescent:
        """An attack that asks more than the slopes at the start."""
        count, fidelity = len(FACTORS), self.source.fidelity
        point = self.proposals.at(self.slopes.point)
        if self.arm == "descent":
            offset = self._constraints() - self.slopes.seen[1:]
            correction = self.proposals.correction
            return SurrogateDescent(self.problem, point, radius, fidelity, correction, offset)
        aim = self.proposals.aim(self.slopes, self._constraints(), self.search.archive)
        return Attack("pgd").start(
            self.problem,
            point.expand(count, -1).clone(),
            radius * point.new_tensor(FACTORS),
            None if aim is None else aim.to(point).expand(count, -1).clone(),
            fidelity,
        )

    def _tell_attack(self, query: Query, evaluation: Evaluation) -> None:
        assert self.attack is not None
        if query.is_true:
            self.search.learn(query.points, evaluation)
        self.attack.tell(query, evaluation)
        if self.attack.done:
            self.proposals.put(self.attack.step.double().cpu())
            self.attack = None
            self._try()

    def _try(self) -> None:
        """Ask for the true values of the candidates, after a look at them by the surrogate."""
        count = len(self.proposals.steps)
        if count == 0:
            self._end_turn(0.0)
        else:
            self.phase = "trial" if self.source.is_true else "screen"

    def _judge(self, query: Query, evaluation: Evaluation) -> None:
        """Learn true values of candidates; the radius follows the step that won."""
        first = self.search.archive.size
        steps = self.proposals.steps[: len(query.points)]
        self.search.learn(query.points, evaluation)
        if not self.source.is_true:
            value = float(self.search.archive.value[self.slopes.row])
            self.proposals.learn_correction(evaluation, self.slopes, value, self._constraints())
        self.proposals.learn_bends(steps, evaluation, self.slopes, self._constraints())
        radius, settings = self.credit.radius(self.arm), self.settings
        gain = self.attacked.gain()
        lengths = steps.abs().amax(1)
        if query.order == 1 and bool(evaluation.ok[0]):
            old = self.slopes
            place = torch.from_numpy(self.search.archive.points[first].copy())
            self._learn_slopes(first, place, evaluation)
            if self.attacked.row != first:
                self.slopes = old
        won = self.attacked.row - first
        if won >= 0 and gain >= SUFFICIENT * float(lengths[won]) ** 2:
            length = float(lengths[won])
            new = max(2 * length if len(steps) == 1 else length, 0.5 * radius)
            self.credit.resize(self.arm, new, settings.radius, settings.floor)
            self.search.radius = max(self.search.radius, 0.5 * length)
            self.credit.widen(0.5 * length)
            self.floors = 0
            brought = self.attacked.before[0] - float(evaluation.value[won])
            if self.arm == "quasi-newton" and brought < HEALTHY * self.proposals.promise:
                gain = 0.0  # a way around something that slopes do not tell of
        else:
            gain = 0.0
            share = self._shorter(steps[0], evaluation) if len(steps) == 1 else 0.25
            closer = share * float(lengths.min())
            closer = 0.5 * closer if self._is_bold() else closer
            below = self.credit.resize(self.arm, closer, settings.radius, settings.floor)
            self.floors += below
            if not self.settings.search and self.floors > len(self.arms):
                self.done = "converged: no attack lowers the value"
            self.trials += 1
            if self._is_bold() and self.trials < TRIALS and not below:
                self._propose()
                return
            if self.arm == "quasi-newton":
                self.proposals.history.clear()  # what was learnt may be what misleads
        self._end_turn(gain)

    def _shorter(self, step: Tensor, evaluation: Evaluation) -> float:
        """Share of a step that failed at the lowest point of the parabola through its values."""
        slope = float(self.slopes.gradient.dot(step))
        rise = float(evaluation.value[0]) - self.attacked.before[0]
        violated = float(evaluation.violation[0]) > FEASIBLE
        if violated or not math.isfinite(rise) or not slope < 0:
            return 0.25
        return min(max(-0.5 * slope / (rise - slope), 0.1), 0.5)

    def _end_turn(self, gain: float) -> None:
        self.credit.reward(self.arm, gain, max(self.price, 1.0))
        self.phase = "idle"

    @property
    def rows(self) -> int:
        """How many points a query holds at most times."""
        return 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; points stay."""
        self.search.objective_changed()
        self.phase, self.attack, self.done, self.barren = "idle", None, None, -1
        self._begin_anew()

    def events(self) -> tuple[str, ...]:
        """Those of the direct search."""
        return self.search.events()

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        attack = self.attack
        return {
            "own": snapshot(self, self.FIELDS),
            "search": self.search.state_dict(),
            "credit": self.credit.state_dict(),
            "slopes": self.slopes.state_dict(),
            "attacked": self.attacked.state_dict(),
            "proposals": self.proposals.state_dict(),
            "attack": None if attack is None else attack.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["own"], self.problem.device)
        self.search.load_state_dict(state["search"])
        self.credit.load_state_dict(state["credit"])
        self.slopes.load_state_dict(state["slopes"])
        self.attacked.load_state_dict(state["attacked"])
        self.proposals.load_state_dict(state["proposals"])
        self.attack = None
        if state["attack"] is not None:
            self.attack = self._running_attack(self.credit.radius(self.arm))
            self.attack.load_state_dict(state["attack"])
