"""When to use which method: one line for each, and a rule that picks one for a problem."""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

from optimizers.budget import Budget
from optimizers.constraints import AugmentedLagrangian
from optimizers.population.cma import Cma
from optimizers.problem import Problem

MANY = 2000  # parameters, from which on only methods with a few vectors of memory are apt
FEW_VALUES = 300  # evaluations that a model of the value can still be fitted to at every step

GUIDE: dict[str, str] = {
    "adam": "many parameters, noisy gradients, values that follow a schedule",
    "lbfgs": "smooth values, exact gradients, one valley",
    "regularized-newton": "least squares through a simulator, stiff valleys; saddles with Hessians",
    "lagrange-newton": "smooth constraints, equalities too, few evaluations; up to some hundred",
    "cma": "values only, or gradients that mislead; several minima; up to a few hundred parameters",
    "icem": "trajectories by values only, a short plan that must be good soon",
    "mppi": "trajectories by values only, large batches at once",
    "consensus": "very large batches of values at once; many rough minima",
    "direct-search": "few evaluations, values that jump, constraints that say yes or no; up to 20",
    "attack-search": "F(Phi(x)) with a learned Phi; a surrogate proposes, the true model disposes",
    "sample-refine": "several minima and gradients of any trust; trajectories with contact",
    "cma-then-adam": "the two-stage scheme of ThinShellLab, as a baseline",
    "mixed-order": "stochastic descent where gradients are right here and wrong there",
    "target-surrogate": "F(Phi(x)) with a cheap Phi and a costly F",
    "gp-gradient": "smooth values without gradients, 10 to 300 parameters, few evaluations",
    "bayes": "a hundred costly evaluations; cheaper fidelities (extra: bayes)",
    "pycma": "the reference CMA-ES (extra: cma)",
    "nomad": "mesh adaptive direct search with constraints, up to 20 (extra: nomad)",
    "scipy-lbfgsb": "a reference: L-BFGS-B, by differences where there are no gradients",
    "scipy-slsqp": "a reference: sequential quadratic programming",
    "scipy-cobyqa": "a reference: quadratic models of values, with constraints, up to 20",
    "scipy-trust-constr": "a reference: interior point with a trust region",
    "scipy-nelder-mead": "a reference: the simplex method",
    "scipy-differential-evolution": "a reference: differential evolution",
}


class Recommendation(NamedTuple):
    """A method, a name or settings as `minimize` takes them, and the reason in one sentence."""

    method: Any
    why: str


def recommend(
    problem: Problem, *, budget: Budget | None = None, noisy: bool = False
) -> Recommendation:
    """The method to try first, from what the problem and the budget tell.

    noisy: values or gradients change from call to call at the same point.

    A rule of thumb from the benchmarks of this project, not a promise: the second method to try is
    often "sample-refine" with gradients and "cma" without.
    """
    d = problem.dimension
    evaluations = 1000 * (d + 1) if budget is None else budget.evaluations
    evaluations = float("inf") if evaluations is None else evaluations
    if problem.composite and problem.surrogate is not None:
        return Recommendation(
            "attack-search",
            "a cheap model with gradients can propose designs, and the true one accepts them",
        )
    if problem.current or (noisy and problem.differentiable) or d > MANY:
        return _many_or_noisy(problem)
    if problem.equalities:
        return _equalities(problem)
    if problem.trajectories:
        return Recommendation(
            "sample-refine",
            "trajectories are sampled by few knots, which crosses contacts, and refined in full",
        )
    if problem.differentiable and problem.constraints and d <= 200 and evaluations < 100 * (d + 1):
        return Recommendation(
            "lagrange-newton", "constraints, gradients and few evaluations: one smooth valley"
        )
    if problem.differentiable:
        return _with_gradients(problem, evaluations)
    return _by_values(problem, evaluations, noisy)


def _many_or_noisy(problem: Problem) -> Recommendation:
    if problem.differentiable:
        reason = "gradients are noisy or follow a schedule, and Adam averages them"
        if problem.dimension > MANY and not problem.current:
            reason = f"{problem.dimension} parameters: a few vectors of memory, and any noise"
        return Recommendation("adam", reason)
    return Recommendation(
        Cma(covariance="diagonal"),
        f"values only and {problem.dimension} parameters: one variance each",
    )


def _equalities(problem: Problem) -> Recommendation:
    if problem.differentiable:
        return Recommendation(
            "lagrange-newton", "equalities with gradients: Newton steps on point and multipliers"
        )
    return Recommendation(
        AugmentedLagrangian("cma"),
        "equalities without gradients: no point is ever inside, so multipliers must lead",
    )


def _with_gradients(problem: Problem, evaluations: float) -> Recommendation:
    d = problem.dimension
    if problem.composite and problem.inner_share < 0.5:
        return Recommendation(
            "target-surrogate", "F is the costly part: one gradient of it feeds many steps of Phi"
        )
    if problem.composite and d <= 200:
        return Recommendation(
            "regularized-newton", "F(Phi(x)) with gradients has a Gauss-Newton matrix"
        )
    if d <= 200 and evaluations >= 100 * (d + 1):
        return Recommendation(
            "sample-refine",
            "gradients, and evaluations enough to look for several minima before the last polish",
        )
    return Recommendation("lbfgs", "gradients and few evaluations: straight down the next valley")


def _by_values(problem: Problem, evaluations: float, noisy: bool) -> Recommendation:
    d = problem.dimension
    few = evaluations <= min(FEW_VALUES, 20 * (d + 1))
    if few and d <= 20 and importlib.util.find_spec("botorch") is not None:
        return Recommendation(
            "bayes", f"{evaluations:.0f} evaluations: a Gaussian process makes the most of each"
        )
    if d <= 20 and not noisy and evaluations <= 200 * (d + 1):
        return Recommendation(
            "direct-search", f"values only, {d} parameters and few evaluations; walls are no harm"
        )
    if 20 < d <= 300 and not noisy and not problem.constraints and evaluations <= 30 * (d + 1):
        return Recommendation(
            "gp-gradient", "values only, smooth if one is lucky: past values give the slope"
        )
    return Recommendation(
        "cma", "values only: learns scales and directions, and ranks bear noise and failures"
    )
