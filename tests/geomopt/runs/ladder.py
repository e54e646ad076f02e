"""A small study: rungs of a ladder, one of which may break."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from geomopt.runs.study import Case, CaseResult

begun: list[str] = []  # the cases that were begun in this process


@dataclass(frozen=True)
class Ladder:
    """rungs: how many cases. broken: the one that raises, unless the file `mended` is there."""

    rungs: int = 4
    broken: int | None = None
    mended: Path | None = None
    pause: float = 0.0
    names: str = "rung"
    start_error: str = ""

    def plan(self, device: torch.device, seed: int) -> Mapping[str, Case]:
        if self.start_error:
            raise ValueError(self.start_error)
        return {
            f"{self.names}-{rung}": partial(self._climb, rung, seed) for rung in range(self.rungs)
        }

    def _climb(self, rung: int, seed: int, folder: Path) -> CaseResult:
        begun.append(f"{self.names}-{rung}")
        (folder / "height.txt").write_text(str(rung + seed))
        time.sleep(self.pause)
        if os.environ.get("LADDER_DIES_AT") == str(rung):
            os._exit(9)
        if rung == self.broken and not (self.mended and self.mended.exists()):
            raise RuntimeError("the rung <broke> & fell")
        verdict = ("pass", "miss", "report")[rung % 3]
        row = {"rung": rung, "height": 0.3 * rung, "verdict": verdict}
        return CaseResult({"height": torch.tensor(0.3 * rung)}, [row])
