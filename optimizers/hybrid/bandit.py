"""Which kind of work pays: a bandit that shares a budget between phases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optimizers.evaluation import FEASIBLE
from optimizers.state import snapshot

DROUGHT = 0.05  # reward of a phase, on top, for the last one: what it gets when nobody gains
KEEP = 0.7  # of the reward of a phase and of the usual gain, when a new one comes in
FLOOR = 0.15  # share of the budget that every open phase gets, unless it is told otherwise


class Bandit:
    """Shares evaluations between phases by what they have gained.

        r <- 0.7 r + 0.3 log(1 + gain / usual gain) / evaluations
        share of a phase = floor + (1 - sum of floors) r / sum r     over the open phases

    The last phase gets a little reward on top, so that it has the rest when nobody gains: name the
    one that explores. The usual gain is the same average over all phases, so that neither a unit
    of the value nor its lowest value matters, and a phase is judged by what the others gain at the
    same time. Shares are of evaluations, not of choices: the next phase is the one that is owed
    the most, without a random draw.
    """

    FIELDS = ("rewards", "owed", "usual")

    def __init__(self, phases: tuple[str, ...], floors: tuple[float, ...] | None = None) -> None:
        self.phases = phases
        self.floors = floors or (FLOOR,) * len(phases)
        self.rewards = [-1.0] * len(phases)  # not tried yet
        self.owed = [0.0] * len(phases)
        self.usual = 0.0

    def choose(self, open_phases: tuple[str, ...]) -> str:
        """The next phase; those that were never tried come first, in the order given."""
        rows = [self.phases.index(phase) for phase in open_phases]
        untried = [row for row in rows if self.rewards[row] < 0]
        return self.phases[untried[0] if untried else max(rows, key=lambda row: self.owed[row])]

    def told(
        self, phase: str, gain: float, evaluations: float, open_phases: tuple[str, ...]
    ) -> None:
        """Learn what a phase has gained, and share out what it has cost."""
        row, rows = self.phases.index(phase), [self.phases.index(name) for name in open_phases]
        self.usual = KEEP * self.usual + (1 - KEEP) * gain if self.usual else gain
        reward = math.log1p(gain / self.usual) / evaluations if gain > 0 else 0.0
        old = self.rewards[row]
        self.rewards[row] = reward if old < 0 else KEEP * old + (1 - KEEP) * reward
        self.owed[row] -= evaluations
        known = [max(self.rewards[other], 0.0) for other in rows]
        rest = 1 - sum(self.floors[other] for other in rows)
        known[-1] += DROUGHT / evaluations
        for other, value in zip(rows, known, strict=True):
            share = self.floors[other] + rest * value / sum(known)
            self.owed[other] += share * evaluations

    def best(self) -> str:
        """The phase with the highest reward."""
        return self.phases[max(range(len(self.phases)), key=lambda row: self.rewards[row])]

    def state_dict(self) -> dict[str, Any]:
        """Copies of the accounts."""
        return snapshot(self, self.FIELDS)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same phases."""
        for name in self.FIELDS:
            setattr(self, name, state[name] if name == "usual" else list(state[name]))


def gain_between(value: float, violation: float, new_value: float, new_violation: float) -> float:
    """How much better an incumbent has become: of the value where feasible, else of the violation.

    Becoming feasible counts as the violation that is left behind.
    """
    if math.isinf(violation):
        return 0.0 if math.isinf(new_violation) else 1.0
    if violation > FEASIBLE:
        return max(violation - new_violation, 0.0)
    return value - new_value if math.isfinite(value) else float(math.isfinite(new_value))
