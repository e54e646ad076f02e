"""Rigid bodies that are moved by a pose: half spaces, spheres, cylinders, boxes, meshes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from geomopt.errors import InputError, check_indices, check_tensor
from sims.thin_shell.material import Quantity
from sims.thin_shell.pose import Vector, as_pose, as_vector, placed

CORNERS = ((-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1))  # of the lower face of a box
LOWER, UPPER = ((0, 2, 1), (0, 3, 2)), ((4, 5, 6), (4, 6, 7))  # its faces, outward
SIDE = ((0, 1, 5), (0, 5, 4))  # between corners 0 and 1, and so on around


@dataclass(frozen=True, eq=False)
class Body:
    """A rigid body. It moves as it is told, see `Control.poses`, and feels no force.

    local (P, 3) [m]: its points in its own frame. pose (6,): position [m] and rotation vector
    [rad] at the start. faces (M, 3), lone edges (K, 2) and planes (L, 3) are indices into the
    points; a plane goes through three of them and has no end. radius [m]: how far its surface is
    from these. friction: Coulomb coefficient, see `Contact`. Made by the functions below.
    """

    local: Tensor
    pose: Tensor
    faces: Tensor
    lone_edges: Tensor
    planes: Tensor
    radius: Quantity = 0.0
    friction: Quantity = 0.5
    vertices: Tensor = field(init=False, repr=False)
    driven: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, low in (("radius", 0.0), ("friction", 0.0)):
            check_number(name, getattr(self, name), low)
        object.__setattr__(self, "vertices", self.moved(self.pose))
        everything = torch.ones(len(self.local), dtype=torch.bool, device=self.local.device)
        object.__setattr__(self, "driven", everything)

    def moved(self, pose: Tensor) -> Tensor:
        """Where its points (P, 3) are in a pose (6,)."""
        return placed(self.local, pose)

    def to(self, device: torch.device | str) -> Body:
        """This body on a device."""
        names = ("local", "pose", "faces", "lone_edges", "planes")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def rest_vertices(self) -> Tensor:
        """(P, 3) [m], where its points are at the start."""
        return self.vertices

    @classmethod
    def plane(
        cls,
        point: Vector = (0.0, 0.0, 0.0),
        normal: Vector = (0.0, 0.0, 1.0),
        friction: Quantity = 0.5,
    ) -> Body:
        """The half space below a plane through `point` [m], its outward normal `normal`."""
        up = as_vector("normal", normal)
        if not float(up.detach().norm()) > 0:
            raise InputError(f"normal must be a direction, got {normal!r}")
        up = up / up.norm()
        # the shortest rotation from z to the normal, by its half angle
        turn = torch.stack([-up[1], up[0], torch.zeros_like(up[0])])
        sine = turn.detach().norm()
        if float(sine) > 0:
            turn = turn / sine * torch.atan2(turn.norm(), up[2])
        elif float(up.detach()[2]) < 0:
            turn = turn + turn.new_tensor([math.pi, 0.0, 0.0])
        local = up.new_tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        pose = torch.cat([as_vector("point", point), turn])
        return _body(local, pose, planes=[[0, 1, 2]], friction=friction)

    @classmethod
    def sphere(
        cls, radius: Quantity, position: Vector = (0.0, 0.0, 0.0), friction: Quantity = 0.5
    ) -> Body:
        """A sphere around `position` [m]."""
        check_number("radius", radius, 0.0, strict=True)
        local = torch.zeros(1, 3, dtype=torch.float64)
        pose = torch.cat([as_vector("position", position), local[0]])
        return _body(local, pose, radius=radius, friction=friction)

    @classmethod
    def cylinder(
        cls,
        radius: Quantity,
        length: float,
        pose: Vector = (0.0,) * 6,
        friction: Quantity = 0.5,
    ) -> Body:
        """A cylinder about its own z axis; half spheres beyond its `length` [m] close its ends."""
        check_number("radius", radius, 0.0, strict=True)
        check_number("length", length, 0.0, strict=True)
        half = float(length) / 2
        local = torch.tensor([[0.0, 0.0, -half], [0.0, 0.0, half]], dtype=torch.float64)
        return _body(local, as_pose(pose), edges=[[0, 1]], radius=radius, friction=friction)

    @classmethod
    def box(
        cls, size: Vector, pose: Vector = (0.0,) * 6, friction: Quantity = 0.5, radius: Quantity = 0
    ) -> Body:
        """A box of edge lengths `size` (3,) [m] around its origin, rounded by `radius`, if any,
        outside of them."""
        sides = as_vector("size", size)
        if not bool((sides.detach() > 0).all()):
            raise InputError(f"size must be three positive lengths [m], got {size!r}")
        lower = sides.new_tensor(CORNERS)
        upper = lower * sides.new_tensor([1.0, 1.0, -1.0])
        local = torch.cat([lower, upper]) * sides / 2
        around = [_turned(face, turn) for turn in range(4) for face in SIDE]
        faces = [*map(list, LOWER), *map(list, UPPER), *around]
        return _body(local, as_pose(pose), faces=faces, radius=radius, friction=friction)

    @classmethod
    def mesh(
        cls,
        vertices: Tensor,
        faces: Tensor,
        pose: Vector = (0.0,) * 6,
        friction: Quantity = 0.5,
        radius: Quantity = 0.0,
    ) -> Body:
        """Any triangle mesh, vertices (P, 3) [m] in its own frame, faces (M, 3)."""
        local = check_tensor("vertices", vertices, (None, 3)).to(torch.float64)
        check_indices("faces", faces, (None, 3), len(local))
        if not len(faces):
            raise InputError("faces must have at least one row, got (0, 3)")
        start = as_pose(pose).to(local.device)
        return _body(local, start, faces=faces.long(), radius=radius, friction=friction)


def check_number(name: str, value: Quantity, low: float, strict: bool = False) -> None:
    """Raise InputError unless `value` is a finite number or scalar tensor of at least `low`."""
    allowed = f"a number {'above' if strict else 'of at least'} {low:g}"
    if isinstance(value, bool) or not isinstance(value, int | float | Tensor):
        raise InputError(f"{name} must be {allowed}, got {value!r}")
    if isinstance(value, Tensor) and value.numel() != 1:
        raise InputError(f"{name} must be {allowed}, got a tensor of {tuple(value.shape)}")
    number = float(value.detach()) if isinstance(value, Tensor) else float(value)
    if not math.isfinite(number) or number < low or (strict and number == low):
        raise InputError(f"{name} must be {allowed}, got {number:g}")


def _turned(face: Sequence[int], turn: int) -> list[int]:
    """Corners of a face of the box after quarter turns about its axis."""
    return [(corner + turn) % 4 + 4 * (corner // 4) for corner in face]


def _body(
    local: Tensor,
    pose: Tensor,
    faces: Tensor | list[list[int]] | None = None,
    edges: list[list[int]] | None = None,
    planes: list[list[int]] | None = None,
    radius: Quantity = 0.0,
    friction: Quantity = 0.5,
) -> Body:
    def indices(given: Tensor | list[list[int]] | None, width: int) -> Tensor:
        if isinstance(given, Tensor):
            return given
        rows = torch.tensor(given or [], dtype=torch.int64, device=local.device)
        return rows.reshape(-1, width)

    return Body(
        local=local,
        pose=pose,
        faces=indices(faces, 3),
        lone_edges=indices(edges, 2),
        planes=indices(planes, 3),
        radius=radius,
        friction=friction,
    )
