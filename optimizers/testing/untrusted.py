"""Problems whose gradients mislead: turned by an angle, and missing in a share of the calls."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from optimizers.checks import check_number
from optimizers.evaluation import Evaluation
from optimizers.problem import Problem
from optimizers.target import LinearizedTarget


class UntrustedGradients(Problem):
    """A differentiable problem with bad gradients; see `untrusted_gradients`."""

    def __init__(self, problem: Problem, angle: float, missing: float, seed: int) -> None:
        super().__init__(
            problem.parameters,
            constraints=problem.constraints,
            equalities=problem.equalities,
            differentiable=problem.differentiable,
            gradient_cost=problem.gradient_cost,
            dtype=problem.dtype,
            device=problem.device,
        )
        self.problem, self.angle, self.missing = problem, angle, missing
        self.generator = torch.Generator().manual_seed(seed)

    def evaluate(
        self,
        x: Tensor,
        order: int = 0,
        *,
        fidelity: float | None = None,
        iteration: int = 0,
        target: LinearizedTarget | None = None,
    ) -> Evaluation:
        """The problem's answer, with its gradients turned or missing; values alone are true."""
        truth = self.problem.evaluate(
            x, order, fidelity=fidelity, iteration=iteration, target=target
        )
        if truth.gradient is None:
            return truth
        gradient = turned(truth.gradient, self.angle, self.generator)
        lost = torch.rand(len(x), generator=self.generator) < self.missing
        gradient = gradient.masked_fill(lost.to(x.device)[:, None], math.nan)
        return dataclasses.replace(truth, gradient=gradient)


def untrusted_gradients(
    problem: Problem,
    angle: float = math.radians(40),
    missing: float = 0.2,
    seed: int = 0,
) -> Problem:
    """The problem with gradients that cannot be trusted; its values stay true.

    angle: between each gradient and the true one, in radians; the direction in which it is turned
        is random and new in each call, its length is kept.
    missing: share of the rows of queries with gradients that fail, with a gradient of NaN.
    """
    check_number("angle", angle, least=0, most=math.pi)
    check_number("missing", missing, least=0, most=1)
    return UntrustedGradients(problem, angle, missing, seed)


def turned(vectors: Tensor, angle: float, generator: torch.Generator) -> Tensor:
    """Vectors (B, d) of the same lengths at an angle to given ones, in random planes.

    In one dimension there is no plane, and the vectors stay as they are.
    """
    if vectors.shape[1] < 2:
        return vectors
    length = vectors.norm(dim=1, keepdim=True)
    along = vectors / length.clamp(min=torch.finfo(vectors.dtype).tiny)
    noise = torch.randn(vectors.shape, generator=generator, dtype=vectors.dtype).to(vectors.device)
    across = noise - (noise * along).sum(1, keepdim=True) * along
    across = across / across.norm(dim=1, keepdim=True)
    return length * (math.cos(angle) * along + math.sin(angle) * across)
