"""How far each of several ways to propose points is believed: as far as it has earned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optimizers.state import restore, snapshot

MEMORY = 0.5  # weight of what was, in the score of an arm and in the common rate
LARGEST = 4.0  # relative rate that one turn can earn
LONGEST = 64  # turns that an arm sleeps at most
DRIFT = 0.03  # by which the score of an arm comes closer to 1 with every turn of another
LEARNERS = (
    "descent",
    "quasi-newton",
    "gauss-newton",
)  # arms that pay late: their steps become exact
PATIENCE = 3.0  # weight of their scores
UNTRIED = 0.5  # score of an arm before its first turn


class Credit:
    """Scores, radii and waits of named arms.

    scores: decaying means of what a turn has gained per price, relative to the common rate at that
        time, 0 for an arm that only failed. Gains shrink as a search converges, for all arms
        alike: relative to each other they stay comparable. What was seen long ago counts less.
    radii: of the steps an arm proposes. failures: in a row.
    waits: turns an arm sleeps, 0 after the first failure in a row, then 1, 2, 4 and so on.
    """

    FIELDS = ("scores", "radii", "failures", "waits", "used", "rate", "turns")

    def __init__(self, names: tuple[str, ...], radius: float) -> None:
        self.names = names
        self._weights = [PATIENCE if name in LEARNERS else 1.0 for name in names]
        count = len(names)
        self.scores = [UNTRIED] * count
        self.radii = [radius] * count
        self.failures = [0] * count
        self.waits = [0] * count
        self.used = [0] * count
        self.rate, self.turns = 0.0, 0

    def pick(self, usable: set[str]) -> str | None:
        """The arm whose turn it is, None while all of the usable ones sleep."""
        awake = [
            arm for arm, name in enumerate(self.names) if name in usable and not self.waits[arm]
        ]
        if not awake:
            return None
        return self.names[max(awake, key=self._weighed)]

    def _weighed(self, arm: int) -> float:
        return self._weights[arm] * self.scores[arm]

    def beats(self, name: str, other: str) -> bool:
        """Whether an arm that was used before earns more than another."""
        arm = self.names.index(name)
        return bool(self.used[arm]) and self._weighed(arm) > self._weighed(self.names.index(other))

    def leads(self, name: str) -> bool:
        """Whether an arm that was used before has the highest score."""
        arm = self.names.index(name)
        best = max(map(self._weighed, range(len(self.names))))
        return bool(self.used[arm]) and self._weighed(arm) >= best

    def reward(self, name: str, gain: float, price: float) -> None:
        """Note what a turn of an arm has gained, 0 for a failure, and what it took."""
        arm = self.names.index(name)
        self.turns += 1
        self.scores = [score + DRIFT * max(0.0, 1 - score) for score in self.scores]
        rate = gain / price
        self.rate = rate if self.rate == 0 else MEMORY * self.rate + (1 - MEMORY) * rate
        earned = min(rate / self.rate, LARGEST) if self.rate > 0 else 0.0
        first, old = not self.used[arm], self.scores[arm]
        self.scores[arm] = earned if first else MEMORY * old + (1 - MEMORY) * earned
        self.used[arm] = self.turns
        if gain > 0:
            self.failures[arm], self.waits[arm] = 0, 0
        else:
            self.failures[arm] += 1
            doublings = min(self.failures[arm] - 2, LONGEST)  # a power of them must not overflow
            self.waits[arm] = min(int(2.0**doublings), LONGEST)

    def tick(self) -> None:
        """A turn has passed that was no arm's."""
        self.waits = [max(0, wait - 1) for wait in self.waits]

    def radius(self, name: str) -> float:
        """Radius of an arm."""
        return self.radii[self.names.index(name)]

    def resize(self, name: str, radius: float, first: float, floor: float) -> bool:
        """Set the radius of an arm; below the floor it begins anew, and True is returned."""
        below = radius < floor
        self.radii[self.names.index(name)] = first if below else min(radius, 1.0)
        return below

    def widen(self, radius: float) -> None:
        """Let no arm look closer than a step that has just won."""
        self.radii = [max(radius, own) for own in self.radii]

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same arms."""
        restore(self, self.FIELDS, state, torch.device("cpu"))
