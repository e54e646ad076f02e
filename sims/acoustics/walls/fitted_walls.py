"""Walls whose branches are fitted to an impedance, an absorption or a material's own formula."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import root_scalar

from geomopt.errors import InputError, check_values_exist
from sims.acoustics.air import CHARACTERISTIC_IMPEDANCE
from sims.acoustics.exact.reflection import random_absorption
from sims.acoustics.walls import wall_fit
from sims.acoustics.walls.miki import surface_impedance
from sims.acoustics.walls.wall import FitError, Wall

Array = wall_fit.Array

POINTS_FITTED = 200  # frequencies of a table that enter a fit; its error is of all of them
POINTS = 80  # frequencies at which a formula is sampled
PER_OCTAVE = 6  # points between the bands of an absorption table
BETWEEN = 0.15  # weight of these beside the bands themselves
SHARPNESS = 0.03  # weight of the logarithm of a quality above 1, which no octave band speaks of
DISSIPATION_OVER_REFLECTION = 10.0  # an error of 0.002 in R counts as one of 2 % in Re y
WORST_FIT = 0.1  # root of the mean squared error of R above which a fit is refused
RESOLVED = 0.02  # absorption that is added before errors are taken relative to it
MOST_ABSORBING = 1.567  # rho c, takes the most at random incidence, 0.951


def miki_layer(
    flow_resistivity: float, thickness: float, air_gap: float, band: tuple[float, float]
) -> Wall:
    """See `Wall.miki`."""
    for name, value in (("flow_resistivity", flow_resistivity), ("thickness", thickness)):
        if not _number(value) or value <= 0:
            raise InputError(f"{name} must be positive and finite, got {value!r}")
    if not _number(air_gap) or air_gap < 0:
        raise InputError(f"air_gap must be at least 0 and finite [m], got {air_gap!r}")
    try:
        low, high = (float(edge) for edge in band)
    except (TypeError, ValueError):
        raise InputError(f"band must be two frequencies [Hz], got {band!r}") from None
    if not 0 < low < high < math.inf:
        raise InputError(f"band must be two rising positive frequencies [Hz], got {band!r}")
    return _miki_layer(float(flow_resistivity), float(thickness), float(air_gap), low, high)


@lru_cache(maxsize=64)
def _miki_layer(
    flow_resistivity: float, thickness: float, air_gap: float, low: float, high: float
) -> Wall:
    def of_band(lowest: float) -> tuple[Array, wall_fit.Complex]:
        f = np.geomspace(lowest, high, POINTS)
        return f, surface_impedance(f, flow_resistivity, thickness, air_gap)

    frequencies, impedance = of_band(low)
    # far below the range of its measurements the formula can be active
    active = np.flatnonzero(impedance.real < 0)
    if len(active):
        last = float(frequencies[active[-1]])
        if 2.0 * last > high:
            raise InputError(
                f"flow_resistivity {flow_resistivity:g} Pa s/m² and thickness {thickness:g} m: "
                f"the formula gives out energy up to {last:.4g} Hz; it holds above "
                f"{0.01 * flow_resistivity:g} Hz (0.01 of the flow resistivity): raise the band"
            )
        frequencies, impedance = of_band(float(frequencies[active[-1] + 1]))
    gap = f" and {1e3 * air_gap:g} mm of air" if air_gap else ""
    name = f"{1e3 * thickness:g} mm porous, {flow_resistivity:g} Pa s/m²{gap}"
    return from_impedance(frequencies, impedance, 0.002, name)


def from_impedance(frequencies: object, impedance: object, tolerance: float, name: str) -> Wall:
    """See `Wall.from_impedance`."""
    f = _rising("frequencies", frequencies)
    z = _numbers("impedance", impedance)
    if z.shape != f.shape:
        raise InputError(f"impedance must have shape {f.shape} like frequencies, got {z.shape}")
    _check_tolerance(tolerance)
    at = _first(z.real < 0)
    if at is not None:
        raise InputError(
            f"impedance must be passive, with a real part of at least 0, got {z[at]:.4g} Pa s/m at "
            f"{f[at]:g} Hz; leave such frequencies out, or set their real part to 0 where it is "
            "noise"
        )
    at = _first(z == 0)
    if at is not None:
        raise InputError(f"impedance must not be 0, got 0 at {f[at]:g} Hz")
    target = CHARACTERISTIC_IMPEDANCE / z
    omega = 2.0 * np.pi * f
    unit = float(np.sqrt(omega[0] * omega[-1]))
    s = 1j * omega / unit

    def errors(logarithms: Array) -> tuple[float, Array, float]:
        y = wall_fit.admittance(logarithms, s).sum(axis=1)[0]
        reflected = (1.0 - y) / (1.0 + y) - (1.0 - target) / (1.0 + target)
        taken = (y.real - target.real) / wall_fit.resolved(target)
        return (
            float(np.abs(y / target - 1.0).max()),
            np.abs(reflected),
            float(np.abs(taken).max()),
        )

    def score(logarithms: Array) -> float:
        _, reflection, taken = errors(logarithms)
        return max(float(reflection.max()), taken / DISSIPATION_OVER_REFLECTION)

    some = _spread(f)
    branches = wall_fit.fit(
        wall_fit.of_impedance(s[some], target[some]),
        score,
        level=float(np.median(1.0 / np.abs(target))),
        low=abs(s[0]),
        high=abs(s[-1]),
        # no more unknowns than data, or the wall resonates between them
        most=min(wall_fit.MOST_BRANCHES, max(1, 2 * len(f) // 3)),
        tolerance=tolerance,
    )
    with np.errstate(divide="ignore"):
        admittance, reflection, dissipation = errors(np.log(branches).reshape(1, -1))
    mean = float(np.sqrt((reflection**2).mean()))
    if mean > WORST_FIT:
        raise InputError(
            f"impedance cannot be met by branches in parallel from {f[0]:g} to {f[-1]:g} Hz: R is "
            f"off by {mean:.2g} on average. Smooth what is noise, or narrow the band: a cavity of "
            "depth d stands still near c / (2 d), and the band has to end below"
        )
    error = FitError(
        (float(f[0]), float(f[-1])),
        admittance=admittance,
        reflection=float(reflection.max()),
        dissipation=dissipation,
    )
    return _wall(branches, unit, name, error)


def from_absorption(
    bands: object,
    alpha: object,
    incidence: Literal["random", "normal"],
    tolerance: float,
    name: str,
) -> Wall:
    """See `Wall.from_absorption`."""
    f = _rising("bands", bands)
    a = _real("alpha", alpha)
    if a.shape != f.shape:
        raise InputError(f"alpha must have shape {f.shape} like bands, got {a.shape}")
    if incidence not in ("random", "normal"):
        raise InputError(f"incidence must be 'random' or 'normal', got {incidence!r}")
    _check_tolerance(tolerance)
    at = _first(a < 0)
    if at is not None:
        raise InputError(
            f"alpha must be at least 0, got {a[at]:g} at {f[at]:g} Hz: a wall does not give out "
            "energy"
        )
    at = _first(a > 1)
    if at is not None:
        raise InputError(
            f"alpha must be at most 1, got {a[at]:g} at {f[at]:g} Hz; values above 1 come from the "
            "edges of a sample in a reverberation room: replace them by 1 or less"
        )
    band = (float(f[0]), float(f[-1]))
    random = incidence == "random"
    if not a.any():
        return Wall(
            torch.zeros(0, 3, dtype=torch.float64),
            name=name,
            fit_error=FitError(band, absorption=0.0),
        )
    if np.ptp(a) == 0:
        resistance = _resistance(float(a[0]), random)
        reached = _of_resistance(resistance, random)
        return Wall(
            torch.tensor([[0.0, resistance, 0.0]], dtype=torch.float64),
            name=name,
            fit_error=FitError(band, absorption=abs(reached - float(a[0]))),
        )
    measured, given, some = f, a, _spread(f)
    f, a = f[some], a[some]
    omega = 2.0 * np.pi * f
    unit = float(np.sqrt(omega[0] * omega[-1]))
    between = 2.0 ** np.arange(
        math.log2(f[0]) - 1.0, math.log2(f[-1]) + 1.0 + 0.5 / PER_OCTAVE, 1.0 / PER_OCTAVE
    )
    reachable = np.minimum(a, _of_resistance(_resistance(1.0, random), random))
    smooth = PchipInterpolator(np.log(f), reachable)(np.log(np.clip(between, f[0], f[-1])))
    s = 1j * np.concatenate((omega, 2.0 * np.pi * between)) / unit
    target = np.concatenate((reachable, smooth))
    weights = np.concatenate((np.ones(len(f)), np.full(len(between), BETWEEN)))
    weights /= target + RESOLVED

    def residual(logarithms: Array) -> tuple[Array, Array]:
        each = wall_fit.admittance(logarithms, s)
        y = each.sum(axis=1)
        slope = wall_fit.slopes(logarithms, s, each)
        reached, by_real, by_imaginary = _absorption(y, random)
        errors = (reached - target) * weights
        rows = by_real[..., None] * slope.real + by_imaginary[..., None] * slope.imag
        sharp, by_logarithms = _sharpness(logarithms)
        return (
            np.concatenate((errors, sharp), axis=1),
            np.concatenate((rows * weights[:, None], by_logarithms), axis=1),
        )

    def score(logarithms: Array) -> float:
        return float(np.abs(residual(logarithms)[0][:, : len(f)]).max())

    branches = wall_fit.fit(
        residual,
        score,
        level=_resistance(float(np.median(a[a > 0])), random),
        low=abs(s[0]),
        high=abs(s[len(f) - 1]),
        most=min(wall_fit.MOST_BRANCHES, max(1, 2 * len(f) // 3)),
        tolerance=tolerance,
    )
    wall = _wall(branches, unit, name, None)
    missed = wall.absorption(measured, incidence).numpy() - given
    return replace(wall, fit_error=FitError(band, absorption=float(np.abs(missed).max())))


def _absorption(y: wall_fit.Complex, random: bool) -> tuple[Array, Array, Array]:
    """The absorption and its derivatives by the real and the imaginary part of y."""
    if random:
        at = torch.from_numpy(np.ascontiguousarray(y)).requires_grad_()
        value = random_absorption(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
        return value.detach().numpy(), slope.real.numpy(), slope.imag.numpy()
    squared = np.abs(1.0 + y) ** 2
    lowered = 8.0 * y.real / squared**2
    value = 4.0 * y.real / squared
    return value, 4.0 / squared - lowered * (1.0 + y.real), -lowered * y.imag


def _sharpness(logarithms: Array) -> tuple[Array, Array]:
    """How far the quality of each branch, sqrt(D F) / E, is above 1, (S, M), and its slopes."""
    each = logarithms.reshape(len(logarithms), -1, 3)
    with np.errstate(invalid="ignore"):  # elements that are left out are -inf
        quality = 0.5 * (each[..., 0] + each[..., 2]) - each[..., 1]
    steps = np.zeros((*quality.shape, *quality.shape[1:], 3))
    branch = np.arange(quality.shape[1])
    steps[:, branch, branch] = np.where(quality > 0, SHARPNESS, 0.0)[..., None] * (0.5, -1.0, 0.5)
    return SHARPNESS * np.maximum(quality, 0.0), steps.reshape(*quality.shape, -1)


def _of_resistance(resistance: float, random: bool) -> float:
    return float(_absorption(np.array([1.0 / resistance + 0j]), random)[0][0])


def _resistance(alpha: float, random: bool) -> float:
    """The normalised resistance, at least 1, that takes alpha > 0, or else the most there is."""
    if not random:
        return (1.0 + math.sqrt(1.0 - alpha)) ** 2 / alpha
    if alpha >= _of_resistance(MOST_ABSORBING, random):
        return MOST_ABSORBING
    # alpha tends to 8 / resistance, and stays below
    logarithm = root_scalar(
        lambda log: math.log(_of_resistance(math.exp(log), random) / alpha),
        bracket=(math.log(MOST_ABSORBING), math.log(16.0 / alpha)),
        xtol=1e-14,
    ).root
    return math.exp(logarithm)


def _spread(f: Array) -> NDArray[np.int64]:
    """Indices of at most POINTS_FITTED frequencies, evenly spread over the octaves."""
    if len(f) <= POINTS_FITTED:
        return np.arange(len(f))
    return np.unique(
        np.searchsorted(f, np.geomspace(f[0], f[-1], POINTS_FITTED)).clip(0, len(f) - 1)
    )


def _wall(branches: Array, unit: float, name: str, error: FitError | None) -> Wall:
    scaled = branches * np.array([1.0 / unit, 1.0, unit])
    return Wall(torch.from_numpy(scaled), name=name, fit_error=error)


def _rising(name: str, values: object) -> Array:
    f = _real(name, values)
    at = _first(f <= 0)
    if at is not None:
        raise InputError(f"{name} must be positive [Hz], got {f[at]:g}")
    at = _first(np.diff(f) <= 0)
    if at is not None:
        raise InputError(
            f"{name} must be rising, got {f[at + 1]:g} Hz after {f[at]:g} Hz: sort them, with "
            "one value for each"
        )
    return f


def _real(name: str, values: object) -> Array:
    numbers = _numbers(name, values)
    if numbers.imag.any():
        raise InputError(f"{name} must be real numbers, got complex ones")
    return np.ascontiguousarray(numbers.real)


def _numbers(name: str, values: object) -> NDArray[np.complex128]:
    """values as an array (N,), N > 0, of finite numbers."""
    if isinstance(values, torch.Tensor):
        check_values_exist(name, values)
        values = values.detach().resolve_conj().cpu().numpy()
    try:
        array = np.asarray(values).astype(np.complex128)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers (N,), got {values!r}") from None
    if array.ndim != 1 or not len(array):
        raise InputError(f"{name} must be numbers (N,), at least one, got shape {array.shape}")
    at = _first(~np.isfinite(array))
    if at is not None:
        raise InputError(f"{name} must be finite, got {np.asarray(values)[at]} at index {at}")
    return array


def _check_tolerance(tolerance: float) -> None:
    if not _number(tolerance) or tolerance <= 0:
        raise InputError(f"tolerance must be positive and finite, got {tolerance!r}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _first(wrong: NDArray[np.bool_]) -> int | None:
    return int(np.argmax(wrong)) if wrong.any() else None
