"""What a report tells of the cases of a study: how each ended, its pictures, its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geomopt.runs.page import chip, clock, gallery, is_media, label, shown, text
from geomopt.runs.store import Run
from geomopt.runs.study import verdicts

CHIPS = {"pass": "ok", "miss": "failed", "report": "unfinished"}  # whose colours they share


def overview(run: Run) -> str:
    """A table with a row a case: how it ended, how long it took, verdicts, metrics."""
    cases = run.cases
    if not cases:
        return ""
    counted = [verdicts(case.get("rows", ())) for case in cases]
    judged = list(dict.fromkeys(name for count in counted for name in count))
    metrics = list(dict.fromkeys(name for case in cases for name in case.get("metrics", {})))
    rows = []
    for case, count in zip(cases, counted, strict=True):
        found = case.get("metrics", {})
        name = f"<a href='#{text(case['case'])}'>{text(case['case'])}</a>"
        cells = [name, chip(case["status"]), clock(case["seconds"])]
        cells += [shown(count.get(verdict)) for verdict in judged]
        cells += [shown(found.get(metric)) for metric in metrics]
        rows.append(cells)
    titles = ["case", "status", "time", *judged, *metrics]
    return f"<h2>Cases</h2>{_table([label(title) for title in titles], rows)}"


def details(run: Run, base: Path) -> str:
    """A part for each case: its error, its pictures, its rows; base: see `page.link`."""
    parts = []
    for case in run.cases:
        name = text(case["case"])
        parts.append(f"<h2 id='{name}'>{name} {chip(case['status'])}</h2>")
        if "error" in case:
            parts.append(f"<div class='card bad'><p>{text(case['error'])}</p></div>")
        folder = run.artifacts_folder / case["case"]
        parts.append(
            gallery([f for f in run.artifacts if folder in f.parents and is_media(f)], base)
        )
        parts.append(_rows(case.get("rows", ())))
    return "".join(parts)


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    titles = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(title, row.get(title)) for title in titles] for row in rows]
    return _table([label(title) for title in titles], cells)


def _cell(title: str, value: Any) -> str:
    if title == "verdict" and value in CHIPS:
        return f"<span class='chip {CHIPS[value]}'>{text(value)}</span>"
    return shown(value)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return f"<div class='card scroll'><table class='wide'><tr>{head}</tr>{body}</table></div>"
