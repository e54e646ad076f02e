"""Sound in a shoebox above the wave solver's band: image sources with absorbing walls.

J. B. Allen and D. A. Berkley, "Image method for efficiently simulating small-room acoustics",
Journal of the Acoustical Society of America 65(4), 943-950 (1979). Walls reflect the share
sqrt(1 - alpha) of the pressure at every angle and without a phase: right for rays, not for waves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.auralize.bands import octave_masks
from sims.acoustics.auralize.deconvolution import RATE

SIDES = ("left", "right", "front", "back", "floor", "ceiling")  # low and high end of x, y, z
NOTHING = 1e-60
MOST_IMAGES = 20_000_000
OVERSAMPLING = 8  # an arrival is shared by two samples, whose blur then is far above hearing

Absorption = float | Sequence[float]


def image_source_response(
    lengths: Sequence[float],
    source: Sequence[float],
    receivers: object,
    absorption: Absorption | Mapping[str, Absorption],
    duration: float,
    *,
    bands: Sequence[float] = (),
    rate: int = RATE,
) -> Tensor:
    """Impulse responses (R, T) float64 at `rate` [Hz] of a box from 0 to lengths (3,) [m].

    An image at distance r adds an impulse 1/r, as in `impulse_response`. receivers: (R, 3) [m].
    absorption: energy absorbed, in [0, 1], of all walls or by name ("left", "right": low and high
    x, "front", "back": y, "floor", "ceiling"); a number, or one for each of `bands` [Hz], centres
    that rise. duration [s]. Raises InputError for positions outside of the box, and for more than
    2e7 images: let noise follow the first part of such a response.
    """
    size = _numbers("lengths", lengths)
    start = _numbers("source", source)
    points = as_tensor("receivers", receivers, "positions (R, 3)", dtype=torch.float64)
    points = points[None] if points.ndim == 1 else points
    if points.ndim != 2 or points.shape[1] != 3 or not bool(points.isfinite().all()):
        raise InputError(f"receivers must have shape (R, 3), got {tuple(points.shape)}")
    if not bool((size > 0).all()):
        raise InputError(f"lengths must be positive, got {size.tolist()}")
    for name, place in (("source", start[None]), ("receivers", points)):
        if not bool(((place > 0) & (place < size)).all()):
            raise InputError(f"{name} must be inside of the box, got {place.tolist()}")
    if bool((points == start).all(dim=1).any()):
        raise InputError(f"receivers must be apart from the source, got {start.tolist()} for both")
    if not 0 < duration < math.inf:
        raise InputError(f"duration must be positive, got {duration} s")
    reach = SPEED_OF_SOUND * duration
    expected = 4 / 3 * math.pi * reach**3 / float(size.prod())
    if expected > MOST_IMAGES:
        raise InputError(
            f"duration must ask for at most {MOST_IMAGES} images, got {expected:.2g} for "
            f"{duration:g} s: take it shorter, and let noise_tail follow"
        )
    # (6, B), of the pressure; what a wall swallows whole is below any other sound by far
    losses = 0.5 * torch.log((1 - _absorption(absorption, len(bands) or 1)).clamp(min=NOTHING))
    count = math.ceil(duration * rate)
    responses = torch.stack([_arrivals(size, start, p, losses, reach, count, rate) for p in points])
    if len(bands):
        frequencies = torch.fft.rfftfreq(2 * count, 1 / rate, dtype=torch.float64)
        spectra = torch.fft.rfft(responses, 2 * count) * octave_masks(frequencies, bands)
        return torch.fft.irfft(spectra.sum(dim=1), 2 * count)[..., :count]
    return responses[:, 0]


def _arrivals(
    size: Tensor,
    source: Tensor,
    receiver: Tensor,
    losses: Tensor,
    reach: float,
    count: int,
    rate: int,
) -> Tensor:
    """Impulses (B, T) of all images within reach of one receiver, in each band."""
    from scipy.signal import resample_poly  # slow to import

    axes = []
    for axis in range(3):
        last = math.ceil((reach + float(size[axis])) / (2 * float(size[axis])))
        step = torch.arange(-last, last + 1)[:, None]
        turned = torch.tensor([0, 1])[None, :]
        place = 2 * step * size[axis] + (1 - 2 * turned) * source[axis]
        loss = (step - turned).abs()[..., None] * losses[2 * axis]
        loss = loss + step.abs()[..., None] * losses[2 * axis + 1]
        axes.append(((place.flatten() - receiver[axis]) ** 2, loss.flatten(0, 1)))
    fine = OVERSAMPLING * count
    made = torch.zeros(len(losses[0]), fine + 2, dtype=torch.float64)
    (first, first_loss), (second, second_loss), (third, third_loss) = axes
    for squared, loss in zip(first, first_loss, strict=True):
        distance = (squared + second[:, None] + third).sqrt()
        heard = distance < reach
        row, column = heard.nonzero(as_tuple=True)
        distance = distance[row, column]
        when = distance / SPEED_OF_SOUND * rate * OVERSAMPLING
        index = when.long().clamp(max=fine)
        share = when - index
        amplitude = torch.exp(loss + second_loss[row] + third_loss[column]) / distance[:, None]
        for band, height in enumerate(amplitude.T):
            made[band] += torch.bincount(index, height * (1 - share), fine + 2)
            made[band] += torch.bincount(index + 1, height * share, fine + 2)
    low = resample_poly(made[:, :fine].numpy(), 1, OVERSAMPLING, axis=-1)
    return OVERSAMPLING * torch.from_numpy(low)[:, :count]


def _absorption(given: Absorption | Mapping[str, Absorption], bands: int) -> Tensor:
    """(6, B) in the order of SIDES."""
    if isinstance(given, Mapping):
        if set(given) != set(SIDES):
            raise InputError(f"absorption must name the sides {SIDES}, got {tuple(given)}")
        rows = [given[side] for side in SIDES]
    else:
        rows = [given] * len(SIDES)
    made = torch.empty(len(SIDES), bands, dtype=torch.float64)
    for index, row in enumerate(rows):
        values = as_tensor("absorption", row, "a number or one a band", dtype=torch.float64)
        if values.ndim > 1 or values.numel() not in (1, bands):
            raise InputError(
                f"absorption must be a number or one for each of the {bands} bands, got {row!r}"
            )
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise InputError(f"absorption must be in [0, 1], got {row!r}")
        made[index] = values
    return made


def _numbers(name: str, values: object) -> Tensor:
    numbers = as_tensor(name, values, "three finite numbers", dtype=torch.float64)
    if numbers.shape != (3,) or not bool(numbers.isfinite().all()):
        raise InputError(f"{name} must be three finite numbers, got {values!r}")
    return numbers
