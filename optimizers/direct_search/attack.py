"""Directional attacks: steps that change a model's outputs in a wanted way within a radius.

Where the value is F(Phi(x)), an attack takes a direction u in the space of the outputs, by default
the gradient of F, and looks for the step d of |d|_inf <= r with the least

    < u, Phi(x + d) - Phi(x) >

so that it asks of Phi alone, of a trained network or another surrogate, what its gradients tell.
The point found is a proposal: whether the value falls there is for the true model to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.direct_search.attack_steps import (
    Room,
    cut,
    euclidean_step,
    newton_step,
    rooms,
    sign_step,
)
from optimizers.direct_search.differences import difference_points, differenced
from optimizers.evaluation import Evaluation, Query
from optimizers.problem import Problem
from optimizers.state import check_answer, restore, snapshot
from optimizers.target import LinearizedTarget

Kind = Literal["fgsm", "pgd", "l2", "gauss-newton"]
REACH = 2.5  # radii that all steps of a projected attack could go together


@dataclass(frozen=True)
class Attack:
    """A directional attack on a batch of points: when one wanted change of the outputs is given.

    kind: "fgsm", one gradient and a step to a corner of the ball; "l2", along the gradient; "pgd",
        several sign steps with a gradient each; "gauss-newton", for the value only, with the
        curvature J^T F'' J.
    steps: k of "pgd".
    width: of differences, as a share of the radius, where the model asked has no gradients.

        fgsm          d = -r sign(J^T u)
        l2            d = -r J^T u / |J^T u|_2
        pgd           d <- clamp(d - 2.5 r / k sign(J(x + d)^T u)), k times from 0
        gauss-newton  d = -(J^T F'' J + |g| / r)^(-1) g

    all cut to the ball and the box, in units of each parameter's scale.

    Goodfellow et al., 2015; Madry et al., 2018; Bouchet and Vidal, 2025, section 2. Ours: the sign
    (we minimise), u multiplies the outputs itself and is no label of a cross-entropy, steps long
    enough to reach the whole ball, and the fourth kind (Semenov et al., 2025).
    """

    kind: Kind = "fgsm"
    steps: int = 10
    width: float = 0.01

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        check_count("steps", self.steps)
        check_number("width", self.width, above=0, most=1)

    def start(
        self,
        problem: Problem,
        points: Tensor,
        radius: float | Tensor,
        direction: Tensor | None = None,
        fidelity: float | None = None,
    ) -> RunningAttack:
        """A running attack.

        points: (B, d), inside the box. radius: a number or (B,), in units of the scales.
        direction: u, (B, K) as for `LinearizedTarget`; by default the gradient of F, so that the
            value itself is to fall.
        fidelity: the model to ask, the true one by default.
        """
        return RunningAttack(self, problem, points, radius, direction, fidelity)


class RunningAttack:
    """An attack between ask and tell; see `Attack`.

    done: whether the step is complete. points: (B, d), where it leads so far.
    ok: (B,), False where the model failed at the start.
    """

    FIELDS = ("start", "radius", "direction", "step", "rounds", "ok", "done", "spacing")

    def __init__(
        self,
        settings: Attack,
        problem: Problem,
        points: Tensor,
        radius: float | Tensor,
        direction: Tensor | None,
        fidelity: float | None,
    ) -> None:
        self.settings, self.problem, self.fidelity = settings, problem, fidelity
        if points.ndim != 2 or points.shape[1] != problem.dimension:
            raise ValueError(f"points must be (B, {problem.dimension}), got {tuple(points.shape)}")
        if direction is not None and (direction.ndim != 2 or len(direction) != len(points)):
            raise ValueError(f"direction must be ({len(points)}, K), got {tuple(direction.shape)}")
        if direction is not None and settings.kind == "gauss-newton":
            raise ValueError("direction must be None for a gauss-newton attack, which lowers F")
        self.start, self.direction = points, direction
        self.radius = torch.as_tensor(radius, dtype=points.dtype, device=points.device)
        if not bool((self.radius > 0).all()):
            raise ValueError(f"radius must be positive, got {radius}")
        self.radius = self.radius.expand(len(points)).clone()
        self.step = torch.zeros_like(points)
        self.spacing = torch.zeros_like(points)
        self.rounds, self.done = 0, False
        self.ok = torch.ones(len(points), dtype=torch.bool, device=points.device)
        model = None if fidelity is None else problem.models[fidelity]
        self._white = problem.differentiable if model is None else model.differentiable

    @property
    def points(self) -> Tensor:
        """The start moved by the step, (B, d)."""
        moved = self.start + self.step * self.problem.scale
        return torch.clamp(moved, self.problem.lower, self.problem.upper)

    def ask(self) -> Query:
        """Where the attack wants to know the gradient: (B, d), or (B (1 + d), d) by differences."""
        tag = f"attack: {self.settings.kind}"
        if not self._white:
            points, self.spacing = difference_points(
                self.problem, self.points, self.settings.width * self.radius
            )
            return Query(points, 0, self.fidelity, tag)
        target = None if self.direction is None else LinearizedTarget(self.direction)
        order = 2 if self.settings.kind == "gauss-newton" else 1
        return Query(self.points, order, self.fidelity, tag, target)

    def tell(self, query: Query, evaluation: Evaluation) -> None:
        """Take the gradient, and go on or be done."""
        check_answer(query, evaluation)
        if not self._white:
            evaluation = differenced(evaluation, self.spacing, self.direction)
        if self.rounds == 0:
            self.ok = evaluation.ok
        if self.direction is None and self.settings.kind == "pgd":
            self.direction = evaluation.output_gradient  # stays as it is from here on
        self.rounds += 1
        self._take(evaluation)
        self.done = self.settings.kind != "pgd" or self.rounds >= self.settings.steps

    def _take(self, evaluation: Evaluation) -> None:
        assert evaluation.gradient is not None
        problem, radius = self.problem, self.radius
        gradient = evaluation.gradient * problem.scale
        room: Room = rooms(self.start, problem.lower, problem.upper, problem.scale)
        if self.settings.kind == "fgsm":
            self.step = sign_step(gradient, radius, room)
        elif self.settings.kind == "l2":
            self.step = euclidean_step(gradient, radius, room)
        elif self.settings.kind == "pgd":
            length = REACH * radius[:, None] / self.settings.steps
            self.step = cut(self.step - length * gradient.sign(), radius, room)
        else:
            assert evaluation.curvature is not None
            curvature = evaluation.curvature * problem.scale * problem.scale[:, None]
            self.step = newton_step(gradient, curvature, radius, room)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the attack needs to go on."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings and problem."""
        restore(self, self.FIELDS, state, self.problem.device)
