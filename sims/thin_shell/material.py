"""What a sheet is made of, in SI units, and a few typical materials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geomopt.errors import InputError, check_values_exist

Quantity = float | Tensor
Valid = Callable[[Tensor], Tensor]
Membrane = Literal["stvk", "neo-hookean", "tension-field"]
MEMBRANES = ("stvk", "neo-hookean", "tension-field")
POSITIVE = ("young", "thickness", "density", "yield_curvature")
NOT_NEGATIVE = ("hardening", "friction", "damping")
FRACTIONS = ("damage", "softness")


@dataclass(frozen=True, eq=False)
class Material:
    """A thin elastic or elastoplastic material.

    Every quantity is a number or a float tensor, () for the whole sheet or (F,) for each face, and
    results are differentiable in those tensors.

    young: Young's modulus E [Pa]. poisson: nu, in (-1, 0.5). thickness: t [m]. density
    [kg/m^3]. yield_curvature: elastic curvature at which a crease begins [1/m], about 2 yield
    strain / t; infinite for a material that never yields. hardening: H >= 0, growth of the
    yield curvature by plastic curvature; 0 counts as 1e-4, without which even bending has no
    one solution. friction: Coulomb coefficient. damping: retardation time of a Kelvin-Voigt
    solid [s]; a vibration of angular frequency w loses about pi w damping of its amplitude a
    cycle. damage: share of the bending stiffness that a deep crease loses, in [0, 1). softness:
    width of the transition at the yield as a share of it, in [0, 1); 0 is the sharp law, more
    makes the gradient smoother. bending: D [N m] in place of E t^3 / (12 (1 - nu^2)), for
    cloth, whose yarns slide, and for sheets whose stretch is softened on purpose. membrane:
    "stvk" (stiff sheets), "neo-hookean" (rubber) or "tension-field" (cloth that wrinkles below
    the mesh size). young_weft, shear_modulus: for an orthotropic sheet, E across the warp
    direction and G [Pa]; `young` and `poisson` (nu_12) are then of the warp direction, see
    `Sheet.warp`.

    Raises InputError for values outside these ranges.
    """

    young: Quantity
    poisson: Quantity
    thickness: Quantity
    density: Quantity
    yield_curvature: Quantity = math.inf
    hardening: Quantity = 0.0
    friction: Quantity = 0.5
    damping: Quantity = 0.0
    damage: Quantity = 0.0
    softness: Quantity = 0.0
    bending: Quantity | None = None
    membrane: Membrane = "stvk"
    young_weft: Quantity | None = None
    shear_modulus: Quantity | None = None

    def __post_init__(self) -> None:
        for name in POSITIVE:
            allowed = "positive" if name == "yield_curvature" else "positive and finite"
            self._check(name, lambda v: v > 0, allowed, finite=name != "yield_curvature")
        for name in NOT_NEGATIVE:
            self._check(name, lambda v: v >= 0, "at least 0 and finite")
        for name in FRACTIONS:
            self._check(name, lambda v: (v >= 0) & (v < 1), "in [0, 1)")
        if self.membrane not in MEMBRANES:
            raise InputError(f"membrane must be one of {MEMBRANES}, got {self.membrane!r}")
        if self.bending is not None:
            self._check("bending", lambda v: v > 0, "positive and finite")
        if (self.young_weft is None) != (self.shear_modulus is None):
            raise InputError(
                "young_weft and shear_modulus must be given together, "
                f"got {self.young_weft} and {self.shear_modulus}"
            )
        if self.young_weft is None:
            self._check("poisson", lambda v: (v > -1) & (v < 0.5), "in (-1, 0.5)")
            if self.membrane == "neo-hookean":
                # with lam < 0 the energy has no lower bound under compression
                self._check("poisson", lambda v: v >= 0, "in [0, 0.5) for a neo-Hookean membrane")
            return
        self._check("young_weft", lambda v: v > 0, "positive and finite")
        self._check("shear_modulus", lambda v: v > 0, "positive and finite")
        self._check("poisson", lambda v: v.isfinite(), "finite")
        if self.membrane == "neo-hookean":
            raise InputError(
                "membrane must be 'stvk' or 'tension-field' for an orthotropic material, "
                "got 'neo-hookean'"
            )
        given = {name: _tensor(getattr(self, name)) for name in ("poisson", "young", "young_weft")}
        counts = {name: len(value) for name, value in given.items() if value.ndim}
        if len(set(counts.values())) > 1:
            raise InputError(f"{' and '.join(counts)} must have as many values, got {counts}")
        product = given["poisson"] ** 2 * given["young_weft"] / given["young"]
        if not bool((product < 1).all()):
            raise InputError(
                "poisson must satisfy poisson^2 young_weft / young < 1, "
                f"got {float(product.max()):.3g}"
            )

    def _check(self, name: str, valid: Valid, allowed: str, finite: bool = True) -> None:
        check_quantity(name, getattr(self, name), valid, allowed, finite)

    def of_faces(self, name: str, count: int, device: torch.device) -> Tensor:
        """The quantity of that name for each of `count` faces, (F,) float64, differentiable."""
        return of_each(name, getattr(self, name), count, "faces", device)


def check_quantity(
    name: str, value: Quantity, valid: Valid, allowed: str, finite: bool = True
) -> None:
    """Raise InputError unless `value` is a number or a tensor () or (n,) of `valid` values."""
    if not isinstance(value, int | float | Tensor) or isinstance(value, bool):
        raise InputError(f"{name} must be a number or a tensor, got {type(value).__name__}")
    if isinstance(value, Tensor):
        if value.dtype == torch.bool or value.is_complex():
            raise InputError(f"{name} must be a number or a float tensor, got {value.dtype}")
        check_values_exist(name, value)
    values = _tensor(value).detach()
    if values.ndim > 1:
        raise InputError(f"{name} must have shape () or (n,), got {tuple(values.shape)}")
    good = valid(values) & ~values.isnan()
    if finite:
        good &= values.isfinite()
    if not bool(good.all()):
        wrong = values[~good] if values.ndim else values
        raise InputError(f"{name} must be {allowed}, got {float(wrong.flatten()[0]):.6g}")


def of_each(name: str, value: Quantity, count: int, kind: str, device: torch.device) -> Tensor:
    """A quantity for each of `count` elements of a kind, (n,) float64, differentiable."""
    values = _tensor(value).to(device)
    if values.ndim and len(values) != count:
        raise InputError(
            f"{name} must have one value for each of the {count} {kind}, got {len(values)}"
        )
    return values.expand(count)


def _tensor(value: Quantity) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.float64)
    return torch.tensor(float(value), dtype=torch.float64)


# Handbook values, for first trials: measure your own sheet before you trust a simulation of it.
MATERIALS = {
    "paper": Material(
        young=2.5e9, poisson=0.25, thickness=1e-4, density=800.0, yield_curvature=120.0,
        hardening=0.1, friction=0.8,
    ),
    "card": Material(
        young=3e9, poisson=0.25, thickness=3e-4, density=830.0, yield_curvature=40.0,
        hardening=0.1, friction=0.8,
    ),
    "film": Material(young=4e9, poisson=0.38, thickness=1e-4, density=1400.0, friction=0.7),
    "cotton": Material(
        young=1.25e7, poisson=0.3, thickness=4e-4, density=400.0, friction=0.8, bending=8e-6,
        membrane="tension-field",
    ),
    "silk": Material(
        young=1e7, poisson=0.3, thickness=1e-4, density=500.0, friction=0.4, bending=4e-7,
        membrane="tension-field",
    ),
    "rubber": Material(
        young=1.5e6, poisson=0.49, thickness=1e-3, density=1000.0, friction=1.2,
        membrane="neo-hookean",
    ),
}  # fmt: skip
