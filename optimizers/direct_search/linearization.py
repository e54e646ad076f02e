"""Where a search gets slopes from, and what it knows of them at one point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optimizers.direct_search.differences import difference_points, differenced
from optimizers.evaluation import Evaluation, Query
from optimizers.problem import Problem
from optimizers.state import restore, snapshot

WIDTH = 0.01  # of differences, as a share of the radius


class Source:
    """The cheapest way to slopes: a surrogate, the true model's gradients, or differences.

    fidelity: the model that is asked, None for the true one.
    white: whether it has gradients; otherwise d + 1 values make one.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.fidelity, self.white = problem.surrogate, True
        if self.fidelity is None and not problem.differentiable:
            self.white = False
            models = [(model.cost, key) for key, model in problem.models.items()]
            self.fidelity = min(models)[1] if models else None

    @property
    def is_true(self) -> bool:
        """Whether it is the true model that answers."""
        return self.fidelity is None

    def price(self, order: int) -> float:
        """Of the slopes (order 1) or also the curvature (order 2) at one point."""
        if self.white:
            return self.problem.cost(order, self.fidelity)
        return (1 + self.problem.dimension) * self.problem.cost(0, self.fidelity)

    def query(self, point: Tensor, order: int, radius: float) -> tuple[Query, Tensor]:
        """What to ask about a point (d,), and the spacing (1, d) of differences."""
        tag = "slopes"
        if self.white:
            return Query(point[None], order, self.fidelity, tag), torch.zeros_like(point[None])
        points, spacing = difference_points(
            self.problem, point[None], point.new_tensor([WIDTH * radius])
        )
        return Query(points, 0, self.fidelity, tag), spacing


class Linearization:
    """Slopes at one point, in units of the scales, float64 on the CPU.

    row: of the point in the archive, -1 before the first. point: (d,), its coordinates there.
    gradient: (d,). jacobian: (m, d) of the constraints. curvature: (d, d) or empty.
    seen: (1 + m,), the value and the constraints as the source sees them. pull: (k,), dF/dPhi of a
        composite value, or empty.
    """

    FIELDS = ("row", "point", "gradient", "jacobian", "curvature", "seen", "pull")

    def __init__(self, dimension: int) -> None:
        self.row = -1
        self.point = self.gradient = torch.zeros(dimension, dtype=torch.float64)
        self.jacobian = torch.zeros(0, dimension, dtype=torch.float64)
        self.curvature = torch.zeros(0, 0, dtype=torch.float64)
        self.seen = self.pull = torch.zeros(0, dtype=torch.float64)

    def take(self, row: int, point: Tensor, answer: Evaluation, scale: Tensor) -> None:
        """Replace everything by the first row of an answer of order 1 or 2."""

        def plain(tensor: Tensor | None, *shape: int) -> Tensor:
            if tensor is None:
                return torch.zeros(shape, dtype=torch.float64)
            return tensor[0].double().cpu()

        d = len(point)
        self.row, self.point = row, point
        self.gradient = plain(answer.gradient, d) * scale
        self.jacobian = plain(answer.constraint_gradient, 0, d) * scale
        self.seen = torch.cat((plain(answer.value[:1, None], 1), plain(answer.constraints, 0)))
        self.pull = plain(answer.output_gradient, 0)
        self.curvature = plain(answer.curvature, 0, 0)
        if len(self.curvature):
            self.curvature = self.curvature * scale * scale[:, None]

    def correct(self, slopes: Tensor) -> None:
        """Add what (1 + m, d) the source is known to lack."""
        if len(slopes) == 1 + len(self.jacobian):
            self.gradient, self.jacobian = self.gradient + slopes[0], self.jacobian + slopes[1:]

    @property
    def tells(self) -> bool:
        """Whether any slope is not 0."""
        return bool((self.gradient != 0).any()) or bool((self.jacobian != 0).any())

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        restore(self, self.FIELDS, state, torch.device("cpu"))


def slopes_of(evaluation: Evaluation, spacing: Tensor, white: bool) -> Evaluation:
    """The answer of order 1 or 2 to a query of `Source`."""
    return evaluation if white else differenced(evaluation, spacing)
