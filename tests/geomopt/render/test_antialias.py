import math

import numpy as np
import pytest
import torch
from render_scenes import (
    F64,
    clipped_moments,
    fan,
    image_moments,
    plane,
    polygon,
    soup,
    to_clip,
)

from geomopt.errors import InputError
from geomopt.render import (
    Camera,
    antialias,
    edge_opposites,
    interpolate,
    position_indices,
    rasterize,
)

BACKENDS = ("warp", "torch")
SIZE = (128, 144)


def soft_mask(clip, faces, size, backend="warp"):
    fragments = rasterize(clip, faces, size, backend=backend)
    hard = fragments.mask[..., None].to(clip)
    return antialias(hard, fragments, clip, faces, backend=backend)


def icosphere(subdivisions: int):
    """Vertices (V, 3) float64 and faces of a sphere."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [(a, b * golden, 0) for a in (-1, 1) for b in (-1, 1)]
    points = np.array([np.roll(corner, k) for k in range(3) for corner in corners], dtype=float)
    from scipy.spatial import ConvexHull

    faces = ConvexHull(points).simplices
    for _ in range(subdivisions):
        middle = {}
        points = list(points)

        def half(a, b, middle=middle, points=points):
            key = (min(a, b), max(a, b))
            if key not in middle:
                middle[key] = len(points)
                points.append((points[a] + points[b]) / 2)
            return middle[key]

        split = []
        for a, b, c in faces:
            ab, bc, ca = half(a, b), half(b, c), half(c, a)
            split += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        points, faces = np.array(points), np.array(split)
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    return torch.tensor(points), torch.tensor(faces, dtype=torch.int32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(6))
def test_first_moments_of_a_moving_polygon_change_by_its_area(seed, backend):
    """d/dt of the integral of x over a shape that moves along x is its area, and 0 along y."""
    points = polygon(seed, 45.0, (7.3, -4.1))
    area = clipped_moments(points, SIZE)[0]
    vertices, faces = fan(points)
    w = torch.linspace(0.5, 2.0, len(vertices), dtype=F64)
    vertices.requires_grad_()
    moments = image_moments(soft_mask(to_clip(vertices, SIZE, w), faces, SIZE, backend))
    assert float(moments[0].detach()) == pytest.approx(area, rel=2e-3)
    for axis in range(2):
        (slope,) = torch.autograd.grad(moments[1 + axis], vertices, retain_graph=True)
        assert float(slope[:, axis].sum()) == pytest.approx(area, rel=0.02)
        assert abs(float(slope[:, 1 - axis].sum())) < 0.02 * area


@pytest.mark.parametrize("seed", range(6))
def test_finite_differences_of_the_image_agree_with_exact_clipping(seed):
    """Moves of a tenth of a pixel, by the forward images alone; nine of them so that the corners,
    where half a row may be counted or not, are met at different places."""
    points = polygon(seed, 45.0, (7.3, -4.1))
    area = clipped_moments(points, SIZE)[0]
    vertices, faces = fan(points)
    slopes = []
    for step in range(9):
        shift = 0.11 * step
        ends = [
            image_moments(soft_mask(to_clip(vertices + shift + move, SIZE), faces, SIZE))
            for move in (
                torch.tensor([[0.05, 0.0]], dtype=F64),
                torch.tensor([[-0.05, 0.0]], dtype=F64),
            )
        ]
        slopes.append(float(ends[0][1] - ends[1][1]) / 0.1)
    assert np.mean(slopes) == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_covered_area_of_a_polygon_that_leaves_the_image(seed):
    """Area moves out through the border of the image: the slope is minus the length of the cut.

    The border cuts edges flatter than 45 degrees: a steep one is lost in the outer half of the last
    pixel, which has no neighbour. The mean over nine places, since whether a row whose centre is
    near a corner counts is all or nothing.
    """
    points = polygon(seed, 60.0, (70.0, 5.0), corners=12)
    step = np.array([1e-4, 0.0])
    exact, found = [], []
    for shift in 0.11 * np.arange(9)[:, None] * [1.0, 0.7]:
        ends = [clipped_moments(points + shift + move, SIZE)[0] for move in (step, -step)]
        exact.append((ends[0] - ends[1]) / 2e-4)
        vertices, faces = fan(points + shift)
        vertices.requires_grad_()
        area = image_moments(soft_mask(to_clip(vertices, SIZE), faces, SIZE))[0]
        found.append(float(torch.autograd.grad(area, vertices)[0][:, 0].sum()))
    assert np.mean(found) == pytest.approx(np.mean(exact), rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_area_of_a_growing_polygon(seed):
    """d/ds of the area under scaling by s is twice the area."""
    points = polygon(seed, 50.0, (3.0, 2.0))
    area = clipped_moments(points, SIZE)[0]
    vertices, faces = fan(points)
    vertices.requires_grad_()
    covered = image_moments(soft_mask(to_clip(vertices, SIZE), faces, SIZE))[0]
    (slope,) = torch.autograd.grad(covered, vertices)
    middle = torch.tensor(points.mean(0))
    assert float((slope * (vertices.detach() - middle)).sum()) == pytest.approx(2 * area, rel=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("subdivisions", [1, 3, 5])
def test_closed_mesh_of_any_fineness_has_the_area_of_its_outline(subdivisions, backend):
    """On the finest mesh the triangles at the outline are far thinner than a pixel."""
    from scipy.spatial import ConvexHull

    points, faces = icosphere(subdivisions)
    camera = Camera.perspective((2.4, 1.2, 1.0), vertical_fov=45.0, resolution=SIZE).to(dtype=F64)
    clip = camera.project(points).requires_grad_()
    scale = clip.new_tensor([SIZE[1] / 2, SIZE[0] / 2])
    screen = clip[0, :, :2] / clip[0, :, 3:] * scale
    area = ConvexHull(screen.detach().numpy()).volume
    moments = image_moments(soft_mask(clip, faces, SIZE, backend))
    assert float(moments[0].detach()) == pytest.approx(area, rel=2e-3)
    for axis in range(2):
        (slope,) = torch.autograd.grad(moments[1 + axis], clip, retain_graph=True)
        speed = clip.detach()[0, :, 3] / scale[axis]  # of a move by one pixel
        assert float((slope[0, :, axis] * speed).sum()) == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("seed", range(4))
def test_backends_agree(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    clip, faces = soup(seed, faces=30)
    clip = clip.to(dtype).requires_grad_()
    colors = torch.rand(clip.shape[1], 3, dtype=dtype, generator=generator).requires_grad_()
    weight = torch.rand(2, *SIZE, 3, dtype=dtype, generator=generator)
    results = []
    for backend in BACKENDS:
        fragments = rasterize(clip, faces, SIZE, backend=backend)
        image = interpolate(colors, faces, fragments, backend=backend)
        image = antialias(image, fragments, clip, faces, backend=backend)
        slopes = torch.autograd.grad((image * weight).sum(), (clip, colors))
        results.append((image.detach(), *slopes))
    for warp, twin in zip(*results, strict=True):
        # sums over thousands of pixels in another order
        tolerance = 300 * torch.finfo(dtype).eps * float(twin.abs().max())
        torch.testing.assert_close(warp, twin, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_agree_with_finite_differences(backend):
    size = (7, 8)
    clip, faces = soup(4, batch=1, faces=4)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *size, 2, dtype=F64, generator=generator).requires_grad_()
    clip.requires_grad_()

    def soft(image, clip):
        fragments = rasterize(clip.detach(), faces, size, backend=backend)
        return antialias(image, fragments, clip, faces, backend=backend)

    changed = (soft(image, clip) != image).any(-1)
    assert changed.sum() > 8
    assert torch.autograd.gradcheck(soft, (image, clip), eps=1e-7, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_flat_image_inside_a_surface_is_left_alone(backend):
    clip, faces = plane("mixed", 0, (32, 32))
    fragments = rasterize(clip, faces, (32, 32), backend=backend)
    image = torch.rand(1, 32, 32, 3, dtype=F64)
    assert torch.equal(antialias(image, fragments, clip, faces, backend=backend), image)


def test_front_surface_moves_against_the_one_behind():
    """A small square before a large one: only the small one's border has a gradient."""
    square = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], dtype=F64)
    clip = torch.cat(
        [torch.cat([square * s, torch.full((4, 1), z)], 1) for s, z in ((0.5, -0.5), (3, 0.5))]
    )
    clip = torch.cat([clip, torch.ones(8, 1)], 1).requires_grad_()
    one = torch.tensor([[0, 1, 2], [0, 2, 3]])
    faces = torch.cat([one, one + 4])
    fragments = rasterize(clip, faces, (30, 30))
    image = (fragments.face < 2).to(F64)[..., None]
    total = antialias(image, fragments, clip, faces).sum()
    (slope,) = torch.autograd.grad(total, clip)
    assert (slope[4:] == 0).all()
    # 15 x 15 pixels: growing by s covers 2 * 225 more per unit of s
    assert float((slope[:4, :2] * clip[:4, :2]).sum().detach()) == pytest.approx(450, rel=0.02)


