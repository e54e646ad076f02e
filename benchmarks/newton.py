"""Second-order methods beside SciPy's, at equal charge.

    python benchmarks/newton.py

The first table: evaluations until the gap to the minimum has fallen to 1e-8 of the first one,
medians over random starts, with a gradient charged as 3 values, a Hessian as 3 (d + 1) and the
Jacobian of a composite value as 1 + 2 d. SciPy's peers are charged alike: `least_squares` one
Jacobian and one value a step, `trust-exact` one Hessian, one gradient and one value. "-" is a run
that did not get there within 20000. The second table: evaluations to a violation of 1e-6 and a
value within 1e-6 of the published optimum, on problems of Hock and Schittkowski (1981). One thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and by numpy's linear algebra when they load

import math
import warnings
from statistics import median

import numpy as np
import torch
from scipy import optimize

from optimizers import Budget, Problem, RegularizedNewton, iterate
from optimizers.testing import boxed

LIMIT, SHARE, STARTS = 20000, 1e-8, 5


def random(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def valley_residuals(x):
    return torch.cat((10 * (x[..., 1:] - x[..., :-1] ** 2), 1 - x[..., :-1]), -1)


def exponential_fit(x):
    """Sums of two damped waves at 60 times, data from known parameters."""
    time = torch.linspace(0, 4, 60, dtype=x.dtype)

    def signal(p):
        a, b, c, d = (p[..., i, None] for i in range(4))
        return torch.exp(-a * time) * torch.cos(b * time) + c * torch.exp(-d * time)

    truth = torch.tensor([0.5, 3.0, 0.8, 1.5], dtype=x.dtype)
    return signal(x) - signal(truth)


def network_fit(x):
    """Inputs of a random network that give wanted outputs."""
    d = x.shape[-1]
    first, second = random(d, 40, seed=1) / math.sqrt(d), random(40, 30, seed=2) / math.sqrt(40)

    def outputs(p):
        return torch.tanh(p @ first) @ second

    return outputs(x) - outputs(0.5 * random(d, seed=3))


def ill_linear(x):
    d = x.shape[-1]
    basis = torch.linalg.qr(random(2 * d, d, seed=4)).Q * torch.logspace(0, 3, d).double()
    return (x - 0.3) @ basis.mT


CASES = {
    "valley": (valley_residuals, 10, 2.0),
    "damped waves": (exponential_fit, 4, 4.0),
    "network inputs": (network_fit, 20, 2.0),
    "linear, condition 1e6": (ill_linear, 30, 2.0),
}


def square(y):
    return y.square().sum(-1)


def posed(residuals, d, half, start, composite):
    options = {"outer": square} if composite else {}
    fun = residuals if composite else (lambda x: square(residuals(x)))
    return Problem.from_callable(
        fun, [-half] * d, [half] * d, start, batched=True, differentiable=True, **options
    )


def ours(problem, method, goal):
    for it in iterate(problem, method, budget=Budget(evaluations=LIMIT, target=goal)):
        if it.best_value <= goal:
            return it.evaluations
    return math.inf


class Counted:
    """A value for SciPy that is charged, and stops the run at the goal."""

    class Reached(Exception):
        pass

    def __init__(self, residuals, goal):
        self.residuals, self.goal, self.charge = residuals, goal, 0.0
        self.d = None

    def pay(self, price, value):
        self.charge += price
        if value <= self.goal or self.charge > LIMIT:
            raise Counted.Reached

    def tensor(self, x, grad=True):
        return torch.tensor(x, dtype=torch.float64, requires_grad=grad)

    def outputs(self, x):
        y = self.residuals(self.tensor(x, False)[None])[0].numpy()
        self.pay(1, float((y**2).sum()))
        return y

    def jacobian(self, x):
        self.charge += 2 * len(x)
        return torch.autograd.functional.jacobian(
            lambda z: self.residuals(z[None])[0], self.tensor(x)
        ).numpy()

    def value_gradient(self, x):
        z = self.tensor(x)
        value = square(self.residuals(z[None])[0])
        (gradient,) = torch.autograd.grad(value, z)
        self.pay(3, float(value))
        return float(value), gradient.numpy()

    def hessian(self, x):
        self.charge += 3 * len(x)
        return torch.autograd.functional.hessian(
            lambda z: square(self.residuals(z[None])[0]), self.tensor(x)
        ).numpy()


def theirs(residuals, d, half, start, goal, name):
    counted = Counted(residuals, goal)
    bounds = ([-half] * d, [half] * d)
    x0 = start.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name == "least_squares":
                optimize.least_squares(
                    counted.outputs, x0, counted.jacobian, bounds,
                    ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=5000,
                )  # fmt: skip
            elif name == "trust-exact":
                optimize.minimize(
                    counted.value_gradient, x0, jac=True, hess=counted.hessian,
                    method="trust-exact", options={"gtol": 1e-14},
                )  # fmt: skip
            else:
                optimize.minimize(
                    counted.value_gradient, x0, jac=True, method="L-BFGS-B",
                    bounds=list(zip(*bounds, strict=True)),
                    options={"maxiter": 20000, "maxfun": 20000, "ftol": 0, "gtol": 0},
                )  # fmt: skip
        except Counted.Reached:
            return counted.charge if counted.charge <= LIMIT else math.inf
    return math.inf


def first_table() -> None:
    columns = (
        ("newton, gauss", True, "regularized-newton"),
        ("newton, hessian", False, RegularizedNewton(curvature="hessian")),
        ("newton, lbfgs", False, RegularizedNewton(curvature="lbfgs")),
        ("newton, fisher", False, RegularizedNewton(curvature="fisher")),
        ("lbfgs", False, "lbfgs"),
    )
    peers = ("least_squares", "trust-exact", "L-BFGS-B")
    print("| problem | d |", " | ".join([c[0] for c in columns] + list(peers)), "|")
    print("| --- " * (2 + len(columns) + len(peers)) + "|")
    for name, (residuals, d, half) in CASES.items():
        rows = {column: [] for column in (*(c[0] for c in columns), *peers)}
        for seed in range(STARTS):
            generator = torch.Generator().manual_seed(seed)
            start = half * (2 * torch.rand(d, generator=generator, dtype=torch.float64) - 1)
            goal = SHARE * float(square(residuals(start[None])))
            for label, composite, method in columns:
                problem = posed(residuals, d, half, start, composite)
                rows[label].append(ours(problem, method, goal))
            for label in peers:
                rows[label].append(theirs(residuals, d, half, start, goal, label))
        cells = [median(values) for values in rows.values()]
        shown = ["-" if math.isinf(cell) else f"{cell:.0f}" for cell in cells]
        print(f"| {name} | {d} |", " | ".join(shown), "|", flush=True)


def constrained():
    def seven(x):
        value = torch.log(1 + x[..., 0] ** 2) - x[..., 1]
        return value, ((1 + x[..., 0] ** 2) ** 2 + x[..., 1] ** 2 - 4)[..., None]

    def thirty_nine(x):
        a, b, c, d = x.unbind(-1)
        return -a, torch.stack((b - a**3 - c**2, a**2 - b - d**2), -1)

    def forty(x):
        a, b, c, d = x.unbind(-1)
        return -x.prod(-1), torch.stack((a**3 + b**2 - 1, a**2 * d - c, d**2 - b), -1)

    def seventy_one(x):
        a, b, c, d = x.unbind(-1)
        value = a * d * (a + b + c) + c
        return value, torch.stack((25 - x.prod(-1), x.square().sum(-1) - 40), -1)

    yield "HS7", seven, [2.0, 2.0], 1, (-5.0, 5.0), -(3**0.5)
    yield "HS39", thirty_nine, [2.0] * 4, 2, (-5.0, 5.0), -1.0
    yield "HS40", forty, [0.8] * 4, 3, (-5.0, 5.0), -0.25
    yield "HS71", seventy_one, [1.0, 5.0, 5.0, 1.0], 1, (1.0, 5.0), 17.0140173


def reached(problem, method, best):
    for it in iterate(problem, method, budget=Budget(evaluations=LIMIT)):
        if it.best_violation <= 1e-6 and it.best_value <= best + 1e-6:
            return it.evaluations
    return math.inf


def slsqp(function, start, equalities, bounds, best):
    charge, found, last = 0, math.inf, None

    def both(x):
        nonlocal charge, found, last
        if last is None or not np.array_equal(x, last):
            charge, last = charge + 1, x.copy()
        z = torch.tensor(x[None], dtype=torch.float64)
        value, constraints = function(z)
        g = constraints[0]
        split = len(g) - equalities
        away = float(g[:split].clamp(min=0).sum() + g[split:].abs().sum())
        if away <= 1e-6 and float(value) <= best + 1e-6:
            found = min(found, charge)
        return float(value), g.numpy()

    def gradient(x):
        nonlocal charge
        both(x)
        charge += 2  # beside the value
        z = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(function(z[None])[0].sum(), z)[0].numpy()

    def slopes(x):
        return torch.autograd.functional.jacobian(
            lambda z: function(z[None])[1][0], torch.tensor(x, dtype=torch.float64)
        ).numpy()

    def part(kind, rows, sign):
        return {
            "type": kind,
            "fun": lambda x: sign * both(x)[1][rows],
            "jac": lambda x: sign * slopes(x)[rows],
        }

    split = len(both(np.array(start))[1]) - equalities
    optimize.minimize(
        lambda x: both(x)[0], start, jac=gradient, method="SLSQP", bounds=[bounds] * len(start),
        constraints=[part("ineq", slice(0, split), -1), part("eq", slice(split, None), 1)],
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return found


def second_table() -> None:
    print("\n| problem | lagrange-newton | lbfgs in the augmented Lagrangian | SLSQP |")
    print("| --- | --- | --- | --- |")
    for name, function, start, equalities, (lower, upper), best in constrained():
        cells = []
        for method in ("lagrange-newton", "lbfgs"):
            problem = boxed(function, len(start), lower, upper, start, equalities=equalities)
            cells.append(reached(problem, method, best))
        cells.append(slsqp(function, start, equalities, (lower, upper), best))
        shown = ["-" if math.isinf(cell) else f"{cell:.0f}" for cell in cells]
        print(f"| {name} |", " | ".join(shown), "|", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    first_table()
    second_table()
