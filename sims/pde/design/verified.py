"""Designs that a surrogate proposes and the solver judges, within a trust region."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.runs.progress import Progress
from optimizers import (
    Box,
    Budget,
    Evaluation,
    LinearizedTarget,
    Problem,
    RegularizedNewton,
    checkpoint,
    minimize,
)
from sims.pde.design.problems import InverseProblem

GOOD, POOR = 0.75, 0.25  # of the promised decrease, from which the region grows and shrinks
GROWTH, SHRINKAGE = 2.0, 0.25
FULL = 0.8  # of the radius, from which a step was held back by it
SMALLEST = 1e-10  # of the first radius, at which the search ends
PATIENCE = (1, 4)  # times the rounds of a proposal, before it is given up
BOLD = 30.0  # smoothness of the proposals' Gauss-Newton steps: the region holds them, not damping

Correction = Literal["auto", "outputs", "gradient"]


@dataclass(frozen=True)
class Proposal:
    """One solve of the loop, and what was promised of it.

    calls: spent so far, a gradient at its price. value: of the design that is kept. trial: of the
    design that was proposed, by the solver; inf where it failed. promised: by the corrected
    surrogate. ratio: rho, the decrease over the promised one. radius: of the region it lay in, and
    step: how far it went, both in units of the scales.
    """

    calls: float
    value: float
    trial: float
    promised: float
    ratio: float
    radius: float
    step: float
    accepted: bool


@dataclass(frozen=True, eq=False)
class Solved:
    """What the solver said of a design x (d,): its frames (E, F, C, *space) and its value."""

    x: Tensor
    frames: Tensor
    value: float


@dataclass(frozen=True, eq=False)
class VerifiedDesign:
    """Where the loop ended.

    x: (d,), and found: what it stands for, see `InverseProblem.found`. value: by the solver, never
    the surrogate's. calls: what the solver was asked, solves + gradient_cost * gradients. asked:
    gradients of the surrogate. reason: why it ended.
    """

    x: Tensor
    value: float
    found: dict[str, Tensor]
    calls: float
    solves: int
    gradients: int
    asked: int
    history: tuple[Proposal, ...]
    pairs: tuple[Solved, ...]
    reason: str
    seconds: float


def verified(
    problem: InverseProblem,
    surrogate: Any,
    *,
    condition: Mapping[str, Any] | None = None,
    calls: float = 30.0,
    target: float | None = None,
    radius: float = 1.0,
    largest: float = 16.0,
    steps: int = 10,
    tolerance: float = 1e-6,
    method: Any = None,
    correction: Correction = "auto",
    fine_tune: Callable[[Sequence[Solved]], Any] | None = None,
    path: str | PathLike[str] | None = None,
    progress: bool = False,
) -> VerifiedDesign:
    """Minimise a problem with few calls of its solver and many of a surrogate.

    Around the best design x that the solver has confirmed, the surrogate's outputs Phi_s are moved
    so that they are the solver's at x, and with them the objective F(Phi) = |Phi|^2 / 2:

        m(z) = F(Phi_s(z) + Phi(x) - Phi_s(x)) + <e, z - x>

    The search goes down m for some steps with |z - x| <= radius, the solver solves z once, and rho
    is the decrease over the promised one. A design is taken only if the solver finds it lower. The
    radius grows where rho > 3/4 and the step reached it, shrinks to a quarter of the step where rho
    < 1/4. The moved outputs cost nothing: near data that the model can match, J_s^T Phi is nearly
    the true gradient J^T Phi, and each round multiplies the error by about |1 - J_s^-1 J| (defect
    correction; space mapping of Bandler et al. 1994, IEEE Trans. MTT 42, 2536). e closes the rest
    of the gradient, so that m is right to first order at x and the loop cannot stop but where the
    solver's gradient vanishes (Alexandrov, Dennis, Lewis and Torczon 1998, Struct. Optim. 15, 16);
    it costs a gradient of the solver.

    surrogate: the model in place of the problem's, anything that `problem.by` takes, with its
    condition. calls: the most the solver may be asked, in values; a gradient counts
    `problem.gradient_cost`. target: a value that is good enough. radius, largest: in units of
    `problem.scale`. steps: rounds on the surrogate in a proposal. tolerance: share of the value
    below which a promise is not worth a solve. method: of a proposal, by default Gauss-Newton, for
    up to some hundred unknowns; "lbfgs" for more. correction: "outputs" never asks for e,
    "gradient" at each x, "auto" at each x from the first proposal on that failed. fine_tune: called
    with all that was solved after a proposal with rho < 1/4; it may train the surrogate in place,
    or return another one. path: of a file to go on from, written after each round; it does not hold
    the surrogate.

    Raises InputError for arguments that do not fit, and where the start cannot be solved.
    """
    if not isinstance(problem, InverseProblem):
        raise InputError(f"problem must be an InverseProblem, got {type(problem).__name__}")
    for name, number in (
        ("calls", calls),
        ("radius", radius),
        ("steps", steps),
        ("tolerance", tolerance),
    ):
        if not number > 0:
            raise InputError(f"{name} must be above 0, got {number}")
    if correction not in ("auto", "outputs", "gradient"):
        raise InputError(f"correction must be 'auto', 'outputs' or 'gradient', got {correction!r}")
    if not radius <= largest < math.inf:
        raise InputError(f"largest must be at least the radius {radius}, got {largest}")
    method = RegularizedNewton("gauss-newton", smoothness=BOLD) if method is None else method
    search = _Search(problem, problem.by(surrogate, condition), radius, calls, correction, path)
    begun = time.monotonic() - search.seconds
    with Progress("verified design", None, progress) as shown:
        while True:
            reason = search.ended(target, radius * SMALLEST)
            search.seconds = time.monotonic() - begun
            if path is not None:
                search.save(Path(path))
            if reason is not None:
                return search.result(reason)
            shown.step(min(search.calls / calls, 1.0), f"{search.calls:g} calls", "")
            search.round(method, steps, tolerance, largest, fine_tune)


class _Region(Problem):
    """The corrected surrogate m(z) in the trust region around x (d,).

    moved: (1, k), what the surrogate's outputs lack at x. missing: e (d,).
    """

    def __init__(
        self,
        problem: InverseProblem,
        surrogate: InverseProblem,
        x: Tensor,
        moved: Tensor,
        missing: Tensor,
        radius: float,
    ) -> None:
        reach = radius * problem.scale
        low, high = torch.maximum(x - reach, problem.lower), torch.minimum(x + reach, problem.upper)
        high = torch.where(high > low, high, low + torch.finfo(x.dtype).eps * (1 + low.abs()))
        self._surrogate, self._x, self._moved, self._missing = surrogate, x, moved, missing
        super().__init__(
            {"x": Box((len(x),), low, high, start=x, scale=problem.scale)},
            self._outputs,
            outer=self._value,
            batched=True,
            differentiable=True,
            constraints=0,
        )

    def _outputs(self, named: Mapping[str, Tensor]) -> Tensor:
        """The moved outputs (B, k), and after them <e, z - x>."""
        z = named["x"]
        outputs = self._surrogate.residuals(self._surrogate.parameters_of(z)) + self._moved
        return torch.cat([outputs, ((z - self._x) @ self._missing)[:, None]], 1)

    def _value(self, outputs: Tensor) -> Tensor:
        return 0.5 * outputs[:, :-1].square().sum(1) + outputs[:, -1]

    def evaluate(self, x: Tensor, order: int = 0, **options: Any) -> Evaluation:
        """As `Problem.evaluate`, with the surrogate's Gauss-Newton matrix at order 2."""
        answer = super().evaluate(x, min(order, 1), **options)
        if order < 2:
            return answer
        return replace(answer, curvature=self._surrogate.gauss_newton(x[0])[None])


