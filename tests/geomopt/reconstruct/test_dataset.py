"""Views: written, read back, moved, shrunk, and refused where they do not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from geomopt.errors import InputError
from geomopt.geometry import DenseGrid, Mesh, extract_surface, sdf
from geomopt.reconstruct import load_views, read_views, render_views, write_views
from geomopt.reconstruct.images import block_mean, block_middle, read_color, read_depth

EIGHT_BIT = 0.5 / 255 + 1e-6  # rounding to the nearest of 255 steps
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def ball():
    grid = DenseGrid(16)
    return extract_surface(sdf.sphere(grid.points, 0.7), grid, mode="test").mesh()


@pytest.fixture(scope="module")
def views(ball):
    return render_views(ball, 3, (24, 32), seed=1)


def edited(folder, change):
    """Apply `change` to the transforms.json of a folder."""
    file = folder / "transforms.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_views_read_back_as_they_were_written(views, tmp_path):
    write_views(views, tmp_path)
    back = read_views(tmp_path)
    assert back.names == tuple(f"{name}.png" for name in views.names)
    torch.testing.assert_close(back.depth, views.depth, rtol=0, atol=0)
    torch.testing.assert_close(back.mask, views.mask, rtol=0, atol=EIGHT_BIT)
    torch.testing.assert_close(back.color, views.color, rtol=0, atol=3 * EIGHT_BIT)
    torch.testing.assert_close(back.normal, views.normal, rtol=0, atol=0.02)  # 8-bit directions
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = views.cameras.project(points), back.cameras.project(points)
    torch.testing.assert_close(
        theirs[..., :2] / theirs[..., 3:], ours[..., :2] / ours[..., 3:], rtol=1e-4, atol=1e-4
    )


def test_rendered_depth_is_the_distance_to_the_sphere_along_the_axis(ball):
    grid = DenseGrid(96)  # fine enough that facets do not show
    fine = extract_surface(sdf.sphere(grid.points, 0.7), grid, mode="test").mesh()
    views = render_views(fine, 2, (17, 17), seed=0)
    distance = views.cameras.positions.norm(dim=-1)
    # the middle pixel of an odd image looks straight at the centre
    torch.testing.assert_close(views.depth[:, 8, 8, 0], distance - 0.7, rtol=0, atol=1e-3)


def test_moving_the_frame_keeps_images_and_divides_depth(views, ball):
    center, scale = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), 2.5
    moved = views.in_frame(center, scale)
    inside = ((ball.vertices - center) / scale).float()
    before, after = views.cameras.project(ball.vertices), moved.cameras.project(inside)
    torch.testing.assert_close(
        after[..., :3] / after[..., 3:], before[..., :3] / before[..., 3:], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        -moved.cameras.to_camera(inside)[..., 2],
        -views.cameras.to_camera(ball.vertices)[..., 2] / scale,
    )
    torch.testing.assert_close(moved.depth, views.depth / scale)


def test_shrinking_averages_masks_and_keeps_the_cameras_true(views, ball):
    small = views.shrunk(10)  # by four: 32 x 24 to 8 x 6
    assert small.cameras.resolution == (6, 8)
    torch.testing.assert_close(small.mask, block_mean(views.mask, 4))
    before, after = views.cameras.project(ball.vertices), small.cameras.project(ball.vertices)
    torch.testing.assert_close(after, before)


def test_shrinking_crops_what_does_not_fill_a_block(views, ball):
    small = views.shrunk(11)  # by three: 32 = 10 * 3 + 2 columns
    assert small.cameras.resolution == (8, 10)
    before, after = views.cameras.project(ball.vertices), small.cameras.project(ball.vertices)
    column = (before[..., 0] / before[..., 3] + 1) / 2 * 32
    torch.testing.assert_close(
        (after[..., 0] / after[..., 3] + 1) / 2 * 10, column / 3, rtol=0, atol=FLOAT32 * 32
    )


def test_the_middle_of_an_even_block_is_interpolated_on_one_surface_only():
    ramp = torch.arange(16.0).reshape(1, 4, 4, 1) * 0.001 + 1.0
    torch.testing.assert_close(block_middle(ramp, 2)[0, 0, 0], ramp[0, :2, :2].mean().reshape(1))
    step = ramp.clone()
    step[0, 0, 0] = 2.0  # another surface
    hole = ramp.clone()
    hole[0, 0, 0] = 0.0  # nothing known
    assert block_middle(step, 2)[0, 0, 0] == 0
    assert block_middle(hole, 2)[0, 0, 0] == 0
    torch.testing.assert_close(block_middle(ramp, 3)[0, 0, 0], ramp[0, 1, 1])


def test_blender_layout_without_extensions_is_read(views, tmp_path):
    write_views(views, tmp_path)

    def as_blender(document):
        angle = document["camera_angle_x"]
        frames = [
            {
                "file_path": f"./{frame['file_path'][:-4]}",
                "transform_matrix": frame["transform_matrix"],
            }
            for frame in document["frames"]
        ]
        document.clear()
        document.update(camera_angle_x=angle, frames=frames)

    edited(tmp_path, as_blender)
    back = read_views(tmp_path)
    assert back.depth is None
    torch.testing.assert_close(back.mask, views.mask, rtol=0, atol=EIGHT_BIT)
    torch.testing.assert_close(
        back.cameras.projection[:, :2], views.cameras.projection[:, :2], rtol=1e-5, atol=1e-5
    )


def test_masks_in_files_of_their_own_go_with_images_without_alpha(tmp_path):
    Image.new("RGB", (4, 3), (255, 0, 0)).save(tmp_path / "image.png")
    mask = np.zeros((3, 4), dtype=np.uint8)
    mask[1, 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    color, cover = read_color(tmp_path / "image.png", tmp_path / "mask.png", (3, 4))
    assert float(cover.sum()) == 1
    assert color[1, 2].tolist() == [1, 0, 0]
    assert float(color.sum()) == 1


def test_an_even_background_tells_the_object_and_an_uneven_one_is_refused(tmp_path):
    pixels = np.full((8, 8, 3), 250, dtype=np.uint8)
    pixels[3:5, 2:6] = (10, 80, 40)
    Image.fromarray(pixels).save(tmp_path / "even.png")
    _, mask = read_color(tmp_path / "even.png", None, (8, 8))
    assert float(mask.sum()) == 8
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(
        InputError, match=r"noise\.png has no alpha channel.*give RGBA images or masks"
    ):
        read_color(tmp_path / "noise.png", None, (8, 8))


def test_ringing_around_an_object_in_a_lossy_file_is_background(tmp_path):
    axis = np.linspace(-1, 1, 96)
    disc = (axis[:, None] ** 2 + axis**2 < 0.4)[..., None]
    pixels = np.where(disc, (30, 120, 60), 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "disc.jpg", quality=85)
    _, mask = read_color(tmp_path / "disc.jpg", None, (96, 96))
    extra = float(mask.sum()) / disc.sum() - 1
    assert -0.01 < extra < 0.04  # the pixels along the outline are 5 % of the disc


def test_an_opaque_alpha_channel_leaves_the_mask_to_the_background(tmp_path):
    pixels = np.full((8, 8, 4), 255, dtype=np.uint8)
    pixels[3:5, 2:6, :3] = (10, 80, 40)
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    _, mask = read_color(tmp_path / "opaque.png", None, (8, 8))
    assert float(mask.sum()) == 8
    pixels[..., :3] = np.random.default_rng(0).integers(0, 255, (8, 8, 3))
    Image.fromarray(pixels).save(tmp_path / "close_up.png")
    _, mask = read_color(tmp_path / "close_up.png", None, (8, 8))
    assert float(mask.sum()) == 64


def test_grey_images_keep_their_alpha_channel(tmp_path):
    pixels = np.zeros((4, 4, 2), dtype=np.uint8)
    pixels[1, 2] = (51, 255)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    color, mask = read_color(tmp_path / "grey.png", None, (4, 4))
    assert float(mask.sum()) == 1
    assert color[1, 2].tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_masks_that_cover_every_image_are_refused(views, tmp_path):
    full = replace(
        views,
        depth=None,
        mask=torch.ones_like(views.mask),
        color=torch.rand(views.color.shape, generator=torch.Generator().manual_seed(0)),
    )
    write_views(full, tmp_path)
    with pytest.raises(InputError, match="cover all of every image"):
        read_views(tmp_path)


def test_depth_tells_the_object_where_the_background_has_none(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    depth = torch.zeros(8, 8, 1)
    depth[3:5, 2:6] = 1.5
    color, mask = read_color(tmp_path / "noise.png", None, (8, 8), depth)
    assert torch.equal(mask, (depth > 0).float())
    assert float(color[0].sum()) == 0
    with pytest.raises(InputError, match="has no alpha channel"):
        read_color(tmp_path / "noise.png", None, (8, 8), depth + 1.0)


def test_integer_depth_is_scaled_and_floating_depth_is_not(tmp_path):
    Image.fromarray(np.full((2, 2), 1500, dtype=np.uint16)).save(tmp_path / "depth.png")
    np.save(tmp_path / "depth.npy", np.array([[1.5, np.nan], [-1.0, np.inf]]))
    assert read_depth(tmp_path / "depth.png", (2, 2), 1e-3)[..., 0].tolist() == [
        [1.5, 1.5],
        [1.5, 1.5],
    ]
    assert read_depth(tmp_path / "depth.npy", (2, 2), 1e-3)[..., 0].tolist() == [
        [1.5, 0.0],
        [0.0, 0.0],
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "transforms.json").write_text("{"),
            r"transforms\.json must be a readable JSON",
        ),
        (
            lambda folder: (folder / "images" / "view_001.png").unlink(),
            r"frame 1 must name an image",
        ),
        (
            lambda folder: (folder / "images" / "view_001.png").write_bytes(b"no"),
            r"view_001\.png cannot be read",
        ),
        (
            lambda folder: Image.new("RGBA", (5, 5)).save(folder / "images" / "view_001.png"),
            r"view_001\.png must have the size of the others.* 24 x 32 .*, got 5 x 5",
        ),
        (
            lambda folder: np.save(folder / "depth" / "view_002.npy", np.zeros((3, 3))),
            r"view_002\.npy must have the size of the others.* got 3 x 3",
        ),
        (
            lambda folder: edited(
                folder, lambda d: d["frames"][2].update(transform_matrix=[[1, 0], [0, 1]])
            ),
            r"transform_matrix of frame 2 must have shape \(4, 4\), got \(2, 2\)",
        ),
        (
            lambda folder: edited(
                folder, lambda d: d["frames"][0]["transform_matrix"][0].__setitem__(0, 9.0)
            ),
            r"transform_matrix of frame 0 must hold a rotation",
        ),
    ],
)
def test_spoiled_folders_are_refused_by_name(views, tmp_path, spoil, message):
    write_views(views, tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        load_views(tmp_path, count=1, size=64, seed=0)


def test_data_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match="which does not exist"):
        load_views(tmp_path / "nothing", count=1, size=8, seed=0)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"a mesh file \(.obj, .ply"):
        load_views(tmp_path / "notes.txt", count=1, size=8, seed=0)
    with pytest.raises(InputError, match=r"transforms\.json or .*, found neither"):
        load_views(tmp_path, count=1, size=8, seed=0)


def test_a_mesh_that_bounds_no_solid_is_refused(ball, tmp_path):
    replace(ball, faces=ball.faces[1:]).save(tmp_path / "open.ply")
    with pytest.raises(InputError, match=r"open\.ply must be a closed.*3 boundary edges"):
        load_views(tmp_path / "open.ply", count=1, size=8, seed=0)


def test_up_follows_the_file_or_the_cameras(ball, views, tmp_path):
    for suffix, up in (("ply", (0, 0, 1)), ("obj", (0, 1, 0))):
        ball.save(tmp_path / f"ball.{suffix}")
        assert load_views(tmp_path / f"ball.{suffix}", count=1, size=8, seed=0).up == up
    assert load_views(tmp_path / "ball.ply", count=1, size=8, seed=0, up="x").up == (1, 0, 0)
    write_views(views, tmp_path / "set")
    up = torch.tensor(load_views(tmp_path / "set", count=1, size=64, seed=0).up)
    assert float(up.norm()) == pytest.approx(1)


def test_vertex_colours_show_in_the_images(ball):
    red = Mesh(
        ball.vertices, ball.faces, torch.tensor([[1.0, 0.0, 0.0]]).expand(len(ball.vertices), 3)
    )
    color = render_views(red, 1, (16, 16), seed=0).color
    assert float(color[..., 0].max()) > 0.5
    assert float(color[..., 1:].max()) == 0
