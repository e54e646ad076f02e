"""Laws of the extracted surface: closed, manifold, wound outwards, equivariant, and right on known
shapes.
"""

import math

import pytest
import torch
import warp as wp
from warp.geometry import IsoSurfaceNets

from geomopt.geometry.flexicubes import extract_surface, used_deformation, used_weights
from geomopt.geometry.flexicubes.connectivity import connect
from geomopt.geometry.flexicubes.layout import lay_out
from geomopt.geometry.grid import DenseGrid
from geomopt.geometry.topology import Topology

BACKENDS = ("warp", "torch")


def sphere(grid, radius=0.6, center=(0.03, -0.02, 0.05)):
    return (grid.points - grid.points.new_tensor(center)).norm(dim=1) - radius


def noise(grid, seed, border=True):
    """White noise whose outermost points lie outside."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(grid.shape, generator=generator, dtype=grid.dtype)
    if border:
        inner = field[1:-1, 1:-1, 1:-1].clone()
        field = field.abs() + 0.1
        field[1:-1, 1:-1, 1:-1] = inner
    return field.reshape(-1)


def parameters(grid, seed, dtype=torch.float64, channels=2):
    """Random used weights, deformation and features."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape, low=0.5, high=1.5):
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)

    cells, points = grid.cell_count, grid.point_count
    reach = 0.3 * min(grid.spacing)
    return {
        "corner_weights": uniform(cells, 8),
        "edge_weights": uniform(cells, 12),
        "split_weights": uniform(cells, low=0.2, high=0.8),
        "deformation": uniform(points, 3, low=-reach, high=reach),
        "features": uniform(points, channels, low=-1),
    }


def volume(surface):
    a, b, c = surface.vertices[surface.faces.long()].unbind(dim=1)
    return (torch.linalg.cross(a, b) * c).sum() / 6


