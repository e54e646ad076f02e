"""Mid-edge bending: calibration on any mesh, large turns, plates, yield, degenerate triangles."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.spatial import Delaunay
from torch import Tensor

from geomopt.geometry.topology import Topology
from sims.thin_shell.directors import (
    canonical_directors,
    corner_edges,
    mid_edge_stiffness,
)
from sims.thin_shell.energies.energy import Elements, by_autograd
from sims.thin_shell.energies.mid_edge import MID_EDGE, corner_angles
from sims.thin_shell.membrane_constants import plane_stress, rest_axes
from sims.thin_shell.patterns import Pattern, rectangle_mesh

ROUNDING = 1e-12  # of the largest entry: a few hundred operations
SMALL = 1e-4  # curvature of a unit square; what is left of large turns is of its square
EXACT = 1e-6  # relative, of energies at that curvature
YOUNG, THICKNESS = 1.0, 1.0


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def diagonal(cells: int) -> tuple[Tensor, Tensor]:
    return rectangle_mesh(1.0, 1.0, (cells, cells), "diagonal")


def alternating(cells: int) -> tuple[Tensor, Tensor]:
    return rectangle_mesh(1.0, 1.0, (cells, cells), "alternating")


def crossed(cells: int) -> tuple[Tensor, Tensor]:
    return rectangle_mesh(1.0, 1.0, (cells, cells), "crossed")


def equilateral(cells: int) -> tuple[Tensor, Tensor]:
    """A rhombus of equilateral triangles."""
    points, faces = diagonal(cells)
    shear = torch.tensor([[1.0, -0.5, 0], [0, math.sqrt(0.75), 0], [0, 0, 1]], dtype=torch.float64)
    return points @ shear.T, faces


def delaunay(cells: int) -> tuple[Tensor, Tensor]:
    """Random points at least a third of a cell apart, and regular ones at the boundary."""
    source = generator(4)
    points, _ = diagonal(cells)
    inner = ((points[:, :2] > 0.01) & (points[:, :2] < 0.99)).all(1)
    noise = torch.rand(len(points), 2, generator=source, dtype=torch.float64) - 0.5
    points[inner, :2] += 0.7 / cells * noise[inner]
    faces = torch.as_tensor(Delaunay(points[:, :2].numpy()).simplices).long()
    a, b, c = points[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a)[:, 2]
    # the triangulation may put slivers on the straight boundary
    faces = faces[area.abs() > 1e-3 / cells**2]
    area = area[area.abs() > 1e-3 / cells**2]
    return points, torch.where(area[:, None] > 0, faces, faces.flip(1))


MESHES = [diagonal, alternating, crossed, equilateral, delaunay]


def curved(first: float, second: float, degrees: float) -> Tensor:
    """The tensor (2, 2) of two principal curvatures, the first along a direction."""
    turn = math.radians(degrees)
    c, s = math.cos(turn), math.sin(turn)
    frame = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
    return frame.T @ torch.diag(torch.tensor([first, second], dtype=torch.float64)) @ frame


STATES = {f"cylinder {angle}": curved(1, 0, angle) for angle in (0, 15, 30, 45, 60, 90, -45)} | {
    "sphere": curved(1, 1, 0),
    "saddle 0": curved(1, -1, 0),
    "saddle 45": curved(1, -1, 45),
}


class Plate:
    """A mesh with a flat rest shape, and its elements for given positions and turns."""

    def __init__(self, points: Tensor, faces: Tensor, poisson: float, directors: Tensor | None):
        self.topology = Topology.of(faces, len(points))
        self.points = points
        self.edges, self.signs = corner_edges(self.topology)
        corners = points[faces]
        number = torch.ones(len(faces), dtype=torch.float64)
        moduli = plane_stress(YOUNG * number, poisson * number)
        axes = rest_axes(corners)
        stiffness, bending = mid_edge_stiffness(corners, moduli, THICKNESS * number, axes)
        up = torch.zeros(len(self.topology.edges), 3, dtype=torch.float64)
        up[:, 2] = 1.0
        self.directors = up if directors is None else directors
        self.area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.area = self.area.norm(dim=1) / 2
        self.rigidity = YOUNG * THICKNESS**3 / (12 * (1 - poisson**2))
        self.constants = (
            self.directors[self.edges],
            self.signs,
            torch.zeros_like(self.signs),
            stiffness,
            bending,
            math.inf * number,
            0 * number,
            0 * number,
        )
        self.boundary = self.topology.edge_uses == 1

    def local(self, positions: Tensor, turns: Tensor) -> Tensor:
        corners = positions[self.topology.faces.long()]
        return torch.cat([corners.flatten(1), turns[self.edges]], dim=1)

    def evaluate(self, positions: Tensor, turns: Tensor, order: int = 0) -> Elements:
        return MID_EDGE.evaluate(self.local(positions, turns), self.constants, order)

    def settled(self, positions: Tensor, turns: Tensor, free: Tensor) -> Tensor:
        """The turns with the free ones (E,) at the least energy, which is quadratic in them."""
        made = self.evaluate(positions, turns, 2)
        count = len(turns)
        force = turns.new_zeros(count).index_add(
            0, self.edges.flatten(), made.gradient[:, 9:].flatten()
        )
        rows = self.edges[:, :, None].expand(-1, 3, 3).flatten()
        columns = self.edges[:, None, :].expand(-1, 3, 3).flatten()
        matrix = turns.new_zeros(count, count).index_put(
            (rows, columns), made.hessian[:, 9:, 9:].flatten(), accumulate=True
        )
        step = turns.new_zeros(count)
        step[free] = torch.linalg.solve(matrix[free][:, free], force[free])
        return turns - step

    def bent(self, curvature: Tensor) -> tuple[Tensor, Tensor]:
        """Positions on a small paraboloid, and the turns of directors along its normals."""
        positions = self.points.clone()
        flat = positions[:, :2]
        positions[:, 2] = -SMALL / 2 * (flat @ curvature * flat).sum(1)
        ends = positions[self.topology.edges.long()]
        edge = torch.nn.functional.normalize(ends[:, 1] - ends[:, 0], dim=1)
        lean = SMALL * ends.mean(1)[:, :2] @ curvature
        normal = torch.nn.functional.pad(lean, (0, 1), value=1.0)
        side = torch.linalg.cross(edge, self.directors)
        return positions, torch.atan2((normal * side).sum(1), normal[:, 2])

    def continuum(self, curvature: Tensor, poisson: float) -> Tensor:
        """Energy of each face."""
        trace, determinant = curvature.trace(), torch.linalg.det(curvature)
        density = self.rigidity / 2 * (trace**2 - 2 * (1 - poisson) * determinant)
        return density * SMALL**2 * self.area


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("poisson", [0.0, 0.3])
def test_constant_curvature_on_any_mesh(mesh: Callable, poisson: float):
    """Directors at the boundary set, the others free: they find the normals, the energy fits."""
    sheet = Plate(*mesh(8), poisson, None)
    for name, curvature in STATES.items():
        positions, turns = sheet.bent(curvature)
        start = torch.where(sheet.boundary, turns, 0.0)
        settled = sheet.settled(positions, start, ~sheet.boundary)
        assert (settled - turns).abs().max() < EXACT * SMALL, name
        found = sheet.evaluate(positions, settled).value
        torch.testing.assert_close(
            found, sheet.continuum(curvature, poisson), rtol=EXACT, atol=0, msg=name
        )


@pytest.mark.parametrize("mesh", MESHES)
def test_free_boundary_keeps_to_the_boundary(mesh: Callable):
    """Without moments at the edge one layer of triangles relaxes, the inner square does not."""
    sheet = Plate(*mesh(16), 0.3, None)
    extent = sheet.points.amax(0)
    middle = sheet.points[sheet.topology.faces.long()].mean(1)
    depth = torch.minimum(middle - sheet.points.amin(0), extent - middle)[:, 1]
    shear = float(sheet.points[:, 0].min()) / float(extent[1])  # of the rhombus
    across = middle[:, 0] - shear * middle[:, 1]
    depth = torch.minimum(depth, torch.minimum(across, 1 - across))
    inner = depth > 4 / 16
    for name, curvature in STATES.items():
        positions, _ = sheet.bent(curvature)
        zero = torch.zeros(len(sheet.boundary), dtype=torch.float64)
        turns = sheet.settled(positions, zero, torch.ones_like(sheet.boundary))
        found = sheet.evaluate(positions, turns).value
        wanted = sheet.continuum(curvature, 0.3)
        assert 0.88 < float(found.sum() / wanted.sum()) < 1 + EXACT, name
        assert abs(float(found[inner].sum() / wanted[inner].sum()) - 1) < 1e-3, name


@pytest.mark.parametrize("mesh", MESHES)
def test_cylinders_yield_alike_in_every_direction(mesh: Callable):
    """kappa is the curvature, whatever the mesh: beyond yield W = D A (k^2 - (k - y)^2) / 2."""
    poisson, limit = 0.3, 0.4
    sheet = Plate(*mesh(6), poisson, None)
    for name in ("cylinder 0", "cylinder 30", "cylinder 45", "cylinder -45"):
        positions, turns = sheet.bent(STATES[name])
        constants = list(sheet.constants)
        constants[5] = torch.full_like(constants[5], limit * SMALL)
        found = MID_EDGE.evaluate(sheet.local(positions, turns), tuple(constants), 0).value
        wanted = sheet.continuum(STATES[name], poisson) * (1 - (1 - limit) ** 2)
        torch.testing.assert_close(found, wanted, rtol=EXACT, atol=0, msg=name)


@pytest.mark.parametrize("turn", [0.5, 3.0, -3.0], ids=lambda turn: f"{turn} rad a column")
@pytest.mark.parametrize("pattern", ["diagonal", "alternating"])
def test_rolled_strip(pattern: Pattern, turn: float):
    """Columns turned against each other by up to nearly half a turn: energy D k^2 / 2, at rest."""
    cells, columns = 2, 6
    points, faces = rectangle_mesh(columns / cells, 1.0, (columns, cells), pattern)
    heading = turn * torch.arange(columns, dtype=torch.float64)
    step = torch.stack([heading.cos(), 0 * heading, -heading.sin()], dim=1) / cells
    start = torch.cat([torch.zeros(1, 3, dtype=torch.float64), step.cumsum(0)])
    column = (points[:, 0] * cells).round().long()
    positions = start[column]
    positions[:, 1] = points[:, 1]
    sheet = Plate(
        points, faces, 0.0, canonical_directors(positions, Topology.of(faces, len(points)))
    )
    inner = ~sheet.boundary
    across = sheet.points[sheet.topology.edges.long()][:, :, 0].diff(dim=1)[:, 0] == 0
    # at the two ends the director leans by half a turn too, as the neighbours would have it
    ends = across & sheet.boundary
    tail = sheet.points[sheet.topology.edges[:, 0].long(), 0] > 0
    turns = turn / 2 * ends * (2.0 * tail.double() - 1.0)
    made = sheet.evaluate(positions, turns, 1)
    curvature = turn * cells
    wanted = sheet.rigidity / 2 * curvature**2 * sheet.area
    torch.testing.assert_close(made.value, wanted, rtol=1e-10, atol=0)
    force = torch.zeros_like(turns).index_add(
        0, sheet.edges.flatten(), made.gradient[:, 9:].flatten()
    )
    assert force[inner].abs().max() < 1e-10 * sheet.rigidity * abs(curvature)


def crumpled_sheet(directors: Callable | None) -> tuple[Plate, Tensor]:
    points, faces = delaunay(4)
    source = generator(6)
    positions = points + 0.08 * torch.randn(points.shape, generator=source, dtype=torch.float64)
    chosen = None if directors is None else directors(positions, Topology.of(faces, len(points)))
    return Plate(points, faces, 0.3, chosen), positions


def test_reference_directors_are_a_choice():
    """The least energy over the turns, and its gradient in the positions, know nothing of them."""

    def leaning(positions: Tensor, topology: Topology) -> Tensor:
        source = generator(7)
        canonical = canonical_directors(positions, topology)
        noise = torch.randn(canonical.shape, generator=source, dtype=torch.float64)
        return canonical + 0.3 * noise

    results = []
    for directors in (None, canonical_directors, leaning):
        sheet, positions = crumpled_sheet(directors)
        start = torch.zeros(len(sheet.boundary), dtype=torch.float64)
        turns = sheet.settled(positions, start, torch.ones_like(sheet.boundary))
        made = sheet.evaluate(positions, turns, 1)
        force = torch.zeros_like(start).index_add(
            0, sheet.edges.flatten(), made.gradient[:, 9:].flatten()
        )
        assert force.abs().max() < 1e-12
        angles = corner_angles(sheet.local(positions, turns), *sheet.constants[:2])
        corners = sheet.topology.faces.long().flatten()
        pull = made.gradient[:, :9].reshape(-1, 3)
        results.append(
            (angles, made.value, torch.zeros_like(positions).index_add(0, corners, pull))
        )
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("clamped", "centre", "coarse"), [(False, 0.00406235, 0.06), (True, 0.00126532, 0.34)]
)
@pytest.mark.parametrize("mesh", [diagonal, alternating, delaunay])
def test_plate_under_uniform_load(mesh: Callable, clamped: bool, centre: float, coarse: float):
    """Square plate, nu = 0.3, w D / (q a^4) at the centre after Timoshenko and Woinowsky-Krieger
    1959, tables 8 and 35. Too soft when coarse, of second order."""
    errors = []
    for cells in (8, 16):
        sheet = Plate(*mesh(cells), 0.3, None)
        flat = torch.zeros(len(sheet.boundary), dtype=torch.float64)
        made = sheet.evaluate(sheet.points, flat, 2)
        faces, count = sheet.topology.faces.long(), len(sheet.points)
        unknowns = torch.cat([faces, count + sheet.edges], dim=1)
        kept = torch.tensor([2, 5, 8, 9, 10, 11])
        blocks = made.hessian[:, kept][:, :, kept]
        size = count + len(flat)
        matrix = torch.zeros(size, size, dtype=torch.float64).index_put(
            (unknowns[:, :, None].expand(-1, 6, 6), unknowns[:, None].expand(-1, 6, 6)),
            blocks,
            accumulate=True,
        )
        load = torch.zeros(size, dtype=torch.float64)
        load.index_add_(0, faces.flatten(), (sheet.area / 3).repeat_interleave(3))
        held = torch.zeros(size, dtype=torch.bool)
        held[sheet.topology.edges[sheet.boundary].flatten().long()] = True
        held[count:] = sheet.boundary & clamped
        free = ~held
        down = torch.zeros_like(load)
        down[free] = torch.linalg.solve(matrix[free][:, free], load[free])
        middle = (sheet.points[:, :2] - 0.5).norm(dim=1).argmin()
        found = float(down[middle]) * sheet.rigidity
        errors.append(found / centre - 1)
    assert 0 < errors[0] < coarse
    assert 3.3 < errors[0] / errors[1] < 4.3
    assert abs(4 * errors[1] - errors[0]) / 3 < 0.01


def wild(n: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Triangles and directors of any shape and direction."""
    source = generator(8)
    _, constants = MID_EDGE.sample(source, n)
    local = torch.randn(n, 12, generator=source, dtype=torch.float64)
    local[:, 9:] *= 3.0
    directors = torch.randn(n, 3, 3, generator=source, dtype=torch.float64)
    return local, (directors / directors.norm(dim=2, keepdim=True), *constants[1:])


