"""The gradient of a smoothed function, from values and gradients that may be biased."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.checks import check_number

KEEP = 0.95  # of the averages of disagreement and of noise


@dataclass(frozen=True, eq=False)
class Averages:
    """What is remembered of earlier estimates, per block (b,).

    disagreement: average of |G1 - G0|^2. noise: average of the variance of G1 - G0.
    count: estimates so far.
    """

    disagreement: Tensor
    noise: Tensor
    count: int = 0


@dataclass(frozen=True, eq=False)
class MixedGradient:
    """An estimate with its parts.

    gradient, first, zeroth: (d,), the mix and the two estimates it is made of.
    trust: (b,), share of the first order in each block.
    bias: (b,), estimated squared bias of the first order.
    averages: for the next estimate nearby.
    """

    gradient: Tensor
    first: Tensor
    zeroth: Tensor
    trust: Tensor
    bias: Tensor
    averages: Averages


def mixed_gradient(
    displacements: Tensor,
    values: Tensor,
    gradients: Tensor,
    deviation: Tensor | float,
    averages: Averages | None = None,
    blocks: Tensor | None = None,
) -> MixedGradient:
    """The gradient of f_s(x) = E f(x + w), w ~ N(0, s^2), believing gradients as far as values do.

    displacements: (N, d), the w of N >= 2 pairs of points x + w and x - w.
    values: (2, N), f at x + w and at x - w. gradients: (2, N, d).
    deviation: s > 0, (d,) or a number.
    averages: of the last estimate, None for the first.
    blocks: (d,) integers from 0 on, which block of coordinates each belongs to; one by default.

        G1 = mean (grad f(x + w) + grad f(x - w)) / 2
        G0 = mean (f(x + w) - f(x - w)) w / (2 s^2)
        V1, V0, C = variances and covariance of the two means, summed over a block
        S  = V0 + V1 - 2 C,    D = |G1 - G0|^2,    averages with 0.95
        b2 = max(0, average D - average S)
        G  = a G1 + (1 - a) G0,    a = clip((V0 - C) / (S + b2), 0, 1)

    G0 is noisy and true; G1 is precise, but blind to jumps, and E D = S + its squared bias, so the
    mix has the least mean squared error. Suh et al., 2022, mix by a bound with two constants; here
    nothing is to be tuned, and a gradient that is precisely wrong is not believed.
    Raises ValueError where shapes do not fit.
    """
    pairs, d = displacements.shape
    if pairs < 2:
        raise ValueError(f"displacements must hold at least 2 pairs, got {pairs}")
    if values.shape != (2, pairs) or gradients.shape != (2, pairs, d):
        raise ValueError(
            f"values and gradients must have shape {(2, pairs)} and {(2, pairs, d)}, "
            f"got {tuple(values.shape)} and {tuple(gradients.shape)}"
        )
    if not isinstance(deviation, Tensor):
        check_number("deviation", deviation, above=0)
        deviation = displacements.new_tensor(deviation)
    if blocks is None:
        blocks = torch.zeros(d, dtype=torch.long, device=displacements.device)
    count = int(blocks.max()) + 1
    each_first = gradients.mean(0)
    rise = 0.5 * (values[0] - values[1])
    each_zeroth = rise[:, None] * displacements / deviation.square()
    first, zeroth = each_first.mean(0), each_zeroth.mean(0)
    off_first, off_zeroth = each_first - first, each_zeroth - zeroth

    def summed(entries: Tensor) -> Tensor:
        return entries.new_zeros(count).index_add(0, blocks, entries)

    scale = 1 / (pairs * (pairs - 1))
    variance = summed(off_zeroth.square().sum(0)) * scale
    shared = summed((off_zeroth * off_first).sum(0)) * scale
    noise = variance + summed(off_first.square().sum(0)) * scale - 2 * shared
    disagreement = summed((first - zeroth).square())
    if averages is None:
        averages = Averages(torch.zeros_like(noise), torch.zeros_like(noise))
    steps = averages.count + 1
    averages = Averages(
        KEEP * averages.disagreement + (1 - KEEP) * disagreement,
        KEEP * averages.noise + (1 - KEEP) * noise,
        steps,
    )
    full = 1 - KEEP**steps
    bias = ((averages.disagreement - averages.noise) / full).clamp(min=0.0)
    total = noise + bias
    trust = torch.where(total > 0, (variance - shared) / total, 1.0).clamp(0.0, 1.0)
    share = trust[blocks]
    mix = share * first + (1 - share) * zeroth
    return MixedGradient(mix, first, zeroth, trust, bias, averages)
