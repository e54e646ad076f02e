import pytest
import torch

from geomopt.errors import InputError
from sims.acoustics import Room, Wall

RIGID = Wall.rigid()


def test_one_wall_stands_for_all_sides_and_a_mapping_for_each():
    assert set(Room.box(2.0, 3.0, 1.0, RIGID).walls) >= {"left", "ceiling", "furniture"}
    hard = Wall.impedance(7400.0)
    sides = dict.fromkeys(("left", "right", "front", "back", "floor"), RIGID)
    room = Room.box(2.0, 3.0, 1.0, {**sides, "ceiling": hard})
    assert room.walls["ceiling"] is hard


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Room.box(2.0, -1.0, 2.0, RIGID), "width must be above 0"),
        (lambda: Room.box(2.0, 1.0, 2.0, {"floor": RIGID}), "missing: \\['left'"),
        (lambda: Room.box(2.0, 1.0, 2.0, "brick"), "got str"),
        (lambda: Room.bricks([], RIGID), "at least one box"),
        (lambda: Room.bricks([((0, 0, 0), (1, 0, 1))], RIGID), "low below high"),
        (lambda: Room.bricks([((0, 0), (1, 1))], RIGID), "shape"),
        (lambda: Room.bricks([((0, 0, 0), (1, float("nan"), 1))], RIGID), "finite"),
        (lambda: Room.box(1, 1, 1, RIGID).with_patch("floor", (0, 0, 0), (1, 1, 0), RIGID), "new"),
        (lambda: Room.box(1, 1, 1, RIGID).with_walls({"door": RIGID}), "'door'"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_patch_has_a_name_and_a_wall_of_its_own():
    room = Room.box(2.0, 2.0, 2.0, RIGID)
    room = room.with_patch("panel", (0.5, 0.5, 0.0), (1.0, 1.0, 0.0), Wall.impedance(1000.0))
    assert room.surfaces[-1] == "panel"
    assert torch.equal(room.patches[0].high, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