def test_gradient_includes_w():
    """Scaling x, y, z and w of a vertex together does not move it, so the slope along it is 0."""
    vertices, faces = fan(polygon(1, 40.0, (0, 0)))
    w = torch.linspace(0.5, 2.0, len(vertices), dtype=F64)
    clip = to_clip(vertices, SIZE, w).requires_grad_()
    moments = image_moments(soft_mask(clip, faces, SIZE))
    (slope,) = torch.autograd.grad(moments[1] + moments[2], clip)
    assert slope[:, 3].abs().max() > 1
    along = (slope * clip.detach()).sum(1)
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_surface_through_the_camera_plane(backend):
    """A wall beside the camera that goes on behind it: its upper border still moves the image."""
    camera = Camera.perspective((0.0, 0, 0), (1, 0, 0), near=0.1, far=50.0, resolution=(64, 64))
    wall = torch.tensor([[-5, 0.5, -9], [20, 0.5, -9], [20, 0.5, 0.3], [-5, 0.5, 0.3]], dtype=F64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    wall.requires_grad_()

    def covered(wall):
        return soft_mask(camera.to(dtype=F64).project(wall), faces, (64, 64), backend).sum()

    (slope,) = torch.autograd.grad(covered(wall), wall)
    lift = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]], dtype=F64)
    with torch.no_grad():
        change = (covered(wall + 0.02 * lift) - covered(wall - 0.02 * lift)) / 0.04
    assert float(change) > 50
    assert float((slope * lift).sum()) == pytest.approx(float(change), rel=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_edge_table(backend):
    points, faces = icosphere(1)
    table = edge_opposites(faces, len(points), backend=backend).long()
    assert (table >= 0).all()
    flat = faces.flatten().long()
    own = torch.arange(table.numel())
    assert torch.equal(table.flatten()[table.flatten()], own)  # each is the other's
    ends = torch.stack([faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]], -1).reshape(-1, 2).sort(1).values
    assert torch.equal(ends, ends[table.flatten()])
    assert (flat[table.flatten()] != flat).all()

    open_fan = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 2, 4]])
    expected = torch.tensor([[-1, -2, -1], [-1, -1, -2], [-1, -1, -2]], dtype=torch.int32)
    assert torch.equal(edge_opposites(open_fan, 5, backend=backend), expected)
    assert edge_opposites(open_fan[:0], 5, backend=backend).shape == (0, 3)


