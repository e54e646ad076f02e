"""Damped modes of a box whose walls react locally, by Newton's method with continuation.

Along each axis the pressure is cos(k x) + (g0 / k) sin(k x), where g0 = (s/c) y0 of the wall at
x = 0 and g1 of the one at L, and the walls ask for
(k² - g0 g1) sin(k L) / k = (g0 + g1) cos(k L); s² = -c² sum k². For equal walls this is
k tan(k L / 2) = (s/c) y for even and k cot(k L / 2) = -(s/c) y for odd indices. P. M. Morse and
K. U. Ingard, Theoretical Acoustics, section 9.4; H. Kuttruff, Room Acoustics, chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_shape
from sims.acoustics.air import SPEED_OF_SOUND

Admittance = Callable[[Tensor], Tensor]

AXES = (("left", "right"), ("front", "back"), ("floor", "ceiling"))
ITERATIONS = 30  # of Newton's method at one admittance
SMALLEST_STEP = 1e-4  # of the continuation, which goes from 0 to 1
LARGEST_MISS = 1e-3  # relative, between a root and where its tangent led: no other mode is near
DIFFERENCE = 1e-5  # step of the admittance's derivative, relative to s


@dataclass(frozen=True, eq=False)
class BoxModes:
    """Modes of a box: p = shape(x) exp(s t).

    indices: (n, 3) int64, half waves along each axis in the rigid box. s: (n,) complex128 [rad/s].
    squared: (n, 3) complex128, the squared wavenumber along each axis [1/m²]. slopes: (n, 3)
    complex128, g0 = (s/c) y at the wall at 0 of each axis [1/m].
    """

    indices: Tensor
    s: Tensor
    squared: Tensor
    slopes: Tensor

    @property
    def frequencies(self) -> Tensor:
        """(n,) Im s / (2 pi) [Hz]."""
        return self.s.imag / (2.0 * math.pi)

    @property
    def reverberation_times(self) -> Tensor:
        """(n,) the time in which a mode falls by 60 dB, 3 ln(10) / -Re s [s]."""
        return 3.0 * math.log(10.0) / -self.s.real

    def shapes(self, points: Tensor) -> Tensor:
        """(n, P) complex128, the pressure of each mode at points (P, 3), not normalised."""
        x = points.to(self.s.device, torch.float64)
        squared = self.squared[:, None, :]
        along = _cosine(squared, x) + self.slopes[:, None, :] * _sine_over(squared, x)
        return along.prod(dim=-1)


def box_modes(
    lengths: object,
    walls: Admittance | Mapping[str, Admittance],
    indices: object,
    speed: float = SPEED_OF_SOUND,
) -> BoxModes:
    """Modes of a box from 0 to lengths (3,) [m] that the rigid modes `indices` (n, 3) grow into.

    walls: the normalised admittance y(s) of all walls, or of each by name ("left", "right" at the
    ends of x, "front", "back" of y, "floor", "ceiling" of z), a function of complex s (...) [rad/s]
    such as `Wall.admittance_at`. Differentiable in the lengths and in what the admittances depend
    on, by one more step of Newton's method.
    Raises InputError for indices that are all zero (the constant does not oscillate), and where a
    mode cannot be followed to the full admittance, as when it ceases to oscillate.
    """
    size = as_tensor("lengths", lengths, "three numbers [m]", dtype=torch.float64)
    check_shape("lengths", size, (3,))
    if not bool((size > 0).all() and size.isfinite().all()):
        raise InputError(f"lengths must be positive and finite [m], got {size.tolist()}")
    numbers = as_tensor("indices", indices, "integers (n, 3)", dtype=torch.int64).to(size.device)
    check_shape("indices", numbers, (None, 3))
    if bool((numbers < 0).any()) or bool((numbers.sum(dim=1) == 0).any()):
        raise InputError("indices must be at least 0, and one of the three above 0")
    each = _by_wall(walls)
    with torch.no_grad():
        unknowns = _followed(size, each, numbers, speed)
    residual, jacobian, _ = _equations(size, each, unknowns, speed, 1.0)
    unknowns = unknowns - torch.linalg.solve(jacobian.detach(), residual)
    s = unknowns[:, 3]
    low = torch.stack([s / speed * each[pair[0]](s) for pair in AXES], dim=1)
    return BoxModes(numbers, s, unknowns[:, :3], low)


def mode_indices(lengths: object, frequency: float, speed: float = SPEED_OF_SOUND) -> Tensor:
    """Indices (n, 3) int64 of the modes of a rigid box below a frequency [Hz], rising in theirs."""
    size = as_tensor("lengths", lengths, "three numbers [m]", dtype=torch.float64)
    check_shape("lengths", size, (3,))
    if not bool((size > 0).all() and size.isfinite().all()):
        raise InputError(f"lengths must be positive and finite [m], got {size.tolist()}")
    if not 0 < frequency < math.inf:
        raise InputError(f"frequency must be positive and finite [Hz], got {frequency!r}")
    counts = [int(2.0 * frequency * float(length) / speed) + 1 for length in size.detach()]
    grid = torch.cartesian_prod(*(torch.arange(n) for n in counts))[1:]
    own = 0.5 * speed * (grid / size.detach().cpu()).norm(dim=1)
    order = torch.argsort(own, stable=True)
    return grid[order[: int((own < frequency).sum())]]


def _by_wall(walls: Admittance | Mapping[str, Admittance]) -> dict[str, Admittance]:
    names = [name for pair in AXES for name in pair]
    if isinstance(walls, Mapping):
        if set(walls) != set(names) or not all(callable(wall) for wall in walls.values()):
            raise InputError(
                f"walls must have a function y(s) for each of {', '.join(names)}, "
                f"got {', '.join(map(str, walls)) or 'none'}"
            )
        return dict(walls)
    if not callable(walls):
        raise InputError(
            f"walls must be a function y(s) or a mapping from walls to functions, got {walls!r}"
        )
    return dict.fromkeys(names, walls)


def _followed(size: Tensor, walls: dict[str, Admittance], indices: Tensor, speed: float) -> Tensor:
    """Unknowns (n, 4), the squared wavenumbers and s, with the admittance raised from 0 to 1."""
    squared = (math.pi * indices.double() / size).to(torch.complex128) ** 2
    s = 1j * speed * squared.sum(dim=1, keepdim=True).sqrt()
    unknowns = torch.cat((squared, s), dim=1)
    share = torch.zeros(len(indices), dtype=torch.float64, device=size.device)
    step = torch.full_like(share, 0.1)
    while bool((share < 1.0).any()):
        active = (share < 1.0).nonzero().squeeze(1)
        goal = torch.clamp(share[active] + step[active], max=1.0)
        led, scale = _along_tangent(size, walls, unknowns[active], speed, share[active], goal)
        found, good = _newton(size, walls, led, speed, goal)
        good &= ((found - led).abs() < LARGEST_MISS * scale).all(dim=1)
        unknowns[active[good]] = found[good]
        share[active[good]] = goal[good]
        step[active] = torch.where(good, step[active] * 1.5, step[active] * 0.5)
        lost = step < SMALLEST_STEP
        if bool(lost.any()):
            first = int(lost.nonzero()[0])
            raise InputError(
                f"the mode {tuple(indices[first].tolist())} cannot be followed beyond "
                f"{float(share[first]):.3g} of the walls' admittance, where it is at "
                f"{float(unknowns[first, 3].imag) / (2.0 * math.pi):.4g} Hz: leave it out"
            )
    return unknowns


def _along_tangent(
    size: Tensor,
    walls: dict[str, Admittance],
    unknowns: Tensor,
    speed: float,
    share: Tensor,
    goal: Tensor,
) -> tuple[Tensor, Tensor]:
    """Where roots (n, 4) go to first order as the share of the admittance grows, and their size."""
    _, jacobian, scale = _equations(size, walls, unknowns, speed, share)
    # the equations are quadratic in the share, so that this difference is exact
    above, _, _ = _equations(size, walls, unknowns, speed, share + 0.5)
    below, _, _ = _equations(size, walls, unknowns, speed, share - 0.5)
    tangent = -torch.linalg.solve(jacobian, above - below)
    return unknowns + (goal - share)[:, None] * tangent, scale


def _newton(
    size: Tensor, walls: dict[str, Admittance], unknowns: Tensor, speed: float, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Roots near the unknowns (n, 4), and whether they were found."""
    good = torch.zeros(len(unknowns), dtype=torch.bool, device=unknowns.device)
    for _ in range(ITERATIONS):
        residual, jacobian, scale = _equations(size, walls, unknowns, speed, share)
        step = torch.linalg.solve(jacobian, residual)
        unknowns = unknowns - step
        good = (step.abs() <= 1e-12 * scale).all(dim=1)
        if bool(good.all()):
            break
    return unknowns, good


