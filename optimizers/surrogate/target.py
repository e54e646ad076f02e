"""Target-space surrogate: when outputs are cheap and judging them is costly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation, Incumbent, Query
from optimizers.gradient.quasi_newton import History, free_coordinates, quasi_newton_step
from optimizers.problem import Problem
from optimizers.state import check_answer, projection, restore, seeded, snapshot
from optimizers.target import LinearizedTarget

FEWEST, MOST = 5, 50  # inner steps by default, within what one outer step costs
DECREASE = 1e-4  # of Armijo's condition
TRIALS = 15  # along one direction
FIRST_STEP = 0.1  # of a scale, while no curvature is known
INNER_TOLERANCE = 0.05  # share of the first gradient at which a surrogate is solved
GROWTH, LOSS = 4.0, 10.0  # of eta at most, from one outer step to the next
ATTEMPTS = 10  # to find a start that can be evaluated


@dataclass(frozen=True)
class TargetSurrogate:
    """Many cheap steps for each costly gradient: when x -> outputs is cheap, outputs -> value not.

    For a composite value F(z(x)). Where z_t and u_t = grad F(z_t) are known, steps go down

        m(x) = <u_t, z(x) - z_t> + |z(x) - z_t|^2 / (2 eta)

    which asks of z alone, at `Problem.inner_share` of the price. While eta <= 1 / L, L the
    Lipschitz constant of grad F, m lies above F - F(z_t), and no outer step goes up.

    inner_steps: at most so many for one outer step; by default as many as cost about the same, 5
        to 50. They end when the gradient of m has fallen to 5 %.
    step: eta, in units of outputs squared over values; None starts from 2 |F| / |u|^2 and follows
        the curvature 1 / eta that F shows along each outer step. An outer step that does not lower
        F is then taken back, and costs no new gradient.
    memory: pairs of the quasi-Newton steps on m. Their curvature is that of z, so they stay valid
        from one outer step to the next.
    tolerance: as of L-BFGS.

    Lavington, Vaswani, Babanezhad, Schmidt and Le Roux, Target-based surrogates for stochastic
    optimization, 2023, algorithm 1. Ours: L-BFGS steps with Armijo's rule in the box, and eta
    without a constant to be known.
    """

    inner_steps: int | None = None
    step: float | None = None
    memory: int = 20
    tolerance: float = 1e-10

    name: ClassVar[str] = "target-surrogate"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.inner_steps is not None:
            check_count("inner_steps", self.inner_steps)
        if self.step is not None:
            check_number("step", self.step, above=0)
        check_count("memory", self.memory)
        check_number("tolerance", self.tolerance, least=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningTargetSurrogate:
        """A running search for this problem; ValueError unless it is composite."""
        return RunningTargetSurrogate(self, problem, seed)


class RunningTargetSurrogate:
    """The search between ask and tell; see `TargetSurrogate`.

    base, value, outputs, pull, base_gradient: x_t, F, z_t, u_t, and the gradient of F(z(x)) there.
    x, inner_value, gradient: where the inner steps stand, eta m there, and its gradient. The factor
        eta makes the curvature that of |z|^2 / 2, whatever eta is.
    """

    FIELDS = (
        "phase", "base", "value", "outputs", "pull", "base_gradient", "eta", "x", "inner_value",
        "gradient", "direction", "step", "trial", "trials", "taken", "first_norm", "inner_norm",
        "flat", "attempts", "done", "best", "generator",
    )  # fmt: skip

    def __init__(self, settings: TargetSurrogate, problem: Problem, seed: int) -> None:
        if not problem.composite:
            raise ValueError(
                "target-surrogate needs a composite problem: give Problem an outer function that "
                "maps the outputs of fun to the value"
            )
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.base = self.x = self.trial = problem.start
        self.base_gradient = self.gradient = self.direction = torch.zeros_like(self.x)
        self.outputs = self.pull = self.x.new_zeros(0)
        self.value, self.inner_value = math.inf, 0.0
        self.eta = settings.step or 0.0
        self.history = History(settings.memory, self.x)
        self.step, self.first_norm, self.inner_norm = 0.0, 0.0, 0.0
        self.phase = "start"
        self.trials, self.taken, self.flat, self.attempts = 0, 0, 0, 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._clamp = projection(problem)
        self._round_off = 10 * torch.finfo(problem.dtype).eps
        self._outer_price = problem.cost(1)
        self._inner_price = problem.cost(1, target=True)
        affordable = round(self._outer_price / self._inner_price)
        self._inner_steps = settings.inner_steps or min(max(affordable, FEWEST), MOST)

    def ask(self, remaining: float = math.inf) -> Query:
        """One point (1, d) with its gradient: of F where outer steps end, else of m."""
        last_chance = remaining < self._inner_price + self._outer_price
        if self.phase == "inner" and self.taken and last_chance:
            self.phase = "outer"
        if self.phase == "inner":
            target = LinearizedTarget(self.eta * self.pull[None], self.outputs[None], 1.0)
            return Query(self.trial[None], 1, tag="inner", target=target)
        return Query((self.trial if self.phase == "start" else self.x)[None], 1, tag="outer")

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Judge a trial of the inner steps, or a whole outer step."""
        check_answer(query, evaluation, expected=1)
        assert evaluation.gradient is not None
        ok, value, gradient = (
            bool(evaluation.ok[0]),
            float(evaluation.value[0]),
            evaluation.gradient[0],
        )
        if query.target is not None:
            self._judge(ok, value, gradient)
            return
        self.best.offer(query.points, evaluation)
        outputs, pull = evaluation.outputs, evaluation.output_gradient
        if ok and (outputs is None or pull is None):
            raise ValueError("evaluation must have outputs and an output_gradient")
        nothing = query.points.new_zeros(1, 0)
        z, u = (nothing if part is None else part for part in (outputs, pull))
        new = (value, gradient, z[0], u[0])
        if self.phase == "start":
            self._begin(ok, *new)
        else:
            self._judge_outer(ok, *new)

    def _begin(self, ok: bool, value: float, gradient: Tensor, z: Tensor, pull: Tensor) -> None:
        if not ok:
            self.attempts += 1
            self.trial = self.problem.sample(1, self.generator)[0]
            if self.attempts >= ATTEMPTS:
                self.done = "all evaluations failed"
            return
        if not self.eta:
            square = float(pull.square().sum())
            self.eta = 2 * abs(value) / square if value and square > 0 else 1.0
        self.x = self.trial
        self._rebase(value, gradient, z, pull)

    def _rebase(self, value: float, gradient: Tensor, z: Tensor, pull: Tensor) -> None:
        """Linearise at the point that the inner steps have reached."""
        self.base, self.value, self.base_gradient = self.x, value, gradient
        self.outputs, self.pull = z, pull
        norm = self._norm(gradient, self.x)
        self.first_norm = max(self.first_norm, norm)
        if norm <= self.settings.tolerance * self.first_norm:
            self.done = "converged: gradient"
        else:
            self._descend()

    def _descend(self) -> None:
        """The first inner step; its gradient is known from the outer one."""
        self.x, self.inner_value, self.taken = self.base, 0.0, 0
        self.gradient = self.eta * self.base_gradient
        self.inner_norm = self._norm(self.gradient, self.x)
        self.phase = "inner"
        self._choose_direction()

    def _choose_direction(self) -> None:
        scale, x = self.problem.scale, self.x
        room = ((self.problem.lower - x) / scale, (self.problem.upper - x) / scale)
        step = quasi_newton_step(self.gradient * scale, room, self.history)
        self.direction, self.trials = step * scale, 0
        self._try(1.0 if len(self.history) else FIRST_STEP / float(step.abs().max()))

    def _try(self, step: float) -> None:
        self.step = step
        self.trial = self._clamp(torch.add(self.x, self.direction, alpha=step))

    def _judge(self, ok: bool, value: float, gradient: Tensor) -> None:
        """Armijo's rule for a trial on eta m."""
        self.trials += 1
        promised = float(self.gradient.dot(self.trial - self.x))
        if ok and promised < 0 and value <= self.inner_value + DECREASE * promised:
            self._accept(value, gradient)
            return
        if self.trials < TRIALS and promised < 0:
            share = 0.25
            if ok:  # the minimum of the parabola through both values
                bend = value - self.inner_value - promised
                share = min(max(-0.5 * promised / bend, 0.1), 0.5)
            self._try(share * self.step)
        elif self.taken:
            self.phase = "outer"
        elif len(self.history):
            self.history.clear()
            self._choose_direction()
        else:
            self.done = "converged: no step lowers the value"

    def _accept(self, value: float, gradient: Tensor) -> None:
        scale = self.problem.scale
        step, change = (self.trial - self.x) / scale, (gradient - self.gradient) * scale
        self.history.take(step, change, self._round_off)
        self.x, self.inner_value, self.gradient = self.trial, value, gradient
        self.taken += 1
        solved = self._norm(gradient, self.x) <= INNER_TOLERANCE * self.inner_norm
        if solved or self.taken >= self._inner_steps:
            self.phase = "outer"
        else:
            self._choose_direction()

    def _judge_outer(
        self, ok: bool, value: float, gradient: Tensor, z: Tensor, pull: Tensor
    ) -> None:
        """Keep an outer step that lowers the value, and learn how far the next may go."""
        adaptive, old = self.settings.step is None, self.eta
        if not ok:
            self._retreat(old / 2)
            return
        away = z - self.outputs
        square = float(away.square().sum())
        rise = value - self.value - float(self.pull.dot(away))
        natural = 0.5 * square / rise if rise > 0 else math.inf  # 1 over the curvature along away
        flat = abs(value - self.value) <= self._round_off * max(abs(value), abs(self.value))
        self.flat = self.flat + 1 if flat else 0
        if self.flat >= 2:
            self.done = "converged: value"
        elif adaptive and value > self.value and not flat:
            self._retreat(min(max(natural, old / LOSS), old / 2))
        else:
            self.eta = min(max(natural, old / LOSS), GROWTH * old) if adaptive else old
            self.eta = self.eta if adaptive else float(self.settings.step or old)
            self._rebase(value, gradient, z, pull)

    def _retreat(self, eta: float) -> None:
        """Descend again from where the last gradient of F was asked, with a stronger pull back."""
        self.eta = eta
        if eta * float(self.pull.square().sum()) <= self._round_off * abs(self.value):
            self.done = "converged: no step lowers the value"
        else:
            self._descend()

    def _norm(self, gradient: Tensor, x: Tensor) -> float:
        """Largest entry of the projected gradient, in units of the scales."""
        free = free_coordinates(gradient, self.problem.lower - x, self.problem.upper - x)
        return float((gradient * self.problem.scale * free).norm(math.inf))

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; the point stays."""
        self.phase, self.trial, self.done, self.flat = "start", self.x, None, 0
        self.best = Incumbent(self.x)

    def events(self) -> tuple[str, ...]:
        """There are no turning points to tell of."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the search needs to go on."""
        return {"search": snapshot(self, self.FIELDS), "history": self.history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state["search"], self.problem.device)
        self.history.load_state_dict(state["history"], self.problem.device)
