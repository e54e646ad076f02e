"""How much noise hides the target at each level of a refinement, and how it is taken off again.

With a target y of unit standard deviation, noise ε ~ N(0, 1) and the level's σ:

    epsilon    z = y + σ ε                       the network gives ε            y = z - σ ε
    velocity   z = a y + b ε                     the network gives a ε - b y    y = a z - b v

with a = 1 / sqrt(1 + σ²) and b = σ a, so that a² + b² = 1 (Salimans and Ho, Progressive
distillation for fast sampling of diffusion models (2022), arXiv 2202.00512, appendix D). σ is the
ratio of noise to signal in both, whose candidates differ by the factor a alone: an output of one
form is one of the other, and both forecast alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.pde.networks.arguments import check_count, check_number

Form = Literal["epsilon", "velocity"]
FORMS = ("epsilon", "velocity")
ROUNDING = 4 * torch.finfo(torch.float32).eps  # noise below this is lost in a target of size 1


@dataclass(frozen=True)
class NoiseLevels:
    """σ_k = smallest^(k / count) for k = 0..count: 1 at level 0, smallest at the last.

    Lippe et al., PDE-Refiner (2023), arXiv 2308.05732, section 3.1. count: refinements after level
    0, which sees zeros and no noise. smallest: a standard deviation, in units of that of the
    target.
    """

    count: int
    smallest: float

    def __post_init__(self) -> None:
        check_count("levels", self.count, 0)
        meaning = (
            f"a standard deviation (no variance) between {ROUNDING:.1e}, the rounding of single "
            "precision, and 1"
        )
        if not ROUNDING <= check_number("sigma_min", self.smallest, meaning) < 1:
            raise InputError(f"sigma_min must be {meaning}, got {self.smallest}")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """σ_0, ..., σ_count."""
        return tuple(self.smallest ** (k / max(self.count, 1)) for k in range(self.count + 1))

    def at_most(self, error: float) -> tuple[int, ...]:
        """The levels whose noise is at most as large as an error, or the last if none is.

        error: root mean square of level 0, in units of the target. Noise that is larger wipes out
        what level 0 knows, and the later levels need not bring it back.
        """
        fine = tuple(k for k in range(1, self.count + 1) if self.sigmas[k] <= error)
        return fine or tuple(range(self.count, 0, -1))[:1]


def candidate(target: Tensor, noise: Tensor, sigma: float | Tensor, form: Form) -> Tensor:
    """z: a target hidden by noise of the same shape; sigma: a number or (B, 1, ...)."""
    z = target + sigma * noise
    return z if form == "epsilon" else _signal(sigma) * z


def wanted(target: Tensor, noise: Tensor, sigma: float | Tensor, form: Form) -> Tensor:
    """What the network should give for that candidate."""
    return noise if form == "epsilon" else _signal(sigma) * (noise - sigma * target)


def recovered(z: Tensor, output: Tensor, sigma: float | Tensor, form: Form) -> Tensor:
    """The target y that an output for a candidate z stands for."""
    if form == "epsilon":
        return z - sigma * output
    return _signal(sigma) * (z - sigma * output)


def velocity_of_noise(noise: Tensor, z: Tensor, sigma: float | Tensor) -> Tensor:
    """v for the ε of a candidate z of the velocity form: v = (ε - b z) / a."""
    signal = _signal(sigma)
    return noise / signal - sigma * z


def noise_of_velocity(velocity: Tensor, z: Tensor, sigma: float | Tensor) -> Tensor:
    """ε for the v of a candidate z of the velocity form: ε = a v + b z."""
    return _signal(sigma) * (velocity + sigma * z)


def _signal(sigma: float | Tensor) -> float | Tensor:
    return (1 + sigma**2) ** -0.5
