"""Soft solids of tetrahedra: fingertips, pads, balls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_indices, check_tensor
from sims.thin_shell.bodies import check_number
from sims.thin_shell.material import Quantity, check_quantity, of_each
from sims.thin_shell.pose import Vector, as_pose, as_vector, at, placed
from sims.thin_shell.solids import ball_mesh, block_mesh, dome_mesh

THINNEST = 1e-9  # of the longest edge cubed: a tetrahedron with less volume is degenerate
SIDES = ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))  # of a tetrahedron, outward
CLOSE = 1e-9  # of the way to the surface
LISTED = 10  # elements that an error names at most


@dataclass(frozen=True, eq=False)
class SoftBody:
    """A stable neo-Hookean solid, in parts moved by a pose.

    local (P, 3) [m]: where its vertices start, in its own frame. tetrahedra (T, 4) int: with
    (x1 - x0) x (x2 - x0) . (x3 - x0) > 0. young [Pa], poisson in [0, 0.5), density [kg/m^3]:
    numbers or float tensors, () for the whole body or (T,), in which results are differentiable.
    (Below zero the collapsed state would have less energy than the rest.) friction: Coulomb
    coefficient, see `Contact`. driven: vertices that the pose moves, as a mask (P,) or as indices,
    none by default, kept as a mask; the others follow from the forces. pose (6,): position [m] and
    rotation vector [rad] of the frame at the start, zero by default. rest_vertices (P, 3) [m]: the
    shape without stress, `local` where not given. radius [m]: how far its surface is from its
    faces.

    From these follow vertices (P, 3), where it starts in space; faces (M, 3) int64, its surface,
    counter-clockwise seen from outside.

    Everything is converted to float64. Raises InputError for wrong shapes and values, tetrahedra
    that are degenerate or inside out, at the start or at rest, that overlap a neighbour or crowd
    around a face, and vertices with none.
    """

    local: Tensor
    tetrahedra: Tensor
    young: Quantity
    poisson: Quantity
    density: Quantity
    friction: Quantity = 0.5
    driven: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    pose: Tensor = field(default_factory=lambda: at(0.0, 0.0, 0.0))
    rest_vertices: Tensor = field(default_factory=lambda: torch.zeros(0, 3))
    radius: Quantity = 0.0
    vertices: Tensor = field(init=False, repr=False)
    faces: Tensor = field(init=False, repr=False)
    lone_edges: Tensor = field(init=False, repr=False)
    planes: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        local = check_tensor("local", self.local, (None, 3)).to(torch.float64)
        count = len(local)
        tetrahedra = check_indices("tetrahedra", self.tetrahedra, (None, 4), count).long()
        if not len(tetrahedra):
            raise InputError("tetrahedra must have at least one row, got (0, 4)")
        rest = check_tensor("rest_vertices", self.rest_vertices, (None, 3)).to(local)
        if not len(rest):
            rest = local
        elif len(rest) != count:
            raise InputError(f"rest_vertices must have {count} rows like local, got {len(rest)}")
        loose = torch.nonzero(torch.bincount(tetrahedra.flatten(), minlength=count) == 0)
        if len(loose):
            raise InputError(
                "local must have vertices of tetrahedra only, got "
                f"{len(loose)} that belong to none, the first is vertex {int(loose[0])}"
            )
        _check_volumes("local", local.detach(), tetrahedra)
        _check_volumes("rest_vertices", rest.detach(), tetrahedra)
        for name in ("young", "density"):
            check_quantity(name, getattr(self, name), lambda v: v > 0, "positive and finite")
        inside = "in [0, 0.5)"
        check_quantity("poisson", self.poisson, lambda v: (v >= 0) & (v < 0.5), inside)
        for name in ("young", "poisson", "density"):
            of_each(name, getattr(self, name), len(tetrahedra), "tetrahedra", local.device)
        for name in ("friction", "radius"):
            check_number(name, getattr(self, name), 0.0)
        pose = as_pose(self.pose).to(local.device)
        set_field = object.__setattr__
        set_field(self, "local", local)
        set_field(self, "tetrahedra", tetrahedra)
        set_field(self, "rest_vertices", rest)
        set_field(self, "driven", _driven(self.driven, local))
        set_field(self, "pose", pose)
        set_field(self, "vertices", self.moved(pose))
        set_field(self, "faces", _surface(tetrahedra, count))
        set_field(self, "lone_edges", tetrahedra.new_zeros(0, 2))
        set_field(self, "planes", tetrahedra.new_zeros(0, 3))

    @classmethod
    def fingertip(
        cls,
        width: Quantity = 0.015,
        height: Quantity = 0.0074,
        young: Quantity = 3e5,
        poisson: Quantity = 0.2,
        density: Quantity = 2000.0,
        cells: int = 7,
        core: float = 0.4,
        pose: Vector = (0.0,) * 6,
        friction: Quantity = 1.0,
    ) -> SoftBody:
        """A dome that its base moves: half an ellipsoid below the plane z = 0 of its own frame.

        The base is a disc of diameter `width` [m] around the origin, the tip lies at z = -`height`.
        Driven are the base and a stiff core, all within a `core` of the way to the surface, in
        [0, 1). cells: layers from the origin to the surface, 4 cells^3 tetrahedra.
        """
        for name, size in (("width", width), ("height", height)):
            check_number(name, size, 0.0, strict=True)
        if isinstance(core, bool) or not isinstance(core, int | float) or not 0 <= core < 1:
            raise InputError(f"core must be a number in [0, 1), got {core!r}")
        across, down = (
            torch.as_tensor(size, dtype=torch.float64).reshape(()) for size in (width, height)
        )
        axes = torch.stack([across / 2, across / 2, down.to(across.device)])
        local, tetrahedra = dome_mesh(axes, checked_count("cells", cells))
        layer = (local / axes).detach().norm(dim=1)
        driven = (local[:, 2] == 0) | (layer < core + CLOSE)
        return cls(local, tetrahedra, young, poisson, density, friction, driven, as_pose(pose))

    @classmethod
    def block(
        cls,
        size: Vector,
        cells: tuple[int, int, int],
        young: Quantity,
        poisson: Quantity,
        density: Quantity,
        **options: Any,
    ) -> SoftBody:
        """A box of edge lengths `size` (3,) [m] around its origin, cut into `cells` along x, y, z.

        options: the others of this class.
        """
        sides = as_vector("size", size)
        if not bool((sides.detach() > 0).all()):
            raise InputError(f"size must be three positive lengths [m], got {size!r}")
        if not isinstance(cells, Sequence) or len(cells) != 3:
            raise InputError(f"cells must be three positive whole numbers, got {cells!r}")
        x, y, z = (checked_count("cells", count) for count in cells)
        return cls(*block_mesh(sides, (x, y, z)), young, poisson, density, **options)

    @classmethod
    def ball(
        cls,
        radius: Quantity,
        young: Quantity,
        poisson: Quantity,
        density: Quantity,
        cells: int = 4,
        **options: Any,
    ) -> SoftBody:
        """A ball of a radius [m] around its origin, 8 cells^3 tetrahedra.

        options: the others of this class.
        """
        check_number("radius", radius, 0.0, strict=True)
        axes = torch.as_tensor(radius, dtype=torch.float64).reshape(()).expand(3)
        mesh = ball_mesh(axes, checked_count("cells", cells))
        return cls(*mesh, young, poisson, density, **options)

    def moved(self, pose: Tensor) -> Tensor:
        """Where its vertices (P, 3) would be if all were driven, in a pose (6,)."""
        return placed(self.local, pose)

    def to(self, device: torch.device | str) -> SoftBody:
        """This body on a device."""
        names = ("local", "tetrahedra", "driven", "pose", "rest_vertices")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def volumes(self) -> Tensor:
        """(T,) [m^3] of the tetrahedra at rest."""
        return torch.linalg.det(_edges(self.rest_vertices, self.tetrahedra)) / 6

    def masses(self) -> Tensor:
        """(P,) [kg], a quarter of each tetrahedron's mass at each of its corners."""
        share = self.volumes() * self._each("density") / 4
        corners = self.tetrahedra.flatten()
        empty = share.new_zeros(len(self.local))
        return empty.index_add(0, corners, share.repeat_interleave(4))

    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of STABLE_NEO_HOOKEAN: inverse_rest (T, 3, 3) [1/m], then mu and lam (T,) [J].

        mu = E / (2 (1 + nu)) and lam = mu / (1 - 2 nu) times the volume, which have Young's
        modulus and Poisson's ratio at small strain.
        """
        edges = _edges(self.rest_vertices, self.tetrahedra)
        poisson = self._each("poisson")
        mu = self._each("young") / (2 * (1 + poisson)) * torch.linalg.det(edges) / 6
        return torch.linalg.inv(edges), mu, mu / (1 - 2 * poisson)

    def _each(self, name: str) -> Tensor:
        """A quantity for each tetrahedron (T,)."""
        count, device = len(self.tetrahedra), self.tetrahedra.device
        return of_each(name, getattr(self, name), count, "tetrahedra", device)


def checked_count(name: str, count: object) -> int:
    """Return `count` if it is a positive whole number; raises InputError."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{name} must be whole and positive, got {count!r}")
    return count