class _Search:
    """The loop between two rounds."""

    def __init__(
        self,
        problem: InverseProblem,
        surrogate: InverseProblem,
        radius: float,
        limit: float,
        correction: Correction,
        path: str | PathLike[str] | None,
    ) -> None:
        self.problem, self.surrogate, self.correction = problem, surrogate, correction
        self.radius, self.limit, self.seconds = float(radius), limit, 0.0
        self.solves = self.gradients = self.asked = 0
        self.history: list[Proposal] = []
        self.pairs: list[Solved] = []
        self.slope: Tensor | None = None
        self.distrusted = False  # whether a proposal without the solver's gradient has failed
        self.stuck: str | None = None
        if path is not None:
            checkpoint.check_writable(Path(path))
            if Path(path).exists():
                self.load(Path(path))
                return
        self.x = problem.start
        self.value, self.outputs = self.solve(self.x)
        if not math.isfinite(self.value):
            raise InputError("start must be a design that the solver can solve, it diverged")

    @property
    def calls(self) -> float:
        """What the solver was asked, in values."""
        return self.solves + self.problem.gradient_cost * self.gradients

    def ended(self, target: float | None, smallest: float) -> str | None:
        """Why the loop is over, None while it goes on."""
        if target is not None and self.value <= target:
            return "target"
        if self.stuck is not None:
            return self.stuck
        if self.radius < smallest:
            return "converged: radius"
        return "calls" if self.calls + 1 > self.limit else None

    def solve(self, x: Tensor) -> tuple[float, Tensor]:
        """Value and outputs (1, k) of a design by the solver: one call."""
        self.solves += 1
        named = self.problem.parameters_of(x[None])
        with torch.no_grad():
            frames = self.problem.frames(self.problem.values(named))
            outputs = self.problem.deviations(frames, named)
        value = float(0.5 * outputs.square().sum())
        if math.isfinite(value):
            self.pairs.append(Solved(x, frames[0], value))
        return (value if math.isfinite(value) else math.inf), outputs

    def round(
        self,
        method: Any,
        steps: int,
        tolerance: float,
        largest: float,
        fine_tune: Callable[[Sequence[Solved]], Any] | None,
    ) -> None:
        """One proposal and one solve."""
        if self.correction == "gradient" or self.distrusted:
            self.ask_slope()
        trial, promise = self.propose(method, steps, tolerance)
        if self.stuck is not None:
            return
        if not promise > 0:
            if self.correction == "outputs" or self.slope is not None or not self.ask_slope():
                self.stuck = "converged: the corrected surrogate finds nothing lower"
            return
        value, outputs = self.solve(trial)
        step = float(((trial - self.x) / self.problem.scale).abs().max())
        ratio = (self.value - value) / promise
        accepted, radius = value < self.value, self.radius
        if ratio > GOOD and step >= FULL * radius:
            self.radius = min(GROWTH * radius, largest)
        elif ratio < POOR:
            self.radius = SHRINKAGE * min(step, radius)
        promised = self.value - promise
        if accepted:
            self.x, self.value, self.outputs, self.slope = trial, value, outputs, None
        self.history.append(
            Proposal(self.calls, self.value, value, promised, ratio, radius, step, accepted)
        )
        if ratio < POOR and fine_tune is not None:
            renewed = fine_tune(tuple(self.pairs))
            if renewed is not None:
                self.surrogate = self.problem.by(renewed, self.surrogate.condition)
        failed = [not proposal.accepted for proposal in self.history[-2:]]
        once_more = fine_tune is not None and failed != [True, True]  # it was tuned in between
        if self.correction == "auto" and failed[-1] and not once_more:
            self.distrusted = True

    def ask_slope(self) -> bool:
        """The solver's gradient where the search stands; whether it is known now. A solve must be
        left for the proposal that follows.
        """
        affordable = self.calls + self.problem.gradient_cost + 1 <= self.limit
        if self.slope is None and affordable:
            answer = self.problem.evaluate(self.x[None], 1)
            self.gradients += 1
            if bool(answer.ok[0]) and answer.gradient is not None:
                self.slope = answer.gradient[0]
        return self.slope is not None

    def propose(self, method: Any, steps: int, tolerance: float) -> tuple[Tensor, float]:
        """The lowest design of the corrected surrogate in the region, and the decrease there; x and
        0 where none is worth a solve.
        """
        problem, surrogate, x = self.problem, self.surrogate, self.x
        with torch.no_grad():
            moved = self.outputs - surrogate.residuals(surrogate.parameters_of(x[None]))
        if not bool(moved.isfinite().all()):
            self.stuck = "the surrogate diverges at the best design"
            return x, 0.0
        missing = torch.zeros_like(x)
        if self.slope is not None:
            aim = surrogate.evaluate(
                x[None], 1, target=LinearizedTarget(torch.zeros_like(moved), -moved, 1.0)
            )
            self.asked += 1
            if aim.gradient is not None and bool(aim.ok[0]):
                missing = self.slope - aim.gradient[0]

        region = _Region(problem, surrogate, x, moved, missing, self.radius)
        for patience in PATIENCE:
            best = minimize(region, method, budget=Budget(iterations=patience * steps))
            self.asked += best.gradients
            promise = self.value - best.value
            if promise > tolerance * self.value:
                return best.x, promise
            if best.reason != "iterations":
                break
        return x, 0.0

    def result(self, reason: str) -> VerifiedDesign:
        """What is known now."""
        return VerifiedDesign(
            self.x, self.value, self.problem.found(self.x), self.calls, self.solves,
            self.gradients, self.asked, tuple(self.history), tuple(self.pairs), reason,
            self.seconds,
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """What another run would differ in."""
        return {
            "method": "verified",
            "correction": self.correction,
            "unknowns": ", ".join(
                f"{name} {box.shape}" for name, box in self.problem.parameters.items()
            ),
            "frames": str(tuple(self.problem.observations.frames.shape)),
            "precision": str(self.problem.dtype),
        }

    def save(self, path: Path) -> None:
        """Write all that a killed loop needs to go on."""
        state = {name: getattr(self, name) for name in self.FIELDS}
        state["history"] = [asdict(proposal) for proposal in self.history]
        state["pairs"] = [vars(pair) for pair in self.pairs]
        checkpoint.save(path, {"identity": self.identity(), "last": None, **state})

    def load(self, path: Path) -> None:
        """Go on from a file. Raises ValueError where it belongs to another run."""
        state = checkpoint.load(path, self.identity(), self.problem.device)
        for name in self.FIELDS:
            setattr(self, name, state[name])
        self.history = [Proposal(**proposal) for proposal in state["history"]]
        self.pairs = [Solved(**pair) for pair in state["pairs"]]

    FIELDS = (
        "x", "value", "outputs", "slope", "distrusted", "radius", "solves", "gradients", "asked",
        "stuck", "seconds",
    )  # fmt: skip
