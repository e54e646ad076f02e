"""Reading and writing mesh files as plain tensors.

Reading goes through trimesh. PLY, OBJ and OFF are written here, since trimesh rounds positions in
them; STL and GLB, which hold float32 by definition, go through trimesh. A file appears under its
name only when it is whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.files import replacing

EXTENSIONS = (".obj", ".ply", ".stl", ".off", ".glb")


def read_arrays(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Read positions (V, 3), faces (F, 3) and colors (V, 3) or None, as the file has them.

    Positions and colors are float64, colors in [0, 1], faces int32. Raises InputError naming the
    file when it is missing, of another kind, not readable or without faces.
    """
    file = Path(path)
    kind = _kind(file)
    if not file.is_file():
        raise InputError(
            f"mesh file {file} does not exist" if not file.exists() else f"{file} is not a file"
        )
    import trimesh

    options: Any = (
        {"maintain_order": True} if kind == "obj" else {}
    )  # vertices as the file lists them
    try:
        with file.open("rb") as stream:
            found: Any = trimesh.load(stream, file_type=kind, process=False, **options)
        if isinstance(found, trimesh.Scene):
            found = found.to_mesh() if found.geometry else trimesh.Trimesh()
        positions = np.asarray(getattr(found, "vertices", ()), dtype=np.float64).reshape(-1, 3)
        faces = np.asarray(getattr(found, "faces", ()), dtype=np.int64).reshape(-1, 3)
        visual: Any = getattr(found, "visual", None)
        colored = len(faces) > 0 and visual is not None and visual.kind == "vertex"
        colors = np.array(visual.vertex_colors[:, :3]) / 255.0 if colored else None  # pyright: ignore
    except Exception as error:  # whatever a reader stumbles over, the user needs to know the file
        raise InputError(
            f"mesh file {file} cannot be read as {kind.upper()}: {type(error).__name__}: {error}"
        ) from error
    if len(faces) == 0:
        raise InputError(f"mesh file {file} holds no faces ({len(positions)} vertices)")
    if len(positions) >= 2**31:
        raise InputError(
            f"mesh file {file} holds {len(positions)} vertices, at most {2**31 - 1} are allowed"
        )
    color_tensor = None if colors is None else torch.from_numpy(colors)
    return (
        torch.from_numpy(np.array(positions)),
        torch.from_numpy(faces.astype(np.int32)),
        color_tensor,
    )


def write_arrays(
    path: str | os.PathLike[str], vertices: Tensor, faces: Tensor, colors: Tensor | None
) -> None:
    """Write positions (V, 3), faces (F, 3) and colors (V, 3) or None in the extension's format.

    Raises InputError for another extension or no faces, StorageError for anything the system
    refuses.
    """
    file = Path(path)
    kind = _kind(file)
    if len(faces) == 0:
        raise InputError(f"mesh must have faces to be saved to {file}, got none")
    positions = vertices.detach().cpu().numpy()
    corners = faces.cpu().numpy()
    shades = None if colors is None else colors.detach().cpu().clamp(0, 1).numpy()
    encoded = _ENCODERS[kind](positions, corners, shades)
    with replacing(file) as draft:
        draft.write_bytes(encoded)


def _kind(file: Path) -> str:
    if file.suffix.lower() not in EXTENSIONS:
        raise InputError(
            f"mesh file {file} must end in one of {', '.join(EXTENSIONS)}, got '{file.suffix}'"
        )
    return file.suffix.lower()[1:]


def _bytes_of(shades: np.ndarray) -> np.ndarray:
    return np.round(shades * 255).astype(np.uint8)


def _ply(positions: np.ndarray, faces: np.ndarray, shades: np.ndarray | None) -> bytes:
    name = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}.get(positions.dtype)
    if name is None:
        positions, name = positions.astype(np.float32), "float"
    fields: list[Any] = [("position", positions.dtype.newbyteorder("<"), 3)]
    header = [f"property {name} {axis}" for axis in "xyz"]
    if shades is not None:
        fields.append(("color", "u1", 3))
        header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    vertex = np.empty(len(positions), dtype=fields)
    vertex["position"] = positions
    if shades is not None:
        vertex["color"] = _bytes_of(shades)
    face = np.empty(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    face["count"], face["corners"] = 3, faces
    lines = [
        *("ply", "format binary_little_endian 1.0", f"element vertex {len(vertex)}", *header),
        *(f"element face {len(face)}", "property list uchar int vertex_indices", "end_header", ""),
    ]
    return "\n".join(lines).encode() + vertex.tobytes() + face.tobytes()


def _rows(template: str, rows: np.ndarray) -> str:
    return "".join([template % tuple(row) for row in rows.tolist()])


def _decimal(values: np.ndarray) -> str:
    """The shortest format that reads back to the same float."""
    return "%.9g" if values.dtype.itemsize <= 4 else "%.17g"


def _obj(positions: np.ndarray, faces: np.ndarray, shades: np.ndarray | None) -> bytes:
    values = positions if shades is None else np.concatenate([positions, shades], axis=1)
    template = "v" + f" {_decimal(values)}" * values.shape[1] + "\n"
    return (_rows(template, values) + _rows("f %d %d %d\n", faces + 1)).encode()


def _off(positions: np.ndarray, faces: np.ndarray, shades: np.ndarray | None) -> bytes:
    number = _decimal(positions)
    vertices = _rows(f"{number} {number} {number}\n", positions)
    return (
        f"OFF\n{len(positions)} {len(faces)} 0\n" + vertices + _rows("3 %d %d %d\n", faces)
    ).encode()


def _through_trimesh(kind: str):
    def encode(positions: np.ndarray, faces: np.ndarray, shades: np.ndarray | None) -> bytes:
        import trimesh

        colors = None if shades is None else _bytes_of(shades)
        mesh = trimesh.Trimesh(positions, faces, vertex_colors=colors, process=False)
        return bytes(mesh.export(file_type=kind))  # pyright: ignore[reportArgumentType]

    return encode


_ENCODERS = {
    "ply": _ply,
    "obj": _obj,
    "off": _off,
    "stl": _through_trimesh("stl"),
    "glb": _through_trimesh("glb"),
}
