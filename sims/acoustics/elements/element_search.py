"""Which trilinear element a position lies in."""

from __future__ import annotations

import torch
from torch import Tensor

from sims.acoustics.elements.trilinear import corner_weights, inverted

PAIRS_AT_ONCE = 1 << 23  # of positions and elements, about 100 MB of intermediate values
TOUCH = 1e-6  # in reference coordinates; how far past its faces an element still reaches


def located(corners: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Element (R,), -1 for none, and reference coordinates (R, 3) of positions (R, 3).

    corners: (E, 8, 3). Of elements that share the position, the one that holds it deepest.
    """
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    size = (high - low).amax(dim=1)
    low, high = low - TOUCH * size[:, None], high + TOUCH * size[:, None]
    pairs = [torch.zeros(0, 2, dtype=torch.int64, device=corners.device)]
    step = max(1, PAIRS_AT_ONCE // len(corners))
    for start in range(0, len(targets), step):
        part = targets[start : start + step, None]
        near = ((part >= low) & (part <= high)).all(dim=2).nonzero()
        pairs.append(near + near.new_tensor([start, 0]))
    target, candidate = torch.cat(pairs).unbind(dim=1)
    reference = inverted(corners[candidate], targets[target])
    miss = torch.einsum("kc,kcx->kx", corner_weights(reference), corners[candidate])
    miss = (miss - targets[target]).abs().amax(dim=1)
    beyond = reference.abs().amax(dim=1)
    holds = (beyond <= 1 + TOUCH) & (miss <= TOUCH * size[candidate])
    target, candidate, reference = target[holds], candidate[holds], reference[holds]
    # the deepest first, then by target: the first of each target is wanted
    best = torch.argsort(beyond[holds], stable=True)
    best = best[torch.argsort(target[best], stable=True)]
    counts = torch.bincount(target, minlength=len(targets))
    has = counts > 0
    first = best[(counts.cumsum(0) - counts)[has]]
    found = torch.full((len(targets),), -1, dtype=torch.int64, device=corners.device)
    found[has] = candidate[first]
    places = torch.zeros_like(targets)
    places[has] = reference[first]
    return found, places