def _equations(
    size: Tensor,
    walls: dict[str, Admittance],
    unknowns: Tensor,
    speed: float,
    share: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals (n, 4), their Jacobian (n, 4, 4), and the size of the unknowns (n, 4)."""
    s = unknowns[:, 3]
    rows, columns = [], []
    for axis, (low, high) in enumerate(AXES):
        squared, length = unknowns[:, axis], size[axis]
        low_slope, low_change = _slope(walls[low], s, speed, share)
        high_slope, high_change = _slope(walls[high], s, speed, share)
        cosine, sine = _cosine(squared, length), _sine_over(squared, length)
        product, total = low_slope * high_slope, low_slope + high_slope
        rows.append((squared - product) * sine - total * cosine)
        # d cos(kL)/d k² = -L sin(kL)/(2k); d (sin(kL)/k)/d k² = (L cos(kL) - sin(kL)/k)/(2k²)
        by_squared = (
            sine + (squared - product) * _sine_change(squared, length) + total * length * sine / 2.0
        )
        by_s = (
            -(low_change * high_slope + low_slope * high_change) * sine
            - (low_change + high_change) * cosine
        )
        zero = torch.zeros_like(s)
        columns.append(
            torch.stack([by_squared if a == axis else zero for a in range(3)] + [by_s], dim=1)
        )
    # over c², so that all four unknowns but s are wavenumbers squared
    rows.append(unknowns[:, :3].sum(dim=1) + (s / speed) ** 2)
    one = torch.ones_like(s)
    columns.append(torch.stack((one, one, one, 2.0 * s / speed**2), dim=1))
    whole = (s.abs() / speed) ** 2
    scale = torch.stack((whole, whole, whole, s.abs()), dim=1)
    return torch.stack(rows, dim=1), torch.stack(columns, dim=1), scale


def _slope(
    wall: Admittance, s: Tensor, speed: float, share: float | Tensor
) -> tuple[Tensor, Tensor]:
    """(s/c) y(s), by a share of the admittance, and its derivative."""
    step = DIFFERENCE * s.detach().abs()
    # the derivative steers Newton's method only: what it converges to does not depend on it
    with torch.no_grad():
        up, down = s + step, s - step
        change = (up * wall(up) - down * wall(down)) / (2.0 * step)
    return share * s * wall(s) / speed, share * change / speed


def _cosine(squared: Tensor, length: Tensor) -> Tensor:
    """cos(k L) of k²."""
    return torch.cos(torch.sqrt(_away_from_zero(squared)) * length)


def _sine_over(squared: Tensor, length: Tensor) -> Tensor:
    """sin(k L) / k of k²."""
    root = torch.sqrt(_away_from_zero(squared))
    return torch.sin(root * length) / root


def _sine_change(squared: Tensor, length: Tensor) -> Tensor:
    """Derivative of sin(k L) / k by k², by its series where k L is small."""
    phase = squared * length**2
    small = phase.abs() < 1e-2
    safe = torch.where(small, torch.ones_like(squared), squared)
    quotient = (length * _cosine(safe, length) - _sine_over(safe, length)) / (2.0 * safe)
    series = -(length**3) * (1.0 - phase / 10.0 + phase**2 / 280.0 - phase**3 / 15120.0) / 6.0
    return torch.where(small, series, quotient)


def _away_from_zero(squared: Tensor) -> Tensor:
    """k² with 1e-30 in place of 0, whose root has no slope."""
    return torch.where(squared == 0, torch.full_like(squared, 1e-30), squared)
