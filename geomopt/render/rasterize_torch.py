"""Rasterization and interpolation in plain torch: the same arithmetic as the kernels, their oracle
and fallback.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.render.snapping import SUBPIXELS, pixel_scale, snapped_positions

PAIRS = 1 << 20  # (triangle, pixel) pairs tested at a time
EMPTY = torch.iinfo(torch.int64).max


def pixel_centres(resolution: tuple[int, int], device: torch.device) -> Tensor:
    """Homogeneous positions (H W, 3) = (x/w, y/w, 1), float64, of the pixel centres."""
    height, width = resolution
    x = (2 * torch.arange(width, device=device) + 1).double() / width - 1
    y = 1 - (2 * torch.arange(height, device=device) + 1).double() / height
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)


def covered_faces(clip: Tensor, faces: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Index (B, H, W) int32 of the nearest face at each pixel, -1 where there is none; clip (B, V,
    4) float64.
    """
    height, width = resolution
    keys = torch.full((clip.shape[0], height * width), EMPTY, dtype=torch.int64, device=clip.device)
    for view, snapped in enumerate(snapped_positions(clip, resolution)):
        _cover_view(clip[view], snapped, faces.long(), resolution, keys[view])
    face = torch.where(keys == EMPTY, -1, keys & 0xFFFFFFFF)
    return face.int().reshape(-1, height, width)


def _cover_view(
    clip: Tensor, snapped: Tensor, faces: Tensor, resolution: tuple[int, int], keys: Tensor
) -> None:
    height, width = resolution
    corners, screen = clip[faces], snapped[faces]  # (F, 3, 4), (F, 3, 2)
    whole = ~screen.isnan().any((1, 2))
    scale = torch.tensor(pixel_scale(resolution), dtype=clip.dtype, device=clip.device)
    points = torch.cat([corners[..., :2] * scale, corners[..., 3:]], -1)
    lines = torch.stack(
        [_line(faces, screen, points, (k + 1) % 3, (k + 2) % 3) for k in range(3)], 1
    )

    area = torch.linalg.det(points)
    depth = corners[..., 2]
    cofactors = torch.linalg.cross(points[:, [1, 2, 0]], points[:, [2, 0, 1]])
    side = screen[:, 1:] - screen[:, :1]
    area = torch.where(whole, side[:, 0, 0] * side[:, 1, 1] - side[:, 1, 0] * side[:, 0, 1], area)
    depth = torch.where(whole[:, None], depth / corners[..., 3], depth)
    plane = (torch.where(whole[:, None, None], lines, cofactors) * depth[..., None]).sum(1) / area[
        :, None
    ]
    lines = lines * area.sign()[:, None, None]
    ties = torch.where(lines[..., 0] == 0, lines[..., 1] > 0, lines[..., 0] > 0)

    # a triangle that is not whole is tested everywhere
    size = torch.tensor([width, height], dtype=clip.dtype, device=clip.device)
    low = torch.where(whole[:, None], screen.amin(1), -torch.inf) / SUBPIXELS + size / 2 - 0.5
    high = torch.where(whole[:, None], screen.amax(1), torch.inf) / SUBPIXELS + size / 2 - 0.5
    low = torch.minimum(low.ceil().clamp_min(0), size).long()
    high = torch.minimum(high.floor().clamp_min(-1), size - 1).long() + 1
    extent = (high - low).clamp_min(0)
    count = torch.where(area != 0, extent[:, 0] * extent[:, 1], 0)

    order = torch.nonzero(count)[:, 0]
    ends = count[order].cumsum(0)
    done = 0
    while done < len(order):
        before = int(ends[done - 1]) if done else 0
        stop = max(done + 1, int(torch.searchsorted(ends, before + PAIRS, right=True)))
        chosen = order[done:stop]
        done = stop
        face = torch.repeat_interleave(chosen, count[chosen])
        start = torch.repeat_interleave(count[chosen].cumsum(0) - count[chosen], count[chosen])
        local = torch.arange(len(face), device=face.device) - start
        column = low[face, 0] + local % extent[face, 0]
        up = low[face, 1] + local // extent[face, 0]  # rows counted from the bottom
        x = (column + 0.5 - width / 2) * SUBPIXELS
        y = (up + 0.5 - height / 2) * SUBPIXELS
        line = lines[face]
        value = line[..., 0] * x[:, None] + (line[..., 1] * y[:, None] + line[..., 2])
        inside = ((value > 0) | ((value == 0) & ties[face])).all(1)
        z = plane[face, 0] * x + plane[face, 1] * y + plane[face, 2]
        inside &= (z >= -1) & (z <= 1)
        key = ((z[inside] + 1) * 2.0**30).long() * 2**32 + face[inside]
        pixel = (height - 1 - up[inside]) * width + column[inside]
        keys.scatter_reduce_(0, pixel, key, "amin")


