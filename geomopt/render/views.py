"""Where to put cameras around an object."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.render.camera import Camera
from geomopt.render.poses import Points, points_like


def sphere_directions(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Well-spread unit vectors (count, 3): a spherical Fibonacci lattice, turned at random.

    generator: a CPU generator for the turn; without it the lattice stands upright.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    index = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1 - 2 * index / count
    azimuth = index * (math.pi * (3 - math.sqrt(5)))  # the golden angle
    radius = (1 - height**2).sqrt()
    points = torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), height], 1)
    if generator is not None:
        turn, scale = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        points = points @ (turn * scale.diagonal().sign()).T
    return points.float()


def random_cameras(
    count: int,
    generator: torch.Generator | None = None,
    *,
    radius: float = 3.0,
    target: Points = (0.0, 0.0, 0.0),
    up: Points = (0.0, 0.0, 1.0),
    vertical_fov: float = 40.0,
    resolution: tuple[int, int] = (256, 256),
) -> Camera:
    """Cameras well spread over the whole sphere around `target`, all looking at it.

    radius: distance in metres; generator: a CPU generator that turns the set; up: a direction that
    points upwards in the images.
    """
    center = points_like("target", target)
    eye = center + radius * sphere_directions(count, generator).to(center)
    return Camera.perspective(eye, center, up, vertical_fov=vertical_fov, resolution=resolution)


def orbit_cameras(
    count: int,
    *,
    radius: float = 3.0,
    target: Points = (0.0, 0.0, 0.0),
    elevation: float = 20.0,
    start: float = 30.0,
    vertical_fov: float = 40.0,
    resolution: tuple[int, int] = (256, 256),
) -> Camera:
    """Cameras on a level circle around `target`, evenly spaced and counter-clockwise from above.

    elevation: degrees above the horizontal; start: azimuth of the first camera, degrees from x.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    center = points_like("target", target)
    azimuth = math.radians(start) + torch.arange(count) * (2 * math.pi / count)
    level, up = math.cos(math.radians(elevation)), math.sin(math.radians(elevation))
    offset = torch.stack(
        [level * azimuth.cos(), level * azimuth.sin(), torch.full((count,), up)], 1
    )
    eye = center + radius * offset.to(center)
    return Camera.perspective(eye, center, vertical_fov=vertical_fov, resolution=resolution)


def framing(
    lower: Points, upper: Points, *, vertical_fov: float = 40.0, margin: float = 1.05
) -> tuple[Tensor, float]:
    """The middle (3,) of a box and the distance at which its circumscribed sphere fills the image.

    margin: how much wider than the sphere the view is. For images at least as wide as high.
    """
    low, high = points_like("lower", lower)[0], points_like("upper", upper)[0]
    radius = 0.5 * float((high - low).norm()) or 1.0
    return (low + high) / 2, margin * radius / math.sin(math.radians(vertical_fov) / 2)
