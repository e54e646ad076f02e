"""Image files of a data set as tensors: colour, mask, depth, normal; and the two ways to shrink
them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from geomopt.errors import InputError
from geomopt.files import replacing
from geomopt.render import Camera

DEPTH_STEP = 0.02  # share of the depth by which neighbouring pixels of one surface may differ
BACKGROUND_SPREAD = 0.02  # colours of an image's border that differ less are one background
LOSSY_SPREAD = 0.06  # the same near edges in a lossy file, whose ringing is no object
LOSSY = (".jpg", ".jpeg", ".webp")


def read_color(
    path: Path, mask_path: Path | None, resolution: tuple[int, int], depth: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Colour (H, W, 3), multiplied by the mask, and mask (H, W, 1) of one frame, in [0, 1].

    The mask is that of its file, else the alpha channel, else what differs from a border of one
    colour, else where depth (H, W, 1) is known if most of its border is not. An alpha channel that
    is opaque everywhere tells something only where the others do not: there the object fills the
    image.
    """
    pixels = _read_pixels(path, resolution)
    if pixels.shape[-1] < 3:
        pixels = torch.cat([pixels[..., :1].expand(-1, -1, 3), pixels[..., 1:]], dim=-1)
    color, alpha = pixels[..., :3], pixels[..., 3:]
    if mask_path is not None:
        mask = _read_pixels(mask_path, resolution)
        mask = mask[..., -1:] if mask.shape[-1] in (2, 4) else mask[..., :1]
        return color * mask, mask
    if alpha.numel() and float(alpha.min()) < 1:
        return color * alpha, alpha
    border = _border(color)
    background = border.median(dim=0).values
    if float((border - background).abs().amax(dim=-1).quantile(0.95)) > BACKGROUND_SPREAD:
        if depth is not None and float((_border(depth) > 0).float().mean()) < 0.5:
            known = (depth > 0).float()
            return color * known, known
        if alpha.numel():
            return color, alpha
        raise InputError(
            f"image {path} has no alpha channel, its frame names no mask_path, and its border is "
            "not of one colour: give RGBA images or masks, so that the object is known from its "
            "surroundings"
        )
    spread = LOSSY_SPREAD if path.suffix.lower() in LOSSY else BACKGROUND_SPREAD
    mask = ((color - background).abs().amax(dim=-1, keepdim=True) > 2 * spread).float()
    return color * mask, mask


def _border(image: Tensor) -> Tensor:
    return torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])


def read_depth(path: Path, resolution: tuple[int, int], scale: float) -> Tensor:
    """Depth (H, W, 1) in metres along the viewing axis, 0 where it is not known.

    .npy and .npz hold metres where they hold floating numbers; integers, as in 16-bit .png, are
    multiplied by `scale`.
    """
    if path.suffix.lower() in (".npy", ".npz"):
        values = _read_array(path)
    else:
        values = np.asarray(_open(path))
    unit = 1.0 if np.issubdtype(values.dtype, np.floating) else scale
    if values.ndim == 3:
        values = values[..., 0]
    _check_size(path, values.shape[:2], resolution)
    depth = torch.from_numpy((values * float(unit)).astype(np.float32))[..., None]
    return torch.where(torch.isfinite(depth) & (depth > 0), depth, torch.zeros(()))


def read_normal(path: Path, resolution: tuple[int, int]) -> Tensor:
    """Unit normals (H, W, 3) in the world, 0 where unknown; .npy, .npz, or images that hold (n + 1)
    / 2.
    """
    if path.suffix.lower() in (".npy", ".npz"):
        values = torch.from_numpy(_read_array(path).astype(np.float32))
        _check_size(path, tuple(values.shape[:2]), resolution)
    else:
        values = 2 * _read_pixels(path, resolution)[..., :3] - 1
    if values.ndim != 3 or values.shape[-1] != 3:
        raise InputError(
            f"normal image {path} must have three channels, got shape {tuple(values.shape)}"
        )
    length = values.norm(dim=-1, keepdim=True)
    # a background of (0, 0, 0), (128, 128, 128) or (255, 255, 255) is no direction
    known = (length > 0.8) & (length < 1.2)
    return torch.where(known, values / length.clamp_min(1e-6), torch.zeros(()))