def test_position_indices_join_doubled_vertices():
    points, faces = icosphere(2)
    doubled = points[faces.long()].reshape(-1, 3)
    loose = torch.arange(len(doubled)).reshape(-1, 3)
    joined = position_indices(doubled, loose)
    assert (edge_opposites(loose, len(doubled)) == -1).all()
    assert (edge_opposites(joined, len(doubled)) >= 0).all()
    assert torch.equal(doubled[joined.long()], doubled[loose])


def test_table_may_be_kept():
    clip, faces = soup(2, faces=20)
    fragments = rasterize(clip, faces, (32, 32))
    image = torch.rand(2, 32, 32, 1, dtype=F64)
    table = edge_opposites(faces, clip.shape[1])
    kept = antialias(image, fragments, clip, faces, topology=table)
    assert torch.equal(kept, antialias(image, fragments, clip, faces))


def test_same_input_gives_the_same_bits():
    clip, faces = soup(9, faces=60)
    clip = clip.float().requires_grad_()
    runs = []
    for _ in range(2):
        fragments = rasterize(clip, faces, SIZE)
        image = interpolate(clip[0, :, :3], faces, fragments)
        image = antialias(image, fragments, clip, faces)
        runs.append((image, torch.autograd.grad(image.square().sum(), clip)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_bad_input_is_named():
    clip, faces = torch.rand(1, 4, 4), torch.tensor([[0, 1, 2]])
    fragments = rasterize(clip, faces, (4, 5))
    image = torch.zeros(1, 4, 5, 3)
    cases = [
        (lambda: antialias(image[:, :3], fragments, clip, faces), "image must have shape"),
        (
            lambda: antialias(image[0], fragments, clip, faces),
            r"image must have shape \(B, H, W, C\)",
        ),
        (lambda: antialias(image * math.nan, fragments, clip, faces), "image must be finite"),
        (lambda: antialias(image.double(), fragments, clip, faces), "image must have dtype"),
        (lambda: antialias(image, fragments, clip.expand(2, 4, 4), faces), "fragments must hold 2"),
        (
            lambda: antialias(image, fragments, clip, faces, topology=faces),
            "topology must be an int32",
        ),
        (lambda: antialias(image, fragments, clip, faces, backend="numpy"), "backend must be"),
        (lambda: edge_opposites(faces, 2), r"faces must index into \[0, 2\)"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
