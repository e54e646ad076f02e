"""Screen positions on a fixed sub-pixel grid, which make the fill watertight.

Corners are rounded to 1/4096 pixel. The line through two of them and its value at a pixel centre
are then integers below 2^53, so float64 evaluates them exactly: the two triangles at an edge see
opposite numbers, and a top-left rule settles zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

SUBPIXELS = 4096
LIMIT = float(
    1 << 25
)  # 8192 pixels from the middle of the image; products of two differences stay below 2^53


def pixel_scale(resolution: tuple[int, int]) -> tuple[float, float]:
    """Grid steps per unit of x/w and of y/w."""
    height, width = resolution
    return width * SUBPIXELS / 2, height * SUBPIXELS / 2


def snapped_positions(clip: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Rounded screen positions (B, V, 2), float64, in grid steps from the middle of the image, x
    right and y up.

    NaN where a vertex of clip (B, V, 4) float64 lies behind the camera plane or far outside the
    image: the lines through it are evaluated in homogeneous coordinates instead.
    """
    scale = torch.tensor(pixel_scale(resolution), dtype=clip.dtype, device=clip.device)
    w = clip[..., 3:]
    snapped = torch.round(clip[..., :2] / w * scale)
    usable = (snapped.abs().amax(-1, keepdim=True) <= LIMIT) & (w > 0)
    return torch.where(usable, snapped, torch.nan)
