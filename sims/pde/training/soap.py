"""Adam along the axes that the gradients of a layer really have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

LARGEST = 1024  # entries of an axis that is turned; a basis of more costs more than it brings


class Soap(torch.optim.Optimizer):
    """Adam in the eigenvectors of the mean outer products of the gradients, axis by axis.

    Vyas, Morwani, Zhao and others, SOAP: improving and stabilizing Shampoo using Adam (2024), arXiv
    2409.11321, algorithm 3. For each axis of a weight G ← μ G + (1 - μ) g gᵀ, with the gradient g
    as a matrix whose rows are that axis, and Q the eigenvectors of G. The moments of Adam are those
    of the gradient turned by all Q, and its step is turned back. Every `every` steps the first
    moment is turned from the old into the new Q, which is the orthogonal factor of G Q: one power
    iteration. Vectors, and axes of more than `largest` entries, are left as they are. The first
    gradient only sets the bases, and does not move the weights.

    lr: rate. betas: of the two moments. memory: μ. weight_decay: share of a weight that is lost in
    a step, times lr. eps: added to the root of the second moment.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        *,
        memory: float = 0.95,
        weight_decay: float = 0.0,
        every: int = 10,
        eps: float = 1e-8,
        largest: int = LARGEST,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "memory": memory,
            "weight_decay": weight_decay,
            "every": every,
            "eps": eps,
            "largest": largest,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients that the weights hold."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    _move(weight, self.state[weight], group)
        return loss


def _move(weight: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    gradient = weight.grad
    assert gradient is not None
    gradient = gradient.squeeze()
    if not state:
        _begin(gradient, state, group["largest"])
        _remember(gradient, state["factors"], group["memory"])
        state["bases"] = [None if g is None else _eigenvectors(g) for g in state["factors"]]
        return
    state["step"] += 1
    first, second = state["first"], state["second"]
    beta1, beta2 = group["betas"]
    turned = _turned(gradient, state["bases"])
    first.lerp_(turned, 1 - beta1)
    second.mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
    size = (second / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
    move = _turned(first / size, state["bases"], back=True).view_as(weight)
    weight.mul_(1 - group["lr"] * group["weight_decay"])
    weight.add_(move, alpha=-group["lr"] / (1 - beta1 ** state["step"]))
    _remember(gradient, state["factors"], group["memory"])
    if state["step"] % group["every"] == 0:
        _renew(state)


def _begin(gradient: Tensor, state: dict[str, Any], largest: int) -> None:
    state["step"] = 0
    state["first"] = torch.zeros_like(gradient, memory_format=torch.contiguous_format)
    state["second"] = torch.zeros_like(state["first"])
    turned = gradient.dim() > 1
    state["factors"] = [
        gradient.new_zeros(count, count) if turned and count <= largest else None
        for count in gradient.shape
    ]


def _remember(gradient: Tensor, factors: list[Tensor | None], memory: float) -> None:
    """G ← μ G + (1 - μ) g gᵀ of each axis."""
    for axis, factor in enumerate(factors):
        if factor is not None:
            rows = gradient.movedim(axis, 0).flatten(1)
            factor.addmm_(rows, rows.T, beta=memory, alpha=1 - memory)


def _eigenvectors(factor: Tensor) -> Tensor:
    return torch.linalg.eigh(factor)[1].flip(1)  # the largest first


def _turned(x: Tensor, bases: list[Tensor | None], *, back: bool = False) -> Tensor:
    """x with each axis expressed in its basis, or back from it."""
    for basis in bases:
        x = x.movedim(0, -1)  # so that all axes have had their turn at the end
        if basis is not None:
            x = x @ (basis.T if back else basis)
    return x


def _renew(state: dict[str, Any]) -> None:
    """Follow the eigenvectors of the factors, with the moments along."""
    first = _turned(state["first"], state["bases"], back=True)
    for axis, (factor, basis) in enumerate(zip(state["factors"], state["bases"], strict=True)):
        if factor is not None and basis is not None:
            image = factor @ basis
            order = (basis * image).sum(0).argsort(descending=True)
            state["second"] = state["second"].index_select(axis, order)
            state["bases"][axis] = torch.linalg.qr(image[:, order])[0]
    state["first"] = _turned(first, state["bases"]).contiguous()
