"""The frames of a run in order, read when they are looked at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geomopt.errors import InputError
from geomopt.runs.store import Run, read_iterates
from geomopt.viewer.scene import Scene

_KEPT = 64  # scenes in memory; a step back and forth should not read a file


class Timeline(Sequence[Scene]):
    """Scenes of a run directory, which may still grow; `refresh` looks for new ones."""

    def __init__(self, folder: str | Path) -> None:
        self.run = Run.open(folder)
        self._cache: OrderedDict[Path, Scene] = OrderedDict()
        self._frames: list[tuple[int, Path]] = []
        self._rows: dict[int, dict[str, Any]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Look for frames that were written since; whether there are any."""
        frames = list(self.run.frames.items())
        changed = frames != self._frames
        if changed:
            self._frames = frames
            self._rows = {row["iteration"]: row for row in read_iterates(self.run.iterates_file)}
        return changed

    def require_frames(self) -> None:
        """Raise InputError if there is nothing to see yet."""
        if not self._frames:
            reason = (
                "its problem has no scene"
                if self.run.status == "ok"
                else "wait for the first iterates"
            )
            raise InputError(f"{self.run.folder} has no frames to show: {reason}")

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        file = self._frames[index][1]
        if file not in self._cache and not file.exists():
            # a growing run thins its frames out
            self.refresh()
            file = self._frames[min(index, len(self) - 1)][1]
        if file in self._cache:
            self._cache.move_to_end(file)
            return self._cache[file]
        scene = self._cache[file] = Scene.load(file)
        if len(self._cache) > _KEPT:
            self._cache.popitem(last=False)
        return scene

    def iteration(self, index: int) -> int:
        """Iteration that a frame shows."""
        return self._frames[index][0]

    def caption(self, index: int) -> str:
        """One line about a frame: iteration, value, and what the scene says of itself."""
        iteration = self.iteration(index)
        parts = [f"iteration {iteration}"]
        value = self._rows.get(iteration, {}).get("value")
        if value is not None:
            parts.append(f"value {value:.4g}")
        title = self[index].title
        return "   ".join(parts + ([title] if title else []))
