"""Directors of edges: signs, folds up to half a turn, and the stiffness of the three angles."""

import math

import pytest
import torch
import trimesh
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.topology import Topology
from sims.thin_shell.directors import (
    canonical_directors,
    corner_edges,
    dihedral_angles,
    director_angles,
    directors_in_plane,
    mid_edge_stiffness,
    turned_directors,
)
from sims.thin_shell.energies.mid_edge import corner_angles
from sims.thin_shell.membrane_constants import orthotropic, plane_stress, rest_axes

ROUNDING = 1e-12  # a few hundred operations of order one
GRID = 4


def crumpled(seed: int = 0, height: float = 0.5) -> tuple[Tensor, Topology]:
    """A square of 4 x 4 cells with its vertices moved at random by half a cell out of the plane."""
    source = torch.Generator().manual_seed(seed)
    line = torch.arange(GRID + 1, dtype=torch.float64)
    flat = torch.cartesian_prod(line, line)
    start = (torch.arange(GRID)[:, None] * (GRID + 1) + torch.arange(GRID)).flatten()
    a, b, c, d = start, start + GRID + 1, start + GRID + 2, start + 1
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    # numbers of vertices mean nothing
    order = torch.randperm(len(flat), generator=source)
    positions = torch.zeros(len(flat), 3, dtype=torch.float64)
    positions[order, :2] = flat + 0.2 * (torch.rand(flat.shape, generator=source) - 0.5)
    noise = torch.randn(len(flat), generator=source, dtype=torch.float64)
    positions[:, 2] = height * noise
    return positions, Topology.of(order[faces], len(flat))


def folded(angle: float) -> tuple[Tensor, Topology]:
    """Two triangles; the second is turned by `angle` down from the first's plane, whose normal is
    up."""
    positions = torch.tensor(
        [[0, -1, 0], [0, 1, 0], [-1, 0.2, 0], [math.cos(angle), 0.1, -math.sin(angle)]],
        dtype=torch.float64,
    )
    return positions, Topology.of(torch.tensor([[0, 1, 2], [1, 0, 3]]), 4)


def angles_of(
    positions: Tensor, topology: Topology, directors: Tensor, turns: Tensor | None = None
) -> Tensor:
    edges, signs = corner_edges(topology)
    turns = torch.zeros(len(directors)).double() if turns is None else turns
    local = torch.cat([positions[topology.faces.long()].flatten(1), turns[edges]], dim=1)
    return corner_angles(local, directors[edges], signs)


def wrapped(angle: Tensor) -> Tensor:
    return torch.atan2(angle.sin(), angle.cos())


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def constants(count: int, *values: float) -> list[Tensor]:
    return [torch.full((count,), value, dtype=torch.float64) for value in values]


def test_edges_opposite_corners():
    _, topology = crumpled()
    edges, signs = corner_edges(topology)
    ends = topology.edges[edges.flatten()].reshape(-1, 3, 2)
    faces = topology.faces
    for corner in range(3):
        start, stop = faces[:, (corner + 1) % 3], faces[:, (corner + 2) % 3]
        forward = signs[:, corner] > 0
        expected = torch.where(
            forward[:, None], torch.stack([start, stop], 1), torch.stack([stop, start], 1)
        )
        assert torch.equal(ends[:, corner], expected)
    assert (signs.abs() == 1).all()
    # neighbours that are wound alike run along their common edge in opposite directions
    total = torch.zeros(len(topology.edges)).double()
    total.index_add_(0, edges.flatten(), signs.flatten())
    assert (total[topology.edge_uses == 2] == 0).all()


@pytest.mark.parametrize("angle", [-3.1415, -2.5, -1.0, -1e-9, 0.0, 1e-9, 1.0, 2.5, 3.1415])
def test_fold_of_any_angle(angle: float):
    positions, topology = folded(angle)
    inner = topology.edge_uses == 2
    found = dihedral_angles(positions, topology)
    assert float(found[inner]) == pytest.approx(angle, abs=ROUNDING)
    assert (found[~inner] == 0).all()
    directors = canonical_directors(positions, topology)
    torch.testing.assert_close(directors.norm(dim=1), torch.ones(5).double(), rtol=ROUNDING, atol=0)
    tilts = angles_of(positions, topology, directors)
    edges, _ = corner_edges(topology)
    expected = torch.where(inner[edges], angle / 2, torch.zeros(2, 3).double())
    torch.testing.assert_close(tilts, expected, rtol=0, atol=ROUNDING)


