"""Rooms of mapped hexahedra: spectral elements under trilinear maps, for walls of any shape.

An element of order P has (P + 1)^3 Gauss-Lobatto-Legendre nodes that also integrate, so the mass is
diagonal. With J the Jacobian of the map at a node and w its weight, the mass is w det J and the
stiffness D^T G D with G = w det J J^-1 J^-T (Komatitsch and Tromp, Geophys. J. Int. 139, 806, 1999,
sections 4 and 5). Mass, metric G and wall areas are torch functions of the vertices; through these
three alone does the shape of a room act on the sound in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_indices, check_shape, check_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements import trilinear
from sims.acoustics.elements.coupling import Coupling, couple
from sims.acoustics.elements.element_numbering import SIDES, Numbering, side_nodes
from sims.acoustics.elements.element_search import located
from sims.acoustics.elements.mapped_operator import MappedOperator
from sims.acoustics.elements.space import WallFaces
from sims.acoustics.elements.spectral import element, interpolation_weights

MINIMUM_JACOBIAN = 0.01  # scaled; below it the time step all but vanishes


class Hexahedra:
    """Nodes, mass and stiffness of a room of mapped hexahedra, see `Space`.

    points: (N, 3), mass: (N,) [m³], metric: (E, Q, 6), the entries xx, xy, xz, yy, yz, zz of G [m]
    at the Q = (P + 1)³ nodes of each element, faces.areas [m²]: float64, differentiable in the
    vertices. nodes: (E, Q) int64.
    """

    def __init__(
        self,
        vertices: Tensor,
        hexahedra: Tensor,
        order: int,
        surface: Tensor | None = None,
        *,
        minimum_jacobian: float = MINIMUM_JACOBIAN,
    ) -> None:
        """Map elements of an order P = 1 to 6.

        vertices: (V, 3) [m], may require grad. hexahedra: (E, 8) int, corners (i, j, k) along the
        three axes of an element with k fastest; the axes are right-handed. surface: (F,) int, a
        number for each wall face in the order of `wall_faces`; without it the side that the wall
        faces most, 0 to 5 for x low, x high, y low to z high. minimum_jacobian: scaled, see
        `trilinear.scaled_jacobians`.

        Raises InputError for wrong shapes, for faces that more than two elements share, and for
        folded elements, naming the worst.
        """
        positions = as_tensor("vertices", vertices, "a tensor (V, 3) [m]", dtype=torch.float64)
        check_tensor("vertices", positions, (None, 3))
        check_indices("hexahedra", hexahedra, (None, 8), len(positions))
        if not len(hexahedra):
            raise InputError("hexahedra must hold at least one element, got none")
        if hexahedra.device != positions.device:
            raise InputError(
                f"hexahedra must be on {positions.device} like the vertices, got {hexahedra.device}"
            )
        self.hexahedra = hexahedra.long()
        self.order = element(order).order
        self.minimum_jacobian = minimum_jacobian
        self.numbering = Numbering.of(self.hexahedra, order)
        walls = self.numbering.walls
        if surface is not None:
            surface = as_tensor("surface", surface, "(F,) integers", device=positions.device)
            check_shape("surface", surface, (len(walls),))
        self._map(positions, None if surface is None else surface.long())

    def moved(self, vertices: Tensor) -> Hexahedra:
        """The same elements and surfaces with other vertices (V, 3) [m].

        Raises InputError for folded elements, naming the worst.
        """
        positions = as_tensor("vertices", vertices, "a tensor (V, 3) [m]", dtype=torch.float64)
        check_tensor("vertices", positions, tuple(self.vertices.shape))
        other = Hexahedra.__new__(Hexahedra)
        other.hexahedra, other.order, other.numbering = self.hexahedra, self.order, self.numbering
        other.minimum_jacobian = self.minimum_jacobian
        other._map(positions, self.faces.surface)
        return other

    def _map(self, vertices: Tensor, surface: Tensor | None) -> None:
        self.vertices = vertices
        self._operators: dict[torch.dtype, MappedOperator] = {}
        reference, numbering = element(self.order), self.numbering
        nodes = reference.nodes.to(vertices.device)
        weights = reference.weights.to(vertices.device)
        grid = trilinear.grid_points(nodes)
        corners = vertices[self.hexahedra]
        volume, metric = trilinear.volumes_and_metric(trilinear.jacobians(corners, grid))
        self._check(corners.detach(), volume.detach())
        share = trilinear.grid_points(weights).prod(dim=1)
        self.metric = metric * share[:, None]
        mass = vertices.new_zeros(numbering.count)
        self.mass = mass.index_add(0, numbering.nodes.flatten(), (volume * share).flatten())
        # a node stands at the same place in all of its elements
        place = numbering.entries[numbering.offsets[:-1]]
        self.points = trilinear.positions(corners, grid).flatten(0, 1)[place]

        walls = numbering.walls
        ends = side_nodes(1, vertices.device)[walls % SIDES]
        boundary = vertices[self.hexahedra[walls[:, None] // SIDES, ends]]
        flat = torch.cartesian_prod(nodes, nodes)
        shares = torch.cartesian_prod(weights, weights).prod(dim=1)
        held = boundary.detach()
        self.faces = WallFaces(
            nodes=numbering.wall_nodes,
            areas=trilinear.face_areas(boundary, flat) * shares,
            surface=_facing(held, walls) if surface is None else surface,
            low=held.amin(dim=1),
            high=held.amax(dim=1),
        )

    @property
    def nodes(self) -> Tensor:
        """The nodes (E, Q) of each element."""
        return self.numbering.nodes

    def _check(self, corners: Tensor, volume: Tensor) -> None:
        quality = trilinear.scaled_jacobians(corners)
        quality = torch.where((volume > 0).all(dim=1), quality, quality.clamp(max=0))
        worst = int(quality.argmin())
        if not float(quality[worst]) >= self.minimum_jacobian:
            raise InputError(
                "hexahedra must have a scaled Jacobian of at least "
                f"{self.minimum_jacobian:g} (1 for a brick, below 0 for a folded or left-handed "
                f"element), got {float(quality[worst]):.3g} at {self._in_words(worst)} and "
                f"{int((quality < self.minimum_jacobian).sum())} such elements; move their "
                "vertices apart"
            )

    def _in_words(self, worst: int) -> str:
        corners = self.vertices.detach()[self.hexahedra[worst]]
        width = float(trilinear.least_widths(corners[None]))
        quality = float(trilinear.scaled_jacobians(corners[None]))
        return (
            f"element {worst} around {_place(corners.mean(dim=0))} m, "
            f"{width:.3g} m at its narrowest, scaled Jacobian {quality:.3g}"
        )

    def element_of_node(self, node: int) -> str:
        """The narrowest element at a node in words, with its place and size."""
        numbering = self.numbering
        entries = numbering.entries[int(numbering.offsets[node]) : int(numbering.offsets[node + 1])]
        around = entries // numbering.nodes.shape[1]
        corners = self.vertices.detach()[self.hexahedra[around]]
        return self._in_words(int(around[trilinear.least_widths(corners).argmin()]))

    def interpolation(self, name: str, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (R, Q) int64 and weights (R, Q) float64 of the field at positions (R, 3) [m].

        Differentiable in the positions and in the vertices. Raises InputError that says `name` for
        a position outside of every element.
        """
        targets = positions.to(self.vertices)
        found, reference = located(self.vertices.detach()[self.hexahedra], targets.detach())
        if bool((found < 0).any()):
            row = int((found < 0).nonzero()[0, 0])
            low, high = self.points.detach().aminmax(dim=0)
            raise InputError(
                f"{name} must lie in the air of the room, which is between {_place(low)} and "
                f"{_place(high)} m, got {_place(targets[row])} in row {row}, outside of every "
                "element"
            )
        corners = self.vertices[self.hexahedra[found]]
        reference = trilinear.differentiable_inverse(corners, targets, reference)
        x, y, z = interpolation_weights(self.order, reference).unbind(dim=1)
        weights = x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]
        return self.nodes[found], weights.flatten(1)

    def operator(self, dtype: torch.dtype) -> MappedOperator:
        """The stiffness in one precision, made at its first use."""
        if dtype not in self._operators:
            scale = SPEED_OF_SOUND**2 / self.mass.detach()
            self._operators[dtype] = MappedOperator.of(
                self.order, self.numbering, self.metric.detach(), scale, dtype, scale.is_cuda
            )
        return self._operators[dtype]

    def accelerate(self, pressure: Tensor, out: Tensor) -> None:
        """out = -A pressure, both (N,) float32 or float64."""
        self.operator(pressure.dtype).accelerate(pressure, out)

    def advance(
        self, pressure: Tensor, previous: Tensor, acceleration: Tensor, time_step: float
    ) -> None:
        """previous <- 2 p - previous + dt² a - (dt⁴/12) A a, with a = acceleration, all (N,)."""
        self.operator(pressure.dtype).advance(pressure, previous, acceleration, time_step)

    def coupling(self, nodes: Tensor) -> Coupling:
        """The columns of A at nodes (W,), ascending."""
        return couple(nodes, self.mass, self.nodes, self.order, self.metric.__getitem__)

    def metric_sums(self, dtype: torch.dtype) -> Tensor:
        """Zeros for `metric_gradient` to add to, in the layout of its kernels."""
        return torch.zeros_like(self.operator(dtype).metric)

    def metric_gradient(self, left: Tensor, right: Tensor, sums: Tensor) -> None:
        """Add the derivative of left^T K right in the six entries of `metric` to `sums`.

        left, right: (N,), `sums` made by `metric_sums` in their precision. With `of_metric` it is a
        gradient to pull back through `metric` to the vertices.
        """
        self.operator(left.dtype).metric_gradient(left, right, sums)

    def of_metric(self, sums: Tensor) -> Tensor:
        """`sums` of `metric_gradient` by element, (E, Q, 6) float64 like `metric`."""
        by_element = sums.permute(0, 3, 1, 2).flatten(0, 1)
        return by_element[: len(self.hexahedra)].double()


def _facing(corners: Tensor, walls: Tensor) -> Tensor:
    """The side 2 a + s, end s of axis a, that each wall face (F, 4, 3) faces most, (F,)."""
    # axes are right-handed: those that span a face give the higher side of x and z, the lower of y
    one, two = corners[:, 3] - corners[:, 0], corners[:, 1] - corners[:, 2]
    side = walls % SIDES
    outward = (side % 2 == 1) ^ (side // 2 == 1)
    normal = torch.linalg.cross(one, two) * torch.where(outward, 1.0, -1.0)[:, None]
    axis = normal.abs().argmax(dim=1)
    return 2 * axis + (normal.gather(1, axis[:, None])[:, 0] > 0)


def _place(position: Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in position.tolist()) + ")"
