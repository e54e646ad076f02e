"""Optimizers for values, gradients and constraints under one accounting.

A *problem* is a box and a way to evaluate points in it. A *method* is a frozen dataclass of
settings; started on a problem it is a running optimizer that never calls the problem. It is asked
and told:

    query = optimizer.ask()            # points (B, d), and the order: 0 values, 1 gradients too
    optimizer.tell(query, evaluation)  # values, gradients, constraints, and which rows are ok

Three famous methods are three ways to fill these two calls.
- Adam asks one point with its gradient, and takes one step when told.
- L-BFGS asks one trial point with its gradient. Told, it either accepts and turns its quasi-Newton
  step into the next trial, or it tries another length along the same line: the line search is a
  conversation, not a loop.
- CMA-ES asks a generation of points, values only, and learns a mean and a covariance from their
  ranks.

A hybrid is no different: it asks generations at order 0 while it explores and single points at
order 1 while it polishes, each batch at its own price. Whoever answers may be a torch function, a
simulator, a cluster or a robot.

The *driver* is the loop. It charges the budget (a value costs 1, a value with its gradient
`gradient_cost`, 3 by default), keeps the best point, puts an augmented Lagrangian around methods
that know no constraints, and writes checkpoints from which a killed run goes on bit for bit.

    def fun(x):
        return ((x - 0.3) ** 2).sum()

    problem = Problem.from_callable(fun, [-1.0] * 5, [1.0] * 5, differentiable=True)
    result = minimize(problem, "lbfgs", budget=Budget(evaluations=200))
    for it in iterate(problem, Adam(step_size=0.05), budget=Budget(seconds=10)):
        print(it.iteration, it.best_value)

By hand, with answers from elsewhere:

    box = Problem.box(lower=[0.0, 0.0], upper=[1.0, 2.0])
    optimizer = Cma(population=8).start(box, seed=0)
    while measurements_left():
        query = optimizer.ask()
        optimizer.tell(query, Evaluation(value=measure(query.points)))

Problems may show more of themselves, and methods ask for what they can use:

- `outer`: the value is F(Phi(x)). Answers then carry Phi's outputs and dF/dPhi, and a query may ask
  a `LinearizedTarget` of the outputs instead of the value; attacks and target surrogates do.
- `models`: coarse or learned versions of the function, each at its own price. Their answers steer,
  and only true values count.
- `Box(..., trajectory=True)`: the first axis is time, so that few `Knots` can be searched first.
- `equalities`: the last constraints are to be zero.

`recommend(problem)` picks a method and says why; `GUIDE` in `optimizers.recommend` has a line for
each.

To add a method: write its settings with `start`, and a running optimizer as in
`optimizers.state.Optimizer`, in a file of its own; list it in `optimizers/methods.py` and in
`GUIDE`, and the tests of all methods pick it up.
"""

from optimizers.barriers import ExtremeBarrier, ProgressiveBarrier
from optimizers.box import Box
from optimizers.budget import Budget
from optimizers.constraints import AugmentedLagrangian
from optimizers.direct_search.attack import Attack
from optimizers.direct_search.attack_search import AttackSearch
from optimizers.direct_search.covering import DirectSearch
from optimizers.driver import Iterate, Result, iterate, last_iterate, minimize
from optimizers.evaluation import FEASIBLE, Evaluation, Incumbent, Query
from optimizers.gradient.adam import Adam
from optimizers.gradient.lagrange_newton import LagrangeNewton
from optimizers.gradient.lbfgs import Lbfgs
from optimizers.gradient.regularized_newton import RegularizedNewton
from optimizers.hybrid.cma_then_adam import CmaThenAdam
from optimizers.hybrid.mixed_gradient import mixed_gradient
from optimizers.hybrid.mixed_order import MixedOrder
from optimizers.hybrid.sample_refine import SampleRefine
from optimizers.methods import METHODS
from optimizers.population.cma import Cma
from optimizers.population.consensus import Consensus
from optimizers.population.icem import Icem
from optimizers.population.mppi import Mppi
from optimizers.problem import Model, Problem
from optimizers.recommend import Recommendation, recommend
from optimizers.surrogate.bayes import Bayes
from optimizers.surrogate.ensemble import Ensemble
from optimizers.surrogate.gp_gradient import GpGradient
from optimizers.surrogate.offline import OfflineDesigns, offline_designs, pessimistic, trust_region
from optimizers.surrogate.sharpness import SharpnessPenalty
from optimizers.surrogate.target import TargetSurrogate
from optimizers.surrogate.training import SurrogateTrainer
from optimizers.target import LinearizedTarget

__all__ = [
    "FEASIBLE",
    "METHODS",
    "Adam",
    "Attack",
    "AttackSearch",
    "AugmentedLagrangian",
    "Bayes",
    "Box",
    "Budget",
    "Cma",
    "CmaThenAdam",
    "Consensus",
    "DirectSearch",
    "Ensemble",
    "Evaluation",
    "ExtremeBarrier",
    "GpGradient",
    "Icem",
    "Incumbent",
    "Iterate",
    "LagrangeNewton",
    "Lbfgs",
    "LinearizedTarget",
    "MixedOrder",
    "Model",
    "Mppi",
    "OfflineDesigns",
    "Problem",
    "ProgressiveBarrier",
    "Query",
    "Recommendation",
    "RegularizedNewton",
    "Result",
    "SampleRefine",
    "SharpnessPenalty",
    "SurrogateTrainer",
    "TargetSurrogate",
    "iterate",
    "last_iterate",
    "minimize",
    "mixed_gradient",
    "offline_designs",
    "pessimistic",
    "recommend",
    "trust_region",
]
