"""A run directory with a few frames, and off-screen rendering where there is an OpenGL library."""

from __future__ import annotations

import pytest
import torch

from geomopt.errors import BackendUnavailable
from geomopt.geometry.mesh import Mesh
from geomopt.runs import store
from geomopt.viewer.offscreen import require_rendering
from geomopt.viewer.scene import Scene

CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.3, -1.0]])
TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=torch.int32)
BIPYRAMID = torch.tensor(
    [[0, 1, 3], [0, 3, 2], [1, 2, 3], [0, 4, 1], [0, 2, 4], [1, 4, 2]], dtype=torch.int32
)


@pytest.fixture(autouse=True)
def _rendering(request):
    """Skip render tests, with the package to install, where pictures cannot be made."""
    if request.node.get_closest_marker("render"):
        try:
            require_rendering()
        except BackendUnavailable as error:
            pytest.skip(str(error))


def scene_of(step: int, steps: int = 6) -> Scene:
    """A tetrahedron that grows and becomes a bipyramid in the second half, beside a red square."""
    faces = TETRAHEDRON if step < steps // 2 else BIPYRAMID
    picture = torch.zeros(16, 16, 3)
    picture[: 4 + step, :, 0] = 1.0
    return Scene({"body": Mesh(CORNERS * (1 + 0.1 * step), faces)}, images={"target": picture})


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "body-0123456789ab"
    folder.mkdir()
    (folder / "spec.toml").write_text('name = "body"\n', encoding="utf-8")
    run = store.Run.open(folder)
    for step in range(6):
        add_frame(run, step)
    return run


def add_frame(run: store.Run, step: int) -> None:
    """What a running job writes."""
    scene_of(step).save(run.frame_file(10 * step))
    store.append_iterate(run.iterates_file, {"iteration": 10 * step, "value": 1.0 / (1 + step)})
