"""Measured impulse responses with where they were measured: a folder with take.toml and WAV files.

    rate = 48000                  # samples a second of all files
    units = "m"                   # of positions: m, cm or mm
    up = "z"                      # or y, of right-handed axes
    licence = "CC0-1.0"
    source = [0.7, 0.9, 1.1]

    [[receivers]]
    file = "corner.wav"
    position = [1.5, 1.3, 0.6]

Inside, everything is in metres with z up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from geomopt.files import write_text
from geomopt.runs import toml
from sims.acoustics.wav import read_wav, write_wav

FILE = "take.toml"
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
KEYS = ("rate", "units", "up", "licence", "source", "receivers")


@dataclass(frozen=True)
class ResponseTake:
    """Impulse responses (R, T) float64 at `rate` samples a second, of one source.

    source: (3,) and receivers: (R, 3) float64 [m], z up. names: of the receivers' files.
    """

    responses: Tensor
    rate: int
    source: Tensor
    receivers: Tensor
    licence: str
    names: tuple[str, ...]

    @property
    def times(self) -> Tensor:
        """The time of each sample [s], (T,) float64."""
        return torch.arange(self.responses.shape[-1], dtype=torch.float64) / self.rate


def read_take(folder: str | Path) -> ResponseTake:
    """The take in a folder; shorter responses end in zeros.

    Raises InputError that names what is missing or wrong in take.toml, and what `read_wav` refuses:
    files of another rate, in stereo, clipped, empty or broken.
    """
    folder = Path(folder).expanduser()
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"folder must hold a {FILE}, got {folder}, which has none")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} must be a TOML file, but {error}") from None
    _check_keys(file, table, KEYS)
    rate = table["rate"]
    if not isinstance(rate, int) or isinstance(rate, bool) or rate <= 0:
        raise InputError(f"rate in {file} must be a whole number of samples a second, got {rate!r}")
    if table["units"] not in METRES:
        raise InputError(f"units in {file} must be m, cm or mm, got {table['units']!r}")
    if table["up"] not in ("y", "z"):
        raise InputError(f"up in {file} must be 'y' or 'z', got {table['up']!r}")
    if not isinstance(table["licence"], str) or not table["licence"]:
        raise InputError(f"licence in {file} must name one, got {table['licence']!r}")
    entries = table["receivers"]
    if not isinstance(entries, list) or not entries:
        raise InputError(f"receivers in {file} must be a list of at least one, got {entries!r}")

    def position(name: str, value: Any) -> Tensor:
        scaled = METRES[table["units"]] * _position(f"{name} in {file}", value)
        x, y, z = scaled.unbind()
        return scaled if table["up"] == "z" else torch.stack((x, -z, y))

    source = position("source", table["source"])
    positions, recordings, names = [], [], []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"receivers[{index}] in {file} must be a table, got {entry!r}")
        _check_keys(file, entry, ("file", "position"), f"receivers[{index}].")
        if not isinstance(entry["file"], str):
            raise InputError(
                f"receivers[{index}].file in {file} must be a file name, got {entry['file']!r}"
            )
        positions.append(position(f"receivers[{index}].position", entry["position"]))
        recordings.append(read_wav(folder / entry["file"], rate).samples[0])
        names.append(entry["file"])
    responses = torch.nn.utils.rnn.pad_sequence(recordings, batch_first=True)
    return ResponseTake(
        responses, rate, source, torch.stack(positions), table["licence"], tuple(names)
    )


def write_take(
    folder: str | Path,
    responses: Tensor,
    rate: int,
    source: Sequence[float] | Tensor,
    receivers: Sequence[Sequence[float]] | Tensor,
    licence: str,
) -> Path:
    """Write responses (R, T) at `rate` samples a second as a take, in float32; returns its folder.

    source: (3,) and receivers: (R, 3) [m], z up. licence: under which the take may be used, such as
    "CC0-1.0". The take.toml comes last, so that a folder with one is a whole take.
    """
    folder = Path(folder).expanduser()
    check_tensor("responses", responses, (None, None))
    start = _position("source", source)
    places = as_tensor("receivers", receivers, "positions (R, 3)", dtype=torch.float64)
    check_tensor("receivers", places, (len(responses), 3))
    if not licence:
        raise InputError("licence must name one, got ''")
    names = [f"receiver_{index:02d}.wav" for index in range(len(responses))]
    for name, response in zip(names, responses, strict=True):
        write_wav(folder / name, response, rate)
    pairs = zip(names, places.tolist(), strict=True)
    table = {
        "rate": rate,
        "units": "m",
        "up": "z",
        "licence": licence,
        "source": start.tolist(),
        "receivers": [{"file": name, "position": place} for name, place in pairs],
    }
    write_text(folder / FILE, toml.dumps(table))
    return folder


def _check_keys(
    file: Path, table: Mapping[str, Any], wanted: Sequence[str], prefix: str = ""
) -> None:
    """Raise InputError for a key that is missing or unknown."""
    for key in wanted:
        if key not in table:
            raise InputError(f"{file} must have {prefix}{key}, but it has none")
    for key in table:
        if key not in wanted:
            listed = ", ".join(wanted)
            raise InputError(f"{file} must have {listed} only, got {prefix}{key}")


def _position(name: str, value: Any) -> Tensor:
    position = as_tensor(name, value, "three finite numbers", dtype=torch.float64)
    if position.shape != (3,) or not bool(position.isfinite().all()):
        raise InputError(f"{name} must be three finite numbers, got {value!r}")
    return position
