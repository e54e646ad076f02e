"""Newton on the conditions of a constrained optimum: first choice for smooth equalities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from optimizers.checks import check_number
from optimizers.evaluation import FEASIBLE, Evaluation, Incumbent, Query
from optimizers.gradient.quasi_newton import free_coordinates
from optimizers.problem import Problem
from optimizers.state import Resumable, check_answer, projection, seeded
from optimizers.target import LinearizedTarget

DECREASE = 0.1  # of the slope of the merit, that a step must bring
GROWTH = 1.5  # nu of the penalties
FADING = 0.1  # what is left of the first one at the next direction, unless it is needed
TRIALS = 30  # lengths along one direction
ATTEMPTS = 10  # to find a start that can be evaluated
PASSES = 4  # over the coordinates that a step takes to their bounds
SHIFT = 0.1  # of the largest curvature, beyond what makes the reduced matrix positive
DIRECTIONS = 4  # without a step, each with more damping than the last, until the run ends


@dataclass(frozen=True)
class LagrangeNewton:
    """Steps on point and multipliers together: for smooth equalities, to many digits.

    curvature: "bfgs" learns B from the gradients of the Lagrangian, with eta_2 = 0, until a
        direction leads nowhere; from then on, and with "hessian" from the start, every iterate asks
        for the Hessian.
    first_penalty, second_penalty: eta_1 and eta_2 of the merit at first.
    tolerance: the run has converged when the projected gradient of the Lagrangian has fallen to
        this share of the first gradient and the violation to what counts as feasible, or lower.

    With slacks s >= 0 that make g + s = 0 of every inequality, and c all constraints, the direction
    solves

        [[B, J^T], [J, 0]] (dw, dl) = -(grad_w L, c),    L = f + l . c

    and its length meets Armijo's condition, on w and l at once, for the exact merit

        L + eta_1 / 2 |c|^2 + eta_2 / 2 |grad_w L|^2

    While the slope of the merit is above -eta_2 / 2 |(grad_w L, c)|^2, eta_1 grows by 1.5^2 and
    eta_2 shrinks by 1.5. B is the Hessian of the Lagrangian, for composite values the Gauss-Newton
    matrix, shifted where it is not positive on the null space of J, or its damped BFGS model
    (Nocedal and Wright, procedure 18.2). Each length that is tried is a query of order 1.

    Hong, Na, Mahoney and Kolar, 2023 (AdaSketch-Newton), without the sketching, which pays for huge
    systems only. Ours: the slacks, the model, and the box, by solving on the free coordinates.
    """

    curvature: Literal["bfgs", "hessian"] = "bfgs"
    first_penalty: float = 1.0
    second_penalty: float = 0.1
    tolerance: float = 1e-9

    name: ClassVar[str] = "lagrange-newton"
    order: ClassVar[int] = 1
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.curvature not in ("bfgs", "hessian"):
            raise ValueError(f'curvature must be "bfgs" or "hessian", got {self.curvature!r}')
        check_number("first_penalty", self.first_penalty, above=0)
        check_number("second_penalty", self.second_penalty, above=0)
        check_number("tolerance", self.tolerance, above=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningLagrangeNewton:
        """A running search for this problem."""
        return RunningLagrangeNewton(self, problem, seed)


class RunningLagrangeNewton(Resumable):
    """The search between ask and tell; see `LagrangeNewton`.

    w: (d + slacks,), the point in units of the scales and the slacks. l: (m,), multipliers.
    value, gradient, constraints, jacobian: at the point; constraints (m,) in units of their first
    slopes, `units`, with the slacks added; gradient and jacobian in units of the scales, without
    the slacks. step: (d + slacks + m,). matrix: (d, d), of the Lagrangian.
    """

    FIELDS = (
        "phase", "w", "l", "value", "gradient", "constraints", "jacobian", "matrix", "units",
        "inequalities", "step", "length", "trials", "slope", "free", "damping", "stuck",
        "first_penalty", "second_penalty", "exact", "first_norm", "attempts", "done", "best",
        "generator",
    )  # fmt: skip

    def __init__(self, settings: LagrangeNewton, problem: Problem, seed: int) -> None:
        self.settings, self.problem = settings, problem
        self.generator = seeded(problem, seed)
        self.w = problem.start / problem.scale
        d, zeros = problem.dimension, problem.start.new_zeros
        self.l = self.constraints = self.units = zeros(0)
        self.gradient, self.step, self.jacobian = zeros(d), zeros(d), zeros(0, d)
        self.matrix = torch.eye(d, dtype=problem.dtype, device=problem.device)
        self.free = torch.ones(d, dtype=torch.bool, device=problem.device)
        self.value, self.slope, self.length, self.damping = math.inf, 0.0, 1.0, 0.0
        self._take_curvature(settings.curvature == "hessian")
        self.first_norm = 0.0
        self.phase, self.inequalities, self.trials, self.stuck, self.attempts = "start", 0, 0, 0, 0
        self.done: str | None = None
        self.best = Incumbent(problem.start)
        self._clamp = projection(problem)

    def _take_curvature(self, exact: bool) -> None:
        """Ask for Hessians or learn them; a model is too rough for the merit's last term."""
        self.exact, self.first_penalty = exact, self.settings.first_penalty
        self.second_penalty = self.settings.second_penalty if exact else 0.0

    def ask(self, remaining: float = math.inf) -> Query:
        """The trial point (1, d) with its gradients, or the curvature where the search stands."""
        if self.phase != "curvature":
            return Query(self._point(self._trial()[0]), order=1, tag=self.phase)
        points = self._point(self.w)
        if self.problem.composite:
            return Query(points, order=2, tag=self.phase)
        weights = torch.cat((points.new_ones(1), self.l / self.units))
        return Query(points, order=2, tag=self.phase, target=LinearizedTarget(weights[None]))

    def _point(self, w: Tensor) -> Tensor:
        d = self.problem.dimension
        return self._clamp((w[:d] * self.problem.scale)[None])

    def _trial(self) -> tuple[Tensor, Tensor]:
        """w and l after the step of the length that is tried."""
        if self.phase == "start":
            return self.w, self.l
        w = self.w + self.length * self.step[: len(self.w)]
        lower, upper = self._bounds()
        return w.clamp(lower, upper), self.l + self.length * self.step[len(self.w) :]

    def _bounds(self) -> tuple[Tensor, Tensor]:
        problem, slacks = self.problem, self.w.new_zeros(self.inequalities)
        lower, upper = problem.lower / problem.scale, problem.upper / problem.scale
        return torch.cat((lower, slacks)), torch.cat((upper, slacks + math.inf))

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Begin, turn a curvature into a direction, or judge a length."""
        check_answer(query, evaluation, expected=1)
        if query.is_true:
            self.best.offer(query.points, evaluation)
        ok = bool(evaluation.ok[0])
        if self.phase == "curvature":
            if ok and evaluation.curvature is not None:
                scale = self.problem.scale
                self.matrix = scale[:, None] * evaluation.curvature[0] * scale
            self._choose_direction()
        elif self.phase == "start":
            self._begin(ok, evaluation)
        else:
            self._judge(ok, evaluation)

    def _begin(self, ok: bool, evaluation: Evaluation) -> None:
        if not ok:
            self.attempts += 1
            self.w = self.problem.sample(1, self.generator)[0] / self.problem.scale
            if self.attempts >= ATTEMPTS:
                self.done = "all evaluations failed"
            return
        count = 0 if evaluation.constraints is None else evaluation.constraints.shape[1]
        self.inequalities = count - evaluation.equalities if count else 0
        self.units = self.w.new_ones(count)
        value, constraints, gradient, jacobian = self._measured(evaluation)
        slopes = jacobian.norm(dim=1)
        self.units = slopes.where(slopes > 0, 1.0)
        constraints, jacobian = constraints / self.units, jacobian / self.units[:, None]
        slacks = (-constraints[: self.inequalities]).clamp(min=0.0)
        self.w = torch.cat((self.w[: self.problem.dimension], slacks))
        self.l = self._first_multipliers(gradient, jacobian, slacks)
        # a first step of a tenth of a scale where nothing bends it
        self.matrix = torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
        self.matrix *= max(10 * float(gradient.norm()), 1e-8)
        self._move(self.w, self.l, value, constraints, gradient, jacobian)

    def _first_multipliers(self, gradient: Tensor, jacobian: Tensor, slacks: Tensor) -> Tensor:
        """Least squares of grad L over the multipliers; of inequalities that are met, none."""
        if not len(jacobian):
            return gradient.new_zeros(0)
        system = jacobian @ jacobian.mT
        system.diagonal().add_(1e-8 * float(system.diagonal().max()) + 1e-12)
        multipliers = -torch.linalg.solve(system, jacobian @ gradient)
        pressing = multipliers[: self.inequalities].clamp(min=0.0).where(slacks == 0, 0.0)
        return torch.cat((pressing, multipliers[self.inequalities :]))

    def _measured(self, evaluation: Evaluation) -> tuple[float, Tensor, Tensor, Tensor]:
        """Value, constraints (m,), gradient (d,) and jacobian (m, d) in the units of the search."""
        assert evaluation.gradient is not None
        scale, gradient = self.problem.scale, evaluation.gradient[0]
        constraints, slopes = evaluation.constraints, evaluation.constraint_gradient
        if constraints is None:
            return float(evaluation.value[0]), gradient[:0], gradient * scale, self.jacobian[:0]
        if slopes is None:
            raise ValueError(
                "evaluation must have a constraint_gradient, the query asked for order 1"
            )
        units = self.units
        jacobian = slopes[0] * scale / units[:, None]
        return float(evaluation.value[0]), constraints[0] / units, gradient * scale, jacobian

    def _move(
        self, w: Tensor, l: Tensor, value: float, constraints: Tensor, gradient: Tensor,
        jacobian: Tensor,
    ) -> None:  # fmt: skip
        """Stand at a new point, and ask for its curvature unless it is an optimum."""
        self.w, self.l, self.value = w, l, value
        self.gradient, self.jacobian = gradient, jacobian
        self.constraints = self._with_slacks(constraints, w)
        self.first_norm = self.first_norm or float(gradient.norm())
        lagrangian = self._lagrangian_gradient(gradient, jacobian, l)
        lower, upper = self._bounds()
        self.free = free_coordinates(lagrangian, lower - w, upper - w)
        residual = float((lagrangian * self.free).norm())
        away = float((self.constraints.abs() * self.units).sum())
        tolerance = self.settings.tolerance
        if residual <= tolerance * self.first_norm and away <= 0.01 * FEASIBLE:
            self.done = "converged: constrained optimum" if len(l) else "converged: gradient"
        if self.exact:
            self.phase = "curvature"
        elif self.done is None:
            self._choose_direction()

    def _learn(self, step: Tensor, change: Tensor) -> None:
        """Powell's damped BFGS update of the matrix by a step (d,) and its change of gradient."""
        bent = self.matrix @ step
        modelled, met = float(step.dot(bent)), float(step.dot(change))
        if not modelled > 0:
            return
        if met < 0.2 * modelled:
            share = 0.8 * modelled / (modelled - met)
            change = share * change + (1 - share) * bent
            met = float(step.dot(change))
        self.matrix = self.matrix - torch.outer(bent, bent) / modelled
        self.matrix = self.matrix + torch.outer(change, change) / met

    def _with_slacks(self, constraints: Tensor, w: Tensor) -> Tensor:
        split, d = self.inequalities, self.problem.dimension
        return torch.cat((constraints[:split] + w[d:], constraints[split:]))

    def _lagrangian_gradient(self, gradient: Tensor, jacobian: Tensor, l: Tensor) -> Tensor:
        return torch.cat((gradient + jacobian.mT @ l, l[: self.inequalities]))

    def _merit(self, value: float, constraints: Tensor, lagrangian: Tensor, l: Tensor) -> float:
        """The merit from constraints with slacks and the gradient of the Lagrangian."""
        moving = (lagrangian * self.free).square().sum()
        first = 0.5 * self.first_penalty * constraints.square().sum()
        return value + float(l.dot(constraints) + first + 0.5 * self.second_penalty * moving)

    def _choose_direction(self) -> None:
        d, slacks = self.problem.dimension, self.inequalities
        like, count = self.w, len(self.l)
        full = torch.block_diag(self.matrix, like.new_zeros(slacks, slacks))
        unit = torch.eye(count, dtype=like.dtype, device=like.device)[:, :slacks]
        jacobian = torch.cat((self.jacobian, unit), 1)
        lagrangian = self._lagrangian_gradient(self.gradient, self.jacobian, self.l)
        lower, upper = self._bounds()
        free, held = self.free.clone(), torch.zeros_like(self.w)
        matrix = full + self._shift(full, jacobian, free) * torch.eye(
            d + slacks, dtype=like.dtype, device=like.device
        )
        for _ in range(PASSES):
            w_step, l_step = _kkt_step(
                matrix, jacobian, lagrangian + matrix @ held, self.constraints + jacobian @ held,
                free,
            )  # fmt: skip
            w_step = w_step + held
            beyond = free & ((self.w + w_step < lower) | (self.w + w_step > upper))
            if not bool(beyond.any()):
                break
            held = torch.where(beyond, w_step.clamp(lower - self.w, upper - self.w), held)
            free = free & ~beyond
        w_step = w_step.clamp(lower - self.w, upper - self.w)
        self.step = torch.cat((w_step, l_step))
        self.slope = self._slope(matrix, jacobian, lagrangian, w_step, l_step)
        self.phase, self.length, self.trials = "search", 1.0, 0

    def _shift(self, matrix: Tensor, jacobian: Tensor, free: Tensor) -> float:
        """What makes the matrix positive definite on the null space of the free jacobian."""
        index = free.nonzero()[:, 0]
        block, slopes = matrix[index][:, index], jacobian[:, index]
        if not len(index):
            return self.damping
        basis = torch.linalg.svd(slopes, full_matrices=True)
        rank = int((1e-10 * basis.S.max() < basis.S).sum()) if len(basis.S) else 0
        null = basis.Vh[rank:].mT
        if null.shape[1] == 0:
            return self.damping
        eigenvalues = torch.linalg.eigvalsh(null.mT @ block @ null)
        least, largest = float(eigenvalues[0]), float(eigenvalues.abs().max())
        needed = 0.0 if least > 1e-8 * largest else SHIFT * max(largest, 1e-8) - least
        return needed + self.damping

    def _slope(
        self, matrix: Tensor, jacobian: Tensor, lagrangian: Tensor, w_step: Tensor, l_step: Tensor
    ) -> float:
        """Slope of the merit along the step, after the penalties that make it steep enough."""
        moving = lagrangian * self.free
        error = float(moving.square().sum() + self.constraints.square().sum())
        needed = 0.0 if self.exact else -0.5 * float(w_step.dot(matrix @ w_step))
        plain = float(lagrangian.dot(w_step) + self.constraints.dot(l_step))
        first = float(self.constraints.dot(jacobian @ w_step))
        second = float(moving.dot(matrix @ w_step) + moving.dot(jacobian.mT @ l_step))
        # a penalty that one bad spot asked for must not rule the rest of the way
        self.first_penalty = max(self.settings.first_penalty, FADING * self.first_penalty)
        for _ in range(100):
            slope = plain + self.first_penalty * first + self.second_penalty * second
            if slope <= min(needed, -0.5 * self.second_penalty * error):
                break
            self.first_penalty *= GROWTH**2
            self.second_penalty /= GROWTH
        return slope

    def _judge(self, ok: bool, evaluation: Evaluation) -> None:
        self.trials += 1
        w, l = self._trial()
        if ok:
            value, constraints, gradient, jacobian = self._measured(evaluation)
            lagrangian = self._lagrangian_gradient(gradient, jacobian, l)
            merit = self._merit(value, self._with_slacks(constraints, w), lagrangian, l)
            here = self._merit(
                self.value, self.constraints,
                self._lagrangian_gradient(self.gradient, self.jacobian, self.l), self.l,
            )  # fmt: skip
            round_off = 10 * torch.finfo(w.dtype).eps * abs(here)
            if merit <= here + DECREASE * self.length * min(self.slope, 0.0) + round_off:
                self.stuck, self.damping = 0, 0.1 * self.damping
                if not self.exact:
                    d = self.problem.dimension
                    before = self.gradient + self.jacobian.mT @ l
                    self._learn(w[:d] - self.w[:d], lagrangian[:d] - before)
                moved = not (torch.equal(w, self.w) and torch.equal(l, self.l))
                self._move(w, l, value, constraints, gradient, jacobian)
                if not moved:
                    self.done = self.done or "converged: no step lowers the merit"
                return
        self.length *= 0.5
        if self.trials < TRIALS:
            return
        self.stuck += 1
        if not self.exact:
            self._take_curvature(True)
            self.phase, self.stuck = "curvature", 0
            return
        largest = float(self.matrix.abs().max())
        self.damping = max(10 * self.damping, largest, 1e-8)
        if self.stuck >= DIRECTIONS:
            self.done = "converged: no step lowers the merit"
        else:
            self._choose_direction()

    @property
    def rows(self) -> int:
        """How many points a full query holds."""
        return 1

    def objective_changed(self) -> None:
        """Forget the values told so far: an adapter changed what is minimised; the point stays."""
        self.w, self.phase, self.done = self.w[: self.problem.dimension], "start", None
        self.attempts = self.stuck = 0
        self.first_norm, self.damping = 0.0, 0.0
        self.best = Incumbent(self._point(self.w)[0])

    def events(self) -> tuple[str, ...]:
        """There are no turning points to tell of."""
        return ()


def _kkt_step(
    matrix: Tensor, jacobian: Tensor, slope: Tensor, constraints: Tensor, free: Tensor
) -> tuple[Tensor, Tensor]:
    """dw (n,), 0 off the free coordinates, and dl (m,) of the linear system of `LagrangeNewton`.

    A jacobian that has lost rank is met by a tiny pull of dl to 0.
    """
    index, count = free.nonzero()[:, 0], len(constraints)
    block, slopes = matrix[index][:, index], jacobian[:, index]
    size = len(index)
    system = matrix.new_zeros(size + count, size + count)
    system[:size, :size], system[:size, size:], system[size:, :size] = block, slopes.mT, slopes
    tiny = 1e-10 * (1 + float(slopes.square().sum(1).max()) if count and size else 1.0)
    system.diagonal()[size:].sub_(tiny)
    solution = torch.linalg.solve_ex(system, -torch.cat((slope[index], constraints)))[0]
    solution = torch.nan_to_num(solution, nan=0.0, posinf=0.0, neginf=0.0)
    step = torch.zeros_like(slope).index_put((index,), solution[:size])
    return step, solution[size:]
