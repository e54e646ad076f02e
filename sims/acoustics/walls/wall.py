"""Walls that react locally: passive branches, from a number, a material or a measured table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_shape, check_values_exist
from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE
from sims.acoustics.exact import reflection as plane_waves

Incidence = float | Literal["normal", "random"]


@dataclass(frozen=True)
class FitError:
    """How far a fitted wall is from what it was fitted to, over a band.

    band: lowest and highest frequency of the data [Hz]. admittance: largest relative error of y.
    reflection: largest absolute error of R at normal incidence. dissipation: largest relative error
    of Re y, which reverberation follows. absorption: largest absolute error of the absorption
    coefficient at the bands given. None for what the data do not say.
    """

    band: tuple[float, float]
    admittance: float | None = None
    reflection: float | None = None
    dissipation: float | None = None
    absorption: float | None = None

    def __str__(self) -> str:
        said = [
            f"{name} within {value:.2g}"
            for name, value in (("R", self.reflection), ("absorption", self.absorption))
            if value is not None
        ]
        return f"{' and '.join(said)} over {self.band[0]:g} to {self.band[1]:g} Hz"


@dataclass(frozen=True, eq=False)
class Wall:
    """A locally reacting wall, v_n = y p / (rho c) with v_n into the wall.

    branches: (M, 3) float64, columns D [s], E [1] and F [1/s], at least 0: the mass, damping and
    spring of each branch over rho c. weights: (M,) float64, at least 0, by default ones. The
    normalised admittance is y(s) = sum_m weights_m / (D_m s + E_m + F_m / s), of exp(+st), which
    cannot give out energy whatever the values. No branches are a rigid wall. Both may require grad.
    name: for reports. fit_error: of a wall that was fitted to data.

    Raises InputError for shapes that do not fit, for values that are negative or not finite, and
    for a branch of zeros alone.
    """

    branches: Tensor
    weights: Any = None
    name: str = "wall"
    fit_error: FitError | None = None

    def __post_init__(self) -> None:
        branches = as_tensor("branches", self.branches, "numbers (M, 3)", dtype=torch.float64)
        check_shape("branches", branches, (None, 3))
        weights = self.weights
        if weights is None:
            weights = torch.ones(len(branches), dtype=torch.float64, device=branches.device)
        weights = as_tensor("weights", weights, "numbers (M,)", dtype=torch.float64)
        check_shape("weights", weights, (len(branches),))
        for name, values in (("branches", branches), ("weights", weights)):
            check_values_exist(name, values)
            _check_each(name, values, values.isfinite() & (values >= 0), "at least 0 and finite")
        if bool((branches.detach() == 0).all(dim=1).any()):
            raise InputError(
                "branches must each have a mass D, a damping E or a spring F above 0: "
                "a branch of zeros alone is an opening without any pressure"
            )
        if weights.device != branches.device:
            raise InputError(
                f"weights must be on {branches.device} like branches, got {weights.device}"
            )
        object.__setattr__(self, "branches", branches)
        object.__setattr__(self, "weights", weights)

    def __repr__(self) -> str:
        kind = {0: "rigid", 1: "1 branch"}.get(len(self.branches), f"{len(self.branches)} branches")
        fitted = "" if self.fit_error is None else f", {self.fit_error}"
        return f"Wall({self.name!r}, {kind}{fitted})"

    @staticmethod
    def rigid() -> Wall:
        """A wall that does not move."""
        return Wall(torch.zeros(0, 3, dtype=torch.float64), name="rigid")

    @staticmethod
    def impedance(impedance: float | Tensor) -> Wall:
        """A wall of real impedance p / v_n [Pa s/m], the same at all frequencies.

        7400 is a hard wall that takes 20 % at normal incidence, 411.6 (rho c) takes all there.
        Raises InputError for one that is not a positive finite number.
        """
        remedy = "a positive finite number [Pa s/m]"
        if isinstance(impedance, complex) or (
            isinstance(impedance, Tensor) and impedance.is_complex()
        ):
            raise InputError(
                f"impedance must be {remedy}, got {impedance}; a complex one changes with "
                "frequency, give it to Wall.from_impedance with its frequencies"
            )
        value = as_tensor("impedance", impedance, remedy, dtype=torch.float64)
        check_shape("impedance", value, ())
        if not bool((value > 0) & value.isfinite()):
            raise InputError(
                f"impedance must be {remedy}, got {float(value.detach()):g}; a wall that does not "
                "move is Wall.rigid()"
            )
        zero = torch.zeros_like(value)
        branch = torch.stack((zero, value / CHARACTERISTIC_IMPEDANCE, zero))
        return Wall(branch[None], name=f"{float(value.detach()):g} Pa s/m")

    @staticmethod
    def miki(
        flow_resistivity: float = 1e4,
        thickness: float = 0.03,
        air_gap: float = 0.0,
        band: tuple[float, float] = (40.0, 2000.0),
    ) -> Wall:
        """A porous layer before a rigid wall, of `miki.surface_impedance` at normal incidence.

        flow_resistivity: [Pa s/m²]. thickness, air_gap: [m]. band: where the branches are fitted,
        lowest and highest frequency [Hz]; it begins higher where the formula is active, far below
        0.01 flow_resistivity. Raises InputError for values that are not positive, a negative gap,
        and a band in which a gap has resonances that no branches in parallel follow.
        """
        from sims.acoustics.walls import fitted_walls

        return fitted_walls.miki_layer(flow_resistivity, thickness, air_gap, band)

    @staticmethod
    def from_impedance(
        frequencies: object,
        impedance: object,
        tolerance: float = 0.002,
        name: str = "measured impedance",
    ) -> Wall:
        """A passive wall whose impedance is that of a table.

        frequencies: (N,), positive and rising [Hz]. impedance: (N,) complex p / v_n [Pa s/m], of
        exp(+iwt), in which a spring has a negative imaginary part; the conjugate of data of the
        other convention. tolerance: error of the reflection factor at normal incidence, and tenth
        of the relative error of Re y, below which no more branches are added, of at most five.
        `fit_error` of the wall says what was reached.
        Raises InputError for data that are not finite, not in order, zero, or active (Re Z < 0),
        and where branches in parallel miss R by more than 0.1 on average.
        """
        from sims.acoustics.walls import fitted_walls

        return fitted_walls.from_impedance(frequencies, impedance, tolerance, name)

    @staticmethod
    def from_absorption(
        bands: object,
        alpha: object,
        incidence: Literal["random", "normal"] = "random",
        tolerance: float = 0.02,
        name: str = "measured absorption",
    ) -> Wall:
        """A passive wall whose absorption is that of a table.

        bands: (N,), positive and rising [Hz]. alpha: (N,) absorption coefficients, 0 to 1, as
        measured in a reverberation room (incidence "random") or in an impedance tube ("normal").
        They do not determine the phase of a reflection: of the walls that fit, one of few branches
        that is smooth between the bands is taken, and for equal alpha a resistance above rho c. A
        locally reacting wall takes at most 0.951 at random incidence; above, the wall comes as
        close as it can, and `fit_error` says how close. tolerance: error relative to alpha + 0.02
        below which no more branches are added, of at most five and half the number of bands.
        Raises InputError for values outside of 0 to 1, not finite, or bands not in order.
        """
        from sims.acoustics.walls import fitted_walls

        return fitted_walls.from_absorption(bands, alpha, incidence, tolerance, name)

    @staticmethod
    def mix(parts: Sequence[tuple[Wall, float | Tensor]]) -> Wall:
        """Walls side by side in pieces smaller than a wavelength: y = sum of share times y.

        parts: pairs of a wall and its share of the area, at least 0 and together at most 1 (what
        is left is rigid). Differentiable in the shares, (), and the walls.
        """
        allowed = "pairs of a Wall and its share of the area"
        try:
            pairs = [(wall, share) for wall, share in parts]
        except (TypeError, ValueError):
            raise InputError(f"parts must be {allowed}, got {parts!r}") from None
        if not pairs or not all(isinstance(wall, Wall) for wall, _ in pairs):
            raise InputError(f"parts must be {allowed}, got {parts!r}")
        shares = [as_tensor("share", share, "a number", dtype=torch.float64) for _, share in pairs]
        for share in shares:
            check_shape("share", share, ())
        together = torch.stack([share.detach().cpu() for share in shares])
        _check_each("share", together, together.isfinite() & (together >= 0), "in [0, 1]")
        if float(together.sum()) > 1.0 + 1e-9:
            raise InputError(
                f"the shares of a mix must be at most 1 together, got {float(together.sum()):g}"
            )
        return Wall(
            torch.cat([wall.branches for wall, _ in pairs]),
            torch.cat([w.weights * share for (w, _), share in zip(pairs, shares, strict=True)]),
            name=" + ".join(
                f"{float(share):.3g} {wall.name}"
                for (wall, _), share in zip(pairs, together, strict=True)
            ),
        )

    def admittance_at(self, s: Tensor) -> Tensor:
        """Normalised admittance y of complex s (...) [rad/s], differentiable in all."""
        mass, damping, spring = self.branches.to(torch.complex128).unbind(dim=1)
        s = s.to(torch.complex128)[..., None]
        # s over the impedance times s, so that a spring stops s = 0 instead of dividing by it
        sprung = spring != 0
        stiff = torch.where(sprung, spring, 1.0)
        over = torch.where(
            sprung, s / (mass * s**2 + damping * s + stiff), _free(mass, damping, s, sprung)
        )
        return (self.weights * over).sum(dim=-1)

    def admittance(self, frequencies: object) -> Tensor:
        """Normalised admittance y = rho c v_n / p at frequencies (...) [Hz], complex128.

        Differentiable in branches and weights. At 0 Hz a wall of mass alone has no finite value.
        """
        f = as_tensor("frequencies", frequencies, "numbers [Hz]", dtype=torch.float64)
        f = f.to(self.branches.device)
        _check_each("frequencies", f, f.isfinite() & (f >= 0), "at least 0 and finite [Hz]")
        massive = (self.branches[:, 1:] == 0).all(dim=1)
        if bool(massive.any()) and bool((f == 0).any()):
            raise InputError("frequencies must be above 0 for a wall with a branch of mass alone")
        return self.admittance_at(torch.complex(torch.zeros_like(f), 2.0 * math.pi * f))

    def reflection(self, frequencies: object, angle: float = 0.0) -> Tensor:
        """Reflection factor R, complex128, of plane waves at an angle from the normal [rad]."""
        return plane_waves.reflection(self.admittance(frequencies), _checked_angle(angle))

    def absorption(self, frequencies: object, incidence: Incidence = "random") -> Tensor:
        """Absorption coefficient alpha at frequencies (...) [Hz].

        incidence: "random" (a diffuse field), "normal", or an angle from the normal [rad].
        """
        if incidence == "random":
            return plane_waves.random_absorption(self.admittance(frequencies))
        angle = 0.0 if incidence == "normal" else _checked_angle(incidence)
        return plane_waves.absorption(self.admittance(frequencies), angle)


def to_parameters(wall: Wall, floor: float = 1e-6) -> Tensor:
    """Logarithms (M, 3) of the branches in units of 1 kHz, an optimiser's unconstrained variables.

    log(D W), log(E), log(F / W) with W = 2 pi 1000 rad/s: of like size, and any value of them is a
    passive wall. floor: what stands for an element that is 0, of which there is no logarithm.
    """
    return torch.log(torch.clamp(wall.branches * _units(wall.branches), min=floor))


def from_parameters(parameters: Tensor, like: Wall | None = None) -> Wall:
    """The wall of `to_parameters`, differentiable; weights and name are those of `like`."""
    branches = torch.exp(parameters.to(torch.float64)) / _units(parameters)
    if like is None:
        return Wall(branches)
    return Wall(branches, like.weights, like.name)


def _units(values: Tensor) -> Tensor:
    kilohertz = 2.0 * math.pi * 1000.0
    return torch.tensor(
        [kilohertz, 1.0, 1.0 / kilohertz], dtype=torch.float64, device=values.device
    )


def _free(mass: Tensor, damping: Tensor, s: Tensor, sprung: Tensor) -> Tensor:
    """1 / (D s + E) where a branch has no spring; 1 in the others, whose value is not taken."""
    return 1.0 / torch.where(sprung, torch.ones_like(s), mass * s + damping)


def _checked_angle(angle: object) -> float:
    if (
        isinstance(angle, bool)
        or not isinstance(angle, int | float)
        or not 0 <= angle <= math.pi / 2
    ):
        raise InputError(
            "angle must be a number from 0 (normal) to pi/2 (grazing) [rad], or incidence 'random' "
            f"or 'normal', got {angle!r}"
        )
    return float(angle)


def _check_each(name: str, values: Tensor, good: Tensor, allowed: str) -> None:
    if not bool(good.all()):
        wrong = values.detach().flatten()[~good.flatten()][0]
        raise InputError(f"{name} must be {allowed}, got {float(wrong):g}")
