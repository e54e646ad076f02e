"""Pictures of a reconstruction: a turntable, and target beside result."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from geomopt.files import replacing
from geomopt.geometry import Mesh
from geomopt.reconstruct.dataset import Views
from geomopt.reconstruct.images import to_image
from geomopt.render import Camera, picture

INK = 0.6  # grey of a mask
FRAMES, SIDE = 36, 320  # of a turntable
ELEVATION = math.radians(25)
SHOWN = 4  # views in the comparison


def pair(mesh: Mesh, views: Views, index: int) -> tuple[Tensor, Tensor]:
    """Target and result (H, W, 3) of one view, on white.

    The target is the reference mesh in the same light where there is one, else the image's colours,
    else its mask.
    """
    camera, mask = views.cameras[index].to(dtype=mesh.vertices.dtype), views.mask[index]
    result = picture(mesh, camera)[0]
    if views.reference is not None:
        return picture(views.reference.to(dtype=mesh.vertices.dtype), camera)[0], result
    color = INK * mask.expand(-1, -1, 3) if views.color is None else views.color[index]
    return color + 1 - mask, result


def comparison(mesh: Mesh, views: Views, path: Path) -> None:
    """A picture of four views: targets in the upper row, the result in the lower one."""
    chosen = torch.linspace(0, len(views) - 1, min(SHOWN, len(views))).round().int().tolist()
    rows = [
        torch.cat(row, dim=1)
        for row in zip(*(pair(mesh, views, index) for index in chosen), strict=True)
    ]
    picture = to_image(torch.cat(rows, dim=0))
    zoom = max(1, 256 // views.cameras.resolution[1])
    picture = picture.resize(
        (picture.width * zoom, picture.height * zoom), Image.Resampling.LANCZOS
    )
    draw = ImageDraw.Draw(picture)
    for row, label in enumerate(("target", "result")):
        draw.text((8, row * picture.height // 2 + 6), label, fill=(90, 90, 90))
    with replacing(path) as draft:
        picture.save(draft)


def turntable(mesh: Mesh, path: Path, *, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> None:
    """A GIF of the mesh turning once about the direction `up` through its middle."""
    lower, upper = mesh.bounds
    center = (lower + upper) / 2
    radius = float((mesh.vertices - center).norm(dim=-1).max())
    axis = torch.nn.functional.normalize(torch.tensor(up, dtype=mesh.vertices.dtype), dim=0)
    across = torch.linalg.cross(axis, torch.eye(3, dtype=axis.dtype)[int(axis.abs().argmin())])
    across = across / across.norm()
    along = torch.linalg.cross(axis, across)
    angle = torch.arange(FRAMES, dtype=axis.dtype)[:, None] * (2 * math.pi / FRAMES)
    around = torch.cos(angle) * across + torch.sin(angle) * along
    field_of_view = 30.0
    distance = 1.05 * radius / math.sin(math.radians(field_of_view) / 2)
    eyes = center + distance * (math.cos(ELEVATION) * around + math.sin(ELEVATION) * axis)
    cameras = Camera.perspective(
        eyes, center, axis, vertical_fov=field_of_view, resolution=(SIDE, SIDE)
    )
    pictures = [to_image(frame) for frame in picture(mesh, cameras)]
    # one palette for all frames, or the colours flicker
    palette = pictures[0].quantize(255)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    with replacing(path) as draft:
        frames[0].save(draft, save_all=True, append_images=frames[1:], duration=70, loop=0)
