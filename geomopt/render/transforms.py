"""Posed images on disk: the transforms.json layout of Blender/NeRF synthetic and of nerfstudio.

Poses are 4x4 camera-to-world matrices in OpenGL's convention (x right, y up, looking along -z).
Intrinsics are `camera_angle_x` (radians over the width) or `fl_x`, `fl_y`, `cx`, `cy`, `w`, `h` in
pixels, for the file or for a frame. Image paths are relative to the file and may lack an extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.files import write_text
from geomopt.render.camera import Camera
from geomopt.render.poses import check_poses

EXTENSIONS = (".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".webp", ".exr")
DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "PERSPECTIVE")
MASK_KEYS = ("mask_path", "mask_file_path")
DEPTH_KEYS = ("depth_file_path", "depth_path")
NORMAL_KEYS = ("normal_file_path", "normal_path")


@dataclass(frozen=True)
class Transforms:
    """A transforms.json: B cameras and the files of each frame, None where the frame names none.

    depth_scale: metres per unit of a depth image that holds integers.
    """

    cameras: Camera
    images: tuple[Path | None, ...]
    masks: tuple[Path | None, ...]
    depths: tuple[Path | None, ...]
    normals: tuple[Path | None, ...]
    depth_scale: float = 1e-3


def read_transforms(
    path: str | Path,
    *,
    near: float | None = None,
    far: float | None = None,
    require_images: bool = True,
) -> Transforms:
    """Read a transforms.json, or transforms.json or transforms_train.json of a folder.

    near, far: metres, by default 0.01 and 100 times the largest distance of a camera from the
    origin. require_images: whether a missing image is an error. Lens distortion is not modelled.
    Raises InputError that names the file and the frame for anything missing or malformed.
    """
    file = _find(Path(path))
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} must be a readable JSON file: {error}") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{file} must hold a non-empty list under 'frames'")

    folder, names = (
        file.parent,
        [f"{file}: transform_matrix of frame {i}" for i in range(len(frames))],
    )
    for index, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise InputError(f"{file}: frame {index} must be an object, got {frame!r}")
    poses = torch.stack([_pose(frame, name) for frame, name in zip(frames, names, strict=True)])
    check_poses(names, poses)
    poses = poses.float()
    reach = float(poses[:, :3, 3].norm(dim=-1).max()) or 1.0
    planes = {
        "near": 0.01 * reach if near is None else near,
        "far": 100 * reach if far is None else far,
    }

    cameras, images = [], []
    for index, frame in enumerate(frames):
        image = _image(folder, frame)
        if image is None and require_images:
            raise InputError(
                f"{file}: frame {index} must name an image under 'file_path', got "
                f"{frame.get('file_path')!r}, which is not in {folder} (tried it as it stands and "
                f"with {', '.join(EXTENSIONS)})"
            )
        settings = {**document, **frame}
        size, intrinsics = _intrinsics(settings, image, f"{file}: frame {index}")
        cameras.append(Camera.pinhole(poses[index], size, **intrinsics, **planes))
        if cameras[-1].resolution != cameras[0].resolution:
            raise InputError(
                f"{file}: all frames must have one size, got {cameras[0].resolution} (height, "
                f"width) in frame 0 and {size} in frame {index}"
            )
        images.append(image)
    return Transforms(
        Camera.stack(cameras),
        tuple(images),
        *(
            tuple(
                _companion(folder, frame, keys, f"{file}: frame {i}")
                for i, frame in enumerate(frames)
            )
            for keys in (MASK_KEYS, DEPTH_KEYS, NORMAL_KEYS)
        ),
        depth_scale=_number(document, "depth_unit_scale_factor", str(file), 1e-3),
    )


def _find(path: Path) -> Path:
    if path.is_dir():
        for name in ("transforms.json", "transforms_train.json"):
            if (path / name).is_file():
                return path / name
        raise InputError(
            f"{path} must hold transforms.json or transforms_train.json, found neither"
        )
    if not path.is_file():
        raise InputError(
            f"{path} must be a transforms.json file or a folder with one, found nothing"
        )
    return path


def _pose(frame: dict[str, Any], name: str) -> Tensor:
    matrix = frame.get("transform_matrix")
    try:
        pose = torch.tensor(matrix, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} must be a 4x4 matrix of numbers, got {matrix!r}") from None
    if pose.shape != (4, 4):
        raise InputError(f"{name} must have shape (4, 4), got {tuple(pose.shape)}")
    return pose


def _image(folder: Path, frame: dict[str, Any]) -> Path | None:
    name = frame.get("file_path")
    if not isinstance(name, str) or not name:
        return None
    for candidate in (folder / name, *(folder / (name + extension) for extension in EXTENSIONS)):
        if candidate.is_file():
            return candidate
    return None


def _companion(folder: Path, frame: dict[str, Any], keys: Sequence[str], name: str) -> Path | None:
    for key in keys:
        if frame.get(key):
            file = folder / str(frame[key])
            if not file.is_file():
                raise InputError(f"{name}: {key} must name a file, {file} is not there")
            return file
    return None


def _number(settings: dict[str, Any], key: str, name: str, default: float) -> float:
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name}: {key} must be a finite number, got {value!r}")
    return float(value)


def _intrinsics(
    settings: dict[str, Any], image: Path | None, name: str
) -> tuple[tuple[int, int], dict[str, float]]:
    bent = {key: settings[key] for key in DISTORTION if _number(settings, key, name, 0.0) != 0}
    if bent:
        raise InputError(
            f"{name}: lens distortion must be zero (undistort the images first), got {bent}"
        )
    model = settings.get("camera_model", "PINHOLE")
    if str(model).upper() not in PINHOLES:
        raise InputError(
            f"{name}: camera_model must be one of {', '.join(PINHOLES)}, got {model!r}"
        )
    if "w" in settings and "h" in settings:
        width = int(_number(settings, "w", name, 0.0))
        height = int(_number(settings, "h", name, 0.0))
    elif image is not None:
        width, height = _image_size(image)
    else:
        raise InputError(f"{name} must give the size w and h, as it has no image to read it from")
    if "fl_x" in settings:
        focal = _number(settings, "fl_x", name, 0.0)
        other = _number(settings, "fl_y", name, focal)
    elif "camera_angle_x" in settings:
        focal = _focal(_number(settings, "camera_angle_x", name, 0.0), width, name)
        other = focal
        if "camera_angle_y" in settings:
            other = _focal(_number(settings, "camera_angle_y", name, 0.0), height, name)
    else:
        raise InputError(f"{name} must give fl_x or camera_angle_x, in the file or in the frame")
    intrinsics = {
        "fl_x": focal,
        "fl_y": other,
        "cx": _number(settings, "cx", name, width / 2),
        "cy": _number(settings, "cy", name, height / 2),
    }
    return (height, width), intrinsics


def _focal(angle: float, size: int, name: str) -> float:
    if not 0 < angle < math.pi:
        raise InputError(f"{name}: camera angles must lie between 0 and pi radians, got {angle}")
    return 0.5 * size / math.tan(angle / 2)


def _image_size(image: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(image) as opened:
            return opened.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{image} must be a readable image: {error}") from error


def write_transforms(
    path: str | Path,
    cameras: Camera,
    images: Sequence[str],
    *,
    masks: Sequence[str] | None = None,
    depths: Sequence[str] | None = None,
    normals: Sequence[str] | None = None,
    depth_scale: float | None = None,
) -> None:
    """Write pinhole cameras and the names of their files as a transforms.json, atomically.

    images, masks, depths, normals: one path for each camera, relative to the file. depth_scale:
    metres per unit of integer depth images. Both kinds of reader find their intrinsics.
    Raises InputError for cameras with parallel rays or lists of another length.
    """
    last = torch.tensor([0.0, 0.0, -1.0, 0.0]).to(cameras.projection)
    if not torch.equal(cameras.projection[:, 3], last.expand(len(cameras), 4)):
        raise InputError("cameras must be perspective: transforms.json knows no parallel rays")
    columns = {
        "file_path": images,
        MASK_KEYS[0]: masks,
        DEPTH_KEYS[0]: depths,
        NORMAL_KEYS[0]: normals,
    }
    for key, files in columns.items():
        if files is not None and len(files) != len(cameras):
            raise InputError(f"{key} must be given for {len(cameras)} cameras, got {len(files)}")
    height, width = cameras.resolution
    projection = cameras.projection.double().cpu()
    lenses = [
        {
            "fl_x": float(matrix[0, 0]) * width / 2,
            "fl_y": float(matrix[1, 1]) * height / 2,
            "cx": (1 - float(matrix[0, 2])) * width / 2,
            "cy": (1 + float(matrix[1, 2])) * height / 2,
        }
        for matrix in projection
    ]
    same = all(lens == lenses[0] for lens in lenses)
    document: dict[str, Any] = {"camera_model": "PINHOLE", "w": width, "h": height}
    if same:
        angles = {"camera_angle_x": 2 * math.atan(0.5 * width / lenses[0]["fl_x"])}
        document |= {**angles, **lenses[0]}
    if depth_scale is not None:
        document["depth_unit_scale_factor"] = depth_scale
    poses = cameras.camera_to_world.detach().double().cpu()
    document["frames"] = [
        {key: str(files[index]) for key, files in columns.items() if files is not None}
        | {"transform_matrix": poses[index].tolist()}
        | ({} if same else lenses[index])
        for index in range(len(cameras))
    ]
    write_text(Path(path), json.dumps(document, indent=1))
