"""A run directory with a few frames, and off-screen rendering where there is an OpenGL library."""

from __future__ import annotations

import pytest
from growing_run import add_frame

from geomopt.errors import BackendUnavailable
from geomopt.runs import store
from geomopt.viewer.offscreen import require_rendering


@pytest.fixture(autouse=True)
def _rendering(request):
    """Skip render tests, with the package to install, where pictures cannot be made."""
    if request.node.get_closest_marker("render"):
        try:
            require_rendering()
        except BackendUnavailable as error:
            pytest.skip(str(error))


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "body-0123456789ab"
    folder.mkdir()
    (folder / "spec.toml").write_text('name = "body"\n', encoding="utf-8")
    run = store.Run.open(folder)
    for step in range(6):
        add_frame(run, step)
    return run
