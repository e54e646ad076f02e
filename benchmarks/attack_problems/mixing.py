"""Weights of a hundred images whose sum makes a network answer as for another image.

    Phi(w) = softmax(net(sum_i w_i image_i)),  min |Phi(w) - Phi(target)|^2,  w in [-1, 1]^100

The network is a small residual one with 200 classes, initialised by us and never trained; its
outputs are scaled so that the target is answered with confidence. Images are sums of coloured
blobs and waves. The start is their mean. Nothing but the network is evaluated here: it is the true
model.

After the experiment "weights of images" of Bouchet and Vidal, Optimization by directional attacks
(2025); network and images are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from optimizers import Problem

IMAGES, SIZE, CLASSES = 100, 16, 200


class Block(nn.Module):
    """Two convolutions beside a shortcut, halving the resolution where `stride` is 2."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1)
        self.shortcut = nn.Conv2d(inner, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x)))) / 2**0.5


def network() -> nn.Module:
    """Images (B, 3, 16, 16) to logits (B, 200)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), Block(8, 12, 2), Block(12, 16, 2), Block(16, 24, 2),
        nn.Flatten(), nn.Linear(96, CLASSES),
    )  # fmt: skip


def images(count: int, generator: torch.Generator) -> Tensor:
    """Synthetic pictures (count, 3, 16, 16) with values about 0: three blobs and a wave each."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64) * 2 - 1

    line = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    centres, sizes, colours = uniform(3, 2), 0.3 + 0.2 * uniform(3), uniform(3, 3)
    distances = (rows - centres[..., :1, None]).square() + (
        columns - centres[..., 1:, None]
    ).square()
    blobs = torch.exp(-distances / sizes[..., None, None].square())
    pictures = torch.einsum("bkc,bkhw->bchw", 2 * colours, blobs)
    frequencies, phases = 6 * uniform(2), 3 * uniform(3)
    angle = frequencies[:, :1, None] * rows + frequencies[:, 1:, None] * columns
    return pictures + 0.5 * torch.sin(angle[:, None] + phases[..., None, None])


def problem(variant: int = 0) -> Problem:
    """The problem with images, network and target of a variant."""
    generator = torch.Generator().manual_seed(1000 + variant)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(variant)
        net = network().double().requires_grad_(False)
    given, target = images(IMAGES, generator), images(1, generator)
    basis = given.flatten(1)
    with torch.no_grad():
        logits = net(given)
        middle, spread = logits.mean(0), logits.std(0).mean()

    def outputs(weights: Tensor) -> Tensor:
        pictures = (weights @ basis).unflatten(-1, (3, SIZE, SIZE))
        return torch.softmax(3 * (net(pictures) - middle) / spread, -1)

    with torch.no_grad():
        wanted = torch.softmax(3 * (net(target) - middle) / spread, -1)[0]
    return Problem.from_callable(
        outputs,
        -1.0,
        1.0,
        torch.full((IMAGES,), 1 / IMAGES, dtype=torch.float64),
        batched=True,
        differentiable=True,
        outer=lambda answer: (answer - wanted).square().sum(-1),
    )
