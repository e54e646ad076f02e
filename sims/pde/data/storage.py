"""Trajectories in files: npz, HDF5 and Zarr, with one layout.

| name | shape | dtype | content |
|---|---|---|---|
| `states` | (n, frames, C, *space) | float32 or float64 | the fields, in the unit of the equation |
| `frame_time` | (1,) or (n,) | float64 | time between two frames [s] |
| `length` | (1 or n, 1 or directions) | float64 | sides of the box, in the unit of the grid |
| `parameters/<name>` | (n,) | float64 | one for each parameter of the equation |

The first direction of `frame_time` and `length` has size 1 where all trajectories share the value;
the second of `length` has size 1 where the box is a cube. The grid is uniform and periodic: point j
of N lies at j * length / N. Attributes of the root, in an npz file arrays of one text or number:

| name | type | content |
|---|---|---|
| `format` | text | "geomopt trajectories" |
| `version` | integer | 1 |
| `equation`, `units`, `description` | text | as the user gave them, may be empty |

HDF5 and Zarr are stored in chunks of whole frames of one trajectory each, so that a part of a file
is read without the rest. HDF5 has a checksum of each chunk; one that a Zarr store lacks reads as
NaN, which is refused. An npz file is read whole.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geomopt.errors import BackendUnavailable, InputError
from geomopt.files import explained, replacing
from sims.pde.data.trajectories import Trajectories, check_slices

FORMAT, VERSION = "geomopt trajectories", 1
SUFFIXES = (".npz", ".h5", ".hdf5", ".zarr")
TEXTS = ("equation", "units", "description")
ARRAYS = ("states", "frame_time", "length")
CHUNK = 4 * 2**20  # bytes: long enough for a disk, short enough for a window


def save(data: Trajectories, path: str | os.PathLike[str]) -> None:
    """Write trajectories to a .npz, .h5, .hdf5 or .zarr; whole or not at all.

    A file there is replaced; a folder only if it is a Zarr store. Raises InputError for another
    suffix, BackendUnavailable without h5py or zarr, and StorageError where nothing can be written.
    """
    path = Path(path)
    kind = _kind(path)
    arrays = _arrays(data)
    attributes = {"format": FORMAT, "version": VERSION} | {n: getattr(data, n) for n in TEXTS}
    if kind == ".zarr":
        _write_zarr(path, arrays, attributes)
        return
    backend = None if kind == ".npz" else _package("h5py")
    with replacing(path) as draft:
        if backend is None:
            with draft.open("wb") as file:  # of an open file numpy does not change the name
                np.savez(file, **arrays, **attributes)
            return
        with backend.File(draft, "w") as file:
            for name, values in arrays.items():
                chunks = _chunks(values) if name == "states" else values.shape
                file.create_dataset(name, data=values, chunks=chunks, fletcher32=True)
            file.attrs.update(attributes)


def load(
    path: str | os.PathLike[str],
    trajectories: slice = slice(None),
    frames: slice = slice(None),
) -> Trajectories:
    """Read trajectories, all or those of two slices, from a file that `save` wrote.

    A step of `frames` makes the frame time longer by as much. Raises InputError that names the file
    and what is wrong with it, with the count of values that are not finite.
    """
    path = Path(path)
    kind = _kind(path)
    check_slices(trajectories, frames)
    if not path.exists():
        raise InputError(f"there is no file {path}")
    try:
        arrays, attributes = _read(path, kind, trajectories, frames)
        return _made_of(arrays, attributes, frames.step or 1)
    except BackendUnavailable:
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"{path} is damaged or no file of trajectories: {error}") from None


def _kind(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise InputError(f"path must end in {', '.join(SUFFIXES)}, got {path}")
    return path.suffix


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendUnavailable(
            f"these files need the package {name}: pip install 'geomopt[data]'; npz needs nothing"
        ) from error


def _chunks(states: np.ndarray) -> tuple[int, ...]:
    frame = states[0, 0].nbytes
    return (1, min(states.shape[1], max(1, CHUNK // frame)), *states.shape[2:])


def _arrays(data: Trajectories) -> dict[str, np.ndarray]:
    def rows(value: Any) -> np.ndarray:
        return np.atleast_1d(np.asarray(value, dtype=np.float64))

    per_box = isinstance(data.length, torch.Tensor)
    length = rows(data.length)[:, None] if per_box else rows(data.length)[None]
    arrays = {
        "states": data.states.detach().cpu().numpy(),
        "frame_time": rows(data.frame_time),
        "length": length,
    }
    return arrays | {f"parameters/{n}": v.numpy() for n, v in data.parameters.items()}


def _write_zarr(path: Path, arrays: Mapping[str, np.ndarray], attributes: dict[str, Any]) -> None:
    zarr = _package("zarr")
    if path.exists() and not (path / "zarr.json").is_file():
        raise InputError(f"{path} is there and no Zarr store; give another path")
    draft = path.with_name(f".{path.stem}.{os.getpid()}.zarr")
    old = path.with_name(f".{path.stem}.{os.getpid()}.old")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            root = zarr.open_group(draft, mode="w")
            for name, values in arrays.items():
                chunks = _chunks(values) if name == "states" else values.shape
                made = root.create_array(
                    name,
                    shape=values.shape,
                    dtype=values.dtype,
                    chunks=chunks,
                    fill_value=np.nan,  # else a chunk that got lost reads as zeros
                )
                made[...] = values
            root.attrs.update(attributes)
            if path.exists():
                path.rename(old)
            try:
                draft.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
        finally:
            for rest in (draft, old):
                shutil.rmtree(rest, ignore_errors=True)


def _read(
    path: Path, kind: str, trajectories: slice, frames: slice
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and attributes of a file, of the states the wanted part only."""
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        attributes = {name: a.item() for name, a in arrays.items() if a.ndim == 0}
        return _cut(arrays, attributes, trajectories, frames)
    if kind == ".zarr":
        root = _package("zarr").open_group(path, mode="r")
        attributes = dict(root.attrs)
        return _cut(_members(root), attributes, trajectories, frames)
    with _package("h5py").File(path, "r") as file:
        # other programs write text as bytes
        attributes = {n: a.decode() if isinstance(a, bytes) else a for n, a in file.attrs.items()}
        return _cut(_members(file), attributes, trajectories, frames)


