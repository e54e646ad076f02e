"""The file from which a killed run goes on."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def check_writable(path: Path) -> None:
    """Raise before any work is done when a checkpoint could not be written there."""
    if path.is_dir():
        raise IsADirectoryError(f"checkpoint must be a file, got the folder {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"checkpoint must lie in an existing folder, there is no {path.parent}"
        )
    try:
        probe = _draft(path)
        os.close(_create(probe))
        probe.unlink()
    except OSError as error:
        raise type(error)(
            error.errno, f"cannot write checkpoint {path}: {error.strerror}"
        ) from error


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state so that the file is at every moment either the old one or the new one.

    Raises OSError that names the path when there is no room or no permission; the old file is then
    still there.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    draft = _draft(path)
    try:
        with os.fdopen(_create(draft), "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(
                error.errno, f"cannot write checkpoint {path}: {error.strerror}"
            ) from error
        raise


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """The state of a file, whosever it is. Raises ValueError where the file is damaged."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        return {**state, "identity": dict(state["identity"]), "last": state["last"]}
    except OSError:
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        raise ValueError(f"checkpoint {path} is damaged or not a checkpoint: {error}") from error


def load(path: Path, identity: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The state of a file of this run.

    Raises ValueError where it is damaged or belongs to another run, and tells what differs.
    """
    state = read(path, device)
    found = state["identity"]
    differences = [
        f"{name} is {found.get(name)!r} in the file and {wanted!r} now"
        for name, wanted in identity.items()
        if found.get(name) != wanted
    ]
    if differences:
        raise ValueError(f"checkpoint {path} belongs to another run: {'; '.join(differences)}")
    return state


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")


def _create(path: Path) -> int:
    """Handle of a new file with the permissions that `open` would give, unlike `tempfile`."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
