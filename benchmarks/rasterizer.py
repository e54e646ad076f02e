"""Time of rasterize, interpolate and antialias, forward and backward, on one core.

python benchmarks/rasterizer.py

A closed surface of 10 000 triangles fills most of a 256 x 256 image; three channels are
interpolated. Printed: CPU milliseconds of each stage (median), their ratio to the plain torch twin,
and to the floor: a loop over triangles that only writes depth and face index.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from geomopt.render import (
    Camera,
    Fragments,
    antialias,
    edge_opposites,
    interpolate,
    rasterize,
)

SIZE = (256, 256)
LIMIT = 25.0  # milliseconds of one core for everything together


def bumpy_sphere(around: int = 100, rings: int = 50) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) and faces (2 around rings, 3) of a closed surface."""
    polar = torch.linspace(0, torch.pi, rings + 2)[1:-1, None]
    azimuth = torch.arange(around)[None] * (2 * torch.pi / around)
    radius = 1 + 0.1 * torch.sin(5 * azimuth) * torch.sin(4 * polar)
    ring = torch.stack(
        [
            radius * polar.sin() * azimuth.cos(),
            radius * polar.sin() * azimuth.sin(),
            radius * polar.cos().expand(-1, around),
        ],
        -1,
    )
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    vertices = torch.cat([ring.reshape(-1, 3), poles])
    here = torch.arange(around)
    there = (here + 1) % around
    top, bottom = len(vertices) - 2, len(vertices) - 1
    last = (rings - 1) * around
    faces = [torch.stack([torch.full_like(here, top), here, there], 1)]
    for row in range(rings - 1):
        a, b = row * around + here, row * around + there
        faces += [torch.stack([a, a + around, b], 1), torch.stack([b, a + around, b + around], 1)]
    faces += [torch.stack([torch.full_like(here, bottom), last + there, last + here], 1)]
    return vertices, torch.cat(faces).int()


def cpu_time(work: Callable[[], object], repeats: int) -> float:
    """Median CPU milliseconds of `work`."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return 1e3 * sorted(times)[repeats // 2]


def stages(backend: str, repeats: int) -> dict[str, float]:
    """CPU milliseconds of each stage."""
    vertices, faces = bumpy_sphere()
    camera = Camera.perspective((2.2, 1.6, 1.2), vertical_fov=42.0, resolution=SIZE)
    clip = camera.project(vertices).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    colors = torch.rand(len(vertices), 3, generator=generator).requires_grad_()
    weight = torch.rand(1, *SIZE, 3, generator=generator)

    fragments = rasterize(clip, faces, SIZE, backend=backend)
    cut = fragments.barycentric.detach().requires_grad_()
    loose = Fragments(fragments.face, cut, fragments.depth)
    image = interpolate(colors, faces, loose, backend=backend)
    leaf = image.detach().requires_grad_()
    smooth = antialias(leaf, loose, clip, faces, backend=backend)
    slope = torch.rand(fragments.barycentric.shape, generator=generator) * fragments.mask[..., None]

    def back(output: Tensor, gradient: Tensor, *inputs: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(output, inputs, gradient, retain_graph=True)

    def everything() -> None:
        fragments = rasterize(clip, faces, SIZE, backend=backend)
        image = interpolate(colors, faces, fragments, backend=backend)
        image = antialias(image, fragments, clip, faces, backend=backend)
        torch.autograd.grad(image, [clip, colors], weight)

    work = {
        "rasterize": lambda: rasterize(clip, faces, SIZE, backend=backend),
        "rasterize backward": back(fragments.barycentric, slope, clip),
        "interpolate": lambda: interpolate(colors, faces, loose, backend=backend),
        "interpolate backward": back(image, weight, colors, cut),
        "edge table": lambda: edge_opposites(faces, len(vertices), backend=backend),
        "antialias with table": lambda: antialias(leaf, loose, clip, faces, backend=backend),
        "antialias backward": back(smooth, weight, leaf, clip),
        "all together": everything,
    }
    return {name: cpu_time(task, repeats) for name, task in work.items()}


def floor(repeats: int) -> float:
    """CPU milliseconds of the plain loop over triangles."""
    from geomopt.render.rasterize import cover

    vertices, faces = bumpy_sphere()
    camera = Camera.perspective((2.2, 1.6, 1.2), vertical_fov=42.0, resolution=SIZE)
    clip = camera.project(vertices).double()
    return cpu_time(lambda: cover(clip, faces, SIZE), repeats)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    warp, twin = stages("warp", 31), stages("torch", 3)
    least = floor(31)
    print(f"{'stage':24}{'ms':>8}{'torch ms':>10}{'ratio':>8}")
    for name, value in warp.items():
        print(f"{name:24}{value:8.2f}{twin[name]:10.1f}{value / twin[name]:8.3f}")
    total = warp["all together"]
    print(
        f"plain loop over triangles {least:.2f} ms; all together is {total / least:.1f} times that"
    )
    print(f"limit {LIMIT:.0f} ms, reached {total:.1f} ms: {'met' if total <= LIMIT else 'MISSED'}")


if __name__ == "__main__":
    main()
