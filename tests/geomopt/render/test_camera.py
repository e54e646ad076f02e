import json
import math

import pytest
import torch

from geomopt.errors import InputError
from geomopt.render import (
    Camera,
    framing,
    orbit_cameras,
    random_cameras,
    read_transforms,
    sphere_directions,
    write_transforms,
)

F64 = torch.float64


def pixel_of(clip, size):
    """Column and row positions (V, 2) in pixels from the upper left corner."""
    height, width = size
    ndc = clip[..., :2] / clip[..., 3:]
    return torch.stack([(ndc[..., 0] + 1) * width / 2, (1 - ndc[..., 1]) * height / 2], -1)


def test_perspective_by_hand():
    """A camera on the x axis: 45 degrees up is the top of a 90 degree view."""
    camera = Camera.perspective(
        (4.0, 0, 0), (0, 0, 0), vertical_fov=90.0, resolution=(100, 200), near=1.0, far=9.0
    )
    assert len(camera) == 1
    torch.testing.assert_close(camera.positions, torch.tensor([[4.0, 0, 0]]))
    points = torch.tensor([[0.0, 0, 0], [0, 0, 4], [0, 8, 0], [3, 0, 0], [-5, 0, 0]])
    clip = camera.project(points)
    expected = torch.tensor([[100.0, 50], [100, 0], [200, 50]])
    torch.testing.assert_close(pixel_of(clip, (100, 200))[0, :3], expected, rtol=0, atol=1e-4)
    depth = clip[0, :, 2] / clip[0, :, 3]
    torch.testing.assert_close(depth[3:], torch.tensor([-1.0, 1.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(clip[0, :, 3], torch.tensor([4.0, 4, 4, 1, 9]))


def test_orthographic_by_hand():
    camera = Camera.orthographic(
        (0.0, -5, 0), (0, 0, 0), height=4.0, resolution=(100, 50), near=2.0, far=6.0
    )
    points = torch.tensor([[0.0, 0, 2], [1, 0, 0], [0.5, 1, -1], [0, -3, 0]])
    clip = camera.project(points)
    expected = torch.tensor([[25.0, 0], [50, 50], [37.5, 75], [25, 50]])
    torch.testing.assert_close(pixel_of(clip, (100, 50))[0], expected, rtol=0, atol=1e-4)
    assert float(clip[0, 3, 2]) == pytest.approx(-1.0)
    assert float(clip[0, 2, 2]) == pytest.approx(1.0)


def test_look_at_is_rigid_and_keeps_up_upright():
    generator = torch.Generator().manual_seed(0)
    eye = torch.randn(20, 3, generator=generator, dtype=F64)
    target = torch.randn(20, 3, generator=generator, dtype=F64)
    pose = Camera.look_at(eye, target)
    rotation = pose[:, :3, :3]
    identity = torch.eye(3, dtype=F64).expand(20, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, identity)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20, dtype=F64))
    seen = (rotation @ target[:, :, None])[:, :, 0] + pose[:, :3, 3]
    distance = (target - eye).norm(dim=1)
    expected = torch.stack([0 * distance, 0 * distance, -distance], 1)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-12)
    assert (rotation[:, 0, 2].abs() < 1e-12).all()  # right is level
    assert (rotation[:, 1, 2] > 0).all()  # up has a part of the world's up


def test_looking_straight_down():
    pose = Camera.look_at((0.0, 0.0, 3.0))
    assert torch.isfinite(pose).all()
    torch.testing.assert_close(pose[0, 1, :3], torch.tensor([0.0, 1, 0]))  # y is up in the image


def test_pinhole_intrinsics_by_hand():
    pose = torch.eye(4, dtype=F64)
    camera = Camera.pinhole(pose, (60, 80), fl_x=50.0, fl_y=40.0, cx=30.0, cy=35.0)
    point = torch.tensor([[0.3, 0.2, -2.0]], dtype=F64)
    expected = torch.tensor([[[30 + 50 * 0.15, 35 - 40 * 0.1]]], dtype=F64)
    torch.testing.assert_close(pixel_of(camera.project(point), (60, 80)), expected)


def test_batches():
    cameras = orbit_cameras(5, radius=3.0, resolution=(20, 30))
    assert len(cameras) == 5
    again = Camera.stack([cameras[0], cameras[1:3], cameras[torch.tensor([3, 4])]])
    assert torch.equal(again.world_to_camera, cameras.world_to_camera)
    points = torch.rand(7, 3, generator=torch.Generator().manual_seed(0))
    clip = cameras.project(points)
    assert clip.shape == (5, 7, 4)
    for index, camera in enumerate(cameras):
        torch.testing.assert_close(camera.project(points)[0], clip[index])
    assert torch.equal(cameras[-1].positions, cameras[4].positions)
    assert cameras.to(dtype=F64).project(points.double()).dtype == F64
    assert cameras.with_resolution((40, 60)).resolution == (40, 60)


