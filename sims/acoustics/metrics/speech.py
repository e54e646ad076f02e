"""Speech transmission index (IEC 60268-16:2011, edition 4), by the indirect method from responses.

Schroeder, "Modulation transfer functions: definition and measurement", Acustica 49 (1981). Masking
between bands and the threshold of hearing, which ask for absolute levels, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.acoustics.metrics.bands import band_filter, check_rate, check_response
from sims.acoustics.metrics.noise import NoiseFloor, noise_floor, recorded_samples

SPEECH_BANDS = (125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # Hz
MODULATIONS = (
    0.63, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0, 10.0, 12.5,
)  # Hz  # fmt: skip
# of male speech: the weight of each band, and of what neighbouring bands say twice
WEIGHTS = (0.085, 0.127, 0.230, 0.233, 0.309, 0.224, 0.173)
REDUNDANCY = (0.085, 0.078, 0.065, 0.011, 0.047, 0.095)
RANGE = 15.0  # dB to either side over which a signal-to-noise ratio counts


def modulation_transfer(
    response: Tensor,
    rate: float,
    modulations: Sequence[float] = MODULATIONS,
    floor: NoiseFloor | None = None,
) -> Tensor:
    """m(F) = |∫ p² exp(-2 pi i F t) dt| / ∫ p² dt, (..., F), of responses (..., T) at `rate` [Hz].

    floor: of `noise_floor`: the noise is taken off, and the decay goes on below it.
    """
    check_response(response)
    rate = check_rate(rate)
    power = response.double() ** 2
    samples = torch.arange(power.shape[-1], device=power.device, dtype=torch.float64)
    if floor is not None:
        share = (floor.crossing[..., None] - samples).clamp(0, 1)
        power = (power - floor.power[..., None]) * share
    angles = torch.tensor(modulations, dtype=torch.float64, device=power.device)
    angles = 2 * math.pi * angles / rate  # a sample
    spectrum = power.to(torch.complex128) @ torch.exp(-1j * samples[:, None] * angles)
    whole = power.sum(dim=-1)
    if floor is not None:
        turn = torch.exp(-1j * floor.crossing[..., None] * angles)
        spectrum = spectrum + floor.remainder[..., None] * turn / (
            1 + 1j * angles * floor.constant[..., None]
        )
        whole = whole + floor.remainder
    return (spectrum.abs() / whole[..., None]).to(response.dtype)


def speech_transmission_index(
    response: Tensor,
    rate: float,
    signal_to_noise: Sequence[float] | Tensor | None = None,
    *,
    compensate: bool = True,
) -> Tensor:
    """STI, (...), of broadband responses (..., T) at `rate` [Hz], more than 22.4 kHz.

    signal_to_noise: of speech over the noise at the listener [dB], one for each of the seven octave
    bands from 125 Hz to 8 kHz; without it the room is quiet. compensate: the noise in the recorded
    response is taken off first. Raises InputError for a rate too low for the 8 kHz band.
    """
    filtered = band_filter(response, rate, SPEECH_BANDS)
    recorded = recorded_samples(response)[..., None]
    floor = noise_floor(filtered, rate, recorded) if compensate else None
    transfer = modulation_transfer(filtered, rate, floor=floor)
    if signal_to_noise is not None:
        ratio = as_tensor("signal_to_noise", signal_to_noise, "seven numbers [dB]").to(transfer)
        if ratio.shape != (len(SPEECH_BANDS),) or bool(ratio.isnan().any()):
            raise InputError(
                "signal_to_noise must have one number for each of the seven octave bands, "
                f"got {ratio.tolist()}"
            )
        transfer = transfer / (1 + 10 ** (-ratio[:, None] / 10))
    return index_of_transfer(transfer)


def index_of_transfer(transfer: Tensor) -> Tensor:
    """STI, (...), from modulation transfer (..., 7, 14) in all bands, at all modulations.

    TI = (10 log10 m/(1 - m) + 15) / 30 within 0 and 1, MTI its mean in a band, and STI = sum of
    alpha_k MTI_k - sum of beta_k sqrt(MTI_k MTI_k+1), not above 1.
    """
    check_tensor("transfer", transfer)
    wanted = (len(SPEECH_BANDS), len(MODULATIONS))
    if transfer.shape[-2:] != wanted:
        raise InputError(
            f"transfer must have shape (..., {wanted[0]}, {wanted[1]}), got {tuple(transfer.shape)}"
        )
    transfer = transfer.clamp(0, 1)
    ratio = (10 * torch.log10(transfer / (1 - transfer))).clamp(-RANGE, RANGE)
    bands = ((ratio + RANGE) / (2 * RANGE)).mean(dim=-1)
    own = (bands * bands.new_tensor(WEIGHTS)).sum(-1)
    shared = ((bands[..., :-1] * bands[..., 1:]).sqrt() * bands.new_tensor(REDUNDANCY)).sum(-1)
    return (own - shared).clamp(max=1.0)