def _line(faces: Tensor, screen: Tensor, points: Tensor, i: int, j: int) -> Tensor:
    """Lines (F, 3) from corner i to corner j; exactly opposite for the reversed edge."""
    si, sj, pi, pj = screen[:, i], screen[:, j], points[:, i], points[:, j]
    exact = torch.stack(
        [si[:, 1] - sj[:, 1], sj[:, 0] - si[:, 0], si[:, 0] * sj[:, 1] - sj[:, 0] * si[:, 1]], -1
    )
    forward = (faces[:, i] < faces[:, j])[:, None]
    homogeneous = torch.where(forward, torch.linalg.cross(pi, pj), -torch.linalg.cross(pj, pi))
    return torch.where(exact.isnan().any(-1, keepdim=True), homogeneous, exact)


def barycentric_and_depth(clip: Tensor, faces: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct weights (B, H, W, 3) and z/w (B, H, W) at the pixels of `face`,
    differentiable to clip.
    """
    resolution = face.shape[1], face.shape[2]
    view, pixel = torch.nonzero(face.reshape(len(face), -1) >= 0, as_tuple=True)
    flat = face.reshape(len(face), -1)[view, pixel].long()
    corners = clip.double()[view[:, None], faces.long()[flat]]  # (P, 3, 4)
    p = corners[..., [0, 1, 3]]
    centre = pixel_centres(resolution, clip.device)[pixel]
    a = (torch.linalg.cross(p[:, [1, 2, 0]], p[:, [2, 0, 1]]) * centre[:, None]).sum(-1)
    total = a.sum(-1, keepdim=True)
    b = torch.where(total == 0, 1 / 3, a / torch.where(total == 0, 1.0, total)).clamp(0, 1)
    b = b / b.sum(-1, keepdim=True)
    zw = (b.detach()[..., None] * corners.detach()[..., 2:]).sum(1)
    depth = (zw[:, 0] / zw[:, 1]).clamp(-1, 1)
    shape = (len(face), resolution[0] * resolution[1])
    barycentric = clip.new_zeros((*shape, 3)).index_put((view, pixel), b.to(clip))
    depths = clip.new_ones(shape).index_put((view, pixel), depth.to(clip))
    return barycentric.reshape(*face.shape, 3), depths.reshape(face.shape)


def interpolate(attributes: Tensor, faces: Tensor, face: Tensor, barycentric: Tensor) -> Tensor:
    """Attributes (1 or B, V, C) at the pixels, (B, H, W, C)."""
    view, row, column = torch.nonzero(face >= 0, as_tuple=True)
    corners = faces.long()[face[view, row, column].long()]
    shared = torch.zeros_like(view) if attributes.shape[0] == 1 else view
    values = (barycentric[view, row, column][..., None] * attributes[shared[:, None], corners]).sum(
        1
    )
    return attributes.new_zeros((*face.shape, attributes.shape[-1])).index_put(
        (view, row, column), values
    )
