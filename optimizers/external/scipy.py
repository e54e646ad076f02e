"""Solvers of SciPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from optimizers.checks import check_count, check_number
from optimizers.external.bridge import RunningBridge, Solve, ThreadTalk
from optimizers.external.objective import SPREAD, Frame, Objective, persistently
from optimizers.external.process import run_apart
from optimizers.problem import Problem

ENDLESS = 10**9  # iterations: the budget ends a run, not the solver
FINEST = 1e-14  # relative change of values that is still worth a step
SMALLEST = 1e-9  # of the scales: last radius of trust regions and simplices
INSIDE = 1e-6  # of the scales: how far inside an interior-point method begins

Search = Callable[[Objective, np.ndarray], Any]  # to a reason, or to a result of SciPy


@dataclass(frozen=True)
class ScipyLbfgsb:
    """SciPy's L-BFGS-B: to compare with our `lbfgs`, or where only values are there.

    Gradients where the problem has them, else differences of values at d more points.
    Byrd, Lu, Nocedal and Zhu, 1995. Ours around it: variables in units of the scales, and a search
    that failed evaluations have ended begins anew at its best point.
    """

    name: ClassVar[str] = "scipy-lbfgsb"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""
        options = {"maxiter": ENDLESS, "maxfun": ENDLESS, "maxls": 50, "ftol": FINEST, "gtol": 0.0}

        def search(objective: Objective, begin: np.ndarray) -> Any:
            from scipy.optimize import minimize

            return minimize(
                objective.value, begin, jac=objective.slope, method="L-BFGS-B",
                bounds=_sides(objective.frame), options=options,
            )  # fmt: skip

        return _running(self.name, problem, seed, search, order=int(problem.differentiable))


@dataclass(frozen=True)
class ScipySlsqp:
    """SciPy's SLSQP: for smooth problems with constraints and up to a few hundred parameters.

    Gradients where the problem has them, else differences of values at d more points.
    Kraft, 1988. Ours around it is as for `ScipyLbfgsb`.
    """

    name: ClassVar[str] = "scipy-slsqp"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""

        def search(objective: Objective, begin: np.ndarray) -> Any:
            from scipy.optimize import minimize

            split = objective.count - objective.frame.equalities
            parts = [("ineq", slice(0, split), -1.0), ("eq", slice(split, None), 1.0)]
            constraints = [
                {
                    "type": kind,
                    "fun": lambda u, part=part, sign=sign: sign * objective.constraints(u)[part],
                    "jac": lambda u, part=part, sign=sign: sign * objective.jacobian(u)[part],
                }
                for kind, part, sign in parts
                if objective.count and len(range(objective.count)[part])
            ]
            return minimize(
                objective.value, begin, jac=objective.slope, method="SLSQP",
                bounds=_sides(objective.frame), constraints=constraints,
                options={"maxiter": ENDLESS, "ftol": FINEST},
            )  # fmt: skip

        return _running(self.name, problem, seed, search, order=int(problem.differentiable))


@dataclass(frozen=True)
class ScipyTrustConstr:
    """SciPy's trust-constr: for smooth problems with constraints that SLSQP makes nothing of.

    radius: first one of the trust region, in units of each parameter's scale.
    Gradients where the problem has them, else differences of values at d more points; curvatures by
    BFGS. Byrd, Hribar and Nocedal, 1999. Ours around it is as for `ScipyLbfgsb`.
    """

    radius: float = 0.1

    name: ClassVar[str] = "scipy-trust-constr"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""
        options = {
            "maxiter": ENDLESS, "initial_tr_radius": self.radius, "gtol": 1e-12, "xtol": SMALLEST,
            "barrier_tol": 1e-10,
        }  # fmt: skip

        def search(objective: Objective, begin: np.ndarray) -> Any:
            from scipy.optimize import BFGS, Bounds, minimize

            frame = objective.frame
            sides = (frame.lower, frame.upper)
            bounds = Bounds(*sides, keep_feasible=True)  # pyright: ignore[reportArgumentType]
            begin = np.clip(begin, frame.lower + INSIDE, frame.upper - INSIDE)
            slopes = {"jac": objective.jacobian, "hess": BFGS()}
            return minimize(
                objective.value, begin, jac=objective.slope, hess=BFGS(), method="trust-constr",
                bounds=bounds, constraints=_nonlinear(objective, **slopes), options=options,
            )  # fmt: skip

        return _running(self.name, problem, seed, search, order=int(problem.differentiable))


@dataclass(frozen=True)
class ScipyCobyqa:
    """SciPy's COBYQA: for smooth values without gradients, few parameters, with constraints.

    radius: first one of the trust region, in units of each parameter's scale.
    Ragonneau, 2022. Needs SciPy 1.14. Ours around it is as for `ScipyLbfgsb`, and it has a process
    of its own.
    """

    radius: float = 0.1

    name: ClassVar[str] = "scipy-cobyqa"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""
        options = {
            "maxiter": ENDLESS, "maxfev": ENDLESS, "initial_tr_radius": self.radius,
            "final_tr_radius": SMALLEST,
        }  # fmt: skip

        def search(objective: Objective, begin: np.ndarray) -> str:
            frame = objective.frame
            lower, upper = _constraint_sides(objective)
            task = {
                "solver": "cobyqa",
                "start": begin.tolist(),
                "lower": frame.lower.tolist(),
                "upper": frame.upper.tolist(),
                "constraints": [lower.tolist(), upper.tolist()],
                "options": options,
            }
            return run_apart(
                task, lambda u: [objective.value(u), *objective.constraints(u).tolist()]
            )

        return _running(self.name, problem, seed, search, order=0)


@dataclass(frozen=True)
class ScipyNelderMead:
    """SciPy's Nelder-Mead simplex: for few parameters and values that are not smooth.

    radius: edges of the first simplex, in units of each parameter's scale.
    Gao and Han, 2012 (factors by dimension). Ours around it is as for `ScipyLbfgsb`.
    """

    radius: float = 0.1

    name: ClassVar[str] = "scipy-nelder-mead"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("radius", self.radius, above=0)

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""

        def search(objective: Objective, begin: np.ndarray) -> Any:
            from scipy.optimize import minimize

            inside = begin + self.radius <= objective.frame.upper
            edges = np.diag(np.where(inside, self.radius, -self.radius))
            simplex = np.vstack((begin, begin + edges))
            options = {
                "maxiter": np.inf, "maxfev": np.inf, "xatol": SMALLEST, "fatol": np.inf,
                "adaptive": True, "initial_simplex": simplex,
            }  # fmt: skip
            return minimize(
                objective.raw_value, begin, method="Nelder-Mead", bounds=_sides(objective.frame),
                options=options,
            )  # fmt: skip

        return _running(self.name, problem, seed, search, order=0)


@dataclass(frozen=True)
class ScipyDifferentialEvolution:
    """SciPy's differential evolution: a slow global search for few parameters and large budgets.

    population: members for each coordinate.
    Storn and Price, 1997. A side without a bound is searched two scales around the start.
    """

    population: int = 15

    name: ClassVar[str] = "scipy-differential-evolution"
    order: ClassVar[int] = 0
    handles_constraints: ClassVar[bool] = True
    by_rank: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_count("population", self.population)

    def start(self, problem: Problem, seed: int = 0) -> RunningBridge:
        """A running search for this problem."""

        def search(objective: Objective, begin: np.ndarray) -> Any:
            from scipy.optimize import differential_evolution

            frame = objective.frame
            low = np.where(np.isfinite(frame.lower), frame.lower, begin - SPREAD)
            high = np.where(np.isfinite(frame.upper), frame.upper, begin + SPREAD)
            return differential_evolution(
                objective.columns, list(zip(low, high, strict=True)), maxiter=ENDLESS,
                popsize=self.population, tol=FINEST, rng=objective.random,
                polish=False, x0=begin, vectorized=True, updating="deferred",
                constraints=_nonlinear(objective, columns=True),
            )  # fmt: skip

        return _running(self.name, problem, seed, search, order=0)


def _running(name: str, problem: Problem, seed: int, search: Search, order: int) -> RunningBridge:
    frame = Frame.of(problem, order)

    def begin(origin: np.ndarray, seed: int) -> ThreadTalk:
        return ThreadTalk(_solver(search, frame, origin, np.random.default_rng(seed)))

    return RunningBridge(problem, seed, order, begin, name)


def _solver(search: Search, frame: Frame, origin: np.ndarray, random: np.random.Generator) -> Solve:
    def solve(call: Any, note: Callable[[str], None]) -> str:
        objective = Objective(call, frame, random)

        def once(begin: np.ndarray) -> str:
            found = search(objective, begin)
            reason = found if isinstance(found, str) else str(found.message)
            return reason.strip().rstrip(".").lower()

        return persistently(once, objective, origin, note)

    return solve


def _sides(frame: Frame) -> list[tuple[float, float]]:
    return list(zip(frame.lower.tolist(), frame.upper.tolist(), strict=True))


def _nonlinear(objective: Objective, columns: bool = False, **slopes: Any) -> tuple[Any, ...]:
    """The constraints for SciPy, none where there are none."""
    from scipy.optimize import NonlinearConstraint

    if not objective.count:
        return ()
    function = objective.constraint_columns if columns else objective.constraints
    return (NonlinearConstraint(function, *_constraint_sides(objective), **slopes),)


def _constraint_sides(objective: Objective) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the constraints: equalities have the lower one too."""
    lower = np.full(objective.count, -np.inf)
    lower[objective.count - objective.frame.equalities :] = 0.0
    return lower, np.zeros(objective.count)
