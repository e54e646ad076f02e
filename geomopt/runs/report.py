"""One HTML file that tells what a run did, or how several runs compare. It opens offline: pictures
and curves are inside.
"""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from geomopt import files
from geomopt.runs.curves import curves
from geomopt.runs.store import Run

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
_TERMS = 8  # the largest terms that are drawn
_PLAIN = (
    "iteration",
    "value",
    "best_value",
    "violation",
    "best_violation",
    "evaluations",
    "gradients",
    "seconds",
    "events",
)


def write(run: Run, outcome: Mapping[str, Any] | None = None) -> Path:
    """Write report.html into a run directory. outcome: of a run that is just ending; by default the
    stored one.
    """
    file = run.folder / "report.html"
    story = _Story.of(run, file.parent, outcome)
    files.write_text(file, _page(story.title, _single(story)))
    return file


def compare(runs: Sequence[Run], out: str | Path) -> Path:
    """Write one file that compares several runs, failures first."""
    file = Path(out)
    stories = [_Story.of(run, file.parent, None) for run in runs]
    stories.sort(key=lambda story: {"failed": 0, "ok": 2}.get(story.status, 1))
    files.write_text(file, _page(f"{len(stories)} runs", _several(stories)))
    return file


@dataclass(frozen=True)
class _Story:
    """What a report tells of one run, read once."""

    run: Run
    base: Path  # folder of the HTML file, to which links are relative
    outcome: Mapping[str, Any]
    status: str
    iterates: Mapping[str, np.ndarray]
    environment: Mapping[str, Any]
    captions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, base: Path, outcome: Mapping[str, Any] | None) -> _Story:
        stored = outcome if outcome is not None else run.outcome
        return cls(
            run,
            base,
            stored or {},
            stored["status"] if stored else run.status,
            run.iterates,
            run.environment,
        )

    @property
    def title(self) -> str:
        return self.run.name

    @property
    def pictures(self) -> list[Path]:
        return [
            file
            for file in self.run.artifacts
            if file.suffix.lower() in {**_PICTURES, **_FILMS, **_SOUNDS}
        ]


def _single(story: _Story) -> str:
    table = story.run.table
    head = [f"<h1>{_text(story.title)} {_chip(story.status)}</h1>"]
    if table.get("description"):
        head.append(f"<p>{_text(table['description'])}</p>")
    method = table.get("method", {}).get("name", "")
    head.append(
        f"<p class='soft'><span class='mono'>{_text(table['problem'])}</span> · {_text(method)}</p>"
    )
    parts = [
        *head,
        _error(story),
        _tiles(story),
        _gallery(story.pictures, story.base),
        _curves_of(story),
    ]
    metrics = story.outcome.get("metrics", {})
    if metrics:
        rows = "".join(
            f"<div><span>{_label(n)}</span><b>{_shown(v)}</b></div>" for n, v in metrics.items()
        )
        parts.append(f"<h2>Metrics</h2><div class='card metrics'>{rows}</div>")
    tables = {"Time": _rows(_times(story)), "Files": _files(story)}
    cards = [
        f"<section class='card'><h2>{n}</h2>{body}</section>" for n, body in tables.items() if body
    ]
    parts.append(f"<div class='columns'>{''.join(cards)}</div>")
    parts.append(_details(story, opened=True))
    return "".join(parts)


def _several(stories: Sequence[_Story]) -> str:
    failed = sum(story.status == "failed" for story in stories)
    parts = [
        f"<h1>{len(stories)} runs</h1>",
        f"<p class='soft'>{failed} failed</p>" if failed else "",
    ]
    parts += [
        f"<h2>{_text(s.title)} {_chip(s.status)}</h2>{_error(s)}"
        for s in stories
        if s.status == "failed"
    ]
    parts.append("<h2>Overview</h2>" + _overview(stories))
    series = {
        s.title: (s.iterates["iteration"], s.iterates[_main_column(s)])
        for s in stories
        if "iteration" in s.iterates
    }
    if series:
        parts.append(f"<h2>Value</h2><div class='card curve'>{curves(series, 'value')}</div>")
    for story in stories:
        parts.append(f"<h2>{_text(story.title)} {_chip(story.status)}</h2>")
        parts.append(_gallery(story.pictures, story.base) + _details(story, opened=False))
    return "".join(parts)