def _edges(vertices: Tensor, tetrahedra: Tensor) -> Tensor:
    """(T, 3, 3), the edges from the first corner to the others, as columns."""
    corners = vertices[tetrahedra]
    return (corners[:, 1:] - corners[:, :1]).mT


def _check_volumes(name: str, vertices: Tensor, tetrahedra: Tensor) -> None:
    """Raise InputError that lists tetrahedra that are inside out, or have no volume."""
    six_volumes = torch.linalg.det(_edges(vertices, tetrahedra))
    corners = vertices[tetrahedra]
    longest = torch.cdist(corners, corners).amax((1, 2))
    degenerate = ~(six_volumes.abs() > THINNEST * longest**3)
    for wrong, what in (
        (degenerate, "degenerate"),
        (six_volumes < 0, "inside out (two corners of each must change places)"),
    ):
        found = torch.nonzero(wrong).flatten()
        if len(found):
            named = found[:LISTED].tolist()
            more = ", ..." if len(found) > LISTED else ""
            raise InputError(
                f"{name} must give every tetrahedron a positive volume, got {len(found)} of "
                f"{len(tetrahedra)} {what}: {str(named)[1:-1]}{more}"
            )


def _driven(given: object, local: Tensor) -> Tensor:
    """The mask (P,) of driven vertices."""
    count = len(local)
    chosen = torch.zeros(count, dtype=torch.bool, device=local.device)
    wanted = f"a mask of the {count} vertices or their indices"
    members = as_tensor("driven", given, wanted, device=local.device)
    if members.dtype == torch.bool:
        if members.shape != (count,):
            raise InputError(f"driven must be {wanted}, got a mask of {tuple(members.shape)}")
        return members
    if not members.numel():
        return chosen
    chosen[check_indices("driven", members, (None,), count).long()] = True
    return chosen


