"""What a user says about contact, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell.bodies import check_number
from sims.thin_shell.material import Quantity

Law = Literal["anchored", "creeping"]
LAWS = ("anchored", "creeping")


@dataclass(frozen=True, eq=False)
class Contact:
    """How the sheets and bodies of a scene touch. Results are differentiable in every tensor.

    range: gap below which two surfaces push each other apart [m], 1e-3 of the size of the scene by
    default; a sheet of thickness t is t / 2 thick on either side. stiffness: of the barrier [N/m],
    see `energies.barrier`; by default that of what touches, from inertia, bending and elasticity.
    offset: how far the surface of each sheet, then of each body, is from its mesh [m], in place of
    half the thickness and of the radius; numbers, or a tensor (C,).

    friction: coefficients of pairs of materials or bodies, {(paper, pad): 0.8}; for pairs that it
    does not name the geometric mean of the coefficients that both have by themselves. law:
    "anchored" friction is elastic up to mu N and then slides; it holds without creep (elastic-
    plastic Coulomb friction). "creeping" is the force mu N f(|v| / creep_speed) of the relative
    velocity, which lets go of what it holds at up to `creep_speed` [m/s]. grip: stiffness of
    anchored contacts over that of the barrier; one that bears much is stiffer, so that it yields by
    no more than a hundredth of the range before it slides. softness: width of the corner between
    sticking and sliding over mu N, in [0, 1); more makes gradients smoother. Both laws take normal
    force and directions from the start of a step (lagged).

    passing: pairs of materials or bodies that do not feel each other.
    """

    range: Quantity | None = None
    stiffness: Quantity | None = None
    offset: Sequence[float] | Tensor | None = None
    friction: Mapping[tuple[Any, Any], Quantity] = field(default_factory=dict)
    law: Law = "anchored"
    creep_speed: float = 1e-3
    grip: float = 100.0
    softness: Quantity = 0.0
    passing: Sequence[tuple[Any, Any]] = ()

    def __post_init__(self) -> None:
        for name in ("range", "stiffness"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0.0, strict=True)
        check_number("creep_speed", self.creep_speed, 0.0, strict=True)
        check_number("grip", self.grip, 0.0, strict=True)
        check_number("softness", self.softness, 0.0)
        softness = self.softness.detach() if isinstance(self.softness, Tensor) else self.softness
        if not float(softness) < 1:
            raise InputError(f"softness must be in [0, 1), got {float(softness):g}")
        if self.law not in LAWS:
            raise InputError(f"law must be one of {LAWS}, got {self.law!r}")
        if not isinstance(self.friction, Mapping):
            kind = type(self.friction).__name__
            raise InputError(f"friction must map pairs of materials or bodies, got {kind}")
        if not isinstance(self.passing, Sequence):
            kind = type(self.passing).__name__
            raise InputError(f"passing must list pairs of materials or bodies, got {kind}")
        for name, pairs in (("friction", self.friction), ("passing", self.passing)):
            for pair in pairs:
                if not (isinstance(pair, tuple) and len(pair) == 2):
                    raise InputError(
                        f"{name} must name pairs of materials or bodies, got {_briefly(pair)}"
                    )
        if any((b, a) in self.friction for a, b in self.friction if a is not b):
            raise InputError("friction must name a pair once, got one in both orders")
        for coefficient in self.friction.values():
            check_number("friction", coefficient, 0.0)


def _briefly(pair: Any) -> str:
    """A wrong pair, without the tensors of what is in it."""
    if isinstance(pair, tuple):
        return f"{len(pair)} of them"
    return repr(pair) if isinstance(pair, str) else f"a {type(pair).__name__}"