@pytest.mark.parametrize("draw", [lambda n: MID_EDGE.sample(generator(9), n), wild])
def test_kernel_agrees_with_the_twin_to_rounding(draw: Callable):
    local, constants = draw(300)
    found = MID_EDGE.evaluate(local, constants, 2)
    wanted = by_autograd(MID_EDGE.value, local, constants, 2)
    for one, other in zip(found, wanted, strict=True):
        rows = other.reshape(300, -1)
        error = (one.reshape(300, -1) - rows).abs().amax(1) / rows.abs().amax(1)
        assert error.max() < ROUNDING


def test_whole_turns_are_no_turns():
    local, constants = MID_EDGE.sample(generator(10), 20)
    moved = local.clone()
    moved[:, 9:] += 2 * math.pi * torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    for one, other in zip(
        MID_EDGE.evaluate(local, constants, 2), MID_EDGE.evaluate(moved, constants, 2), strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("flaw", ["point", "line", "nearly a line", "director"])
def test_degenerate_faces_have_infinite_energy(flaw: str, device: torch.device):
    """Value infinite, derivatives zero, nothing NaN, and the other faces as ever."""
    local, constants = MID_EDGE.sample(generator(11), 3)
    directors = constants[0].clone()
    if flaw == "point":
        local[1, :9] = 0.3
    elif flaw == "director":
        directors[1, 0] = local[1, 6:9] - local[1, 3:6]
    else:
        local[1, 6:9] = 2 * local[1, 3:6] - local[1, :3]
        local[1, 8] += 1e-14 if flaw == "nearly a line" else 0.0
    given = local.to(device), tuple(c.to(device) for c in (directors, *constants[1:]))
    for project in (False, True):
        made = MID_EDGE.evaluate(*given, 2, project=project)
        assert made.value.isinf().tolist() == [False, True, False]
        assert (made.gradient[1] == 0).all()
        assert (made.hessian[1] == 0).all()
        assert made.gradient.isfinite().all()
        assert made.hessian.isfinite().all()
    tracked = local.requires_grad_()
    value = MID_EDGE.value(tracked, directors, *constants[1:])
    assert value.isinf().tolist() == [False, True, False]
    assert (corner_angles(tracked, directors, constants[1])[1] == 0).all()
    (gradient,) = torch.autograd.grad(value.sum(), tracked)
    assert (gradient[1] == 0).all()
    torch.testing.assert_close(gradient, made.gradient.cpu(), rtol=1e-10, atol=1e-12)
