"""What the receivers tell of the walls, from the Gauss-Newton Hessian of a fit.

With residuals in expected errors, JᵀJ is the information of the data about the unknowns. What the
unknown source takes of it is taken off (Schur's complement). Its eigenvectors are combinations of
logarithms; where an eigenvalue is small, the prior decides and not the data. The absorption of each
wall is what the combinations are for: its uncertainty is that of all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sims.acoustics.inverse.gauss_newton import Fit
from sims.acoustics.inverse.wall_unknowns import Unknowns
from sims.acoustics.metrics.bands import OCTAVES

DETERMINED = 0.5  # of a logarithm, a factor of 1.6
NAMED = 4  # unknowns that a sentence names
LEAST_DETERMINED = 3  # combinations that are told in words
WELL_KNOWN = 0.05  # of an absorption coefficient


@dataclass(frozen=True)
class Identifiability:
    """spectrum: (P,) eigenvalues of the information about the walls, falling. uncertainties: (P,)
    of their combinations, one standard deviation of a logarithm with the prior. combinations:
    (P, P), in rows. absorption: (surface, band [Hz]) to the coefficient at normal incidence and its
    standard deviation. sentences: in words.
    """

    spectrum: Tensor
    uncertainties: Tensor
    combinations: Tensor
    absorption: dict[tuple[str, float], tuple[float, float]]
    sentences: tuple[str, ...]

    @property
    def determined(self) -> int:
        """How many combinations the data determine within a factor of 1.6."""
        return int((self.uncertainties < DETERMINED).sum())


def identifiability(fit: Fit, unknowns: Unknowns, lowest: float, highest: float) -> Identifiability:
    """From where a fit ended, for walls between two frequencies [Hz]."""
    prior, count = unknowns.prior(), unknowns.count
    # residuals that are larger than expected say that their errors are, too
    scale = max(1.0, float(fit.residual.square().mean()))
    information = fit.jacobian.T @ fit.jacobian / scale
    others = information[count:, count:] + torch.diag(prior.spread[count:] ** -2)
    across = information[:count, count:]
    walls = information[:count, :count] - across @ torch.linalg.solve(others, across.T)
    values, vectors = torch.linalg.eigh((walls + walls.T) / 2)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    kept = prior.spread[:count] ** -2
    covariance = torch.linalg.inv(walls + torch.diag(kept))
    spread = torch.einsum("pi,pq,qi->i", vectors, covariance, vectors).sqrt()
    absorption = _absorption(fit.parameters, unknowns, covariance, lowest, highest)
    sentences = _sentences(spread, vectors.T, unknowns, absorption)
    return Identifiability(values, spread, vectors.T, absorption, tuple(sentences))


def _absorption(
    x: Tensor, unknowns: Unknowns, covariance: Tensor, lowest: float, highest: float
) -> dict[tuple[str, float], tuple[float, float]]:
    bands = [band for band in OCTAVES if lowest <= band <= highest]
    found = {}
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        for name, wall in unknowns.walls(x).items():
            for band in bands:
                alpha = wall.absorption([band], "normal")[0]
                (slope,) = torch.autograd.grad(alpha, x, retain_graph=True)
                slope = slope[: unknowns.count]
                error = float((slope @ covariance @ slope).sqrt())
                found[name, band] = (float(alpha.detach()), error)
    return found


def _sentences(
    spread: Tensor,
    combinations: Tensor,
    unknowns: Unknowns,
    absorption: dict[tuple[str, float], tuple[float, float]],
) -> list[str]:
    known = int((spread < DETERMINED).sum())
    sentences = [
        f"{known} of {len(spread)} combinations of the walls' masses, dampings and springs are "
        "determined within a factor of 1.6; the others are as is typical of walls"
    ]
    names = unknowns.names()
    for row in spread.argsort(descending=True)[:LEAST_DETERMINED].tolist():
        if spread[row] < DETERMINED:
            break
        weights = combinations[row].abs()
        chosen = [n for n in weights.argsort(descending=True)[:NAMED].tolist()
                  if weights[n] > 0.3 * weights.max()]  # fmt: skip
        said = " with ".join(names[n] for n in chosen)
        sentences.append(f"poorly determined, within a factor of {spread[row].exp():.1f}: {said}")
    for (surface, band), (alpha, error) in absorption.items():
        doubt = "" if error < WELL_KNOWN else ", which these receivers do not tell"
        sentences.append(
            f"{surface} takes {alpha:.3f} ± {error:.3f} at {band:g} Hz and normal incidence{doubt}"
        )
    return sentences