def test_projection_is_differentiable():
    camera = random_cameras(3).to(dtype=F64)
    points = torch.rand(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(camera.project, (points.requires_grad_(),))


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_fitted_planes_hold_the_box(kind):
    low, high = (-0.5, -0.2, 0.1), (0.6, 0.9, 1.4)
    if kind == "perspective":
        camera = Camera.perspective((3.0, 2, 2), (0, 0, 0.5))
    else:
        camera = Camera.orthographic((3.0, 2, 2), (0, 0, 0.5), height=3.0)
    fitted = camera.fitted(low, high)
    corners = torch.cartesian_prod(*torch.tensor([low, high]).T)
    depth = fitted.project(corners)[0]
    depth = depth[:, 2] / depth[:, 3]
    assert -1 < depth.min() < -0.9
    assert 0.9 < depth.max() < 1
    same = camera.project(corners)[..., :2] / camera.project(corners)[..., 3:]
    torch.testing.assert_close(
        fitted.project(corners)[..., :2] / fitted.project(corners)[..., 3:], same
    )


def test_directions_are_well_spread():
    points = sphere_directions(200, torch.Generator().manual_seed(1))
    torch.testing.assert_close(points.norm(dim=1), torch.ones(200))
    assert points.mean(0).norm() < 0.01
    gap = torch.cdist(points, points).fill_diagonal_(2).min(1).values
    # 200 caps that tile the sphere have a radius of about 0.14
    assert gap.min() > 0.15
    again = sphere_directions(200, torch.Generator().manual_seed(1))
    assert torch.equal(points, again)
    assert not torch.equal(points, sphere_directions(200, torch.Generator().manual_seed(2)))


def test_views_around_a_target():
    cameras = random_cameras(
        12, torch.Generator().manual_seed(0), radius=2.0, target=(1.0, 2.0, 3.0)
    )
    offset = cameras.positions - torch.tensor([1.0, 2, 3])
    torch.testing.assert_close(offset.norm(dim=1), torch.full((12,), 2.0))
    center = cameras.project(torch.tensor([[1.0, 2, 3]]))
    torch.testing.assert_close(center[..., :2], torch.zeros(12, 1, 2), rtol=0, atol=1e-5)
    level = orbit_cameras(4, radius=2.0, elevation=30.0, start=0.0)
    torch.testing.assert_close(level.positions[:, 2], torch.full((4,), 1.0))
    torch.testing.assert_close(
        level.positions[1, :2], torch.tensor([0.0, math.sqrt(3)]), atol=1e-5, rtol=0
    )


def test_framing_shows_the_whole_sphere():
    target, distance = framing((-1.0, -2, 0), (3.0, 2, 2), vertical_fov=40.0, margin=1.0)
    radius = math.sqrt(4 + 4 + 1)
    assert math.asin(radius / distance) == pytest.approx(math.radians(20.0))
    assert target.tolist() == [1.0, 0.0, 1.0]


def test_bad_input_is_named():
    eye = torch.eye(4)
    skew = torch.eye(4)
    skew[0, 1] = 0.2
    cases = [
        (lambda: Camera(eye[:3], eye, (4, 4)), "world_to_camera must have shape"),
        (lambda: Camera(eye * math.nan, eye, (4, 4)), "world_to_camera must be finite"),
        (lambda: Camera(eye.expand(2, 4, 4), eye.expand(3, 4, 4), (4, 4)), "same number"),
        (lambda: Camera(eye, eye, (0, 4)), "resolution"),
        (lambda: Camera.perspective((0.0, 0, 0), (0, 0, 0)), "eye and target must differ"),
        (lambda: Camera.perspective((1.0, 0)), r"eye must have shape \(3,\)"),
        (lambda: Camera.perspective((1.0, 0, 0), vertical_fov=180.0), "vertical_fov"),
        (lambda: Camera.perspective((1.0, 0, 0), near=2.0, far=1.0), "0 < near < far"),
        (lambda: Camera.orthographic((1.0, 0, 0), height=0.0), "height must be positive"),
        (
            lambda: Camera.pinhole(skew, (4, 4), fl_x=1.0),
            r"camera_to_world\[0\] must hold a rotation",
        ),
        (lambda: Camera.pinhole(eye, (4, 4), fl_x=-1.0), "fl_x must be positive"),
        (lambda: Camera.stack([]), "cameras must hold at least one"),
        (lambda: orbit_cameras(0), "count must be at least 1"),
        (lambda: orbit_cameras(1).project(torch.rand(2, 4)), "vertices must have shape"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


# transforms.json


def image_file(path, size=(8, 6)):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def test_what_is_written_is_read_again(tmp_path):
    cameras = random_cameras(
        4, torch.Generator().manual_seed(0), resolution=(6, 8), vertical_fov=33.0
    )
    names = [f"images/{index:03d}.png" for index in range(4)]
    masks = [f"masks/{index:03d}.png" for index in range(4)]
    for name in names + masks:
        image_file(tmp_path / name)
    write_transforms(tmp_path / "transforms.json", cameras, names, masks=masks, depth_scale=2e-4)
    assert [file.name for file in tmp_path.glob("*.part")] == []
    read = read_transforms(tmp_path)
    assert read.images == tuple(tmp_path / name for name in names)
    assert read.masks == tuple(tmp_path / name for name in masks)
    assert read.depths == (None,) * 4
    assert read.depth_scale == 2e-4
    assert read.cameras.resolution == (6, 8)
    points = torch.rand(9, 3, generator=torch.Generator().manual_seed(1))
    ours = pixel_of(cameras.project(points), (6, 8))
    torch.testing.assert_close(
        pixel_of(read.cameras.project(points), (6, 8)), ours, rtol=0, atol=1e-5
    )
    alone = Camera.from_transforms(tmp_path / "transforms.json")
    assert torch.equal(alone.projection, read.cameras.projection)


def test_intrinsics_of_a_frame_survive(tmp_path):
    poses = orbit_cameras(2).camera_to_world
    cameras = Camera.stack(
        [
            Camera.pinhole(poses[i], (20, 30), fl_x=20.0 + i, fl_y=25.0, cx=14.0, cy=11.0 + i)
            for i in (0, 1)
        ]
    )
    write_transforms(tmp_path / "transforms.json", cameras, ["a.png", "b.png"])
    read = Camera.from_transforms(tmp_path, near=0.03, far=300.0)
    points = torch.rand(5, 3) - 0.5
    ours = pixel_of(cameras.project(points), (20, 30))
    torch.testing.assert_close(pixel_of(read.project(points), (20, 30)), ours, rtol=0, atol=1e-4)


def test_blender_layout(tmp_path):
    """No size, no extension, one angle over the width: as in the synthetic scenes."""
    image_file(tmp_path / "train" / "r_0.png", size=(80, 60))
    pose = [[1, 0, 0, 0.5], [0, 0, -1, -4], [0, 1, 0, 1], [0, 0, 0, 1]]
    document = {
        "camera_angle_x": 2 * math.atan(0.5),
        "frames": [{"file_path": "./train/r_0", "rotation": 0.01, "transform_matrix": pose}],
    }
    (tmp_path / "transforms_train.json").write_text(json.dumps(document))
    read = read_transforms(tmp_path)
    assert read.images[0] == tmp_path / "train" / "r_0.png"
    assert read.cameras.resolution == (60, 80)
    torch.testing.assert_close(read.cameras.positions, torch.tensor([[0.5, -4, 1]]))
    # it looks along y; half the view at distance 2 is 1, so a step of 1 to the right is 40 pixels
    point = torch.tensor([[1.5, -2.0, 1.0], [0.5, -2.0, 2.0]])
    expected = torch.tensor([[[80.0, 30], [40, -10]]])
    torch.testing.assert_close(
        pixel_of(read.cameras.project(point), (60, 80)), expected, rtol=0, atol=1e-3
    )


def test_bad_transforms_are_named(tmp_path):
    good = torch.eye(4).tolist()
    skew = (2 * torch.eye(4)).tolist()
    skew[3][3] = 1.0
    base = {"fl_x": 10.0, "w": 8, "h": 6}

    def frame(**more):
        return {"file_path": "a.png", "transform_matrix": good, **more}

    image_file(tmp_path / "a.png")
    cases = [
        ({}, "non-empty list under 'frames'"),
        ({"frames": [frame()], "w": 8, "h": 6}, "frame 0 must give fl_x or camera_angle_x"),
        (
            {**base, "frames": [frame(), frame(transform_matrix=good[:3])]},
            "frame 1 must have shape",
        ),
        (
            {**base, "frames": [frame(), frame(transform_matrix=skew)]},
            "frame 1 must hold a rotation",
        ),
        ({**base, "frames": [frame(transform_matrix="x")]}, "frame 0 must be a 4x4 matrix"),
        ({**base, "frames": [frame(file_path="b")]}, "frame 0 must name an image"),
        ({**base, "frames": [frame(mask_path="m.png")]}, "frame 0: mask_path must name a file"),
        ({**base, "k1": 0.1, "frames": [frame()]}, "lens distortion must be zero"),
        ({**base, "camera_model": "FISHEYE", "frames": [frame()]}, "camera_model must be one of"),
        ({**base, "frames": [frame(), frame(w=9)]}, "one size"),
        ({**base, "fl_x": "ten", "frames": [frame()]}, "fl_x must be a finite number"),
    ]
    for document, message in cases:
        (tmp_path / "transforms.json").write_text(json.dumps(document))
        with pytest.raises(InputError, match=message):
            read_transforms(tmp_path)
    (tmp_path / "transforms.json").write_text("{")
    with pytest.raises(InputError, match="readable JSON"):
        read_transforms(tmp_path)
    with pytest.raises(InputError, match="found nothing"):
        read_transforms(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="must be perspective"):
        write_transforms(
            tmp_path / "x.json", Camera.orthographic((1.0, 0, 0), height=1.0), ["a.png"]
        )
    with pytest.raises(InputError, match="file_path must be given for 2 cameras, got 1"):
        write_transforms(tmp_path / "x.json", orbit_cameras(2), ["a.png"])
