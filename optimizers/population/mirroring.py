"""Draws that spread more evenly than independent ones."""

from __future__ import annotations

import torch
from torch import Tensor


def mirrored(noise: Tensor, count: int) -> Tensor:
    """A generation (..., count, d) from normal draws (..., ceil(count / 2), d).

    The draws keep their lengths, their directions are made orthogonal to each other, d at a time;
    then all come once more with the other sign. Each row alone is still a normal draw.
    """
    d = noise.shape[-1]
    turned = []
    for block in noise.split(d, dim=-2):
        basis, triangle = torch.linalg.qr(block.mT)
        # without the signs, the directions would not be uniform on the sphere
        signs = triangle.diagonal(dim1=-2, dim2=-1).sign()
        lengths = block.norm(dim=-1)
        turned.append((basis * (signs * lengths)[..., None, :]).mT)
    half = torch.cat(turned, -2)
    return torch.cat((half, -half), -2)[..., :count, :]