def _overview(stories: Sequence[_Story]) -> str:
    """A table with a row a run: how it ended, its metrics, and what differs in the specs."""
    flat = [_flatten(story.run.table) for story in stories]
    keys = dict.fromkeys(
        key for table in flat for key in table if key not in ("name", "description")
    )
    differing = [key for key in keys if len({repr(table.get(key)) for table in flat}) > 1]
    metrics = list(
        dict.fromkeys(name for story in stories for name in story.outcome.get("metrics", {}))
    )
    header = ["run", "status", *differing, "value", *metrics, "iterations", "seconds"]
    rows = []
    for story, table in zip(stories, flat, strict=True):
        found = story.outcome.get("metrics", {})
        target = _link(story.run.folder / "report.html", story.base)
        link = f"<a href='{target}'>{_text(story.title)}</a>"
        cells = [
            link,
            _chip(story.status),
            *(_shown(table.get(key)) for key in differing),
            _shown(story.outcome.get("value")),
        ]
        cells += [_shown(found.get(name)) for name in metrics]
        cells += [
            _shown(len(story.iterates.get("iteration", ()))),
            _shown(sum(_seconds(story).values())),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    titles = "".join(f"<th>{_text(name)}</th>" for name in header)
    table = f"<table class='wide'><tr>{titles}</tr>{''.join(rows)}</table>"
    return f"<div class='card scroll'>{table}</div>"


def _error(story: _Story) -> str:
    if "error" not in story.outcome:
        return ""
    trace = _text(story.outcome.get("traceback", ""))
    trace = f"<details><summary>Traceback</summary><pre>{trace}</pre></details>"
    return f"<div class='card bad'><p>{_text(story.outcome['error'])}</p>{trace}</div>"


def _tiles(story: _Story) -> str:
    seconds = _seconds(story)
    entries = {
        "final value": story.outcome.get("value"),
        "violation": story.outcome.get("violation") or None,
        "iterations": len(story.iterates.get("iteration", ())),
        "evaluations": story.outcome.get("evaluations"),
        "time": _clock(sum(seconds.values())) if seconds else None,
        "device": story.environment.get("device"),
        "ended by": story.outcome.get("reason"),
    }
    tiles = [
        f"<div class='tile'><b>{_shown(value)}</b><span>{name}</span></div>"
        for name, value in entries.items()
        if value is not None
    ]
    return f"<div class='tiles'>{''.join(tiles)}</div>"


def _curves_of(story: _Story) -> str:
    columns = story.iterates
    if not len(columns.get("iteration", ())):
        return ""
    x = columns["iteration"]
    values = {"value": (x, columns["value"])}
    if not np.array_equal(columns["best_value"], columns["value"], equal_nan=True):
        values["best value"] = (x, columns["best_value"])
    drawn = [curves(values, "value")]
    terms = {
        name: column
        for name, column in columns.items()
        if name not in _PLAIN and column.dtype.kind in "fi"
    }
    sized = sorted(terms, key=lambda name: -float(np.nan_to_num(np.abs(terms[name])).max()))[
        :_TERMS
    ]
    if sized:
        drawn.append(
            curves({name.removeprefix("terms."): (x, terms[name]) for name in sized}, "terms")
        )
    if np.nan_to_num(columns.get("violation", np.zeros(1))).any():
        drawn.append(curves({"violation": (x, columns["violation"])}, "violation"))
    cards = "".join(f"<div class='card curve'>{svg}</div>" for svg in drawn)
    return f"<h2>Curves</h2><div class='columns'>{cards}</div>"


def _gallery(pictures: Iterable[Path], base: Path) -> str:
    figures = []
    for file in pictures:
        caption = _text(file.stem.replace("_", " ").replace("-", " "))
        suffix = file.suffix.lower()
        if file.stat().st_size > _LARGEST:
            body = f"<p class='large'><a href='{_link(file, base)}'>{_text(file.name)}</a></p>"
        elif suffix in _PICTURES:
            body = f"<img alt='{caption}' src='{_data(file, _PICTURES[suffix])}'>"
        elif suffix in _FILMS:
            body = f"<video controls loop muted src='{_data(file, _FILMS[suffix])}'></video>"
        else:
            body = f"<audio controls src='{_data(file, _SOUNDS[suffix])}'></audio>"
        figures.append(f"<figure>{body}<figcaption>{caption}</figcaption></figure>")
    return f"<h2>Pictures</h2><div class='columns'>{''.join(figures)}</div>" if figures else ""


def _details(story: _Story, opened: bool) -> str:
    spec = (story.run.folder / "spec.toml").read_text(encoding="utf-8")
    flat = _flatten(story.environment)
    known = {
        name.removeprefix("versions."): flat[name] for name in flat if flat[name] not in (None, [])
    }
    environment = _rows(known)
    state = " open" if opened else ""
    return (
        "<h2>How it was made</h2><div class='columns'>"
        f"<details class='card'{state}><summary>Spec</summary><pre>{_text(spec)}</pre></details>"
        f"<details class='card'{state}><summary>Environment</summary>{environment}</details></div>"
    )


def _files(story: _Story) -> str:
    rows = [
        f"<tr><td><a href='{_link(file, story.base)}'>"
        f"{_text(file.relative_to(story.run.artifacts_folder).as_posix())}</a></td>"
        f"<td>{_size(file.stat().st_size)}</td></tr>"
        for file in story.run.artifacts
    ]
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _rows(entries: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><th>{_label(name)}</th><td>{_shown(value)}</td></tr>"
        for name, value in entries.items()
    ]
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _seconds(story: _Story) -> dict[str, float]:
    stored = story.outcome.get("seconds")
    if stored:
        return stored
    column = story.iterates.get("seconds", np.zeros(0))
    return {"optimization": float(column[-1])} if len(column) else {}


def _times(story: _Story) -> dict[str, str]:
    seconds = _seconds(story)
    rows = {name: _clock(value) for name, value in seconds.items()}
    count = len(story.iterates.get("iteration", ()))
    if count and seconds.get("optimization"):
        rows["per iterate"] = f"{1000 * seconds['optimization'] / count:.3g} ms"
    return rows


def _main_column(story: _Story) -> str:
    return "best_value" if "best_value" in story.iterates else "value"


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _shown(value: Any) -> str:
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
        return ", ".join(_shown(item) for item in value)
    return _text(value)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{max(1, round(count / 1024))} kB"


def _chip(status: str) -> str:
    return f"<span class='chip {_text(status)}'>{_text(status)}</span>"


def _data(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _link(file: Path, base: Path) -> str:
    return quote(Path(os.path.relpath(file.resolve(), base.resolve())).as_posix())


def _label(name: str) -> str:
    return _text(name.replace("_", " "))


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _page(title: str, body: str) -> str:
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )
