"""How far rendered images are from given ones. All images are (B, H, W, C), losses are scalars."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from geomopt.errors import InputError, check_tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def mask_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of masks (B, H, W, 1) in [0, 1]."""
    _check(prediction, target)
    return (prediction - target).abs().mean()


def depth_loss(
    prediction: Tensor, target: Tensor, mask: Tensor, *, scale: float | None = None
) -> Tensor:
    """Mean difference of depths (B, H, W, 1) in metres where mask (B, H, W, 1) is set.

    scale: size in metres below which the difference counts quadratically, as in
    sqrt(d^2 + scale^2) - scale; without it the absolute difference.
    """
    _check(prediction, target)
    difference = prediction - target
    if scale is None:
        return _mean_where(difference.abs(), mask)
    if not scale > 0:
        raise InputError(f"scale must be positive, got {scale}")
    return _mean_where((difference**2 + scale**2).sqrt() - scale, mask)


def normal_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between normals (B, H, W, 3) where mask (B, H, W, 1) is set."""
    _check(prediction, target)
    cosine = (normalize(prediction, dim=-1) * normalize(target, dim=-1)).sum(-1, keepdim=True)
    return _mean_where(1 - cosine, mask)


def color_loss(prediction: Tensor, target: Tensor, *, tone_mapped: bool = False) -> Tensor:
    """Mean absolute difference of colours (B, H, W, C).

    tone_mapped: of log(1 + x) of linear colours above 0, which weighs bright parts less.
    """
    _check(prediction, target)
    if tone_mapped:
        prediction, target = prediction.clamp_min(0).log1p(), target.clamp_min(0).log1p()
    return (prediction - target).abs().mean()


def multi_scale(loss: Loss, prediction: Tensor, target: Tensor, levels: int = 3) -> Tensor:
    """Mean of a loss over a pyramid: the images, then averaged over 2x2 pixels, 4x4 and so on.

    A silhouette that is pixels away from its target gets a gradient once both fall into one pixel.
    Raises InputError where the images are too small for that many levels.
    """
    _check(prediction, target)
    if levels < 1 or min(prediction.shape[1:3]) >> (levels - 1) < 1:
        raise InputError(
            f"levels must be at least 1 and halve {tuple(prediction.shape[1:3])} images to no less "
            f"than a pixel, got {levels}"
        )
    total = loss(prediction, target)
    for _ in range(levels - 1):
        prediction, target = _halved(prediction), _halved(target)
        total = total + loss(prediction, target)
    return total / levels


def _halved(image: Tensor) -> Tensor:
    return avg_pool2d(image.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _check(prediction: Tensor, target: Tensor) -> None:
    check_tensor("prediction", prediction)
    if prediction.ndim != 4:
        raise InputError(f"prediction must have shape (B, H, W, C), got {tuple(prediction.shape)}")
    check_tensor("target", target, prediction.shape, like=prediction)


def _mean_where(value: Tensor, mask: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.shape != value.shape:
        came = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"mask must be a tensor of shape {tuple(value.shape)}, got {came}")
    if mask.dtype != torch.bool:
        check_tensor("mask", mask)
    weight = mask.to(value)
    return (value * weight).sum() / weight.sum().clamp_min(1)
