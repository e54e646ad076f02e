import math

import pytest
import torch
from render_scenes import F64, ground, plane, soup

from geomopt.errors import InputError
from geomopt.render import Camera, Fragments, interpolate, rasterize

BACKENDS = ("warp", "torch")
SIZE = (33, 48)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["large", "tiny", "centres", "mixed", "perspective"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_pixel_of_a_triangulated_plane_is_hit_exactly_once(kind, seed, backend):
    clip, faces = plane(kind, seed, SIZE)
    one = rasterize(clip, faces, SIZE, backend=backend).face
    two = rasterize(clip, faces.flip(0), SIZE, backend=backend).face
    assert (one >= 0).all()
    # had a pixel two owners, the smaller index would win: another triangle in reversed order
    assert torch.equal(one, len(faces) - 1 - two)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ground_through_the_camera_plane_is_filled_up_to_the_horizon(seed, backend):
    clip, faces = ground(seed)
    one = rasterize(clip, faces, SIZE, backend=backend).face
    two = rasterize(clip, faces.flip(0), SIZE, backend=backend).face
    horizon = SIZE[0] // 2  # its row of pixel centres lies at y = 0 exactly: infinitely far away
    assert (one[:, : horizon + 1] == -1).all()
    assert (one[:, horizon + 1 :] >= 0).all()
    assert torch.equal(one >= 0, two >= 0)
    inside = one >= 0
    assert torch.equal(one[inside], len(faces) - 1 - two[inside])


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("seed", range(8))
def test_backends_agree(seed, dtype):
    clip, faces = soup(seed, faces=40)
    clip = clip.to(dtype)
    clip[:, ::5, 3] -= 1.0  # some corners behind the camera
    warp, twin = (rasterize(clip, faces, SIZE, backend=name) for name in BACKENDS)
    assert torch.equal(warp.face, twin.face)
    # both are float64 inside and rounded once; single products may differ in their last bit
    tolerance = 4 * torch.finfo(dtype).eps if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(warp.barycentric, twin.barycentric, rtol=0, atol=tolerance)
    torch.testing.assert_close(warp.depth, twin.depth, rtol=0, atol=tolerance)


def test_row_0_is_the_top_and_column_0_the_left():
    triangle = torch.tensor([[[-1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [-1.0, 1.0, 0.0, 1.0]]])
    mask = rasterize(triangle, torch.tensor([[0, 1, 2]]), (8, 10)).mask[0]
    assert mask[:4, :5].any()
    assert not mask[4:].any()
    assert not mask[:, 5:].any()
    assert mask[3, 0]
    assert not mask[0, 4]


def test_pixel_centres_lie_at_half_integers():
    """x/w and y/w interpolated at a pixel are its own coordinates."""
    clip = torch.tensor([[-3.0, -1, 0, 1], [3, -1, 0, 1], [0, 4, 0, 1]], dtype=F64)
    faces = torch.tensor([[0, 1, 2]])
    fragments = rasterize(clip, faces, (6, 9))
    image = interpolate(clip[:, :2], faces, fragments)[0]
    for row, column in ((0, 4), (5, 0), (3, 7)):
        expected = torch.tensor([2 * (column + 0.5) / 9 - 1, 1 - 2 * (row + 0.5) / 6], dtype=F64)
        torch.testing.assert_close(image[row, column], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_perspective_agrees_with_rays_through_the_pixels(backend):
    camera = Camera.perspective(
        (2.0, -1.0, 1.5), (0.2, 0.1, 0.0), vertical_fov=70.0, resolution=(40, 56)
    ).to(dtype=F64)
    corners = torch.tensor([[-9, -9, 0.3], [9, -9, -0.6], [9, 9, 0.1], [-9, 9, 1.0]], dtype=F64)
    normal = torch.linalg.cross(corners[1] - corners[0], corners[3] - corners[0])
    corners[2, 2] -= (corners[2] - corners[0]) @ normal / normal[2]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize(camera.project(corners), faces, camera.resolution, backend=backend)
    position = interpolate(corners, faces, fragments, backend=backend)[0]

    row, column = torch.meshgrid(torch.arange(40), torch.arange(56), indexing="ij")
    half = math.tan(math.radians(35.0))
    x = (2 * (column + 0.5) / 56 - 1) * half * 56 / 40
    y = (1 - 2 * (row + 0.5) / 40) * half
    ray = torch.stack([x, y, -torch.ones_like(x)], -1).to(F64) @ camera.camera_to_world[0, :3, :3].T
    eye = camera.positions[0]
    hit = eye + ray * (((corners[0] - eye) @ normal) / (ray @ normal))[..., None]
    seen = fragments.mask[0]
    assert seen.float().mean() > 0.5
    # the camera was made in float32
    torch.testing.assert_close(position[seen], hit[seen], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_lies_before_the_near_or_behind_the_far_plane_is_cut_off(backend):
    camera = Camera.perspective((0.0, 0, 0), (1, 0, 0), near=1.0, far=5.0, resolution=(64, 64))
    camera = camera.to(dtype=F64)
    # a floor one below the camera, from far behind it to far ahead
    floor = torch.tensor([[-50, -50, -1], [50, -50, -1], [50, 50, -1], [-50, 50, -1]], dtype=F64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize(camera.project(floor), faces, camera.resolution, backend=backend)
    depth = interpolate(floor[:, 0].contiguous(), faces, fragments, backend=backend)[0, :, :, 0]
    slope = (2 * (torch.arange(64, dtype=F64) + 0.5) / 64 - 1) * math.tan(math.radians(20.0))
    distance = torch.where(slope > 0, 1 / slope, math.inf)
    expected = (distance >= 1.0) & (distance <= 5.0)
    assert torch.equal(fragments.mask[0], expected[:, None].expand(64, 64))
    shown = distance[:, None].expand(64, 64)[fragments.mask[0]]
    torch.testing.assert_close(depth[fragments.mask[0]], shown, rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nearer_triangle_wins_and_equal_depth_goes_to_the_smaller_index(backend):
    square = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    layers = torch.cat([torch.cat([square, torch.full((4, 1), z)], 1) for z in (0.5, -0.5)])
    clip = torch.cat([layers, torch.ones(8, 1)], 1)
    one = torch.tensor([[0, 1, 2], [0, 2, 3]])
    face = rasterize(clip, torch.cat([one, one + 4, one + 4]), (8, 8), backend=backend).face
    assert set(face.unique().tolist()) == {2, 3}


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop(backend):
    clip, faces = soup(3, batch=4, faces=20)
    weight = torch.rand(4, *SIZE, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    attributes = torch.rand(
        4, clip.shape[1], 2, dtype=F64, generator=torch.Generator().manual_seed(1)
    )
    clip.requires_grad_()
    fragments = rasterize(clip, faces, SIZE, backend=backend)
    image = interpolate(attributes, faces, fragments, backend=backend)
    (gradient,) = torch.autograd.grad((image * weight).sum(), clip)
    for view in range(4):
        alone = clip[view].detach().requires_grad_()
        single = rasterize(alone, faces, SIZE, backend=backend)
        shown = interpolate(attributes[view], faces, single, backend=backend)
        assert torch.equal(single.face[0], fragments.face[view])
        assert torch.equal(shown[0], image[view])
        (slope,) = torch.autograd.grad((shown[0] * weight[view]).sum(), alone)
        torch.testing.assert_close(slope, gradient[view], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_agree_with_finite_differences(shared, backend):
    clip, faces = soup(5)
    attributes = torch.rand(
        *(() if shared else (2,)),
        clip.shape[1],
        3,
        dtype=F64,
        generator=torch.Generator().manual_seed(2),
    )
    size = (5, 7)
    assert rasterize(clip, faces, size).mask.sum() > 25
    clip.requires_grad_()
    attributes.requires_grad_()

    def weights(clip):
        return rasterize(clip, faces, size, backend=backend).barycentric

    def image(clip, attributes):
        fragments = rasterize(clip, faces, size, backend=backend)
        return interpolate(attributes, faces, fragments, backend=backend)

    assert torch.autograd.gradcheck(weights, (clip,), eps=1e-7, atol=1e-6, rtol=1e-5)
    assert torch.autograd.gradcheck(image, (clip, attributes), eps=1e-7, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_gradients_of_the_backends_agree(dtype):
    clip, faces = soup(6, faces=30)
    clip = clip.to(dtype).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(2, *SIZE, 3, dtype=dtype, generator=generator)
    slopes = [
        torch.autograd.grad(
            (rasterize(clip, faces, SIZE, backend=name).barycentric * weight).sum(), clip
        )[0]
        for name in BACKENDS
    ]
    scale = float(slopes[1].abs().max())
    # sums over hundreds of pixels in another order
    torch.testing.assert_close(*slopes, rtol=0, atol=100 * torch.finfo(dtype).eps * scale)
    assert (slopes[0][..., 2] == 0).all()  # z only decides visibility


def test_same_input_gives_the_same_bits(device):
    clip, faces = soup(7, faces=60)
    clip = clip.float().to(device).requires_grad_()
    faces = faces.to(device)

    def run():
        fragments = rasterize(clip, faces, (128, 128))
        image = interpolate(clip[0, :, :3], faces, fragments)
        return [fragments.face, image, torch.autograd.grad(image.square().sum(), clip)[0]]

    first, second = run(), run()
    assert all(torch.equal(a, b) for a, b in zip(first[:2], second[:2], strict=True))
    if device.type == "cpu":
        assert torch.equal(first[2], second[2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_attributes_may_have_faces_of_their_own(backend):
    """A quad whose two triangles share positions but have colours of their own."""
    clip = torch.tensor([[-1.0, -1, 0, 1], [1, -1, 0, 1], [1, 1, 0, 1], [-1, 1, 0, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    fragments = rasterize(clip, faces, (16, 16), backend=backend)
    own = torch.tensor([[0, 0, 0], [1, 1, 1]])
    image = interpolate(torch.tensor([10.0, 20.0]), own, fragments, backend=backend)
    assert torch.equal(image[..., 0], 10.0 * (1 + fragments.face))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_see(backend):
    clip = torch.rand(5, 4, requires_grad=True)
    fragments = rasterize(clip, torch.zeros(0, 3, dtype=torch.int32), (4, 6), backend=backend)
    assert (fragments.face == -1).all()
    assert (fragments.barycentric == 0).all()
    assert (fragments.depth == 1).all()
    image = interpolate(
        torch.rand(5, 2), torch.zeros(0, 3, dtype=torch.int32), fragments, backend=backend
    )
    assert (image == 0).all()
    (image.sum() + fragments.barycentric.sum()).backward()
    assert (clip.grad == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_flat_triangles_are_left_out(backend):
    clip = torch.tensor([[-0.5, -0.5, 0, 1], [0.5, 0.5, 0, 1], [0.0, 0, 0, 1]], requires_grad=True)
    fragments = rasterize(clip, torch.tensor([[0, 1, 2], [0, 0, 1]]), (8, 8), backend=backend)
    assert not fragments.mask.any()


def test_bad_input_is_named():
    clip, faces = torch.rand(4, 4), torch.tensor([[0, 1, 2]])
    good = rasterize(clip, faces, (4, 4))
    broken = clip.clone()
    broken[1, 2] = math.nan
    cases = [
        (lambda: rasterize(clip[:, :3], faces, (4, 4)), "clip_positions"),
        (lambda: rasterize(broken, faces, (4, 4)), "clip_positions must be finite"),
        (lambda: rasterize(clip.half(), faces, (4, 4)), "float32 or float64"),
        (lambda: rasterize(clip, faces + 2, (4, 4)), r"faces must index into \[0, 4\)"),
        (lambda: rasterize(clip, faces.float(), (4, 4)), "faces"),
        (lambda: rasterize(clip, faces, (4, 0)), "resolution"),
        (lambda: rasterize(clip, faces, 4), "resolution"),
        (lambda: rasterize(clip, faces, (4, 4), backend="opengl"), "'warp', 'torch', got 'opengl'"),
        (lambda: interpolate(clip[:2], faces, good), r"faces must index into \[0, 2\)"),
        (lambda: interpolate(clip * math.nan, faces, good), "attributes must be finite"),
        (lambda: interpolate(clip.double(), faces, good), "fragments.barycentric must have dtype"),
        (lambda: interpolate(clip, faces, None), "fragments must be Fragments"),
        (lambda: interpolate(clip.expand(3, 4, 4), faces, good), "fragments must hold 3 views"),
        (
            lambda: interpolate(
                clip, faces, Fragments(good.face + 5, good.barycentric, good.depth)
            ),
            r"fragments.face must lie in \[-1, 1\)",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_second_derivatives_are_refused():
    clip, faces = soup(1)
    clip.requires_grad_()
    total = rasterize(clip, faces, (8, 8)).barycentric.square().sum()
    with pytest.raises(NotImplementedError, match="second derivative"):
        torch.autograd.grad(total, clip, create_graph=True)


@pytest.mark.parametrize("seed", range(12))
def test_wild_positions_do_no_harm(seed):
    """Corners behind the camera, on its plane, thousands of images away: the backends agree."""
    generator = torch.Generator().manual_seed(seed)
    clip = torch.randn(2, 40, 4, generator=generator, dtype=F64)
    clip[..., 3] += (0.0, 0.5, 2.0)[seed % 3]
    clip[..., :2] *= 1000 if seed % 4 == 0 else 1
    clip[..., 3] *= 1e-4 if seed % 5 == 0 else 1
    clip[:, 0, 3] = 0
    faces = torch.randint(0, 40, (80, 3), generator=generator)
    clip.requires_grad_()
    found = [rasterize(clip, faces, SIZE, backend=name) for name in BACKENDS]
    assert torch.equal(found[0].face, found[1].face)
    slopes = [torch.autograd.grad(one.barycentric.square().sum(), clip)[0] for one in found]
    assert torch.isfinite(slopes[0]).all()
    scale = float(slopes[1].abs().max())
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-8 * scale)
