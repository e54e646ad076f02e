"""Reports: one file, nothing from outside, every text escaped, failures first."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from geomopt.runs import page as pages
from geomopt.runs import report, store
from geomopt.runs.curves import curves
from geomopt.runs.store import Run

VOID = {"meta", "img", "br", "link", "path", "use"}


class Page(HTMLParser):
    """Collects text and links, and fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.sources, self.links, self.tags = [], "", [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        self.sources += [found[name] for name in ("src", "srcset", "data") if found.get(name)]
        self.links += [found["href"]] if tag == "a" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def make_run(root, name="bowl-0123456789ab", outcome=None, seed=0):
    folder = root / name
    (folder / "artifacts").mkdir(parents=True)
    spec = f"""
    name = "bowl"
    description = "<b>bowl</b>"
    problem = "bowl:Bowl"
    seed = {seed}
    method = {{ name = "adam" }}
    """
    (folder / "spec.toml").write_text(spec, encoding="utf-8")
    run = Run.open(folder)
    for iteration in range(5):
        row = {
            "iteration": iteration,
            "value": math.exp(-iteration),
            "best_value": math.exp(-iteration),
            "violation": 0.0,
        }
        store.append_iterate(
            run.iterates_file,
            {**row, "seconds": 0.1 * iteration, "terms.mask": 0.5, "terms.depth": 0.1},
        )
    if outcome is not None:
        store.write_json(folder / "outcome.json", outcome)
    return run


def good(**metrics):
    seconds = {"optimization": 2.0, "results": 0.5}
    counts = {"iterations": 5, "evaluations": 15, "gradients": 5}
    found = {"value": 0.25, "violation": 0.0, "metrics": metrics}
    return {"status": "ok", "reason": "iterations", **found, **counts, "seconds": seconds}


def test_a_report_is_one_file_that_needs_nothing_else(tmp_path):
    run = make_run(tmp_path, outcome=good(chamfer=0.0125, genus=1))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(run.artifacts_folder / "side_by_side.png")
    (run.artifacts_folder / "my mesh.ply").write_text("ply")
    text = report.write(run).read_text(encoding="utf-8")
    page = Page(text)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) == 1
    assert "artifacts/my%20mesh.ply" in page.links
    assert not re.findall(r"(?:src|href)\s*=\s*['\"]?(?:https?:)?//", text)
    assert "script" not in page.tags
    assert "@import" not in text
    assert page.tags.count("svg") == 2
    for words in (
        "bowl-0123456789ab",
        "chamfer",
        "0.0125",
        "side by side",
        "2.5 s",
        "mask",
        "<b>bowl</b>",
    ):
        assert words in page.text


def test_everything_that_a_user_wrote_is_escaped(tmp_path):
    evil = "<script>alert('1')</script>\"&"
    outcome = {"status": "failed", "error": evil, "traceback": evil}
    run = make_run(tmp_path, outcome=outcome)
    (run.artifacts_folder / "<i>&'.png").write_bytes(b"not a picture")
    (run.folder / "env.json").write_text(json.dumps({"device": evil}))
    page = Page(report.write(run).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert page.text.count(evil) >= 3


def test_a_run_that_has_hardly_begun_has_a_report(tmp_path):
    run = make_run(tmp_path)
    run.iterates_file.unlink()
    assert "unfinished" in Page(report.write(run).read_text(encoding="utf-8")).text


def test_a_picture_that_is_too_large_is_linked(tmp_path, monkeypatch):
    run = make_run(tmp_path, outcome=good())
    (run.artifacts_folder / "film.mp4").write_bytes(b"0" * 100)
    monkeypatch.setattr(pages, "_LARGEST", 99)
    page = Page(report.write(run).read_text(encoding="utf-8"))
    assert not page.sources
    assert page.links.count("artifacts/film.mp4") == 2


def test_a_comparison_names_what_differs_and_puts_failures_first(tmp_path):
    fine = make_run(tmp_path / "runs", "bowl-aaaaaaaaaaaa", good(chamfer=0.5), seed=1)
    bad = make_run(
        tmp_path / "runs",
        "bowl-bbbbbbbbbbbb",
        {"status": "failed", "error": "it broke", "traceback": ""},
        seed=2,
    )
    file = report.compare([fine, bad], tmp_path / "out" / "all.html")
    page = Page(file.read_text(encoding="utf-8"))
    assert (
        page.text.index("it broke")
        < page.text.index("Overview")
        < page.text.index("bowl-aaaaaaaaaaaa")
    )
    table = page.text[page.text.index("Overview") :]
    assert "seed" in table
    assert "chamfer" in table
    assert "problem" not in table[: table.index("Value")]
    assert "../runs/bowl-aaaaaaaaaaaa/report.html" in page.links


@pytest.mark.parametrize(
    "values", [[], [1.0], [math.nan, math.nan], [1e-6, 1.0, 1e3], [-1.0, 2.0], [0.0, 0.0]]
)
def test_curves_take_the_colours_of_the_page_whatever_the_values(values):
    svg = curves({"value": (np.arange(len(values)), np.array(values))}, "value")
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert svg == curves({"value": (np.arange(len(values)), np.array(values))}, "value")
