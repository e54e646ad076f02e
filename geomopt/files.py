"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StorageError(OSError):
    """A file or folder cannot be written; the message says which file, why and what to do."""


_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and give the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and give the same command again",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a file is where a folder should be; choose another folder",
    errno.EEXIST: "a file is where a folder should be; choose another folder",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_forbidden(error: OSError) -> bool:
    """Whether the place is one where this user may not write, rather than one that is full."""
    return error.errno in _ADVICE and error.errno not in _FULL


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError inside into a StorageError that names `path`, the reason and the way out."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = _ADVICE.get(error.errno or 0) or error.strerror or str(error)
        raise StorageError(error.errno, f"cannot write {path}: {reason}") from error


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Like `explained`, for a block that does more than write.

    Only what comes from a full, protected or read-only disk is turned, also where another error was
    raised from it.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _ADVICE:
                text = f"cannot write {path}: {_ADVICE[cause.errno]}"
                raise StorageError(cause.errno, text) from error
            cause = cause.__cause__
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path with the same suffix that takes the place of `path` when the block ends, or
    vanishes if it fails.
    """
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield draft
            with draft.open("r+b") as written:  # Windows syncs only what it may write
                os.fsync(written.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically; raises StorageError."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def append_line(path: Path, line: str) -> None:
    """Append one line; if that fails, the file ends where it ended before. Raises StorageError."""
    with explained(path), path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        data = line.encode() + b"\n"
        try:
            # an unbuffered write may take a part of the data only
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise
