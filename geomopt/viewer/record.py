"""Pictures and animations of a timeline, rendered without a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geomopt.errors import InputError
from geomopt.files import replacing
from geomopt.viewer.offscreen import require_rendering
from geomopt.viewer.plotter import Stage, make_plotter
from geomopt.viewer.scene import Scene
from geomopt.viewer.timeline import Timeline

FORMATS = (".png", ".gif", ".mp4")
_SECONDS = 6.0
_RATE = {".gif": 12, ".mp4": 24}  # pictures a second
_BLOCK = 16  # pixels; video codecs work on such blocks
# degrees over an animation of several frames; slow enough to follow a surface that changes
_TURN = 150.0
_PALE = "YlOrRd"  # light where little is to see, so that shading shows the shape
_CLOSER = 1.1  # a camera that does not turn needs no room for it
_HOLD = 0.2  # share of the animation that stays on the last frame


def record(timeline: Timeline, path: str | Path, size: tuple[int, int] = (960, 600)) -> Path:
    """Write a run's last frame (png) or its whole timeline with a slowly turning camera (gif, mp4),
    images beside the mesh.

    size: (width, height) in pixels. Raises InputError for another suffix, BackendUnavailable
    without an OpenGL library, StorageError if the file cannot be written.
    """
    timeline.require_frames()
    captions = [timeline.caption(index) for index in range(len(timeline))]
    return record_scenes(timeline, path, size, captions)


def record_scenes(
    scenes: Sequence[Scene],
    path: str | Path,
    size: tuple[int, int] = (960, 600),
    captions: Sequence[str] = (),
    motion: bool = False,
) -> Path:
    """Like `record`, for scenes at hand; a single scene turns once around.

    motion: the scenes are moments of one motion. Then the camera stands still and sees all of them,
    and the colours of a field mean the same in each.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"the file to save must end in {', '.join(FORMATS)}, got {path.name!r}")
    require_rendering()
    if suffix == ".mp4":
        size = (size[0] // _BLOCK * _BLOCK, size[1] // _BLOCK * _BLOCK)
    plotter = make_plotter(scenes[-1], size)
    try:
        stage = Stage(plotter, ranges_of(scenes), _PALE) if motion else Stage(plotter)
        captions = captions or [scene.title for scene in scenes]
        stage.draw(scenes[-1], captions[-1])
        # the first frames of a search may be far larger or smaller than the result
        bounds = bounds_of(scenes if motion else [scenes[0], scenes[-1]])
        if bounds is not None:
            stage.look_at(bounds)
            if motion:
                plotter.camera.zoom(_CLOSER)
        with replacing(path) as draft:
            if suffix == ".png":
                plotter.screenshot(str(draft))
            else:
                turning = not motion or len(scenes) == 1
                _animate(stage, scenes, captions, draft, turning)
    finally:
        plotter.close()
    return path


def _animate(
    stage: Stage, scenes: Sequence[Scene], captions: Sequence[str], file: Path, turning: bool
) -> None:
    rate = _RATE[file.suffix.lower()]
    count = round(_SECONDS * rate)
    if file.suffix.lower() == ".gif":
        stage.plotter.open_gif(str(file), fps=rate, loop=0)
    else:
        stage.plotter.open_movie(str(file), framerate=rate, quality=8)
    turn = 360.0 / count if len(scenes) == 1 else _TURN / count
    moving = max(1, round(count * (1 - _HOLD)) - 1)
    last = -1
    try:
        for picture in range(count):
            index = min(len(scenes) - 1, round(picture / moving * (len(scenes) - 1)))
            if index != last:
                stage.draw(scenes[index], captions[index])
                last = index
            stage.plotter.write_frame()
            if turning:
                stage.orbit(turn)
    finally:
        stage.plotter.mwriter.close()  # until then the writer holds the file


def bounds_of(scenes: Sequence[Scene]) -> np.ndarray | None:
    """A box (2, 3) around scenes, None if none of them has a place."""
    boxes = [box for box in (scene.bounds for scene in scenes) if box is not None]
    if not boxes:
        return None
    return np.stack([np.min([box[0] for box in boxes], 0), np.max([box[1] for box in boxes], 0)])


def ranges_of(scenes: Sequence[Scene]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value over all scenes of the field that colours each mesh."""
    found: dict[str, list[float]] = {}
    for scene in scenes:
        for mesh, fields in scene.fields.items():
            for values in list(fields.values())[:1]:
                kept = values[values.isfinite()]
                if len(kept):
                    found.setdefault(mesh, []).extend([float(kept.min()), float(kept.max())])
    return {mesh: (min(values), max(values)) for mesh, values in found.items()}
