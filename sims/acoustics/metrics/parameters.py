"""All parameters of ISO 3382-1 of a response at once, with why one is missing, and how far two
responses are apart in just noticeable differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.metrics.bands import (
    ROOM_BANDS,
    Width,
    band_edges,
    band_filter,
    bands_below,
    check_response,
)
from sims.acoustics.metrics.decay import (
    EARLY_DECAY,
    MARGIN,
    T20,
    T30,
    decay_line,
    decay_range,
    onset,
    schroeder_curve,
)
from sims.acoustics.metrics.energy import (
    C50,
    C80,
    STRENGTH_DISTANCE,
    centre_time,
    early_and_late,
    strength,
)
from sims.acoustics.metrics.noise import noise_floor, recorded_samples

# ISO 3382-1, table A.1; a share of the value for times, else in its unit
NOTICEABLE_TIME = 0.05
NOTICEABLE_CLARITY = 1.0  # dB
NOTICEABLE_DEFINITION = 0.05
NOTICEABLE_CENTRE_TIME = 0.01  # s
NOTICEABLE_STRENGTH = 1.0  # dB
NOTICEABLE_SPEECH = 0.03  # of the STI: Bradley, Reich and Norcross, J. Acoust. Soc. Am. 106 (1999)
LEAST_PRODUCT = 16.0  # of bandwidth and decay time: Jacobsen and Rindel (1987)
RATIO_RANGE = 20.0  # dB of decay below which even ratios of energy are not to be trusted
STRAIGHT = 10.0  # of the nonlinearity xi, and % of the curvature C: ISO 3382-2, annex B


@dataclass(frozen=True)
class RoomParameters:
    """Parameters of responses (...), in each of B bands; all tensors are (..., B).

    bands: nominal centres [Hz]; width: of these. early_decay_time, t20, t30 [s]. c50, c80 [dB].
    d50. centre_time [s]. strength: G [dB], or None without a response in free field. decay_range:
    what the decay falls before it meets the noise or the end [dB], NaN where there is no decay.
    nonlinearity: of the curve where T30, or else T20, is read, xi of ISO 3382-2. curvature: C = 100
    (T30/T20 - 1) of ISO 3382-2 [%].

    What a response is too short or too noisy for is NaN, and `notes` says why.
    """

    bands: tuple[float, ...]
    width: Width
    early_decay_time: Tensor
    t20: Tensor
    t30: Tensor
    c50: Tensor
    c80: Tensor
    d50: Tensor
    centre_time: Tensor
    strength: Tensor | None
    decay_range: Tensor
    nonlinearity: Tensor
    curvature: Tensor

    def table(self) -> list[dict[str, float | str]]:
        """One row for each response and band, with a column for each parameter and one of notes."""
        rows = []
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]
        flat = {name: getattr(self, name).reshape(-1, len(self.bands)) for name in names}
        for response in range(len(flat["t30"])):
            for index, band in enumerate(self.bands):
                values = {name: float(flat[name][response, index]) for name in names}
                notes = _note(values, band, self.width)
                rows.append({"response": response, "band": band, **values, "notes": notes})
        return rows

    def notes(self) -> list[str]:
        """What is missing or doubtful, one sentence for each response and band concerned."""
        return [
            f"response {row['response']}, {row['band']:g} Hz: {row['notes']}"
            for row in self.table()
            if row["notes"]
        ]


def room_parameters(
    response: Tensor,
    rate: float,
    bands: Sequence[float] | None = None,
    *,
    width: Width = "octave",
    free_field: Tensor | None = None,
    distance: float = STRENGTH_DISTANCE,
    compensate: bool = True,
) -> RoomParameters:
    """Parameters of ISO 3382-1 of broadband responses (..., T) at `rate` [Hz].

    bands: nominal centres [Hz]; by default the octaves from 125 to 4000 Hz that the rate allows.
    free_field: response of the same source at `distance` [m] in free field, for the strength.
    compensate: noise is found and taken off (see `noise_floor`); without that, T20 and T30 of a
    noisy response are too long, and nothing is NaN but what the curve does not reach.
    """
    check_response(response)
    if bands is None:
        bands = [band for band in bands_below(rate / 2, width, 100.0) if band <= 5000.0]
        if width == "octave":
            bands = [band for band in bands if band in ROOM_BANDS]
        if not bands:
            raise InputError(f"rate must allow for the 125 Hz band, got {rate:g} Hz")
    filtered = band_filter(response, rate, bands, width=width)
    start = onset(filtered)
    floor = noise_floor(filtered, rate, recorded_samples(response)[..., None])
    span = decay_range(filtered, floor, start)
    used = floor if compensate else None
    curve = schroeder_curve(filtered, used, start)
    lines = {part: decay_line(curve, rate, part, start) for part in (EARLY_DECAY, T20, T30)}

    def allowed(values: Tensor, needed: float) -> Tensor:
        values = values.to(response.dtype)
        return torch.where(span >= needed, values, torch.nan) if compensate else values

    early, t20, t30 = (allowed(lines[part].time, MARGIN - part[1]) for part in lines)
    straight = torch.where(t30.isnan(), lines[T20].nonlinearity, lines[T30].nonlinearity)

    def ratio(values: Tensor) -> Tensor:
        return allowed(values, RATIO_RANGE)

    parts = [
        early_and_late(response, rate, limit, bands, width=width, floor=used, filtered=filtered)
        for limit in (C50, C80)
    ]
    (early50, late50), (early80, late80) = parts
    # what the filter itself adds to the centre time is the centre time of its own response
    impulse = torch.zeros_like(filtered[(0,) * (filtered.ndim - 2)][0])
    impulse[0] = 1.0
    begin = torch.zeros(len(bands), dtype=torch.int64, device=response.device)
    own = centre_time(band_filter(impulse, rate, bands, width=width), rate, start=begin)
    whole = onset(response)[..., None].expand(filtered.shape[:-1])
    gain = None
    if free_field is not None:
        reference = band_filter(free_field, rate, bands, width=width)
        gain = ratio(strength(filtered, reference, distance=distance, floor=used))
    return RoomParameters(
        bands=tuple(bands),
        width=width,
        early_decay_time=early,
        t20=t20,
        t30=t30,
        c50=ratio(10 * torch.log10(early50 / late50)),
        c80=ratio(10 * torch.log10(early80 / late80)),
        d50=ratio(early50 / (early50 + late50)),
        centre_time=ratio(centre_time(filtered, rate, used, whole) - own),
        strength=gain,
        decay_range=span,
        nonlinearity=torch.where(t20.isnan(), torch.nan, straight),
        curvature=100 * (t30 / t20 - 1),
    )


def noticeable_differences(first: RoomParameters, second: RoomParameters) -> dict[str, Tensor]:
    """|second - first| of each parameter in just noticeable differences, (..., B) by name.

    Differences of times are shares of the first's. Raises InputError for different bands.
    """
    if (first.bands, first.width) != (second.bands, second.width):
        raise InputError(f"both must have the same bands, got {first.bands} and {second.bands}")
    steps = {
        "early_decay_time": NOTICEABLE_TIME * first.early_decay_time,
        "t20": NOTICEABLE_TIME * first.t20,
        "t30": NOTICEABLE_TIME * first.t30,
        "c50": NOTICEABLE_CLARITY,
        "c80": NOTICEABLE_CLARITY,
        "d50": NOTICEABLE_DEFINITION,
        "centre_time": NOTICEABLE_CENTRE_TIME,
    }
    if first.strength is not None and second.strength is not None:
        steps["strength"] = NOTICEABLE_STRENGTH
    return {
        name: (getattr(second, name) - getattr(first, name)).abs() / step
        for name, step in steps.items()
    }


def _note(values: dict[str, float], band: float, width: Width) -> str:
    """What a row has to say about its values."""
    span = values["decay_range"]
    missing = {
        "early_decay_time": MARGIN - EARLY_DECAY[1],
        "t20": MARGIN - T20[1],
        "t30": MARGIN - T30[1],
        "c80": RATIO_RANGE,
    }
    if span != span:
        return "no decay is found"
    short = {n: need for n, need in missing.items() if span < need and values[n] != values[n]}
    notes = [
        f"{'ratios of energy' if name == 'c80' else name} must have {need:g} dB of decay above "
        f"the noise, got {span:.1f} dB"
        for name, need in short.items()
    ]
    if values["nonlinearity"] > STRAIGHT or abs(values["curvature"]) > STRAIGHT:
        notes.append(
            f"the decay is not straight (nonlinearity {values['nonlinearity']:.0f}, curvature "
            f"{values['curvature']:.0f} %), so no one time describes it"
        )
    lower, upper = band_edges(band, width)
    ringing = [
        name
        for name in ("early_decay_time", "t20", "t30")
        if (upper - lower) * values[name] < LEAST_PRODUCT
    ]
    if ringing:
        notes.append(f"{', '.join(ringing)}: lengthened by the decay of the band filter itself")
    return "; ".join(notes)
