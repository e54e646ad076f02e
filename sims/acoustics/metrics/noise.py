"""Where the decay of a measured response goes under in noise, and what is lost there.

Lundeby, Vigran, Bietz and Vorländer, "Uncertainties of measurements in room acoustics", Acustica 81
(1995): the level in short intervals, a line through its decay, the noise behind the point where
both meet, and again with intervals that fit the slope. What is left of the decay at that point is
added as an exponential, and the power of the noise is taken off before it (method of truncation,
correction and subtraction in Guski and Vorländer, Acta Acust. united Ac. 100, 2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sims.acoustics.metrics.bands import check_rate, check_response

FIRST_INTERVAL = 0.03  # s, of the first smoothing, in Lundeby's 10 to 50 ms
INTERVALS = 40  # at least so many of them in a response, which short simulated ones need
INTERVALS_PER_10_DB = 5  # afterwards, in Lundeby's 3 to 10
ABOVE_NOISE = 5.0  # dB, where the line through the late decay ends
LATE_RANGE = 20.0  # dB that this line takes in
BEHIND_CROSSING = 10.0  # dB of decay between the crossing and where noise is measured
NOISE_SHARE = 0.1  # of the response, at least, over which noise is measured
STATIONARY = 4.0  # times the noise at the end; a mean above that has the decay in it
ROUNDS = 12


@dataclass(frozen=True)
class NoiseFloor:
    """What `noise_floor` finds in responses (..., T); each is a float64 tensor (...).

    power: mean square of the noise [Pa²]; 0 where the decay reaches the end of the response.
    crossing: the sample at which decay and noise meet, or the number of samples. remainder: the sum
    of squares of the decay that the crossing cuts off [Pa²]; 0 where no decay is found. constant:
    the samples in which the energy of that decay falls to 1/e.
    """

    power: Tensor
    crossing: Tensor
    remainder: Tensor
    constant: Tensor


def noise_floor(response: Tensor, rate: float, recorded: Tensor | None = None) -> NoiseFloor:
    """The noise floor of each response (..., T) at `rate` [Hz], by Lundeby's method.

    Responses are best cut into bands first, since noise and decay differ between them. A response
    that ends while it decays, as simulated ones do, has no noise, but a remainder. recorded: how
    many samples of each, (...), to look at; by default up to the zeros at its end. A band filter
    rings on over these: give it `recorded_samples` of what was filtered.
    """
    check_response(response)
    rate = check_rate(rate)
    counts = recorded_samples(response) if recorded is None else recorded
    counts = counts.expand(response.shape[:-1]).reshape(-1).tolist()
    rows = response.detach().cpu().double().reshape(-1, response.shape[-1]).numpy()
    found = [
        _floor_of(row[: max(count, 1)] ** 2, rate) for row, count in zip(rows, counts, strict=True)
    ]
    columns = torch.tensor(found, dtype=torch.float64, device=response.device).T
    return NoiseFloor(*(column.reshape(response.shape[:-1]) for column in columns))


def recorded_samples(response: Tensor) -> Tensor:
    """How many samples there are before the zeros at the end of each response (..., T), (...)."""
    silent = (response.detach().flip(-1) != 0).to(torch.int8).cummax(dim=-1).values == 0
    return response.shape[-1] - silent.sum(dim=-1)


def _floor_of(power: np.ndarray, rate: float) -> tuple[float, float, float, float]:
    """(noise power, crossing, remainder, constant) of the squares (T,) of one response."""
    count = len(power)
    nothing = (0.0, float(count), 0.0, 1.0)
    interval = max(1, int(min(FIRST_INTERVAL * rate, count / INTERVALS)))
    centres, means = _means(power, interval)
    peak = int(np.argmax(means))
    tail = count - max(1, int(NOISE_SHARE * count))
    noise = float(power[tail:].mean())
    most = STATIONARY * noise
    line = _line(centres, means, 0.0, peak, 2 * noise, math.inf)
    if line is None or not means[peak] > 0:
        return nothing
    crossing = _meet(line, noise)
    for _ in range(ROUNDS):
        per_10_db = 10.0 / -line[1]  # samples
        interval = int(min(max(1.0, per_10_db / INTERVALS_PER_10_DB), max(1, count / INTERVALS)))
        centres, means = _means(power, interval)
        peak = int(np.argmax(means))
        begin = int(min(crossing + BEHIND_CROSSING / 10.0 * per_10_db, tail))
        # modes that beat feign a steep decay, which would end in their own sound
        noise = min(float(power[max(begin, 0) :].mean()), most)
        low = noise * 10 ** (ABOVE_NOISE / 10)
        better = _line(centres, means, noise, peak, low, low * 10 ** (LATE_RANGE / 10))
        if better is None:
            break
        line, before = better, crossing
        crossing = _meet(line, noise)
        if abs(crossing - before) < 0.1 * interval:
            break
    if crossing >= tail:
        # what was measured as noise is the decay itself, so the response ends before the noise
        low = means[-1] if means[-1] > 0 else noise
        late = _line(centres, means, 0.0, peak, low, low * 10 ** (LATE_RANGE / 10)) or line
        noise, crossing, line = 0.0, float(count), late
    crossing = max(crossing, 1.0)
    level = line[0] + line[1] * crossing
    constant = 10 / (math.log(10) * -line[1])
    return noise, crossing, 10 ** (level / 10) * constant, constant


def _means(power: np.ndarray, interval: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres [samples] and means of whole intervals."""
    count = len(power) // interval
    means = power[: count * interval].reshape(count, interval).mean(axis=1)
    return (np.arange(count) + 0.5) * interval, means


def _line(
    centres: np.ndarray, means: np.ndarray, noise: float, peak: int, low: float, high: float
) -> tuple[float, float] | None:
    """Offset [dB] and slope [dB per sample] of the decay from `high` to `low`, both powers with the
    noise in; None without a decay.
    """
    under = np.nonzero(means[peak:] < low)[0]
    end = peak + int(under[0]) if len(under) else len(means)
    over = np.nonzero(means[peak:end] > high)[0]
    start = peak + (int(over[-1]) + 1 if len(over) else 0)
    chosen = slice(start, end)
    if end - start < 3:
        chosen = slice(max(peak, end - 3), end)
    values = means[chosen] - noise
    if len(values) < 3 or not (values > 0).all():
        return None
    slope, offset = np.polyfit(centres[chosen], 10 * np.log10(values), 1)
    if slope >= 0:
        return None
    # the mean of an exponential over an interval lies above its value in the middle
    half = -slope * math.log(10) / 20 * (centres[1] - centres[0])
    return float(offset - 10 * math.log10(math.sinh(half) / half)), float(slope)


def _meet(line: tuple[float, float], noise: float) -> float:
    """Sample at which the line is down at the noise."""
    return math.inf if noise <= 0 else (10 * math.log10(noise) - line[0]) / line[1]
