"""Scenes for the tests of rendering, made from a seed."""

import math

import numpy as np
import torch
from scipy.spatial import ConvexHull, Delaunay

F64 = torch.float64


def plane(kind: str, seed: int, size: tuple[int, int]):
    """Clip positions (V, 4) float64 with z = 0 and faces of a triangulation that covers the image.

    At z = 0 all triangles lie at equal depth, so the smaller index wins wherever two of them claim
    a pixel.
    """
    height, width = size
    random = np.random.default_rng(seed)
    if kind == "large":
        points = random.uniform(-1.6, 1.6, (6, 2))
    elif kind == "tiny":  # two hundred triangles to a pixel, in one corner
        points = random.uniform(-0.2, 0.2, (2000, 2)) / [width / 10, height / 10] + [0.3, -0.4]
    elif kind == "centres":  # corners on pixel centres and on pixel borders
        column = random.integers(-4, 2 * width + 4, 150) / 2
        row = random.integers(-4, 2 * height + 4, 150) / 2
        points = np.stack([2 * column / width - 1, 1 - 2 * row / height], 1)
    else:
        points = random.uniform(-1.3, 1.3, (120, 2))
    frame = [[x, y] for x in (-2.0, 2.0) for y in (-2.0, 2.0)]
    points = np.unique(np.concatenate([points, frame]), axis=0)
    faces = Delaunay(points).simplices
    flip = random.random(len(faces)) < 0.5  # winding must not matter
    faces[flip] = faces[flip][:, ::-1]
    clip = np.concatenate([points, np.zeros((len(points), 1)), np.ones((len(points), 1))], 1)
    if kind == "perspective":
        clip = clip * random.uniform(0.2, 3.0, (len(points), 1))
    return torch.tensor(clip, dtype=F64), torch.tensor(faces.astype(np.int32))


def ground(seed: int):
    """Clip positions and faces of a ground below the camera that goes on behind it, all z = 0."""
    random = np.random.default_rng(seed)
    points = random.uniform(-30, 30, (80, 2))
    points = np.concatenate([points, [[x, y] for x in (-1e3, 1e3) for y in (-1e3, 1e3)]])
    faces = Delaunay(points).simplices.astype(np.int32)
    right, forward = points.T
    clip = np.stack([right, np.full(len(points), -1.0), np.zeros(len(points)), forward], 1)
    return torch.tensor(clip, dtype=F64), torch.tensor(faces)


def polygon(seed: int, radius: float, center: tuple[float, float], corners: int = 9):
    """A convex polygon (N, 2), counter-clockwise with y up, in pixels from the middle."""
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * math.pi, 4 * corners))
    points = np.stack([radius * np.cos(angle), 0.8 * radius * np.sin(angle)], 1)
    points = points[random.choice(len(points), corners, replace=False)]
    return points[ConvexHull(points).vertices] + center


def fan(points: np.ndarray):
    """Vertices (N + 1, 2) and faces (N, 3) of a convex polygon split around a point inside."""
    count = len(points)
    vertices = np.concatenate([points, points.mean(0, keepdims=True)])
    index = np.arange(count)
    faces = np.stack([index, (index + 1) % count, np.full(count, count)], 1)
    return torch.tensor(vertices, dtype=F64), torch.tensor(faces.astype(np.int32))


def to_clip(points: torch.Tensor, size: tuple[int, int], w: float | torch.Tensor = 1.0):
    """Clip positions (V, 4) of points (V, 2) in pixels from the middle of the image, y up."""
    height, width = size
    w = torch.as_tensor(w, dtype=points.dtype).expand(len(points))
    scale = points.new_tensor([2 / width, 2 / height])
    return torch.cat([points * scale * w[:, None], 0 * w[:, None], w[:, None]], 1)


def clipped_moments(points: np.ndarray, size: tuple[int, int]):
    """Area and first moments (A, Mx, My) of the part of a convex polygon inside the image."""
    height, width = size
    for normal, offset in (
        *(((1, 0), width / 2), ((-1, 0), width / 2)),
        *(((0, 1), height / 2), ((0, -1), height / 2)),
    ):
        distance = offset - points @ np.array(normal)
        kept = []
        for i in range(len(points)):
            j = (i + 1) % len(points)
            if distance[i] >= 0:
                kept.append(points[i])
            if distance[i] * distance[j] < 0:
                t = distance[i] / (distance[i] - distance[j])
                kept.append(points[i] + t * (points[j] - points[i]))
        points = np.array(kept)
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    first = ((points + following) * cross[:, None]).sum(0) / 6
    return np.array([cross.sum() / 2, *first])


def image_moments(mask: torch.Tensor):
    """Area and first moments (3,) of a mask (1, H, W, 1), in pixels from its middle, y up."""
    _, height, width, _ = mask.shape
    x = torch.arange(width, dtype=mask.dtype) + 0.5 - width / 2
    y = height / 2 - 0.5 - torch.arange(height, dtype=mask.dtype)
    mask = mask[0, :, :, 0]
    return torch.stack([mask.sum(), (mask * x).sum(), (mask * y[:, None]).sum()])


def soup(seed: int, batch: int = 2, faces: int = 7):
    """Overlapping triangles in perspective: clip positions (B, V, 4) float64 and faces (F, 3)."""
    generator = torch.Generator().manual_seed(seed)
    xyz = 2 * torch.rand(batch, 3 * faces - 4, 3, generator=generator, dtype=F64) - 1
    w = 0.6 + torch.rand(batch, 3 * faces - 4, 1, generator=generator, dtype=F64)
    index = torch.stack(
        [torch.randperm(3 * faces - 4, generator=generator)[:3] for _ in range(faces)]
    )
    return torch.cat([1.4 * xyz[..., :2] * w, 0.8 * xyz[..., 2:] * w, w], -1), index.int()
