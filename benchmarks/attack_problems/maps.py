"""The map nearest to a given one in which a wished path is the cheapest: a counterfactual.

A variational autoencoder knows 12 x 12 maps of what it costs to enter a cell (grass 1, sand 2,
forest 4, rock 7, water 9, from procedural landscapes). In its 64 latent coordinates z, with
outputs Phi(z) = (decoded map, z), 208 numbers,

    min  |map - given|^2 + 0.1 |z - z_given|^2
    s.t. cost(wished path; map) <= 1.02 * cost(cheapest path; map)
         7 <= |z| <= 9

both paths from the top left to the bottom right corner, along rows, columns and diagonals. The
cheapest path jumps from one route to another, so its constraint has kinks everywhere; the shell
holds the latent where the autoencoder has seen maps. The start is another map of the
autoencoder, whose own cheapest path is the wished one, so it is feasible. Nothing but the network
is evaluated: it is the true model.

After the experiment "counterfactual maps" of Bouchet and Vidal, Optimization by directional attacks
(2025); landscapes and network are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from attack_problems.trained import descend, trained
from optimizers import Problem

SIDE, LATENT, MOVES = 12, 64, 26  # cheapest among the paths of at most that many moves
COSTS = torch.tensor([1.0, 2.0, 4.0, 7.0, 9.0], dtype=torch.float64)


def landscapes(count: int, generator: torch.Generator) -> Tensor:
    """Random maps (count, 12, 12): smooth heights of two scales, cut into five kinds of ground."""
    heights = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.float64)
    for side, weight in ((3, 1.0), (6, 0.6)):
        coarse = torch.randn(count, 1, side, side, generator=generator, dtype=torch.float64)
        heights = heights + weight * functional.interpolate(
            coarse, (SIDE, SIDE), mode="bilinear", align_corners=True
        )
    levels = torch.tensor([-0.6, -0.1, 0.4, 0.9], dtype=torch.float64)
    return COSTS[torch.bucketize(heights[:, 0].contiguous(), levels)]


class Autoencoder(nn.Module):
    """Maps (..., 12, 12) to the mean and log variance of latents (..., 64), and back."""

    def __init__(self, width: int = 192) -> None:
        super().__init__()
        cells = SIDE * SIDE
        self.encoder = nn.Sequential(
            nn.Linear(cells, width), nn.ReLU(), nn.Linear(width, 2 * LATENT)
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, cells),
        )  # fmt: skip

    def encode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder((maps.flatten(-2) - 4) / 3).chunk(2, -1)  # pyright: ignore

    def decode(self, latents: Tensor) -> Tensor:
        """Maps between the cheapest and the dearest ground."""
        share = torch.sigmoid(self.decoder(latents)).unflatten(-1, (SIDE, SIDE))
        return COSTS[0] + (COSTS[-1] - COSTS[0]) * share


def autoencoder(variant: int) -> Autoencoder:
    """The autoencoder of a variant; about half a minute when it is new."""

    def fit(module: nn.Module) -> None:
        assert isinstance(module, Autoencoder)
        generator = torch.Generator().manual_seed(variant)
        known = landscapes(20_000, generator)

        def loss(_: int) -> Tensor:
            maps = known[torch.randint(len(known), (128,), generator=generator)]
            mean, log_variance = module.encode(maps)
            noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
            decoded = module.decode(mean + noise * (0.5 * log_variance).exp())
            misfit = (decoded - maps).square().sum((-2, -1)).mean() / 2
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean() / 2
            return misfit + divergence

        descend(module, loss, steps=3000, rate=2e-3)

    return trained(Autoencoder, fit, f"maps-{variant}")


def cheapest(maps: Tensor) -> Tensor:
    """Cost (...,) of the cheapest path through maps (..., 12, 12), both ends counted.

    Sweeps d <- cost + min over the neighbours of d; differentiable almost everywhere.
    """
    flat = maps.reshape(-1, 1, SIDE, SIDE)
    far = torch.full_like(flat, 1e4)
    far[:, :, 0, 0] = 0.0
    distance = far + functional.pad(flat[:, :, :1, :1], (0, SIDE - 1, 0, SIDE - 1))
    for _ in range(MOVES):
        nearest = -functional.max_pool2d(-distance, 3, 1, 1)
        distance = torch.minimum(distance, flat + nearest)
    return distance[:, 0, -1, -1].reshape(maps.shape[:-2])


def problem(variant: int = 0) -> Problem:
    """The problem with autoencoder, given map and wished path of a variant."""
    net = autoencoder(variant)
    generator = torch.Generator().manual_seed(1000 + variant)

    def on_shell() -> Tensor:
        """A latent (64,) of a new landscape, as long as a normal vector is expected to be."""
        mean, log_variance = net.encode(landscapes(1, generator)[0])
        noise = torch.randn(LATENT, generator=generator, dtype=torch.float64)
        latent = mean + noise * (0.5 * log_variance).exp()
        return latent * LATENT**0.5 / latent.norm()

    near, start = on_shell(), on_shell()
    given, other = net.decode(near), net.decode(start).requires_grad_()
    (path,) = torch.autograd.grad(cheapest(other), other)  # 1 in the cells of the cheapest path

    def outputs(latents: Tensor) -> Tensor:
        return torch.cat((net.decode(latents).flatten(-2), latents), -1)

    def distance_and_limits(answer: Tensor) -> tuple[Tensor, Tensor]:
        maps = answer[..., : SIDE * SIDE].unflatten(-1, (SIDE, SIDE))
        latents = answer[..., SIDE * SIDE :]
        distance = (maps - given).square().sum((-2, -1))
        distance = distance + 0.1 * (latents - near).square().sum(-1)
        excess = (maps * path).sum((-2, -1)) / cheapest(maps) - 1.02
        length = latents.norm(dim=-1)
        return distance, torch.stack((excess, length / 9 - 1, 1 - length / 7), -1)

    return Problem.from_callable(
        outputs,
        -6.0,
        6.0,
        start,
        batched=True,
        differentiable=True,
        outer=distance_and_limits,
        constraints=3,
    )
