"""What was measured: responses, where, and what is cut off them before they are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.metrics.decay import onset
from sims.acoustics.take import ResponseTake

LEAST_RECEIVERS = 4
LONGEST = 0.5  # s that are compared by default; the decay of later sound is told by it too
SHORTEST_PERIODS = 8  # of the lowest frequency
EARLY_START = 0.005  # s that stay before the sound leaves the source


@dataclass(frozen=True, eq=False)
class Measurement:
    """Responses (R, T) float64 at `rate` [Hz] of a source (3,) at receivers (R, 3) [m]."""

    responses: Tensor
    rate: float
    source: Tensor
    receivers: Tensor

    @property
    def duration(self) -> float:
        """From the first sample to the last [s]."""
        return (self.responses.shape[-1] - 1) / self.rate

    def part(self, receivers: list[int]) -> Measurement:
        """At some of the receivers."""
        return Measurement(
            self.responses[receivers], self.rate, self.source, self.receivers[receivers]
        )


def measurement_of(
    responses: ResponseTake | Tensor,
    lowest: float,
    *,
    rate: float | None = None,
    source: Any = None,
    receivers: Any = None,
    duration: float | None = None,
) -> Measurement:
    """What to compare, from a take or from responses (R, T) with rate, source and receivers.

    What is recorded long before the sound can leave the source is cut off. duration: of what is
    kept [s], None for all up to half a second. Raises InputError, also for fewer than four
    receivers, which do not determine the walls of a room.
    """
    if isinstance(responses, ResponseTake):
        given = {"rate": rate, "source": source, "receivers": receivers}
        if any(value is not None for value in given.values()):
            raise InputError(
                "rate, source and receivers must be left out for a take, which has its own"
            )
        take = responses
        found = Measurement(take.responses, float(take.rate), take.source, take.receivers)
    else:
        if rate is None or source is None or receivers is None:
            raise InputError(
                "responses must be a take, or come with rate [Hz], source (3,) [m] and receivers "
                "(R, 3) [m]"
            )
        values = check_tensor("responses", responses, (None, None)).detach().cpu().double()
        if not 0 < rate < math.inf:
            raise InputError(f"rate must be above 0 samples a second, got {rate}")
        at = as_tensor("source", source, "a position (3,) [m]", dtype=torch.float64)
        places = as_tensor("receivers", receivers, "positions (R, 3) [m]", dtype=torch.float64)
        check_tensor("source", at, (3,))
        check_tensor("receivers", places, (len(values), 3))
        found = Measurement(values, float(rate), at, places)
    if len(found.responses) < LEAST_RECEIVERS:
        raise InputError(
            f"responses must be from at least {LEAST_RECEIVERS} receivers, got "
            f"{len(found.responses)}: fewer do not tell the walls of a room apart, since other "
            "walls explain what they hear as well"
        )
    if duration is not None and not 0 < duration < math.inf:
        raise InputError(f"duration must be above 0 s, got {duration}")
    return _cut(found, lowest, duration)


def _cut(whole: Measurement, lowest: float, duration: float | None) -> Measurement:
    distance = (whole.receivers - whole.source).norm(dim=1)
    leaves = onset(whole.responses).double() / whole.rate - distance / SPEED_OF_SOUND
    first = max(0, math.floor((float(leaves.min()) - EARLY_START) * whole.rate))
    kept = LONGEST if duration is None else duration
    responses = whole.responses[:, first : first + math.floor(kept * whole.rate) + 1]
    found = Measurement(responses, whole.rate, whole.source, whole.receivers)
    if found.duration < SHORTEST_PERIODS / lowest:
        raise InputError(
            f"responses must last at least {SHORTEST_PERIODS / lowest:.3g} s behind their start, "
            f"{SHORTEST_PERIODS} periods of {lowest:g} Hz, got {found.duration:.3g} s: record "
            "longer, or raise `lowest`"
        )
    return found
