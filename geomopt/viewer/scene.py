"""What one frame shows, as plain data: problems return it, run directories keep it, the viewer
draws it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.files import replacing
from geomopt.geometry.mesh import Mesh


@dataclass(frozen=True)
class Scene:
    """Named meshes, points, lines, fields and images of one frame.

    meshes: name to mesh. points: name to positions (P, 3). lines: name to segments (L, 2, 3).
    fields: mesh name to field name to a number for each vertex (V,); the first field of a mesh
    colours it. images: name to pictures (H, W, 3) in [0, 1], row 0 on top, shown beside the meshes.
    World axes are right-handed with z up. Raises InputError.
    """

    meshes: Mapping[str, Mesh] = field(default_factory=dict)
    points: Mapping[str, Tensor] = field(default_factory=dict)
    lines: Mapping[str, Tensor] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    images: Mapping[str, Tensor] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        for name, positions in self.points.items():
            check_tensor(f"points[{name!r}]", positions, (None, 3))
        for name, segments in self.lines.items():
            check_tensor(f"lines[{name!r}]", segments, (None, 2, 3))
        for name, image in self.images.items():
            check_tensor(f"images[{name!r}]", image, (None, None, 3))
        for mesh, of_mesh in self.fields.items():
            if mesh not in self.meshes:
                there = ", ".join(self.meshes) or "none"
                raise InputError(f"fields[{mesh!r}] has no mesh of that name; there are: {there}")
            for name, values in of_mesh.items():
                shape = (len(self.meshes[mesh].vertices),)
                check_tensor(f"fields[{mesh!r}][{name!r}]", values, shape, finite=False)

    @property
    def bounds(self) -> np.ndarray | None:
        """Lowest and highest corner (2, 3) of all that has a place, or None for a scene of images
        alone.
        """
        clouds = [mesh.vertices[mesh.faces.long()] for mesh in self.meshes.values()]
        clouds += [*self.points.values(), *self.lines.values()]
        flat = [_array(cloud).reshape(-1, 3) for cloud in clouds if cloud.numel()]
        if not flat:
            return None
        positions = np.concatenate(flat)
        return np.stack([positions.min(0), positions.max(0)])

    def save(self, path: str | Path) -> None:
        """Write an NPZ file atomically; images are rounded to 8 bits. Raises OSError."""
        arrays: dict[str, np.ndarray] = {}

        def keep(tensor: Tensor) -> str:
            key = f"a{len(arrays)}"
            arrays[key] = _array(tensor)
            return key

        # names may hold any character, so they go into an index and the arrays get plain keys
        index = {
            "title": self.title,
            "meshes": {
                name: [
                    keep(mesh.vertices),
                    keep(mesh.faces),
                    None if mesh.colors is None else keep(mesh.colors),
                ]
                for name, mesh in self.meshes.items()
            },
            "points": {name: keep(positions) for name, positions in self.points.items()},
            "lines": {name: keep(segments) for name, segments in self.lines.items()},
            "fields": {
                mesh: {name: keep(values) for name, values in of_mesh.items()}
                for mesh, of_mesh in self.fields.items()
            },
            "images": {name: keep(_to_bytes(image)) for name, image in self.images.items()},
        }
        with replacing(Path(path)) as draft:
            arrays["index"] = np.array(json.dumps(index))
            np.savez_compressed(draft, **cast(Any, arrays))

    @classmethod
    def load(cls, path: str | Path) -> Scene:
        """Read what `save` wrote; raises InputError naming the file for anything else."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                index = json.loads(str(archive["index"]))
                arrays = {
                    key: torch.from_numpy(archive[key]) for key in archive.files if key != "index"
                }
            return _from_index(index, arrays)
        except FileNotFoundError as error:
            raise InputError(f"there is no scene file {path}") from error
        except (OSError, ValueError, KeyError, AttributeError, TypeError, BadZipFile) as error:
            raise InputError(f"{path} is not a scene: {error}") from error


def _from_index(index: dict[str, Any], arrays: dict[str, Tensor]) -> Scene:
    def get(table: dict[str, str]) -> dict[str, Tensor]:
        return {name: arrays[key] for name, key in table.items()}

    return Scene(
        meshes={
            name: Mesh(arrays[vertices], arrays[faces], arrays[colors] if colors else None)
            for name, (vertices, faces, colors) in index["meshes"].items()
        },
        points=get(index["points"]),
        lines=get(index["lines"]),
        fields={mesh: get(of_mesh) for mesh, of_mesh in index["fields"].items()},
        images={name: arrays[key].float() / 255 for name, key in index["images"].items()},
        title=index["title"],
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _to_bytes(image: Tensor) -> Tensor:
    return (image.detach().clamp(0, 1) * 255).round().to(torch.uint8)
