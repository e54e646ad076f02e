"""Antialiasing in plain torch: the same arithmetic as the kernels, their oracle and fallback."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.render.fragments import Fragments
from geomopt.render.rasterize_torch import pixel_centres

MAX_STEPS = 64  # triangles crossed on the way from one pixel to the next


def antialias(
    image: Tensor, fragments: Fragments, clip: Tensor, faces: Tensor, topology: Tensor
) -> Tensor:
    """The image with soft silhouettes, differentiable to it and to clip by autograd."""
    batch, height, width, channels = image.shape
    faces = faces.long()
    index = torch.arange(batch * height * width, device=image.device).reshape(batch, height, width)
    pairs = [
        torch.stack([index[:, :, :-1].flatten(), index[:, :, 1:].flatten()]),
        torch.stack([index[:, :-1].flatten(), index[:, 1:].flatten()]),
    ]
    flat = image.reshape(-1, channels)
    out = flat
    for axis, pair in enumerate(pairs):
        with torch.no_grad():
            pair, edge = _silhouettes(fragments, clip.detach(), faces, topology, pair, axis)
        first, second = pair
        centres = pixel_centres((height, width), image.device)
        line = _edge_line(clip.double(), faces, edge, first // (height * width))
        a = (line * centres[first % (height * width)]).sum(-1)
        b = (line * centres[second % (height * width)]).sum(-1)
        at = a / (a - b)
        # rounding may put it a hair outside; it moves with the edge all the same
        at = at + (at.clamp(0, 1) - at).detach()
        blend = (at - 0.5).to(image)[:, None]
        change = flat[first] - flat[second]
        forward = blend >= 0
        out = out.index_add(0, second, torch.where(forward, blend * change, 0))
        out = out.index_add(0, first, torch.where(forward, 0, blend * change))
    return out.reshape(image.shape)


def _edge_line(clip: Tensor, faces: Tensor, edge: Tensor, view: Tensor) -> Tensor:
    face, k = edge // 3, edge % 3
    p = clip[view, faces[face, (k + 1) % 3]][:, [0, 1, 3]]
    q = clip[view, faces[face, (k + 2) % 3]][:, [0, 1, 3]]
    return torch.linalg.cross(p, q)


def _silhouettes(
    fragments: Fragments, clip: Tensor, faces: Tensor, topology: Tensor, pair: Tensor, axis: int
) -> tuple[Tensor, Tensor]:
    """The pairs (2, P) with a silhouette between them that acts along `axis`, and its edge (P,)."""
    height, width = fragments.face.shape[1:]
    face, depth = fragments.face.flatten().long(), fragments.depth.flatten()
    pair = pair[:, face[pair[0]] != face[pair[1]]]
    mine, theirs = face[pair]
    second = (theirs >= 0) & ((mine < 0) | (depth[pair[1]] < depth[pair[0]]))
    near = torch.where(second, pair[1], pair[0])
    far = torch.where(second, pair[0], pair[1])
    view = pair[0] // (height * width)
    centres = pixel_centres((height, width), clip.device)
    origin, target = centres[near % (height * width)], centres[far % (height * width)]
    edge = _walk(clip.double(), faces, topology.long(), view, face[near], face[far], origin, target)
    line = _edge_line(clip.double(), faces, edge.clamp_min(0), view)
    across, along = line[:, 0].abs() * height, line[:, 1].abs() * width
    chosen = (edge >= 0) & ((along > across) if axis else (across >= along))
    return pair[:, chosen], edge[chosen]


def _walk(
    clip: Tensor,
    faces: Tensor,
    topology: Tensor,
    view: Tensor,
    start: Tensor,
    goal: Tensor,
    origin: Tensor,
    target: Tensor,
) -> Tensor:
    """Edge 3 f + k (P,) where the surface at `origin` ends before `target`, -1 elsewhere."""
    result = torch.full_like(start, -1)
    active = torch.arange(len(start), device=start.device)
    face, entered = start.clone(), torch.full_like(start, -1)
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        current = face[active]
        p = clip[view[active, None], faces[current]][..., [0, 1, 3]]
        lines = torch.linalg.cross(p[:, [1, 2, 0]], p[:, [2, 0, 1]])
        side = (lines[:, 0] * p[:, 0]).sum(-1).sign()[:, None]
        a = (lines * origin[active, None]).sum(-1) * side
        b = (lines * target[active, None]).sum(-1) * side
        leaving = (b < a) & (entered[active, None] != torch.arange(3, device=face.device))
        at = torch.where(leaving, a / torch.where(leaving, a - b, 1.0), 2.0)
        best, leave = at.min(1)
        inside = best <= 1
        active, current, leave, side = active[inside], current[inside], leave[inside], side[inside]
        line = lines[inside][torch.arange(len(leave)), leave]
        across = topology[current, leave]
        beyond = clip[view[active], faces.flatten()[across.clamp_min(0)]][:, [0, 1, 3]]
        ends = (across < 0) | ((line * beyond).sum(-1) * side[:, 0] >= 0)
        result[active[ends]] = 3 * current[ends] + leave[ends]
        active, across = active[~ends], across[~ends]
        face[active], entered[active] = across // 3, across % 3
        active = active[face[active] != goal[active]]
    return result
