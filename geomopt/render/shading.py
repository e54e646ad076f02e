"""From a mesh and cameras to images: mask, depth, normals and lit colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from geomopt.errors import InputError, check_tensor
from geomopt.render.antialias import antialias
from geomopt.render.camera import Camera
from geomopt.render.edges import edge_opposites
from geomopt.render.fragments import Fragments
from geomopt.render.interpolate import interpolate
from geomopt.render.normals import pixel_normals
from geomopt.render.rasterize import rasterize

CHANNELS = ("mask", "depth", "normal", "color")
CLAY = (0.87, 0.84, 0.79)  # of a mesh without colours


class Surface(Protocol):
    """What is needed of a mesh to draw it."""

    @property
    def vertices(self) -> Tensor: ...
    @property
    def faces(self) -> Tensor: ...
    @property
    def colors(self) -> Tensor | None: ...


@dataclass(frozen=True)
class Light:
    """One distant light that moves with the camera, and light from all around.

    direction: towards the light in camera space (x right, y up, z to the viewer). ambient and
    intensity: fractions of the surface's own colour that each of them gives back at most.
    """

    direction: tuple[float, float, float] = (-0.5, 0.75, 0.9)
    ambient: float = 0.42
    intensity: float = 0.64


@dataclass(frozen=True)
class Images:
    """Images of B views; what was not asked for is None.

    mask: (B, H, W, 1), covered share of each pixel; depth: (B, H, W, 1), metres along the view, 0
    in the background; normal: (B, H, W, 3), unit vectors in the world, 0 in the background; color:
    (B, H, W, 3), on the background colour.
    """

    fragments: Fragments
    mask: Tensor | None = None
    depth: Tensor | None = None
    normal: Tensor | None = None
    color: Tensor | None = None


def render(
    mesh: Surface,
    cameras: Camera,
    *,
    channels: Sequence[str] = CHANNELS,
    smooth: bool = True,
    crease: float | None = None,
    light: Light | None = None,
    background: Sequence[float] = (0.0, 0.0, 0.0),
    topology: Tensor | None = None,
    backend: str = "warp",
) -> Images:
    """Images of a mesh from every camera, differentiable to its vertices and colours.

    mesh: anything with vertices (V, 3), faces (F, 3), colors (V, 3) or None, vertices shared
    between triangles; channels: which of "mask", "depth", "normal", "color"; smooth, crease:
    normals as in `pixel_normals`; light: by default one over the viewer's left shoulder;
    topology: `edge_opposites` of the faces, if at hand. Mask and color have soft silhouettes and so
    gradients to where the surface ends; depth and normal hold the surface at the pixel centre.
    Raises InputError for unknown channels or tensors that do not fit.
    """
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown:
        raise InputError(f"channels must be among {', '.join(CHANNELS)}, got {', '.join(unknown)}")
    vertices, faces = check_tensor("vertices", mesh.vertices, (None, 3)), mesh.faces
    if cameras.world_to_camera.device != vertices.device:
        raise InputError(
            f"cameras must be on {vertices.device} like the mesh, "
            f"got {cameras.world_to_camera.device}"
        )
    cameras = cameras.to(dtype=vertices.dtype)
    clip = cameras.project(vertices)
    fragments = rasterize(clip, faces, cameras.resolution, backend=backend)
    cover = fragments.mask[..., None].to(vertices)
    mask = depth = normal = color = None
    if "depth" in channels:
        distance = -cameras.to_camera(vertices)[..., 2:]
        depth = interpolate(distance, faces, fragments, backend=backend)
    if "normal" in channels or "color" in channels:
        normal = pixel_normals(
            vertices, faces, fragments, smooth=smooth, crease=crease, backend=backend
        )
    if "color" in channels:
        assert normal is not None
        albedo = vertices.new_tensor(CLAY).expand(vertices.shape)
        if mesh.colors is not None:
            albedo = check_tensor("colors", mesh.colors, tuple(vertices.shape), like=vertices)
        own = interpolate(albedo, faces, fragments, backend=backend)
        color = own * shade(normal, cameras, fragments, light or Light())
        color = color + (1 - cover) * vertices.new_tensor(background)
    soft = [image for image in (cover if "mask" in channels else None, color) if image is not None]
    if soft:
        table = topology
        if table is None:
            table = edge_opposites(faces, len(vertices), backend=backend)
        blended = antialias(
            torch.cat(soft, -1), fragments, clip, faces, topology=table, backend=backend
        )
        mask = blended[..., :1] if "mask" in channels else None
        color = blended[..., -3:] if "color" in channels else None
    return Images(fragments, mask, depth, normal if "normal" in channels else None, color)


def shade(normal: Tensor, cameras: Camera, fragments: Fragments, light: Light) -> Tensor:
    """Brightness (B, H, W, 1) of world normals (B, H, W, 3), lit from both sides.

    Light wraps a little past the terminator, (n . l + 1/4) / (5/4), so that no side is flat black;
    what faces sideways to the viewer gets up to a third less from all around, which draws the form.
    """
    rotation = cameras.world_to_camera[:, None, None, :3, :3]
    seen = (rotation * normal[..., None, :]).sum(-1)  # in camera space
    seen = torch.where(seen[..., 2:] < 0, -seen, seen)
    towards = normalize(normal.new_tensor(light.direction), dim=0)
    direct = (((seen * towards).sum(-1, keepdim=True) + 0.25) / 1.25).clamp_min(0)
    around = 2 / 3 + seen[..., 2:] / 3
    return (light.ambient * around + light.intensity * direct) * fragments.mask[..., None]


def picture(
    mesh: Surface,
    cameras: Camera,
    *,
    smooth: bool = True,
    crease: float | None = 40.0,
    light: Light | None = None,
    background: Sequence[float] = (1.0, 1.0, 1.0),
    supersample: int = 2,
) -> Tensor:
    """Pictures (B, H, W, 3) in [0, 1] of a mesh, for people.

    smooth, crease: normals as in `pixel_normals`; supersample: samples along each side of a pixel.
    No gradients. Takes one view at a time, so that memory does not grow with the number of cameras.
    """
    if supersample < 1:
        raise InputError(f"supersample must be at least 1, got {supersample}")
    height, width = cameras.resolution
    fine = cameras.with_resolution((supersample * height, supersample * width))
    views = []
    with torch.no_grad():
        table = edge_opposites(mesh.faces, len(mesh.vertices))
        for index in range(len(fine)):
            images = render(
                mesh,
                fine[index],
                channels=("color",),
                smooth=smooth,
                crease=crease,
                light=light,
                background=background,
                topology=table,
            )
            assert images.color is not None
            blocks = images.color.reshape(height, supersample, width, supersample, 3)
            views.append(blocks.mean((1, 3)).clamp(0, 1))
    return torch.stack(views)