def _members(root: Any) -> dict[str, Any]:
    """Arrays of a group, not read yet."""
    arrays = {name: root[name] for name in ARRAYS if name in root}
    group = root.get("parameters", {})
    return arrays | {f"parameters/{name}": group[name] for name in group}


def _cut(
    arrays: Mapping[str, Any],
    attributes: dict[str, Any],
    trajectories: slice,
    frames: slice,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if attributes.get("format") != FORMAT:
        raise InputError(f"no file of trajectories, it has no format {FORMAT!r}")
    if int(attributes.get("version", 0)) != VERSION:
        raise InputError(f"its layout is {attributes.get('version')}, this release reads {VERSION}")
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise InputError(f"it has no {', '.join(missing)}")
    found = {"states": np.asarray(arrays["states"][trajectories, frames])}
    if 0 in found["states"].shape[:2]:
        raise InputError(
            f"trajectories and frames must leave something of {arrays['states'].shape[:2]}, got "
            f"{trajectories} and {frames}"
        )
    count = arrays["states"].shape[0]
    for name, values in arrays.items():
        if name != "states" and (name in ARRAYS or name.startswith("parameters/")):
            whole = np.asarray(values[...])
            per_trajectory = len(whole) == count and (count > 1 or name not in ARRAYS)
            found[name] = whole[trajectories] if per_trajectory else whole
    return {name: _native(name, values) for name, values in found.items()}, attributes


def _native(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers as torch takes them: other programs may have written another order of bytes."""
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise InputError(f"{name} must be numbers of at most 64 bits, got {values.dtype}")
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _made_of(
    arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any], step: int
) -> Trajectories:
    time, length = arrays["frame_time"], arrays["length"]
    if time.ndim != 1 or length.ndim != 2 or (len(length) > 1 and length.shape[1] > 1):
        raise InputError(
            "frame_time must have shape (1,) or (n,) and length (1, 1), (1, directions) or (n, 1), "
            f"got {time.shape} and {length.shape}"
        )
    if len(length) > 1:
        sides: Any = torch.from_numpy(length[:, 0])
    elif length.shape[1] > 1:
        sides = tuple(float(side) for side in length[0])
    else:
        sides = float(length[0, 0])
    return Trajectories(
        torch.from_numpy(arrays["states"]),
        torch.from_numpy(time * step) if len(time) > 1 else float(time[0]) * step,
        sides,
        {
            name.removeprefix("parameters/"): torch.from_numpy(values)
            for name, values in arrays.items()
            if name.startswith("parameters/")
        },
        *(str(attributes.get(name, "")) for name in TEXTS),
    )