def test_complete_fold():
    """Two faces on each other: the mean normal is zero, the director is not."""
    positions, topology = folded(math.pi)
    positions[3, 2] = 0.0
    inner = topology.edge_uses == 2
    assert float(dihedral_angles(positions, topology)[inner].abs()) == math.pi
    directors = canonical_directors(positions, topology)
    torch.testing.assert_close(
        directors[inner][0].abs(), torch.tensor([1.0, 0, 0]).double(), rtol=0, atol=ROUNDING
    )


def test_sphere_with_outward_normals_is_positive():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    topology = Topology.of(torch.as_tensor(mesh.faces), len(mesh.vertices))
    positions = torch.as_tensor(mesh.vertices)
    angles = dihedral_angles(positions, topology)
    assert (angles > 0.05).all()
    directors = canonical_directors(positions, topology)
    tilts = angles_of(positions, topology, directors)
    edges, _ = corner_edges(topology)
    torch.testing.assert_close(tilts, angles[edges] / 2, rtol=0, atol=ROUNDING)
    # turned half way between the normals, it points away from the middle
    middle = positions[topology.edges.long()].mean(1)
    assert ((directors * middle).sum(1) > 0.99 * middle.norm(dim=1)).all()


def test_the_angles_of_two_faces_add_up_to_the_dihedral():
    """Whatever the director, also one that is not perpendicular to the edge (section 3 of
    Grinspun, Gingold, Reisman and Zorin 2006)."""
    positions, topology = crumpled()
    count = len(topology.edges)
    tilts = angles_of(positions, topology, random(1, count, 3), random(2, count))
    edges, _ = corner_edges(topology)
    total = torch.zeros(count).double().index_add(0, edges.flatten(), tilts.flatten())
    inner = topology.edge_uses == 2
    difference = wrapped(total - dihedral_angles(positions, topology))[inner]
    assert difference.abs().max() < ROUNDING


def test_director_angles_are_those_that_were_set():
    positions, topology = crumpled()
    turns = wrapped(2.0 * random(3, len(topology.edges)))
    canonical = canonical_directors(positions, topology)
    tilts = angles_of(positions, topology, canonical, turns)
    found = director_angles(tilts, positions, topology)
    torch.testing.assert_close(found, turns, rtol=0, atol=ROUNDING)


def test_turned_directors_need_no_angle():
    positions, topology = crumpled()
    turns, leaning = random(3, len(topology.edges)), random(4, len(topology.edges), 3)
    before = angles_of(positions, topology, leaning, turns)
    moved = turned_directors(leaning, turns, positions, topology)
    torch.testing.assert_close(angles_of(positions, topology, moved), before, rtol=0, atol=ROUNDING)
    ends = positions[topology.edges.long()]
    assert ((ends[:, 1] - ends[:, 0]) * moved).sum(1).abs().max() < ROUNDING


def test_directors_turn_with_the_sheet():
    positions, topology = crumpled()
    rotation = torch.linalg.qr(random(5, 3, 3))[0]
    rotation = rotation * torch.linalg.det(rotation).sign()
    moved = positions @ rotation.T + random(6, 3)
    torch.testing.assert_close(
        canonical_directors(moved, topology),
        canonical_directors(positions, topology) @ rotation.T,
        rtol=0,
        atol=ROUNDING,
    )
    torch.testing.assert_close(
        dihedral_angles(moved, topology),
        dihedral_angles(positions, topology),
        rtol=0,
        atol=ROUNDING,
    )


def test_gradients():
    positions, topology = crumpled()
    positions.requires_grad_()
    for function in (dihedral_angles, canonical_directors):
        assert torch.autograd.gradcheck(lambda p, f=function: f(p, topology), (positions,))


def test_flat_face_gives_numbers():
    """A face that collapsed has no normal; nothing must become NaN."""
    positions, topology = folded(0.3)
    positions[3] = positions[0]
    assert dihedral_angles(positions, topology).isfinite().all()
    assert canonical_directors(positions, topology).isfinite().all()


def test_directors_in_a_symmetry_plane():
    directors = random(7, 6, 3)
    normal = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    found = directors_in_plane(directors, normal)
    assert found[:, 1].abs().max() < ROUNDING
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6).double(), rtol=ROUNDING, atol=0)
    assert ((found * directors).sum(1) > 0).all()
    directors[2] = -normal / 2
    with pytest.raises(InputError, match=r"symmetry must name edges .* got 1"):
        directors_in_plane(directors, normal)


def rest_of(topology: Topology, positions: Tensor) -> tuple[Tensor, Tensor]:
    corners = positions[topology.faces.long()]
    return corners, rest_axes(corners)


