"""Weights and learning rates of CMA-ES."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recombination:
    """Weights by rank and the learning rates that go with them.

    weights: as many as the population, best first; the positive ones sum to 1, the negative ones
        punish the worst.
    effective: variance-effective number of parents (mu_eff).
    effective_paired: the same where candidates come in mirrored pairs, whose steps cancel in part.
    rank_one, rank_mu: learning rates of the covariance (c_1, c_mu).
    path_covariance, path_step: decay of the evolution paths (c_c, c_sigma).
    damping: of the step size (d_sigma).
    """

    weights: tuple[float, ...]
    effective: float
    effective_paired: float
    rank_one: float
    rank_mu: float
    path_covariance: float
    path_step: float
    damping: float


def default_population(dimension: int) -> int:
    """4 + 3 ln d candidates in a generation."""
    return 4 + int(3 * math.log(dimension))


def recombination(population: int, dimension: int, diagonal: bool = False) -> Recombination:
    """The default parameters of active CMA-ES: Hansen, 2016, table 1.

    diagonal: only the diagonal is learnt, so it may be learnt (d + 2) / 3 times faster (Ros and
    Hansen, 2008).
    """
    d = dimension
    raw = [math.log((population + 1) / 2) - math.log(rank) for rank in range(1, population + 1)]
    parents = [weight for weight in raw if weight > 0]
    others = [weight for weight in raw if weight <= 0]
    effective = sum(parents) ** 2 / sum(weight**2 for weight in parents)
    effective_others = sum(others) ** 2 / (sum(weight**2 for weight in others) or 1.0)

    rank_one = 2 / ((d + 1.3) ** 2 + effective)
    rank_mu = 2 * (0.25 + effective + 1 / effective - 2) / ((d + 2) ** 2 + effective)
    if diagonal:
        rank_one, rank_mu = rank_one * (d + 2) / 3, rank_mu * (d + 2) / 3
    rank_one = min(rank_one, 1.0)
    rank_mu = min(rank_mu, 1 - rank_one)

    # how much the worst may be punished; the last bound keeps the covariance positive definite
    punished = min(
        1 + rank_one / rank_mu,
        1 + 2 * effective_others / (effective + 2),
        (1 - rank_one - rank_mu) / (d * rank_mu),
    )
    share = -sum(others) or 1.0
    weights = [weight / sum(parents) for weight in parents] + [
        punished * weight / share for weight in others
    ]

    # 1 / mu_eff is the mean square of a step without selection; two mates are drawn into it by
    # chance with the mean product of their weights, and then take from it what one of them adds
    square = 1 / effective
    mates = 2 * (population // 2) / (population * (population - 1))
    effective_paired = 1 / (square - mates * (1 - square))

    path_step = min(0.5, (effective + 2) / (d + effective + 3))
    return Recombination(
        weights=tuple(weights),
        effective=effective,
        effective_paired=effective_paired,
        rank_one=rank_one,
        rank_mu=rank_mu,
        path_covariance=(4 + effective / d) / (d + 4 + 2 * effective / d),
        path_step=path_step,
        damping=1 + 2 * max(0.0, math.sqrt((effective - 1) / (d + 1)) - 1) + path_step,
    )
