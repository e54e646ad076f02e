"""Cameras: from the world to clip space and to an image.

Camera space is OpenGL's: x right, y up, and the camera looks along -z. Clip space likewise: x
right, y up, z/w = -1 at the near and +1 at the far plane. Row 0 of an image is its top row and
pixel centres lie at half integers, so the centre of pixel (r, c) of an (H, W) image has x/w = 2 (c
+ 1/2) / W - 1 and y/w = 1 - 2 (r + 1/2) / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.render.poses import (
    Points,
    check_poses,
    check_resolution,
    inverse_rigid,
    pinhole_projection,
    points_like,
    rigid,
)

NEAR = 0.01  # of the distance to the target, where no near plane is given
FAR = 100.0  # of the distance to the target, where no far plane is given


@dataclass(frozen=True)
class Camera:
    """One camera or a batch of B.

    world_to_camera: rigid transforms (4, 4) or (B, 4, 4); projection: camera to clip space,
    likewise; both are held as (B, 4, 4). resolution: (H, W) in pixels, the same for the batch.
    """

    world_to_camera: Tensor
    projection: Tensor
    resolution: tuple[int, int]

    def __post_init__(self) -> None:
        height, width = check_resolution(self.resolution)
        pose = check_tensor("world_to_camera", self.world_to_camera)
        projection = check_tensor("projection", self.projection, like=pose)
        for name, value in (("world_to_camera", pose), ("projection", projection)):
            if value.ndim not in (2, 3) or value.shape[-2:] != (4, 4):
                raise InputError(
                    f"{name} must have shape (4, 4) or (B, 4, 4), got {tuple(value.shape)}"
                )
        pose, projection = pose.reshape(-1, 4, 4), projection.reshape(-1, 4, 4)
        count = max(pose.shape[0], projection.shape[0])
        if any(value.shape[0] not in (1, count) for value in (pose, projection)):
            raise InputError(
                "world_to_camera and projection must hold the same number of cameras, "
                f"got {pose.shape[0]} and {projection.shape[0]}"
            )
        object.__setattr__(self, "world_to_camera", pose.expand(count, 4, 4))
        object.__setattr__(self, "projection", projection.expand(count, 4, 4))
        object.__setattr__(self, "resolution", (height, width))

    @staticmethod
    def look_at(
        eye: Points, target: Points = (0.0, 0.0, 0.0), up: Points = (0.0, 0.0, 1.0)
    ) -> Tensor:
        """World-to-camera transforms (B, 4, 4) of cameras at `eye` (3,) or (B, 3) that look at
        `target`.

        Where `up` is parallel to the view, the y axis takes its place (the x axis if y is parallel
        too).
        """
        place = points_like("eye", eye)
        goal = points_like("target", target).to(place)
        place, goal, upright = torch.broadcast_tensors(place, goal, points_like("up", up).to(place))
        back = place - goal
        distance = back.norm(dim=-1, keepdim=True)
        if not bool((distance > 0).all()):
            raise InputError("eye and target must differ, got the same point")
        back = back / distance
        for axis in (1, 0):
            other = torch.zeros_like(upright)
            other[:, axis] = 1.0
            sine = torch.linalg.cross(upright, back).norm(dim=-1, keepdim=True)
            parallel = sine <= 1e-6 * upright.norm(dim=-1, keepdim=True)
            upright = torch.where(parallel, other, upright)
        right = torch.nn.functional.normalize(torch.linalg.cross(upright, back), dim=-1)
        rotation = torch.stack([right, torch.linalg.cross(back, right), back], 1)
        return rigid(rotation, -(rotation @ place[:, :, None])[:, :, 0])

    @staticmethod
    def perspective(
        eye: Points,
        target: Points = (0.0, 0.0, 0.0),
        up: Points = (0.0, 0.0, 1.0),
        *,
        vertical_fov: float = 40.0,
        resolution: tuple[int, int] = (256, 256),
        near: float | None = None,
        far: float | None = None,
    ) -> Camera:
        """Cameras at `eye` (3,) or (B, 3) that look at `target`, with a vertical field of view in
        degrees.

        near, far: distances in metres; without them 0.01 and 100 times the distance from eye to
        target.
        """
        if not 0.0 < vertical_fov < 180.0:
            raise InputError(f"vertical_fov must lie between 0 and 180 degrees, got {vertical_fov}")
        height, width = check_resolution(resolution)
        pose = Camera.look_at(eye, target, up)
        focal = 0.5 * height / math.tan(math.radians(vertical_fov) / 2)
        near, far = _planes(near, far, _reach(eye, target))
        projection = pinhole_projection(
            (height, width), focal, focal, width / 2, height / 2, near, far
        )
        return Camera(pose, projection.to(pose), (height, width))

    @staticmethod
    def orthographic(
        eye: Points,
        target: Points = (0.0, 0.0, 0.0),
        up: Points = (0.0, 0.0, 1.0),
        *,
        height: float,
        resolution: tuple[int, int] = (256, 256),
        near: float | None = None,
        far: float | None = None,
    ) -> Camera:
        """Cameras with parallel rays; the image shows `height` metres from its bottom to its top.

        near, far: distances in metres; without them 0 and twice the distance from eye to target.
        """
        if not 0.0 < height < math.inf:
            raise InputError(f"height must be positive and finite, got {height}")
        rows, columns = check_resolution(resolution)
        pose = Camera.look_at(eye, target, up)
        near = 0.0 if near is None else near
        far = 2.0 * _reach(eye, target) if far is None else far
        if not near < far < math.inf:
            raise InputError(f"far must be above near and finite, got near {near} and far {far}")
        half = height / 2
        projection = torch.tensor(
            [
                [rows / (half * columns), 0.0, 0.0, 0.0],
                [0.0, 1.0 / half, 0.0, 0.0],
                [0.0, 0.0, -2.0 / (far - near), -(far + near) / (far - near)],
                [0.0, 0.0, 0.0, 1.0],
            ],
            dtype=torch.float64,
        )
        return Camera(pose, projection.to(pose), (rows, columns))

    @staticmethod
    def pinhole(
        camera_to_world: Tensor,
        resolution: tuple[int, int],
        *,
        fl_x: float,
        fl_y: float | None = None,
        cx: float | None = None,
        cy: float | None = None,
        near: float | None = None,
        far: float | None = None,
    ) -> Camera:
        """Cameras from poses (4, 4) or (B, 4, 4) and intrinsics in pixels.

        fl_x, fl_y: focal lengths (fl_y defaults to fl_x); cx, cy: principal point from the left and
        the top border (default: the middle). near, far: metres, by default 0.01 and 100 times the
        largest distance of a camera from the origin.
        """
        height, width = check_resolution(resolution)
        pose = check_tensor("camera_to_world", camera_to_world).reshape(-1, 4, 4)
        check_poses([f"camera_to_world[{index}]" for index in range(len(pose))], pose)
        near, far = _planes(near, far, float(pose[:, :3, 3].norm(dim=-1).max()) or 1.0)
        projection = pinhole_projection(
            (height, width),
            fl_x,
            fl_x if fl_y is None else fl_y,
            width / 2 if cx is None else cx,
            height / 2 if cy is None else cy,
            near,
            far,
        )
        return Camera(inverse_rigid(pose), projection.to(pose), (height, width))

    @staticmethod
    def from_transforms(
        path: str | Path, *, near: float | None = None, far: float | None = None
    ) -> Camera:
        """The cameras of a transforms.json (Blender/NeRF synthetic or nerfstudio layout), a file or
        its folder.
        """
        from geomopt.render.transforms import read_transforms  # it imports this module

        return read_transforms(path, near=near, far=far, require_images=False).cameras

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """One batch of several cameras or batches of the same resolution."""
        cameras = list(cameras)
        if not cameras:
            raise InputError("cameras must hold at least one camera, got none")
        sizes = {camera.resolution for camera in cameras}
        if len(sizes) > 1:
            raise InputError(f"cameras must share one resolution (H, W), got {sorted(sizes)}")
        return Camera(
            torch.cat([camera.world_to_camera for camera in cameras]),
            torch.cat([camera.projection for camera in cameras]),
            cameras[0].resolution,
        )

    def __len__(self) -> int:
        return self.world_to_camera.shape[0]

    def __getitem__(self, index: int | slice | Tensor) -> Camera:
        """The camera(s) at `index`, always as a batch."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"camera {index} of {len(self)}")
            index = slice(index % len(self), index % len(self) + 1)
        return replace(
            self, world_to_camera=self.world_to_camera[index], projection=self.projection[index]
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Camera:
        """The same cameras on another device or in another precision."""
        return replace(
            self,
            world_to_camera=self.world_to_camera.to(device=device, dtype=dtype),
            projection=self.projection.to(device=device, dtype=dtype),
        )

    def with_resolution(self, resolution: tuple[int, int]) -> Camera:
        """The same view on an image of another size (H, W)."""
        return replace(self, resolution=resolution)

    def fitted(self, lower: Points, upper: Points) -> Camera:
        """The same perspective or parallel view, its near and far planes fitted to the box from
        `lower` to `upper`.

        Parts of the box behind a perspective camera are left out.
        """
        corners = torch.cartesian_prod(
            *torch.stack([points_like("lower", lower)[0], points_like("upper", upper)[0]]).T
        ).to(self.world_to_camera)
        distance = -self.to_camera(corners)[..., 2]  # (B, 8)
        low, high = distance.min(1).values, distance.max(1).values
        margin = 0.01 * (high - low) + 1e-6 * high.abs()
        low, high = low - margin, high + margin
        projection = self.projection.clone()
        parallel = projection[:, 3, 3] == 1
        high = torch.where(parallel, high, high.clamp_min(1e-6))
        low = torch.where(parallel, low, torch.maximum(low, 1e-3 * high))
        span = high - low
        projection[:, 2, 2] = torch.where(parallel, -2 / span, -(high + low) / span)
        projection[:, 2, 3] = torch.where(parallel, -(high + low) / span, -2 * high * low / span)
        return replace(self, projection=projection)

    @property
    def camera_to_world(self) -> Tensor:
        """Poses (B, 4, 4): columns are the right, up and backward axes and its position."""
        return inverse_rigid(self.world_to_camera)

    @property
    def positions(self) -> Tensor:
        """Camera centres (B, 3) in the world, metres."""
        return self.camera_to_world[:, :3, 3]

    def to_camera(self, vertices: Tensor) -> Tensor:
        """Vertices (V, 3) in camera space, (B, V, 3); the distance along the view is minus the last
        entry.
        """
        check_tensor("vertices", vertices, (None, 3), like=self.world_to_camera)
        return _apply(self.world_to_camera, vertices)[..., :3]

    def project(self, vertices: Tensor) -> Tensor:
        """Clip positions (B, V, 4) of vertices (V, 3) in metres."""
        check_tensor("vertices", vertices, (None, 3), like=self.world_to_camera)
        return _apply(self.projection @ self.world_to_camera, vertices)


def _apply(matrices: Tensor, vertices: Tensor) -> Tensor:
    return vertices @ matrices[:, :, :3].transpose(1, 2) + matrices[:, None, :, 3]


def _reach(eye: Points, target: Points) -> float:
    eye = points_like("eye", eye).detach()
    return float((eye - points_like("target", target).detach().to(eye)).norm(dim=-1).max())


def _planes(near: float | None, far: float | None, reach: float) -> tuple[float, float]:
    near = NEAR * reach if near is None else near
    far = FAR * reach if far is None else far
    if not 0.0 < near < far < math.inf:
        raise InputError(f"near and far must satisfy 0 < near < far, got near {near} and far {far}")
    return near, far
