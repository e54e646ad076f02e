import math

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry.mesh import Mesh
from geomopt.render import Camera, Light, orbit_cameras, picture, render
from geomopt.render.normals import corner_normals

F64 = torch.float64


def sphere(rings: int = 24, around: int = 48, dtype=torch.float32) -> Mesh:
    """A unit sphere with colours."""
    polar = torch.linspace(0, math.pi, rings + 2, dtype=dtype)[1:-1, None]
    azimuth = torch.arange(around, dtype=dtype)[None] * (2 * math.pi / around)
    ring = [
        polar.sin() * azimuth.cos(),
        polar.sin() * azimuth.sin(),
        polar.cos().expand(-1, around),
    ]
    poles = torch.tensor([[0, 0, 1], [0, 0, -1]], dtype=dtype)
    vertices = torch.cat([torch.stack(ring, -1).reshape(-1, 3), poles])
    here = torch.arange(around)
    there = (here + 1) % around
    last = (rings - 1) * around
    faces = [torch.stack([torch.full_like(here, len(vertices) - 2), here, there], 1)]
    for row in range(0, last, around):
        a, b = row + here, row + there
        faces += [torch.stack([a, a + around, b], 1), torch.stack([b, a + around, b + around], 1)]
    faces += [torch.stack([torch.full_like(here, len(vertices) - 1), last + there, last + here], 1)]
    return Mesh(vertices, torch.cat(faces).int(), (vertices + 1) / 2)


def test_images_of_a_sphere():
    """Depth and normals at each pixel against the ray through it."""
    mesh = sphere(80, 160, dtype=F64)
    camera = Camera.perspective((3.0, 0, 0), resolution=(40, 40), vertical_fov=45.0).to(dtype=F64)
    images = render(mesh, camera)
    assert images.mask.shape == images.depth.shape == (1, 40, 40, 1)
    assert images.normal.shape == images.color.shape == (1, 40, 40, 3)
    half = math.tan(math.radians(22.5))
    x = (2 * (torch.arange(40, dtype=F64) + 0.5) / 40 - 1) * half
    direction = torch.stack(
        [-torch.ones(40, 40, dtype=F64), x.expand(40, 40), -x[:, None].expand(40, 40)], -1
    )
    size = (direction**2).sum(-1)
    inside = 9 - 8 * size
    hit = inside > 0.3  # away from the outline, where the facets end
    depth = (3 - inside.clamp_min(0).sqrt()) / size
    assert (images.fragments.mask[0] | ~hit).all()
    # facets of a fortieth of a radian lie up to 1 - cos(1/80) inside the sphere
    error = (images.depth[0, :, :, 0] - depth).abs()
    assert error[hit].max() < 2e-3
    normal = torch.tensor([3.0, 0, 0], dtype=F64) + depth[..., None] * direction
    assert ((images.normal[0] - normal).norm(dim=-1))[hit].max() < 5e-3
    area = math.pi * (40 / half / 2) ** 2 / 8  # of the outline, an ellipse by 1 / sqrt(3^2 - 1)
    assert float(images.mask.sum()) == pytest.approx(area, rel=5e-3)


def test_flat_normals_are_those_of_the_faces():
    mesh = sphere(6, 8)
    images = render(mesh, orbit_cameras(2, resolution=(32, 32)), smooth=False, channels=("normal",))
    assert images.mask is None
    assert images.color is None
    face = images.fragments.face
    expected = mesh.face_normals[face.clamp_min(0).long()] * (face >= 0)[..., None]
    torch.testing.assert_close(images.normal, expected, rtol=0, atol=1e-5)


def test_normals_stop_at_creases():
    """The corners of a cube have the normals of its faces, or without creases point outwards."""
    vertices = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = torch.tensor([[a, b, c] for a, b, c, _ in quads] + [[a, c, d] for a, _, c, d in quads])
    sharp = corner_normals(vertices, faces, 40.0)
    own = Mesh(vertices, faces).face_normals[:, None].expand(-1, 3, -1)
    torch.testing.assert_close(sharp, own)
    round_ = corner_normals(vertices, faces, 180.0)
    assert ((round_ * vertices[faces]).sum(-1) > 1.5).all()  # sqrt(3) along the diagonal
    ball = sphere()
    fine = corner_normals(ball.vertices, ball.faces, 60.0)
    along = (fine * ball.vertices[ball.faces.long()]).sum(-1)
    assert along.min() > 0.999


@pytest.mark.parametrize("backend", ["warp", "torch"])
def test_gradients_reach_vertices_and_colors(backend):
    mesh = sphere(2, 4, dtype=F64)
    cameras = orbit_cameras(2, resolution=(7, 7)).to(dtype=F64)
    weight = torch.rand(2, 7, 7, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    # visibility is fixed at the pixel centres: move them away from the mesh's own symmetries
    vertices = mesh.vertices + 0.1 * torch.rand(
        mesh.vertices.shape, dtype=F64, generator=torch.Generator().manual_seed(1)
    )

    def total(vertices, colors):
        images = render(Mesh(vertices, mesh.faces, colors), cameras, backend=backend)
        return (
            torch.cat([images.mask, images.depth, images.normal, images.color], -1) * weight
        ).sum()

    inputs = (vertices.requires_grad_(), mesh.colors.requires_grad_())
    assert torch.autograd.gradcheck(total, inputs, eps=1e-7, atol=1e-5, rtol=1e-4)


def test_pictures_are_lit_from_the_viewer_and_smooth():
    mesh = sphere()
    mesh = Mesh(mesh.vertices, mesh.faces)
    view = Camera.perspective((3.0, 0, 0), resolution=(48, 48))
    image = picture(mesh, view, background=(0.0, 0.0, 1.0))
    assert image.shape == (1, 48, 48, 3)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image[0, 0, 0].tolist() == [0.0, 0.0, 1.0]
    bright = image[0, :, :, 0]
    assert bright[18, 18] > bright[30, 30] > 0.2  # light comes from the upper left
    from_right = picture(mesh, view, light=Light(direction=(1.0, 0.0, 0.2)))[0, :, :, 0]
    assert from_right[24, 32] > from_right[24, 16]
    back_to_front = picture(
        Mesh(mesh.vertices, mesh.faces.flip(1)), view, background=(0.0, 0.0, 1.0)
    )
    torch.testing.assert_close(back_to_front, image)  # winding does not matter


def test_bad_input_is_named():
    mesh, camera = sphere(3, 5), orbit_cameras(1, resolution=(4, 4))
    with pytest.raises(InputError, match=r"channels must be among .*, got albedo"):
        render(mesh, camera, channels=("albedo",))
    with pytest.raises(InputError, match="supersample"):
        picture(mesh, camera, supersample=0)
