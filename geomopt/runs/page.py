"""Pieces of an HTML page: tables, numbers as people read them, files put inside or linked."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
_FILMS = {".mp4": "video/mp4", ".webm": "video/webm"}
_SOUNDS = {".wav": "audio/wav"}
_LARGEST = 24 * 2**20  # bytes of a picture or film that is put inside; larger ones are linked


def is_media(file: Path) -> bool:
    """Whether a page can show or play a file."""
    return file.suffix.lower() in {**_PICTURES, **_FILMS, **_SOUNDS}


def gallery(pictures: Iterable[Path], base: Path) -> str:
    """Pictures, films and sounds inside the page; what is too large for it as a link."""
    figures = []
    for file in pictures:
        caption = text(file.stem.replace("_", " ").replace("-", " "))
        suffix = file.suffix.lower()
        if file.stat().st_size > _LARGEST:
            body = f"<p class='large'><a href='{link(file, base)}'>{text(file.name)}</a></p>"
        elif suffix in _PICTURES:
            body = f"<img alt='{caption}' src='{data(file, _PICTURES[suffix])}'>"
        elif suffix in _FILMS:
            body = f"<video controls loop muted src='{data(file, _FILMS[suffix])}'></video>"
        else:
            body = f"<audio controls src='{data(file, _SOUNDS[suffix])}'></audio>"
        figures.append(f"<figure>{body}<figcaption>{caption}</figcaption></figure>")
    return f"<div class='columns'>{''.join(figures)}</div>" if figures else ""


def definitions(entries: Mapping[str, Any]) -> str:
    """A table of names and values."""
    rows = [
        f"<tr><th>{label(name)}</th><td>{shown(value)}</td></tr>" for name, value in entries.items()
    ]
    return f"<table>{''.join(rows)}</table>" if rows else ""


def shown(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return (
            f"{int(value):,}".replace(",", " ")
            if value == int(value) and abs(value) < 1e15
            else f"{value:.5g}"
        )
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) > 9999 else str(value)
    if isinstance(value, list):
        return ", ".join(shown(item) for item in value)
    return text(value)


def clock(seconds: float) -> str:
    """A duration."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def size(count: int) -> str:
    """A number of bytes."""
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{max(1, round(count / 1024))} kB"


def chip(status: str) -> str:
    """A word in the colour of its meaning."""
    return f"<span class='chip {text(status)}'>{text(status)}</span>"


def data(file: Path, kind: str) -> str:
    """A file as a link that holds it; kind: its media type."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def link(file: Path, base: Path) -> str:
    """A file as a link relative to the folder `base`."""
    return quote(Path(os.path.relpath(file.resolve(), base.resolve())).as_posix())


def label(name: str) -> str:
    """A name of the code as words."""
    return text(name.replace("_", " "))


def text(value: Any) -> str:
    """Anything as text that the browser does not read as HTML."""
    return html.escape(str(value), quote=True)


def page(title: str, body: str) -> str:
    """A whole page with the style of reports."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{text(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )
