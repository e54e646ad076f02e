"""WAV files of recordings and of what is made to listen to.

Full scale is 1. What is read becomes float64, which holds PCM of 8 to 32 bits exactly.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.files import replacing

Encoding = Literal["pcm16", "float32"]
NOT_WHOLE = "must be a whole WAV file of PCM or float samples"
REMEDY = "record or convert it again"
CLIPPED_RUN = 3  # samples in a row at full scale that make a recording a clipped one
# by kind and bytes of a sample; what is above 16 bits comes from converters of 24 at best
LAST_STEP = {
    ("u", 1): 2.0**-7,
    ("i", 2): 2.0**-15,
    ("i", 4): 2.0**-23,
    ("i", 8): 2.0**-23,
    ("f", 4): 2.0**-15,
    ("f", 8): 2.0**-15,
}


@dataclass(frozen=True)
class Recording:
    """Samples (C, T) float64 of C channels at `rate` samples a second."""

    samples: Tensor
    rate: int

    @property
    def duration(self) -> float:
        """Length [s]."""
        return self.samples.shape[-1] / self.rate

    @property
    def times(self) -> Tensor:
        """The time of each sample [s], (T,) float64."""
        return torch.arange(self.samples.shape[-1], dtype=torch.float64) / self.rate


def read_wav(
    path: str | Path,
    rate: int | None = None,
    *,
    channels: int | None = 1,
    accept_clipped: bool = False,
) -> Recording:
    """A WAV file: PCM of 8, 16, 24 or 32 bits, or float of 32 or 64.

    rate: samples a second that the file must have; None for any. channels: how many it must have;
    None for any. accept_clipped: a clipped file is read too, as for music that was mastered loud.

    Raises InputError for a file that is not there or not a whole WAV, is empty, has another rate or
    number of channels, holds infinite samples, or is clipped: three or more samples in a row at
    full scale.
    """
    path = Path(path).expanduser()
    stored, found = _read(path)
    if rate is not None and found != rate:
        raise InputError(
            f"{path} must have {rate} samples a second, got {found}: resample it first, with "
            f"read_wav(path).samples and sims.acoustics.wav.resample(samples, {found}, {rate})"
        )
    stored = stored[:, None] if stored.ndim == 1 else stored
    if stored.shape[0] == 0:
        raise InputError(f"{path} must hold samples, got an empty file")
    if channels is not None and stored.shape[1] != channels:
        wanted = "one channel" if channels == 1 else f"{channels} channels"
        raise InputError(
            f"{path} must have {wanted}, got {stored.shape[1]}: choose one with channels=None and "
            "samples[0], or mix them to one file"
        )
    samples = _scaled(stored)
    if not np.isfinite(samples).all():
        count = int((~np.isfinite(samples)).sum())
        raise InputError(f"{path} must hold finite samples, got {count} NaN or infinite ones")
    if not accept_clipped:
        _refuse_clipped(path, samples, stored.dtype, found)
    return Recording(torch.from_numpy(samples.T.copy()), found)


def write_wav(path: str | Path, samples: Tensor, rate: int, encoding: Encoding = "float32") -> Path:
    """Write samples (T,) or (C, T) at `rate` samples a second, whole or not at all.

    encoding: "float32", or "pcm16", rounded to the nearest of 65 536 steps. Raises InputError for
    samples beyond full scale in PCM, which `normalised` avoids, and StorageError.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".wav":
        raise InputError(f"path must end in .wav, got {path}")
    check_tensor("samples", samples)
    if samples.ndim not in (1, 2) or samples.numel() == 0:
        raise InputError(f"samples must have shape (T,) or (C, T), got {tuple(samples.shape)}")
    if not isinstance(rate, int) or not 0 < rate < 2**32:
        raise InputError(f"rate must be a whole number of samples a second, got {rate!r}")
    values = samples.detach().cpu().double().numpy().T
    if encoding == "pcm16":
        peak = float(np.abs(values).max())
        # 1 itself is half a step beyond the largest number
        if peak > 1:
            raise InputError(
                f"samples must be within -1 and 1 for PCM, got {peak:.4g}: normalise them, or "
                "write float32"
            )
        stored = np.clip(np.round(values * 2**15), -(2**15), 2**15 - 1).astype("<i2")
    elif encoding == "float32":
        stored = values.astype("<f4")
    else:
        raise InputError(f"encoding must be 'pcm16' or 'float32', got {encoding!r}")
    from scipy.io import wavfile

    with replacing(path) as draft:
        wavfile.write(draft, rate, np.ascontiguousarray(stored))
    return path


def normalised(samples: Tensor, peak: float = 0.9) -> Tensor:
    """The samples times one factor, so that the largest is `peak` of full scale.

    Raises InputError for silence.
    """
    largest = samples.detach().abs().max()
    if not float(largest) > 0:
        raise InputError("samples must not be silent, got zero at all times")
    return samples * (peak / largest)


def resample(samples: Tensor, rate: float, new_rate: float) -> Tensor:
    """Samples (..., T) at `rate` [Hz] as samples at `new_rate` [Hz], low-passed below the lower of
    both by half; the first sample stays at time 0.

    The ratio is taken as a fraction that is right to a hundredth of a sample at the end.
    """
    from scipy.signal import resample_poly  # slow to import

    up, down = ratio_of_rates(rate, new_rate, samples.shape[-1])
    values = samples.detach().cpu().double().numpy()
    return torch.from_numpy(resample_poly(values, up, down, axis=-1)).to(samples)


def ratio_of_rates(rate: float, new_rate: float, count: int) -> tuple[int, int]:
    """new_rate / rate as a fraction of small numbers, right to 0.01 samples after `count`."""
    from fractions import Fraction

    for name, value in (("rate", rate), ("new_rate", new_rate)):
        if not 0 < value < float("inf"):
            raise InputError(f"{name} must be positive, got {value} Hz")
    exact = Fraction(new_rate) / Fraction(rate)
    bound = 1
    while True:
        near = exact.limit_denominator(bound)
        if near and abs(near - exact) * count <= Fraction(1, 100):
            return near.numerator, near.denominator
        bound *= 2


def _read(path: Path) -> tuple[np.ndarray, int]:
    """What a file holds, (T,) or (T, C), and its rate."""
    from scipy.io import wavfile

    if not path.is_file():
        raise InputError(f"path must be a WAV file, got {path}, which does not exist")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=wavfile.WavFileWarning)
        # notes, names and the like; the filter that was added last is the first to be asked
        warnings.filterwarnings("ignore", "Chunk .non-data. not understood", wavfile.WavFileWarning)
        try:
            rate, stored = wavfile.read(path)
        except (ValueError, wavfile.WavFileWarning, struct.error) as error:
            raise InputError(f"{path} {NOT_WHOLE}, but {error}: {REMEDY}") from None
        except (
            UnboundLocalError,
            ArithmeticError,
            TypeError,
        ):  # of a reader that trusts the header
            raise InputError(f"{path} {NOT_WHOLE}, but its header is broken: {REMEDY}") from None
    if rate < 1:
        raise InputError(f"{path} {NOT_WHOLE}, but its rate is {rate}: {REMEDY}")
    return stored, int(rate)


def _scaled(stored: np.ndarray) -> np.ndarray:
    """Samples as float64 with full scale at 1."""
    if stored.dtype.kind == "f":
        return stored.astype(np.float64)
    if stored.dtype.kind == "u":  # 8 bits, around 128
        return (stored.astype(np.float64) - 128) / 128
    return stored.astype(np.float64) / 2.0 ** (8 * stored.dtype.itemsize - 1)


def _refuse_clipped(path: Path, samples: np.ndarray, kind: np.dtype, rate: int) -> None:
    """Raise InputError where samples (T, C) in a row stand at full scale."""
    # some converters stop one step short of full scale, on one side or on both
    full = np.abs(samples) >= 1 - LAST_STEP[kind.kind, kind.itemsize]
    if kind.kind == "f":  # where numbers go on beyond full scale
        full &= np.abs(samples) == np.abs(samples).max()
    for sign in (1, -1):
        edges = np.diff(np.pad(full & (sign * samples > 0), ((1, 1), (0, 0))).astype(int), axis=0)
        for column in edges.T:
            starts = np.nonzero(column == 1)[0]
            runs = np.nonzero(column == -1)[0] - starts
            if len(runs) and runs.max() >= CLIPPED_RUN:
                raise InputError(
                    f"{path} must not be clipped, got {runs.max()} samples in a row at full scale, "
                    f"{starts[runs.argmax()] / rate:.4f} s after its start: record it again at a "
                    "lower level, or read it with accept_clipped=True if it is only listened to"
                )
