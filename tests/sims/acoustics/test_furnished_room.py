"""The study of a furnished room, in a narrow band so that it takes seconds."""

import json

import pytest
import torch

from geomopt.errors import InputError
from geomopt.runs.execute import execute
from geomopt.runs.spec import load
from geomopt.viewer.scene import Scene
from sims.acoustics.furnished import FurnishedRoom, furnished_room
from sims.acoustics.walls.wall import Wall


def test_the_room_has_furniture_in_line_and_a_ceiling_of_its_own():
    room = furnished_room(Wall.rigid(), Wall.impedance(1000.0))
    assert room.walls["ceiling"] is not room.walls["furniture"]
    assert len(room.shape.furniture) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"signal": "whisper"}, "signal"),
        ({"training_seconds": 0.0}, "training_seconds"),
        ({"snapshots": 1}, "snapshots"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        FurnishedRoom(**settings)


@pytest.mark.slow
def test_the_study_leaves_frames_sounds_and_a_verdict_for_each_model(tmp_path):
    settings = ["fmax=200", "snapshots=8", "training_seconds=20", "signal=click", "duration=0.05"]
    run = execute(load("room", settings), tmp_path, progress=False)
    records = {case["case"]: case for case in run.cases}
    assert list(records) == ["response", "moving", "surrogate", "check", "sound"]
    assert len(run.frames) >= 8
    scene = Scene.load(run.frames[4])
    pressure = scene.fields["level"]["pressure"]
    assert torch.isfinite(pressure).all()
    assert pressure.abs().max() > 0
    models = records["surrogate"]["rows"]
    assert [row["verdict"] for row in models] == ["pass", "pass"], json.dumps(models)
    sounds = {file.name for file in run.artifacts if file.suffix == ".wav"}
    assert sounds == {"dry.wav", "walk.wav"}
    assert "<audio" in (run.folder / "report.html").read_text()
