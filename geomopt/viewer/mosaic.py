"""Several pictures on one sheet, each with its name below."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP = 8  # pixels between pictures
_TEXT = 15  # pixels, height of a name


def mosaic(
    images: Mapping[str, Tensor],
    size: tuple[int, int],
    background: tuple[int, int, int] = (255, 255, 255),
    ink: tuple[int, int, int] = (40, 40, 40),
) -> np.ndarray:
    """A sheet (height, width, 3) of 8-bit colours with the pictures as large as they fit.

    images: name to (H, W, 3) in [0, 1], row 0 on top; a grid in reading order. size: (height,
    width) of the sheet in pixels.
    """
    height, width = size
    sheet = Image.new("RGB", (width, height), background)
    if images:
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
        columns, (cell_height, cell_width) = _layout(
            [tuple(image.shape[:2]) for image in images.values()], size
        )
        rows = math.ceil(len(images) / columns)
        top = (height - rows * (cell_height + _TEXT + 2 * _GAP)) // 2
        left = (width - columns * (cell_width + _GAP) + _GAP) // 2
        for place, (name, image) in enumerate(images.items()):
            row, column = divmod(place, columns)
            x, y = left + column * (cell_width + _GAP), top + row * (cell_height + _TEXT + 2 * _GAP)
            picture = _picture(image, cell_height, cell_width)
            sheet.paste(
                picture,
                (x + (cell_width - picture.width) // 2, y + (cell_height - picture.height) // 2),
            )
            draw.text(
                (x + cell_width / 2, y + cell_height + _GAP / 2), name, ink, font, anchor="mt"
            )
    return np.asarray(sheet)


def _layout(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """The number of columns that makes the pictures largest, and the cell (height, width)."""
    height, width = size[0] - 2 * _GAP, size[1]
    # the widest and the tallest picture set the shape of a cell
    aspect = max(w for _, w in shapes) / max(h for h, _ in shapes)
    best = (1, (1, 1))
    for columns in range(1, len(shapes) + 1):
        rows = math.ceil(len(shapes) / columns)
        room_width = (width - (columns + 1) * _GAP) / columns
        room_height = height / rows - _TEXT - 2 * _GAP
        cell_height = int(max(1, min(room_height, room_width / aspect)))
        if cell_height > best[1][0]:
            best = (columns, (cell_height, max(1, int(cell_height * aspect))))
    return best


def _picture(image: Tensor, height: int, width: int) -> Image.Image:
    array = (image.detach().cpu().numpy().clip(0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(array))
    scale = min(height / picture.height, width / picture.width)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # small pictures keep their pixels visible, large ones are averaged
    return picture.resize(fitted, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
