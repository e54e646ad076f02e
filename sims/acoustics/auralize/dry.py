"""Dry sounds to hear a room with, all made by formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomopt.errors import InputError

PEAK = 0.9
NOTES = (0, 4, 7, 12, 7, 4, 0, 2, 5, 9, 12, 9, 5, 2, 0)  # semitones above the first
FIRST_NOTE = 220.0  # Hz
NOTE_LENGTH = 0.22  # s
HARMONICS = 12
# two formants [Hz] of each syllable's vowel, and their widths
VOWELS = ((730.0, 1090.0), (270.0, 2290.0), (300.0, 870.0), (530.0, 1840.0), (570.0, 840.0))
FORMANT_WIDTH = 90.0
SYLLABLE = 0.21  # s, near the 4 Hz at which speech is modulated most
VOICE = 115.0  # Hz


def dry_signal(name: str, rate: int) -> Tensor:
    """A dry signal (S,) float64 at `rate` [Hz], with a peak of 0.9, beginning and ending in quiet.

    name: "click" (a band-limited impulse), "burst" (0.1 s of noise), "melody" (a plucked string) or
    "speech" (a voice of five vowels and consonants of noise: its spectrum and its rhythm, without
    words). The same name and rate give the same samples. Raises InputError for any other.
    """
    if name not in SIGNALS:
        raise InputError(f"name must be one of {', '.join(SIGNALS)}, got {name!r}")
    if not isinstance(rate, int) or rate < 8000:
        raise InputError(f"rate must be a whole number of at least 8000 Hz, got {rate!r}")
    made = SIGNALS[name](rate)
    return PEAK * made / made.abs().max()


def _click(rate: int) -> Tensor:
    times = torch.arange(round(0.01 * rate), dtype=torch.float64) / rate - 0.002
    return torch.exp(-((times * 0.2 * rate) ** 2))


def _burst(rate: int) -> Tensor:
    count = round(0.1 * rate)
    return _noise(count, seed=1) * _window(count, round(0.005 * rate))


def _melody(rate: int) -> Tensor:
    """A string of harmonics that decay faster the higher they are, plucked at a fifth of it."""
    length = round(NOTE_LENGTH * rate)
    ring = 5 * length
    times = torch.arange(ring, dtype=torch.float64) / rate
    made = torch.zeros(len(NOTES) * length + ring, dtype=torch.float64)
    attack = torch.clamp(times / 0.002, max=1.0)
    for index, note in enumerate(NOTES):
        frequency = FIRST_NOTE * 2 ** (note / 12)
        for harmonic in range(1, HARMONICS + 1):
            pitch = harmonic * frequency
            if pitch > 0.45 * rate:
                break
            height = math.sin(math.pi * harmonic / 5) / harmonic**2
            sound = torch.exp(-times * (2.5 + 0.9 * harmonic)) * torch.sin(
                2 * math.pi * pitch * times
            )
            made[index * length : index * length + ring] += height * attack * sound
    return made * _window(len(made), round(0.02 * rate), only_end=True)


def _speech(rate: int) -> Tensor:
    """Pulses of a gliding voice and bursts of noise, through two formants a syllable."""
    length = round(SYLLABLE * rate)
    made = torch.zeros(12 * length, dtype=torch.float64)
    for index in range(10):
        times = torch.arange(length, dtype=torch.float64) / rate
        pitch = VOICE * (1.15 - 0.03 * index)
        phase = 2 * math.pi * (pitch * times - 0.2 * pitch * times**2)
        count = int(0.45 * rate / pitch)
        voice = torch.zeros(length, dtype=torch.float64)
        for harmonic in range(1, min(count, 40) + 1):
            frequency = harmonic * pitch
            gain = sum(
                1 / (1 + ((frequency - formant) / FORMANT_WIDTH) ** 2)
                for formant in VOWELS[index % len(VOWELS)]
            )
            voice += (gain + 0.02) * torch.cos(harmonic * phase)
        voice *= torch.sin(math.pi * torch.clamp((times - 0.04) / (SYLLABLE - 0.05), 0, 1)) ** 0.7
        hiss = _noise(length, seed=10 + index).diff(prepend=torch.zeros(1, dtype=torch.float64))
        hiss *= torch.exp(-(((times - 0.025) / 0.012) ** 2))
        # a pause after the fourth syllable makes it two words
        place = (index + (index >= 4)) * length
        made[place : place + length] += voice / voice.abs().max() + 0.15 * hiss
    return made


def _noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _window(count: int, ramp: int, *, only_end: bool = False) -> Tensor:
    """Ones with ends of half a cosine of `ramp` samples."""
    rise = 0.5 - 0.5 * torch.cos(math.pi * torch.arange(ramp, dtype=torch.float64) / ramp)
    window = torch.ones(count, dtype=torch.float64)
    window[-ramp:] = rise.flip(0)
    if not only_end:
        window[:ramp] = rise
    return window


SIGNALS: dict[str, Callable[[int], Tensor]] = {
    "click": _click,
    "burst": _burst,
    "melody": _melody,
    "speech": _speech,
}
