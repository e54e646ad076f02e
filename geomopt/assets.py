"""Where the files that ship with the package live."""

from __future__ import annotations

from pathlib import Path

from geomopt.errors import InputError


def _folder() -> Path:
    # an editable install copies the wheel's folder once and lets it go stale, so a checkout's own
    # comes first
    package = Path(__file__).resolve().parent
    checkout = package.parent / "assets"
    return checkout if (package.parent / "pyproject.toml").exists() else package / "_assets"


def path(name: str) -> Path:
    """Path of a shipped file such as "meshes/bracket.ply"; InputError lists what there is."""
    file = _folder() / name
    if not file.exists():
        known = ", ".join(names())
        raise InputError(f"asset {name!r} does not ship with geomopt; there are: {known}")
    return file


def names(folder: str = "") -> list[str]:
    """Names of all shipped files below `folder`, as `path` takes them."""
    root = _folder()
    return sorted(
        file.relative_to(root).as_posix() for file in (root / folder).rglob("*") if file.is_file()
    )
