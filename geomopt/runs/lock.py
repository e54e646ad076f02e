"""One process a run directory.

The lock is the operating system's, on an open file: it ends with its process, however that ends, so
there are no stale locks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geomopt.errors import InputError
from geomopt.files import explained

_PATIENCE = 0.3  # seconds; `is_held` takes the lock for a moment while it looks


class RunBusy(InputError):
    """Another process works in the run directory."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block; raises RunBusy with the other process's number if it
    is taken.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        with explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if _take(descriptor):
            if _is_current(descriptor, path):
                break
            os.close(descriptor)
            continue
        owner = _owner(path)
        os.close(descriptor)
        if time.monotonic() > deadline:
            raise RunBusy(
                f"{path.parent} is in use by process {owner}; "
                "wait for it, or end it and give the command again"
            )
        time.sleep(0.02)
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file
            path.unlink()
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(descriptor)
    finally:
        os.close(descriptor)


def _is_current(descriptor: int, path: Path) -> bool:
    # the last owner may have removed the file between our open and our lock
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