def _surface(tetrahedra: Tensor, count: int) -> Tensor:
    """The sides (M, 3) that one tetrahedron has; two have the others, from either side."""
    corners = tetrahedra[:, torch.tensor(SIDES, device=tetrahedra.device)].reshape(-1, 3)
    lowest = corners.argmin(dim=1, keepdim=True)
    turns = (lowest + torch.arange(3, device=corners.device)) % 3
    corners = corners.gather(1, turns)  # the lowest first, wound as before
    forward = corners[:, 1] < corners[:, 2]
    key = (corners[:, 0] * count + corners[:, 1:].amin(1)) * count + corners[:, 1:].amax(1)
    _, inverse, uses = torch.unique(key, return_inverse=True, return_counts=True)
    ahead = torch.zeros_like(uses).index_add_(0, inverse, forward.long())
    wrong = torch.nonzero((uses > 2) | ((uses == 2) & (ahead != 1))).flatten()
    if len(wrong):
        side = corners[torch.nonzero(inverse == wrong[0]).flatten()[0]].tolist()
        raise InputError(
            "tetrahedra must be on either side of a face that they share, got "
            f"{len(wrong)} faces with more than two, or with two on one side; the first has "
            f"vertices {side[0]}, {side[1]} and {side[2]}"
        )
    return corners[uses[inverse] == 1]