def write_color(path: Path, color: Tensor | None, mask: Tensor) -> None:
    """RGBA PNG of colour (H, W, 3), which is multiplied by mask (H, W, 1)."""
    shade = (
        torch.full_like(mask.expand(-1, -1, 3), 0.7)
        if color is None
        else color / mask.clamp_min(1e-6)
    )
    _write_image(path, torch.cat([shade, mask], dim=-1))


def write_depth(path: Path, depth: Tensor) -> None:
    """Depth (H, W, 1) as a float32 array (H, W)."""
    with replacing(path) as draft:
        np.save(draft, depth[..., 0].cpu().numpy().astype(np.float32))


def write_normal(path: Path, normal: Tensor) -> None:
    """Normals (H, W, 3) as an 8-bit image of (n + 1) / 2."""
    _write_image(path, (normal + 1) / 2)


def to_image(pixels: Tensor) -> Image.Image:
    """A picture (H, W, 3 or 4) with values in [0, 1]."""
    return Image.fromarray((pixels.detach().clamp(0, 1) * 255 + 0.5).byte().cpu().numpy())


def block_mean(image: Tensor, factor: int) -> Tensor:
    """Mean over factor x factor blocks of images (B, H, W, C)."""
    batch, height, width, channels = image.shape
    return image.reshape(batch, height // factor, factor, width // factor, factor, channels).mean(
        dim=(2, 4)
    )


def block_middle(image: Tensor, factor: int) -> Tensor:
    """What images (B, H, W, C), 0 where unknown, hold in the middle of each factor x factor block.

    An even block has its middle between four pixels: their mean, unknown where one of them is or
    where they lie on surfaces at different depths.
    """
    middle = factor // 2
    if factor % 2:
        return image[:, middle::factor, middle::factor].contiguous()
    four = torch.stack(
        [image[:, middle - i :: factor, middle - j :: factor] for i in (0, 1) for j in (0, 1)]
    )
    known = (four != 0).any(dim=-1, keepdim=True).all(dim=0)
    mean = four.mean(dim=0)
    spread = (four.amax(dim=0) - four.amin(dim=0)).amax(dim=-1, keepdim=True)
    return torch.where(
        known & (spread < DEPTH_STEP * mean.norm(dim=-1, keepdim=True)), mean, torch.zeros(())
    )


def cropped_camera(cameras: Camera, resolution: tuple[int, int], factor: int) -> Camera:
    """Cameras of images of which only resolution x factor pixels from the top left are kept."""
    height, width = cameras.resolution
    kept_height, kept_width = resolution[0] * factor, resolution[1] * factor
    # clip coordinates stretch by old / new size about the corner (-1, 1) that stays
    crop = torch.eye(4, dtype=torch.float64)
    crop[0, 0], crop[0, 3] = width / kept_width, width / kept_width - 1
    crop[1, 1], crop[1, 3] = height / kept_height, 1 - height / kept_height
    projection = (crop @ cameras.projection.double().cpu()).to(cameras.projection)
    return replace(cameras, projection=projection, resolution=resolution)


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise InputError(f"image {path} is named by the data set but does not exist") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"image {path} cannot be read: {error}") from None
    return image


def _read_pixels(path: Path, resolution: tuple[int, int]) -> Tensor:
    image = _open(path)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[..., None]
    _check_size(path, values.shape[:2], resolution)
    largest = {np.dtype(bool): 1, np.dtype(np.uint8): 255}.get(values.dtype, 65535)
    return torch.from_numpy(values.astype(np.float32)) / largest


def _read_array(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"array {path} is named by the data set but does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"array {path} cannot be read: {error}") from None
    return values[values.files[0]] if isinstance(values, np.lib.npyio.NpzFile) else values


def _check_size(path: Path, size: tuple[int, ...], resolution: tuple[int, int]) -> None:
    if tuple(size) != tuple(resolution):
        raise InputError(
            f"image {path} must have the size of the others and of the intrinsics, "
            f"{resolution[0]} x {resolution[1]} (height x width), got {size[0]} x {size[1]}"
        )


def _write_image(path: Path, pixels: Tensor) -> None:
    with replacing(path) as draft:
        to_image(pixels).save(draft)
