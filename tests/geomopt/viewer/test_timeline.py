"""The frames of a run, also while it grows, and the sheet of pictures beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from growing_run import add_frame

from geomopt.errors import InputError
from geomopt.viewer import timeline as module
from geomopt.viewer.mosaic import mosaic
from geomopt.viewer.timeline import Timeline


def test_frames_are_in_order_and_say_what_they_are(run):
    timeline = Timeline(run.folder)
    assert [timeline.iteration(index) for index in range(len(timeline))] == [0, 10, 20, 30, 40, 50]
    assert timeline.caption(1) == "iteration 10   value 0.5"
    assert len(timeline[1:3]) == 2
    assert timeline[-1].meshes["body"].vertices.max() == 1.5


def test_a_growing_run_is_followed(run):
    timeline = Timeline(run.folder)
    assert not timeline.refresh()
    add_frame(run, 6)
    assert timeline.refresh()
    assert timeline.caption(6) == "iteration 60   value 0.1429"


def test_a_frame_that_was_thinned_out_meanwhile_does_no_harm(run):
    timeline = Timeline(run.folder)
    run.frame_file(50).unlink()
    assert timeline[5].meshes["body"].vertices.max() == pytest.approx(1.4)


def test_few_scenes_stay_in_memory(run, monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 2)
    timeline = Timeline(run.folder)
    first = timeline[0]
    assert timeline[0] is first
    for index in range(4):
        timeline[index]
    assert timeline[0] is not first


def test_no_frames_is_said(run):
    for file in run.frames.values():
        file.unlink()
    with pytest.raises(InputError, match="has no frames to show: wait for the first iterates"):
        Timeline(run.folder).require_frames()


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(16, 16)], (100, 200)),
        ([(16, 16)] * 5, (300, 100)),
        ([(10, 40), (40, 10), (3, 3)], (240, 320)),
        ([], (50, 50)),
    ],
)  # fmt: skip
def test_a_sheet_shows_every_picture(shapes, size):
    """Each picture has a colour of its own, which covers part of the sheet; pictures keep their
    aspect.
    """
    colors = torch.linspace(0.2, 1.0, max(1, len(shapes)))
    blue = torch.tensor([0, 0, 1])
    images = {str(i): (blue * colors[i]).expand(*shape, 3) for i, shape in enumerate(shapes)}
    sheet = mosaic(images, size)
    assert sheet.shape == (*size, 3)
    for i, (height, width) in enumerate(shapes):
        own = (sheet[..., 2] == round(float(colors[i]) * 255)) & (sheet[..., 0] == 0)
        rows, columns = np.nonzero(own.any(1))[0], np.nonzero(own.any(0))[0]
        assert own.sum() == len(rows) * len(columns) > 0
        assert len(columns) / len(rows) == pytest.approx(width / height, rel=0.3)


def test_row_zero_of_a_picture_is_on_top():
    picture = torch.zeros(8, 8, 3)
    picture[:4, :, 0] = 1.0
    sheet = mosaic({"p": picture}, (120, 120))
    red = np.nonzero((sheet == [255, 0, 0]).all(-1))[0]
    black = np.nonzero((sheet == 0).all(-1))[0]
    assert red.max() < black.min()
