"""Fields that walls press into the air, beside its rigid modes (Craig and Chang, AIAA 1977).

Rigid modes have no slope at a wall, so near one that gives way their sum converges slowly. What is
missing of them all is close to the field at rest under the same load: A ψ = M⁻¹ S φ on each
surface, less its part in the modes that are kept. The few that matter are found by their energy
and made into modes of their own by Rayleigh's quotient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sims.acoustics.stepping.boundary import Boundary
from sims.acoustics.surrogates.reduced_modes import Modes, Operator

SLOWEST = 0.1  # of the highest frequency, as which slower modes weigh: walls make them decay
NEGLIGIBLE = 1e-4  # of the largest singular value of what a surface sees


def attached(
    operator: Operator, modes: Modes, boundary: Boundary, spread: float, share: float
) -> Modes:
    """The modes and the fields that walls add to them.

    spread: [s²], the loads of modes weigh as in the default pulse, ω exp(-ω² spread). share: fields
    whose amplitude is less, beside the largest, are left out.
    """
    squared = modes.frequency.square()
    heard = modes.frequency.clamp(min=SLOWEST * operator.highest) * torch.exp(-squared * spread)
    loads = torch.cat(list(_loads(modes.shapes * heard, boundary)), 1)
    mass = operator.mass[:, None]
    fields = operator.rest(loads)
    for _ in range(2):
        fields = fields - modes.shapes @ (modes.shapes.T @ (mass * fields))
    energy = fields.T @ (mass * operator.product(fields))
    values, mix = torch.linalg.eigh((energy + energy.T) / 2)
    kept = values > share**2 * values[-1]
    fields = fields @ (mix[:, kept] / values[kept].sqrt())
    # of unit energy, so that their mass is 1/ω²
    values, mix = torch.linalg.eigh(fields.T @ (mass * fields))
    order = values.argsort(descending=True)
    fields = fields @ (mix[:, order] / values[order].sqrt())
    frequency = torch.cat([modes.frequency, values[order].rsqrt()])
    return Modes(frequency, torch.cat([modes.shapes, fields], 1))


def _loads(shapes: Tensor, boundary: Boundary) -> list[Tensor]:
    """S Φ of each surface in as few columns as it has, (N, r) each."""
    counts = boundary.starts.diff().long()
    nodes = torch.repeat_interleave(boundary.nodes.long(), counts).cpu()
    surface, areas = boundary.surface.cpu(), boundary.areas.detach().cpu()
    found = []
    for number in surface.unique().tolist():
        entries = surface == number
        root = areas[entries].sqrt()[:, None]
        left, size, _ = torch.linalg.svd(root * shapes[nodes[entries]], full_matrices=False)
        kept = size > NEGLIGIBLE * size[0]
        load = shapes.new_zeros(len(shapes), int(kept.sum()))
        load[nodes[entries]] = root * left[:, kept] * size[kept]
        found.append(load)
    return found
