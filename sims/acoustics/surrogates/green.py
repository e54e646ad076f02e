"""A Green operator that is reciprocal by construction: learned mode shapes, frequencies, decays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.fourier import FourierBasis
from sims.acoustics.surrogates.ringing import ring
from sims.acoustics.surrogates.trained import Surrogate


class GreenOperator(Surrogate):
    """A point that emits once at x0 is heard as Re sum_j φ_j(x) φ_j(x0) exp((-σ_j + i ω_j) t) at x.

    Swapping a point that emits and one that listens leaves the response as it is, whatever was
    learned. In a room with rigid walls the shapes φ are real and nothing decays; elsewhere they
    are complex. Each is a sum of the functions of a `FourierBasis`, so that the response is linear
    in its coefficients. Made by `train_green`.

    shapes: (1 or 2, M, J), real and imaginary parts of the coefficients [m^(-3/2)]. frequency,
    decay: (J,) ω and σ [rad/s] and [1/s].
    """

    kind = "green operator"

    def __init__(self, domain: Domain, basis: FourierBasis, modes: int, damped: bool) -> None:
        super().__init__(domain)
        self.basis, self.damped = basis, damped
        self.shapes = torch.nn.Parameter(torch.zeros(1 + damped, basis.count, modes))
        self.frequency = torch.nn.Parameter(torch.zeros(modes))
        self.decay = torch.nn.Parameter(torch.zeros(modes), requires_grad=damped)
        self._version: tuple[Any, ...] = ()
        self._tables: dict[str, tuple[Any, Tensor]] = {}

    def settings(self) -> dict[str, Any]:
        """Basis, number of modes, and whether they decay."""
        basis = {"numbers": self.basis.numbers, "centre": self.basis.centre}
        modes = self.shapes.shape[2]
        return {**basis, "step": self.basis.step, "modes": modes, "damped": self.damped}

    @classmethod
    def of_settings(cls, domain: Domain, settings: dict[str, Any]) -> Self:
        """An untrained one."""
        basis = FourierBasis(settings["numbers"], settings["centre"], settings["step"])
        return cls(domain, basis, settings["modes"], settings["damped"])

    def shapes_at(self, points: Tensor) -> Tensor:
        """Real and imaginary parts (1 or 2, R, J) of all shapes at points (R, 3)."""
        return self.basis.at(points) @ self.shapes

    def pulsed(
        self, source: Tensor, width: float | Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of the unit pulse of a width [m] at source (3,).

        A shape that fulfils s² φ = c² Laplace(φ) weighs π^(3/2) w³ exp((s w / 2 c)²) φ(x0) in the
        pulse exp(-|x - x0|²/w²).
        """
        shapes = self._complex_shapes(torch.cat([source[None], receivers]))
        products = shapes[1:] * (shapes[0] * self._weights(width).to(shapes))
        if self.damped:
            products = torch.cat([products.real, products.imag], 1)
        return products @ self._decays(times, receivers)

    def emitted(
        self, positions: Tensor, signal: Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of a signal (T,) that is given out at positions (T, 3)."""
        force = self._complex_shapes(positions).to(torch.complex128).T * signal.to(positions.device)
        rung = ring(self._rates(), force, self.domain.time_step)
        shapes = self._complex_shapes(receivers)
        return (shapes.to(_complex(shapes)) @ rung.to(_complex(shapes))).real

    def _rates(self) -> Tensor:
        """s (J,) in complex128: phases of late times are not to be rounded."""
        return torch.complex(-self.decay.double(), self.frequency.double())

    def _complex_shapes(self, points: Tensor) -> Tensor:
        """φ (R, J) at points (R, 3), complex where modes decay."""
        shapes = self.shapes_at(points)
        return torch.complex(shapes[0], shapes[1]) if self.damped else shapes[0]

    def _weights(self, width: float | Tensor) -> Tensor:
        """What the unit pulse of a width [m] weighs in the modes (J,), see `pulsed`."""

        def weigh() -> Tensor:
            spread = torch.exp((self._rates() * (width / (2 * SPEED_OF_SOUND))) ** 2)
            weights = math.pi**1.5 * width**3 * spread
            return weights if self.damped else weights.real

        return weigh() if isinstance(width, Tensor) else self._kept(("weights", width), weigh)

    def _decays(self, times: Tensor, like: Tensor) -> Tensor:
        """Real and, where modes decay, minus imaginary parts of exp(s t), (J or 2 J, T)."""

        def decay() -> Tensor:
            decays = torch.exp(self._rates()[:, None] * times.to(like.device))
            parts = [decays.real, -decays.imag] if self.damped else [decays.real]
            return torch.cat(parts).to(like.dtype)

        return self._kept(("decays", len(times), like.device, like.dtype), decay)

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        """What depends on the rates alone, made once as long as these are fixed."""
        learned = (self.frequency, self.decay)
        if any(value.requires_grad for value in learned):
            return make()
        version = tuple((value.data_ptr(), value._version) for value in learned)
        if version != self._version:
            self._version, self._tables = version, {}
        if key[0] not in self._tables or self._tables[key[0]][0] != key:
            self._tables[key[0]] = (key, make())
        return self._tables[key[0]][1]


def _complex(values: Tensor) -> torch.dtype:
    """The complex dtype of the precision of a tensor."""
    return torch.promote_types(values.dtype, torch.complex64)
