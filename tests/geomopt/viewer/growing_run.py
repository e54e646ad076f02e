"""A run that grows frame by frame, as a running job writes it."""

from __future__ import annotations

import torch

from geomopt.geometry.mesh import Mesh
from geomopt.runs import store
from geomopt.viewer.scene import Scene

CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, -1.0]])
TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
BIPYRAMID = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [1, 2, 3], [0, 4, 1], [0, 2, 4], [1, 4, 2]], dtype=torch.int32
)


def scene_of(step: int, steps: int = 6) -> Scene:
    """A tetrahedron that grows and becomes a bipyramid in the second half, beside a red square."""
    faces = TETRAHEDRON if step < steps // 2 else BIPYRAMID
    picture = torch.zeros(16, 16, 3)
    picture[: 4 + step, :, 0] = 1.0
    return Scene({"body": Mesh(CORNERS * (1 + 0.1 * step), faces)}, images={"target": picture})


def add_frame(run: store.Run, step: int) -> None:
    """What a running job writes."""
    scene_of(step).save(run.frame_file(10 * step))
    store.append_iterate(run.iterates_file, {"iteration": 10 * step, "value": 1.0 / (1 + step)})