def area(surface):
    a, b, c = surface.vertices[surface.faces.long()].unbind(dim=1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2


def assert_closed_manifold(surface):
    topology = Topology.of(surface.faces, len(surface.vertices))
    assert len(topology.boundary_edges()) == 0
    assert len(topology.nonmanifold_edges()) == 0
    assert len(topology.nonmanifold_vertices()) == 0
    assert topology.is_wound_consistently
    assert volume(surface) > 0


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_white_noise_is_closed_and_manifold(seed, mode, device):
    grid = DenseGrid(12)
    surface = extract_surface(noise(grid, seed).to(device), grid, mode=mode)
    assert surface.faces.dtype == torch.int32
    assert_closed_manifold(surface)
    assert surface.faces.unique().numel() == len(surface.vertices)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_white_noise_is_closed_at_the_box(seed, mode):
    grid = DenseGrid((9, 10, 11))
    surface = extract_surface(noise(grid, seed, border=False), grid, mode=mode, close_boundary=True)
    assert_closed_manifold(surface)
    assert surface.vertices.abs().max() < 1 + 1e-6  # flush, up to rounding in single precision


def test_white_noise_would_not_be_manifold_without_the_resolution():
    """The noise of these tests does hold pairs of problem cells."""
    for seed in range(3):
        grid = DenseGrid(12)
        field = noise(grid, seed)
        cells = connect(field, lay_out(grid))
        inside = (field < 0).reshape(grid.shape)
        corners = [
            inside[k & 1 :, k >> 1 & 1 :, k >> 2 :][:12, :12, :12].long() << k for k in range(8)
        ]
        case = sum(corners).reshape(-1)[cells.cells.long()]
        assert int((case != cells.loop_cases).sum()) >= 2


@pytest.mark.parametrize("levels", [1, 62, 63, 64, 65, 127, 128, 129])
def test_rows_of_any_length_are_like_the_oracle(levels):
    """The kernels take the signs of a row in words of 64 bits."""
    grid = DenseGrid((2, 3, levels), dtype=torch.float64)
    for seed in range(2):
        field = noise(grid, seed, border=False)
        ours, plain = (extract_surface(field, grid, backend=backend) for backend in BACKENDS)
        assert torch.equal(ours.faces, plain.faces)
        # the same crossings up to the rounding of a different order of sums
        torch.testing.assert_close(ours.vertices, plain.vertices, rtol=0, atol=1e-12)


def test_open_at_the_box_without_closing():
    grid = DenseGrid(8)
    surface = extract_surface(grid.points[:, 2] - 0.1, grid)
    topology = Topology.of(surface.faces, len(surface.vertices))
    assert len(topology.boundary_edges()) > 0
    assert len(topology.nonmanifold_edges()) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_box_is_closed_to_its_own_volume(backend):
    grid = DenseGrid((3, 4, 5), lower=(0, 0, 0), upper=(1, 2, 3), dtype=torch.float64)
    sdf = torch.full((grid.point_count,), -0.7, dtype=torch.float64, requires_grad=True)
    surface = extract_surface(sdf, grid, close_boundary=True, backend=backend)
    assert_closed_manifold(surface)
    # the box is cut at its edges, where the dual vertices lie, so nothing is lost: rounding only
    assert volume(surface).item() == pytest.approx(6, rel=1e-12)
    volume(surface).backward()
    assert (sdf.grad == 0).all()


def test_half_space_is_closed_to_its_part_of_the_box():
    grid = DenseGrid(20, dtype=torch.float64)
    surface = extract_surface(grid.points[:, 2] - 0.12, grid, close_boundary=True)
    assert_closed_manifold(surface)
    # the rim of the cap is cut off by less than a cell: half of 0.1^2 along its four edges of
    # length 2
    assert 0 < 4 * 1.12 - volume(surface).item() < 8 * 0.1**2 / 2


@pytest.mark.parametrize("mode", ["train", "test"])
def test_sphere_converges_with_the_square_of_the_spacing(mode):
    errors = []
    for resolution in (16, 32):
        surface = extract_surface(
            sphere(DenseGrid(resolution, dtype=torch.float64)), DenseGrid(resolution), mode=mode
        )
        exact = 4 * math.pi * 0.6**2
        errors.append(
            (abs(volume(surface).item() / (exact * 0.2) - 1), abs(area(surface).item() / exact - 1))
        )
    for coarse, fine in zip(*errors, strict=True):
        # halving the spacing divides the error by four; a tenth of leeway for the higher orders
        assert coarse / fine == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("kind", ["sphere", "noise"])
def test_neutral_weights_give_the_vertices_of_surface_nets(kind):
    grid = DenseGrid((10, 11, 12))
    field = sphere(grid) if kind == "sphere" else noise(grid, 3)
    # on an ambiguous face surface nets cut off the outside corners, FlexiCubes the inside ones:
    # negating the field exchanges the two and leaves every crossing where it is
    values = wp.array(-field.reshape(grid.shape).numpy(), dtype=float, device="cpu")
    nets, _ = IsoSurfaceNets.extract(values, 0.0, lower=wp.vec3(-1.0), upper=wp.vec3(1.0))
    expected = torch.from_numpy(nets.numpy())
    found = extract_surface(field, grid, mode="test").vertices
    assert found.shape == expected.shape
    distance = torch.cdist(found.double(), expected.double())
    # both compute in single precision on coordinates of order one
    assert distance.amin(dim=0).max() < 1e-6
    assert distance.amin(dim=1).max() < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_one_change_nothing(backend):
    grid = DenseGrid(6, dtype=torch.float64)
    ones = [torch.ones(grid.cell_count, *shape, dtype=torch.float64) for shape in ((8,), (12,), ())]
    plain = extract_surface(noise(grid, 0), grid, backend=backend)
    weighted = extract_surface(
        noise(grid, 0), grid, *ones, torch.zeros(grid.point_count, 3).double(), backend=backend
    )
    torch.testing.assert_close(weighted.vertices, plain.vertices, rtol=0, atol=0)
    assert torch.equal(weighted.faces, plain.faces)


@pytest.mark.parametrize("close_boundary", [False, True])
@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_backends_agree(dtype, mode, close_boundary, device):
    """Same vertices and faces in the same order, the same losses and gradients."""
    grid = DenseGrid((6, 7, 5), lower=(-1, 0, 2), upper=(1, 3, 4), dtype=dtype)
    given = {"sdf": noise(grid, 5, border=False), **parameters(grid, 6, dtype)}
    given = {name: value.to(device) for name, value in given.items()}
    made = []
    for backend in BACKENDS:
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        surface = extract_surface(
            grid=grid, mode=mode, close_boundary=close_boundary, backend=backend, **leaves
        )
        values = torch.cat([surface.vertices, surface.features], dim=1)
        loss = (values * torch.linspace(-1, 1, values.numel(), device=device).view_as(values)).sum()
        (loss + surface.deviation_loss()).backward()
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        made.append((surface.faces, values.detach(), surface.deviation_loss().detach(), gradients))
    # gradients grow like the inverse of the field, which comes close to zero on noise
    accuracy = (
        {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-11}
    )
    for first, second in zip(*made, strict=True):
        torch.testing.assert_close(first, second, **accuracy)


@pytest.mark.parametrize("backend", BACKENDS)
def test_moving_scaling_and_turning_the_grid_moves_the_surface(backend):
    grid = DenseGrid((5, 6, 7), dtype=torch.float64)
    field, given = noise(grid, 1), parameters(grid, 2)
    given["deformation"] = None
    base = extract_surface(field, grid, backend=backend, **given)
    moved = DenseGrid(
        (5, 6, 7), lower=(-1.0, 1.0, 5.0), upper=(5.0, 7.0, 11.0), dtype=torch.float64
    )
    surface = extract_surface(17.0 * field, moved, backend=backend, **given)
    expected = 3 * base.vertices + base.vertices.new_tensor([2.0, 4.0, 8.0])
    torch.testing.assert_close(surface.vertices, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(surface.faces, base.faces)
    # turning the axes x -> y -> z -> x permutes the vertices and keeps the volume and its sign
    turned = DenseGrid((7, 5, 6), dtype=torch.float64)
    around = field.reshape(grid.shape).permute(2, 0, 1).reshape(-1)
    plain, surface = (
        extract_surface(field, grid, backend=backend),
        extract_surface(around, turned, backend=backend),
    )
    distance = torch.cdist(plain.vertices[:, [2, 0, 1]], surface.vertices)
    assert distance.amin(dim=0).max() < 1e-7  # cdist works with squares
    assert volume(surface).item() == pytest.approx(volume(plain).item(), rel=1e-12)


def test_midpoint_is_the_middle_of_a_flat_quad():
    grid = DenseGrid(4, dtype=torch.float64)
    surface = extract_surface(grid.points[:, 2] - 0.1, grid, mode="train")
    fans = surface.faces.reshape(-1, 4, 3).long()
    assert (fans[:, :, 2] == fans[:, :1, 2]).all()
    corners, middle = surface.vertices[fans[:, :, 0]], surface.vertices[fans[:, 0, 2]]
    for diagonal in (0, 1):
        halfway = (corners[:, diagonal] + corners[:, diagonal + 2]) / 2
        torch.testing.assert_close(middle, halfway, rtol=0, atol=1e-15)


@pytest.mark.parametrize("backend", BACKENDS)
def test_split_weights_choose_the_diagonal(backend):
    """In a plane with one heavy cell, test mode cuts its quads through it and train mode moves the
    midpoint to it.
    """
    grid = DenseGrid(4, dtype=torch.float64)
    split = torch.full((4, 4, 4), 0.1, dtype=torch.float64)
    split[1, 2] = 0.9
    field = grid.points[:, 2] - 0.1
    fine = extract_surface(
        field, grid, split_weights=split.reshape(-1), mode="test", backend=backend
    )
    heavy = int((fine.vertices - fine.vertices.new_tensor([-0.25, 0.25, 0.1])).norm(dim=1).argmin())
    # all four quads around it are cut through it, so each gives it two triangles
    assert int((fine.faces == heavy).sum()) == 8
    coarse = extract_surface(
        field, grid, split_weights=split.reshape(-1), mode="train", backend=backend
    )
    fans = coarse.faces.reshape(-1, 4, 3).long()
    fan = fans[(fans == heavy).any(dim=2).any(dim=1)][0]
    corners = coarse.vertices[fan[:, 0]]
    even, odd = ((corners[d] + corners[d + 2]) / 2 for d in (0, 1))
    torch.testing.assert_close(even, odd)


def test_features_of_a_linear_field_are_the_positions():
    grid = DenseGrid(5, dtype=torch.float64)
    given = parameters(grid, 0)
    given["features"] = grid.points + given["deformation"]
    surface = extract_surface(noise(grid, 1), grid, **given)
    torch.testing.assert_close(surface.features, surface.vertices, rtol=0, atol=1e-14)


def test_used_weights_and_deformation():
    raw = torch.tensor([-1e3, 0.0, 1e3], dtype=torch.float64)[:, None].expand(3, 21)
    corner, edge, split = used_weights(raw)
    assert corner.shape == (3, 8)
    assert edge.shape == (3, 12)
    expected = torch.tensor([0.01, 1.0, 1.99], dtype=torch.float64)
    torch.testing.assert_close(corner, expected[:, None].expand(3, 8))
    torch.testing.assert_close(edge, expected[:, None].expand(3, 12))
    torch.testing.assert_close(split, torch.tensor([0.005, 0.5, 0.995], dtype=torch.float64))
    grid = DenseGrid((2, 4, 8))
    moved = used_deformation(torch.full((grid.point_count, 3), 50.0), grid)
    assert (moved < 0.5 * moved.new_tensor(grid.spacing)).all()
    assert (used_deformation(torch.zeros(grid.point_count, 3), grid) == 0).all()


def test_deviation_loss_is_zero_on_a_plane_and_not_on_a_tilted_one():
    grid = DenseGrid(4, dtype=torch.float64)
    assert extract_surface(grid.points[:, 0] - 0.1, grid).deviation_loss().item() == pytest.approx(
        0, abs=1e-15
    )
    tilted = grid.points @ grid.points.new_tensor([0.8, 0.6, 0.3])
    assert extract_surface(tilted - 0.1, grid).deviation_loss() > 1e-3


def test_mesh_holds_the_surface():
    grid = DenseGrid(8)
    surface = extract_surface(sphere(grid).requires_grad_(), grid, mode="test")
    mesh = surface.mesh()
    assert torch.equal(mesh.vertices, surface.vertices)
    assert torch.equal(mesh.faces, surface.faces)
    assert not mesh.vertices.requires_grad
