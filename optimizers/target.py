"""A function of a problem's outputs that stands in for its value: what attacks and surrogates ask.

Where the value is F(Phi(x)), everything that F wants to be told about a step is its gradient u with
respect to the outputs y = Phi(x). Held still, it makes the step a question about Phi alone. A
directional attack asks it once or a few times within a radius (Bouchet and Vidal, 2025); a
target-space surrogate asks it with a proximal term and takes many cheap steps for one costly u
(Lavington et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class LinearizedTarget:
    """The value of F near given outputs, to first order, with a pull back to them.

        m(y) = <direction, y - anchor> + damping / 2 |y - anchor|^2

    direction: (B, K), how much a unit of each output matters.
    anchor: (B, K), the outputs where the direction was taken; None stands for zeros.
    damping: 1 / eta of the proximal term.

    The K outputs are those of `Problem`: Phi(x), for a problem that is not composite the value
    alone, and after them the constraints, which may be left out of the K.
    """

    direction: Tensor
    anchor: Tensor | None = None
    damping: float = 0.0

    def __post_init__(self) -> None:
        if self.direction.ndim != 2:
            raise ValueError(f"direction must be (B, K), got {tuple(self.direction.shape)}")
        if self.anchor is not None and self.anchor.shape != self.direction.shape:
            raise ValueError(
                f"anchor must have the shape of direction {tuple(self.direction.shape)}, "
                f"got {tuple(self.anchor.shape)}"
            )
        if self.anchor is None and self.damping:
            raise ValueError("anchor must be given where damping is not 0")

    def value(self, outputs: Tensor) -> Tensor:
        """m (B,) of outputs (B, K), differentiable in them; ValueError on another K."""
        if outputs.shape != self.direction.shape:
            raise ValueError(
                f"the target is a function of outputs {tuple(self.direction.shape)}, "
                f"got {tuple(outputs.shape)}"
            )
        away = outputs if self.anchor is None else outputs - self.anchor
        value = (self.direction * away).sum(-1)
        return value + 0.5 * self.damping * away.square().sum(-1) if self.damping else value

    def rows(self, picked: slice) -> LinearizedTarget:
        """The target of some rows of the batch."""
        anchor = None if self.anchor is None else self.anchor[picked]
        return LinearizedTarget(self.direction[picked], anchor, self.damping)
