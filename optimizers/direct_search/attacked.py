"""The point that attacks start from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optimizers.direct_search.archive import Archive
from optimizers.evaluation import FEASIBLE
from optimizers.state import restore, snapshot

RECENT = 40  # values that the spread is taken from
STALLED = 0.1  # of the spread, by which a value that still falls does so


class Attacked:
    """The best feasible point of an archive or, before there is one, that of the least excess.

    row: of the point, -1 before the first success. begun: the first row that counts.
    seen: rows that were looked at.
    before: value, violation and excess of the point when `mark` was called.
    watched, level: evaluations spent and the value when `watch` last looked; stalled: its finding.
    """

    FIELDS = ("row", "begun", "seen", "before", "watched", "level", "stalled")

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.begin(0)

    def begin(self, row: int) -> None:
        """Forget everything before a row of the archive."""
        self.row, self.begun, self.seen = -1, row, row
        self.before = [math.inf] * 3
        self.watched, self.level, self.stalled = 0.0, math.inf, False

    @property
    def point(self) -> Tensor:
        """Its coordinates (d,) in the archive."""
        return torch.from_numpy(self.archive.points[self.row].copy())

    @property
    def is_feasible(self) -> bool:
        """Whether it meets all constraints."""
        return self.row >= 0 and bool(self.archive.violation[self.row] <= FEASIBLE)

    def mark(self) -> None:
        """Note where it stands, for `gain`."""
        self.before = self._standing()

    def look(self) -> None:
        """Compare the rows that are new."""
        value, violation, excess = (
            self.archive.value,
            self.archive.violation,
            self.archive.excess,
        )
        for row in range(self.seen, self.archive.size):
            if not value[row] < math.inf:
                continue
            if violation[row] <= FEASIBLE:
                better = not self.is_feasible or value[row] < value[self.row]
            else:
                closer = self.row < 0 or excess[row] < excess[self.row]
                better = not self.is_feasible and closer
            self.row = row if better else self.row
        self.seen = self.archive.size

    def _standing(self) -> list[float]:
        self.look()
        if self.row < 0:
            return [math.inf] * 3
        archive = self.archive
        columns = (archive.value, archive.violation, archive.excess)
        return [float(column[self.row]) for column in columns]

    @property
    def spread(self) -> float:
        """Median distance of recent values from their median; 0 while there are none."""
        recent = self.archive.value[-RECENT:]
        recent = recent[np.isfinite(recent)]
        return float(np.median(np.abs(recent - np.median(recent)))) if len(recent) else 0.0

    def watch(self, spent: float, every: float) -> None:
        """After every so many evaluations, see whether the value still falls.

        It has stalled when it fell by less than a tenth of the spread of recent values.
        """
        if spent < self.watched + every:
            return
        now = self._standing()[0]
        self.stalled = not self.level - now >= STALLED * self.spread
        self.watched, self.level = spent, now

    def gain(self) -> float:
        """What was gained since the mark, in units of the spread of recent values."""
        now, spread = self._standing(), self.spread
        value, violation, excess = self.before
        lower = max((value - now[0]) / spread if spread > 0 else float(value > now[0]), 0.0)
        if violation <= FEASIBLE:
            return lower
        closer = 1.0 if now[1] <= FEASIBLE else max(1 - now[2] / excess, 0.0)
        return closer + lower * (now[2] <= excess)

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything but the archive."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        restore(self, self.FIELDS, state, torch.device("cpu"))
