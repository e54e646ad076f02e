"""Softer laws for the begin of an optimisation, which become the true ones towards its end.

Before two surfaces touch no gradient tells that they could, and contact that sticks hides how what
holds it moves. Contact that reaches farther, friction that gives way sooner and a yield law without
a corner have gradients that say more, at the price of other results. So one begins with these and
comes back geometrically (continuation, as in Huang et al. 2021, PlasticineLab, and others):

    softness = Softness(range=(4, 1), friction=(10, 1), yielding=(0.2, 0.02))
    for step in range(steps):
        simulator.softened(softness, step / (steps - 1)).rollout(...)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from geomopt.errors import InputError
from sims.thin_shell.bending import Values
from sims.thin_shell.contact.settings import Contact


class Level(NamedTuple):
    """How soft: factors on the range of contact and on the give of friction, and what the softness
    of yield is at least."""

    range: float
    friction: float
    yielding: float


@dataclass(frozen=True)
class Softness:
    """How soft contact, friction and yield are at first and in the end, two positive numbers each.

    range: factor on the range of contact. friction: factor by which friction gives way sooner:
    anchored springs are less stiff by it, and slip rounds off from mu N over it; creeping contacts
    have their speed times it. Both are at least 1. yielding, below 1: softness of the yield law,
    see `Material.softness`, where that of the material is less.

    Raises InputError for anything else.
    """

    range: Sequence[float] = (4.0, 1.0)
    friction: Sequence[float] = (10.0, 1.0)
    yielding: Sequence[float] = (0.2, 0.02)

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            given = getattr(self, name)
            low, high = (0.0, 1.0) if name == "yielding" else (1.0, float("inf"))
            numbers = isinstance(given, Sequence) and all(
                isinstance(value, int | float) for value in given
            )
            if not (numbers and len(given) == 2 and all(low <= v < high and v > 0 for v in given)):
                allowed = "above 0 and below 1" if name == "yielding" else "of at least 1"
                raise InputError(f"{name} must be two numbers {allowed}, got {given!r}")

    def at(self, progress: float) -> Level:
        """How soft at a share of the way, in [0, 1]; geometric in between. Raises InputError."""
        if not (isinstance(progress, int | float) and 0 <= progress <= 1):
            raise InputError(f"progress must be a number in [0, 1], got {progress!r}")
        ends = (self.range, self.friction, self.yielding)
        return Level(*(first ** (1 - progress) * last**progress for first, last in ends))


def soft_values(values: Values, level: Level) -> Values:
    """The values of a model, see `Model`, at a level of softness."""
    found = dict(values)
    found["softness"] = values["softness"].clamp(min=level.yielding)
    if "contact_range" in values:
        found["contact_range"] = values["contact_range"] * level.range
        left = 1 - values["contact_softness"]
        found["contact_softness"] = 1 - left / level.friction
    return found


def soft_contact(contact: Contact, level: Level) -> Contact:
    """Settings of contact at a level of softness."""
    grip, speed = contact.grip / level.friction, contact.creep_speed * level.friction
    return replace(contact, grip=grip, creep_speed=speed)