def test_isotropic_stiffness_is_that_of_the_formula():
    positions, topology = crumpled()
    corners, axes = rest_of(topology, positions)
    young, poisson, thickness = 3.0e6, 0.3, 2e-3
    moduli = plane_stress(*constants(len(corners), young, poisson))
    found, bending = mid_edge_stiffness(corners, moduli, constants(1, thickness)[0], axes)
    lam, mu = young * poisson / (1 - poisson**2), young / (2 * (1 + poisson))
    for face in range(0, len(corners), 7):
        x = corners[face]
        normal = torch.linalg.cross(x[1] - x[0], x[2] - x[0])
        area = normal.norm() / 2
        spans = [x[(i + 2) % 3] - x[(i + 1) % 3] for i in range(3)]
        outward = [torch.linalg.cross(e, normal) / (e.norm() * 2 * area) for e in spans]
        heights = [2 * area / e.norm() for e in spans]
        for i in range(3):
            assert outward[i] @ (x[i] - x[(i + 1) % 3]) < 0
            for j in range(3):
                bracket = lam + 2 * mu * (outward[i] @ outward[j]) ** 2
                expected = area * thickness**3 / 12 * 4 / (heights[i] * heights[j]) * bracket
                assert found[face, i, j] == pytest.approx(float(expected), rel=1e-12)
        rigidity = young * thickness**3 / (12 * (1 - poisson**2))
        assert float(bending[face]) == pytest.approx(float(area) * rigidity, rel=1e-12)
    assert (torch.linalg.eigvalsh(found)[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("curvature", "wanted"),
    [
        ([1.0, 0.0, 0.0], lambda c: c[0, 0]),
        ([0.0, 1.0, 0.0], lambda c: c[1, 1]),
        ([1.0, 1.0, 0.0], lambda c: c[0, 0] + c[1, 1] + 2 * c[0, 1]),
        ([0.0, 0.0, 1.0], lambda c: 4 * c[2, 2]),
    ],
    ids=["warp", "weft", "both", "twist"],
)
def test_orthotropic_stiffness_in_the_material_axes(curvature: list[float], wanted):
    """The angles of a curvature (11, 22, 12) k in the axes store k : C : k t^3 / 24 per area."""
    positions, topology = crumpled(height=0.0)
    corners = positions[topology.faces.long()]
    warp = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    axes = rest_axes(corners, warp)
    numbers = (5.0e6, 2.0e6, 0.3, 0.4e6)
    moduli = orthotropic(*constants(len(corners), *numbers))
    thickness = torch.tensor(1e-3, dtype=torch.float64)
    stiffness, _ = mid_edge_stiffness(corners, moduli, thickness, axes)
    first, second = axes[0]
    tensor = curvature[0] * torch.outer(first, first) + curvature[1] * torch.outer(second, second)
    tensor += curvature[2] * (torch.outer(first, second) + torch.outer(second, first))
    # the slope across edge i at its middle, against that of the plane through the corners
    edges = corners.roll(-2, dims=1) - corners.roll(-1, dims=1)
    area = torch.linalg.cross(edges[:, 0], edges[:, 1]).norm(dim=1) / 2
    outward = torch.linalg.cross(edges, torch.tensor([0.0, 0, 1]).double().expand_as(edges))
    outward = outward / edges.norm(dim=2, keepdim=True)
    height = -(corners @ tensor * corners).sum(2) / 2
    slopes = torch.einsum(
        "fij,fj->fi",
        torch.linalg.pinv(edges[:, 1:]),
        torch.stack([height[:, 0] - height[:, 2], height[:, 1] - height[:, 0]], dim=1),
    )
    middle = (corners.roll(-2, dims=1) + corners.roll(-1, dims=1)) / 2
    tilt = ((middle @ tensor + slopes[:, None]) * outward).sum(2)
    energy = (tilt[:, None] @ stiffness @ tilt[:, :, None])[:, 0, 0] / 2
    expected = area * thickness**3 / 24 * wanted(moduli[0])
    torch.testing.assert_close(energy, expected, rtol=1e-10, atol=0)


def test_stiffness_is_differentiable():
    positions, topology = crumpled()
    corners, axes = rest_of(topology, positions)
    corners, axes = corners[:3].requires_grad_(), axes[:3]
    moduli = orthotropic(*constants(3, 5.0, 2.0, 0.3, 0.4))
    moduli.requires_grad_()
    thickness = torch.full((3,), 0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *given: mid_edge_stiffness(*given, axes), (corners, moduli, thickness)
    )
