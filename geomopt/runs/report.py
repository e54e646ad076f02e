"""One HTML file that tells what a run did, or how several runs compare. It opens offline: pictures
and curves are inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geomopt import files
from geomopt.runs import report_cases
from geomopt.runs.curves import curves
from geomopt.runs.page import (
    chip,
    clock,
    definitions,
    gallery,
    is_media,
    label,
    link,
    page,
    shown,
    size,
    text,
)
from geomopt.runs.store import Run

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
    files.write_text(file, page(story.title, _single(story)))
    return file


def compare(runs: Sequence[Run], out: str | Path) -> Path:
    """Write one file that compares several runs, failures first."""
    file = Path(out)
    stories = [_Story.of(run, file.parent, None) for run in runs]
    stories.sort(key=lambda story: {"failed": 0, "ok": 2}.get(story.status, 1))
    files.write_text(file, page(f"{len(stories)} runs", _several(stories)))
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
        if self.run.cases:  # which show their own
            return []
        return [file for file in self.run.artifacts if is_media(file)]


def _single(story: _Story) -> str:
    table = story.run.table
    head = [f"<h1>{text(story.title)} {chip(story.status)}</h1>"]
    if table.get("description"):
        head.append(f"<p>{text(table['description'])}</p>")
    method = table.get("method", {}).get("name", "")
    head.append(
        f"<p class='soft'><span class='mono'>{text(table['problem'])}</span>"
        f"{text(f' · {method}' if method else '')}</p>"
    )
    parts = [
        *head,
        _error(story),
        _tiles(story),
        report_cases.overview(story.run),
        _pictures(story),
        _curves_of(story),
    ]
    metrics = story.outcome.get("metrics", {})
    if metrics:
        rows = "".join(
            f"<div><span>{label(n)}</span><b>{shown(v)}</b></div>" for n, v in metrics.items()
        )
        parts.append(f"<h2>Metrics</h2><div class='card metrics'>{rows}</div>")
    tables = {"Time": definitions(_times(story)), "Files": _files(story)}
    cards = [
        f"<section class='card'><h2>{n}</h2>{body}</section>" for n, body in tables.items() if body
    ]
    parts.append(report_cases.details(story.run, story.base))
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
        f"<h2>{text(s.title)} {chip(s.status)}</h2>{_error(s)}"
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
        parts.append(f"<h2>{text(story.title)} {chip(story.status)}</h2>")
        parts.append(_pictures(story) + _details(story, opened=False))
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
        target = link(story.run.folder / "report.html", story.base)
        cells = [
            f"<a href='{target}'>{text(story.title)}</a>",
            chip(story.status),
            *(shown(table.get(key)) for key in differing),
            shown(story.outcome.get("value")),
        ]
        cells += [shown(found.get(name)) for name in metrics]
        cells += [
            shown(len(story.iterates.get("iteration", ()))),
            shown(sum(_seconds(story).values())),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    titles = "".join(f"<th>{text(name)}</th>" for name in header)
    table = f"<table class='wide'><tr>{titles}</tr>{''.join(rows)}</table>"
    return f"<div class='card scroll'>{table}</div>"


def _error(story: _Story) -> str:
    if "error" not in story.outcome:
        return ""
    trace = text(story.outcome.get("traceback", ""))
    trace = f"<details><summary>Traceback</summary><pre>{trace}</pre></details>"
    return f"<div class='card bad'><p>{text(story.outcome['error'])}</p>{trace}</div>"


def _tiles(story: _Story) -> str:
    seconds = _seconds(story)
    entries = {
        "final value": story.outcome.get("value"),
        "violation": story.outcome.get("violation") or None,
        "iterations": len(story.iterates.get("iteration", ())) or None,
        "cases": len(story.run.cases) or None,
        "evaluations": story.outcome.get("evaluations"),
        "time": clock(sum(seconds.values())) if seconds else None,
        "device": story.environment.get("device"),
        "ended by": story.outcome.get("reason"),
    }
    tiles = [
        f"<div class='tile'><b>{shown(value)}</b><span>{name}</span></div>"
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


def _pictures(story: _Story) -> str:
    body = gallery(story.pictures, story.base)
    return f"<h2>Pictures</h2>{body}" if body else ""


def _details(story: _Story, opened: bool) -> str:
    spec = (story.run.folder / "spec.toml").read_text(encoding="utf-8")
    flat = _flatten(story.environment)
    known = {
        name.removeprefix("versions."): flat[name] for name in flat if flat[name] not in (None, [])
    }
    environment = definitions(known)
    state = " open" if opened else ""
    return (
        "<h2>How it was made</h2><div class='columns'>"
        f"<details class='card'{state}><summary>Spec</summary><pre>{text(spec)}</pre></details>"
        f"<details class='card'{state}><summary>Environment</summary>{environment}</details></div>"
    )


def _files(story: _Story) -> str:
    rows = [
        f"<tr><td><a href='{link(file, story.base)}'>"
        f"{text(file.relative_to(story.run.artifacts_folder).as_posix())}</a></td>"
        f"<td>{size(file.stat().st_size)}</td></tr>"
        for file in story.run.artifacts
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
    rows = {name: clock(value) for name, value in seconds.items()}
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
