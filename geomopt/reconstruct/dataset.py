"""Posed images of one object: read from a transforms.json folder, or rendered from a mesh.

All views of a set share one resolution. Depth is the distance along the viewing axis, not along the
ray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from geomopt.errors import InputError
from geomopt.geometry import Mesh
from geomopt.geometry.mesh import require_closed
from geomopt.reconstruct import images
from geomopt.render import (
    Camera,
    interpolate,
    random_cameras,
    read_transforms,
    render,
    write_transforms,
)

Direction = tuple[float, float, float]
CHANNELS = ("mask", "depth", "normal", "color")
FILES = {"images": "png", "depth": "npy", "normal": "png"}
MESH_SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb")
FIELD_OF_VIEW = 40.0  # degrees, vertical, of rendered views
LIGHT = (0.4, -0.5, 0.8)  # towards the light, in the world
CLAY = 0.8  # grey of a mesh without colours
# samples per pixel and axis; odd, so that one of them is the pixel centre, where depth is taken
SAMPLES = 3


@dataclass(frozen=True)
class Views:
    """B images of one object with their cameras.

    mask: (B, H, W, 1) coverage in [0, 1]. depth: (B, H, W, 1), 0 where unknown. normal: (B, H, W,
    3) unit vectors in the world, 0 where unknown. color: (B, H, W, 3) in [0, 1], multiplied by the
    mask. names: one a view. reference: the mesh behind the images where it is known. up: (3,) the
    direction in which pictures of it stand upright.
    """

    cameras: Camera
    mask: Tensor
    depth: Tensor | None
    normal: Tensor | None
    color: Tensor | None
    names: tuple[str, ...]
    reference: Mesh | None = None
    up: Direction = (0.0, 0.0, 1.0)

    def __len__(self) -> int:
        return len(self.cameras)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Views:
        """The same views on another device or in another precision."""
        return self._with(
            lambda value: value.to(device=device, dtype=dtype), self.cameras.to(device, dtype)
        )

    def select(self, indices: Tensor) -> Views:
        """The views at `indices` (K,)."""
        chosen = self._with(lambda value: value[indices], self.cameras[indices])
        return replace(chosen, names=tuple(self.names[int(index)] for index in indices))

    def in_frame(self, center: Tensor, scale: float) -> Views:
        """The same views of the object moved by -center and shrunk by `scale`: lengths, depth too,
        are divided by it.
        """
        pose, projection = self.cameras.world_to_camera.double(), self.cameras.projection.double()
        pose = pose.clone()
        pose[:, :3, 3] = (pose[:, :3, 3] + pose[:, :3, :3] @ center.to(pose)) / scale
        projection = projection * projection.new_tensor([scale, scale, scale, 1.0])
        projection = projection / projection[:, 3:].norm(dim=-1, keepdim=True)
        cameras = replace(
            self.cameras,
            world_to_camera=pose.to(self.cameras.world_to_camera),
            projection=projection.to(self.cameras.projection),
        )
        return replace(
            self, cameras=cameras, depth=None if self.depth is None else self.depth / scale
        )

    def shrunk(self, size: int) -> Views:
        """The views with the longer side of each image at most `size`, averaged over blocks of
        whole pixels.
        """
        height, width = self.cameras.resolution
        factor = -(-max(height, width) // size)
        if factor == 1:
            return self
        resolution = (height // factor, width // factor)
        kept = self._with(
            lambda value: value[:, : resolution[0] * factor, : resolution[1] * factor], self.cameras
        )
        return replace(
            kept,
            cameras=images.cropped_camera(self.cameras, resolution, factor),
            mask=images.block_mean(kept.mask, factor),
            color=None if kept.color is None else images.block_mean(kept.color, factor),
            depth=None if kept.depth is None else images.block_middle(kept.depth, factor),
            normal=None
            if kept.normal is None
            else normalize(images.block_mean(kept.normal, factor), dim=-1),
        )

    def _with(self, change: Callable[[Tensor], Tensor], cameras: Camera) -> Views:
        parts = {name: getattr(self, name) for name in CHANNELS}
        return replace(
            self,
            cameras=cameras,
            **{name: value if value is None else change(value) for name, value in parts.items()},
        )


def load_views(path: str | Path, *, count: int, size: int, seed: int, up: str = "auto") -> Views:
    """Views from a folder with transforms.json, or rendered from a closed mesh file.

    count, size, seed: how many views of a mesh are rendered, at how many pixels a side, and from
    where; the images of a folder are all taken, shrunk until their longer side has at most `size`
    pixels. up: "x", "y" or "z", or "auto" for the mean of the cameras' (a folder), y (OBJ and GLB
    files) or z. Raises InputError for anything missing or unfit.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(
            "data must be a folder with transforms.json or a mesh file, "
            f"got {path}, which does not exist"
        )
    if path.is_file() and path.suffix.lower() in MESH_SUFFIXES:
        mesh = Mesh.load(path, dtype=torch.float64)
        require_closed(mesh, f"mesh file {path}")
        return render_views(mesh, count, (size, size), seed, up=upright(path, up))
    if not path.is_dir() and not path.name.endswith(".json"):
        known = ", ".join(MESH_SUFFIXES)
        raise InputError(
            f"data must be a folder with transforms.json or a mesh file ({known}), got {path}"
        )
    views = read_views(path, size=size)
    if up != "auto":
        return replace(views, up=upright(path, up))
    mean = views.cameras.camera_to_world[:, :3, 1].double().mean(dim=0)
    # cameras that were rolled every way tell nothing
    return replace(views, up=tuple((mean / mean.norm()).tolist())) if mean.norm() > 0.1 else views


def upright(path: Path, up: str) -> Direction:
    """The direction that stands upright in a mesh file: an axis, or the format's own for "auto"."""
    axis = up if up != "auto" else ("y" if path.suffix.lower() in (".obj", ".glb") else "z")
    return float(axis == "x"), float(axis == "y"), float(axis == "z")


def read_views(path: str | Path, *, size: int | None = None) -> Views:
    """The images, masks, depths and normals that a transforms.json names.

    size: largest side in pixels, to which each image is shrunk as it is read. RGBA images carry
    their mask; RGB ones need a mask file, a background of one colour or one without depth. Depth
    and normal are used when all frames have them. Raises InputError that names the frame.
    """
    transforms = read_transforms(path)
    resolution = transforms.cameras.resolution
    frames = []
    for index, file in enumerate(transforms.images):
        assert file is not None  # read_transforms has refused frames without an image
        depth = normal = None
        if (depth_file := transforms.depths[index]) is not None:
            depth = images.read_depth(depth_file, resolution, transforms.depth_scale)[None]
        if (normal_file := transforms.normals[index]) is not None:
            normal = images.read_normal(normal_file, resolution)[None]
        known = None if depth is None else depth[0]
        color, mask = images.read_color(file, transforms.masks[index], resolution, known)
        camera = transforms.cameras[index]
        frame = Views(camera, mask[None], depth, normal, color[None], (file.name,))
        frames.append(frame if size is None else frame.shrunk(size))
    parts = {}
    for name in CHANNELS:
        values = [getattr(frame, name) for frame in frames]
        parts[name] = None if any(value is None for value in values) else torch.cat(values)
    if bool((parts["mask"] == 1).all()):
        raise InputError(
            f"the masks of {path} cover all of every image: give images or masks that tell the "
            "object from its surroundings"
        )
    cameras = Camera.stack([frame.cameras for frame in frames])
    return Views(cameras, **parts, names=tuple(frame.names[0] for frame in frames))


def render_views(
    mesh: Mesh,
    count: int,
    resolution: tuple[int, int],
    seed: int,
    *,
    up: Direction = (0.0, 0.0, 1.0),
) -> Views:
    """Views of a mesh from `count` cameras spread evenly over a sphere, turned at random by `seed`.

    up: points upwards in the images. Mask and colour are averaged over 3 x 3 samples a pixel; depth
    and normal are those of the pixel centre.
    """
    if count < 1:
        raise InputError(f"views must be at least 1, got {count}")
    height, width = resolution
    lower, upper = mesh.bounds.double()
    center = (lower + upper) / 2
    radius = float((mesh.vertices.double() - center).norm(dim=-1).max())
    narrow = np.arctan(np.tan(np.radians(FIELD_OF_VIEW) / 2) * min(1.0, width / height))
    cameras = random_cameras(
        count,
        torch.Generator().manual_seed(seed),
        radius=1.02 * radius / np.sin(narrow),
        target=center.tolist(),
        up=up,
        vertical_fov=FIELD_OF_VIEW,
        resolution=(SAMPLES * height, SAMPLES * width),
    ).fitted(lower.tolist(), upper.tolist())
    mesh = mesh.to(dtype=torch.float32)
    shots = [_shoot(mesh, cameras[index]) for index in range(count)]
    mask, depth, normal, color = (torch.cat(parts) for parts in zip(*shots, strict=True))
    names = tuple(f"view_{index:03d}" for index in range(count))
    cameras = cameras.with_resolution(resolution)
    return Views(cameras, mask, depth, normal, color, names, reference=mesh, up=up)


def _shoot(mesh: Mesh, camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mask, depth, normal and colour, (1, H, W, 1 or 3), of a camera with 3 x 3 pixels for each of
    the image.
    """
    shot = render(mesh, camera, channels=("depth", "normal"), smooth=False)
    assert shot.depth is not None
    assert shot.normal is not None
    cover = shot.fragments.mask[..., None].float()
    albedo = (
        CLAY * cover.expand(-1, -1, -1, 3)
        if mesh.colors is None
        else interpolate(mesh.colors, mesh.faces, shot.fragments)
    )
    # a light that stands still: colours are then the same from every side, as a fit of colours
    # assumes
    facing = (shot.normal * normalize(torch.tensor(LIGHT), dim=0)).sum(dim=-1, keepdim=True)
    color = albedo * (0.65 + 0.35 * facing)
    return (
        images.block_mean(cover, SAMPLES),
        images.block_middle(shot.depth, SAMPLES),
        images.block_middle(shot.normal, SAMPLES),
        images.block_mean(color, SAMPLES),
    )


def write_views(views: Views, folder: str | Path) -> Path:
    """Write a transforms.json folder that `read_views` and NeRF tools read; returns the path of the
    transforms.json.

    images/*.png (RGBA, 8 bit), depth/*.npy (float32, 0 where unknown), normal/*.png (8 bit, (n + 1)
    / 2 in the world).
    """
    folder = Path(folder)
    names = {
        kind: [f"{kind}/{name}.{suffix}" for name in views.names] for kind, suffix in FILES.items()
    }
    for index in range(len(views)):
        color = None if views.color is None else views.color[index]
        images.write_color(folder / names["images"][index], color, views.mask[index])
        if views.depth is not None:
            images.write_depth(folder / names["depth"][index], views.depth[index])
        if views.normal is not None:
            images.write_normal(folder / names["normal"][index], views.normal[index])
    # last, so that a folder with a transforms.json is a whole one
    write_transforms(
        folder / "transforms.json",
        views.cameras,
        names["images"],
        depths=None if views.depth is None else names["depth"],
        normals=None if views.normal is None else names["normal"],
    )
    return folder / "transforms.json"


def render_dataset(
    mesh_path: str | Path,
    folder: str | Path,
    *,
    views: int = 60,
    resolution: int = 256,
    seed: int = 0,
) -> Path:
    """Render a mesh file from all around into a transforms.json folder (`geomopt render`)."""
    mesh = Mesh.load(mesh_path, dtype=torch.float64)
    up = upright(Path(mesh_path), "auto")
    return write_views(render_views(mesh, views, (resolution, resolution), seed, up=up), folder)
