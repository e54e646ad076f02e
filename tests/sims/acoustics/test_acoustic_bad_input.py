"""What cannot be solved is refused with the argument, its value and the remedy."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry import Mesh
from sims.acoustics import Emission, Pulse, Room, Solver, Wall

INSIDE = (1.0, 1.0, 1.0)
CORNERS = torch.cartesian_prod(*(torch.tensor([0.0, 1.0]).double() for _ in range(3)))
# fmt: off
FACES = torch.tensor([
    (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
    (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
])
# fmt: on
WRONG: tuple[Any, ...] = ("fast", None, 5)
SIGNAL = np.sin(np.linspace(0.0, 20.0, 100))


@pytest.fixture(scope="module")
def room():
    return Room.box(2.0, 2.0, 2.0, walls=Wall.impedance(2000.0))


@pytest.fixture(scope="module")
def solver(room):
    return Solver(room, fmax=200.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": 4.0}, "order"),
        ({"order": True}, "order"),
        ({"time_step": "short"}, "time_step"),
        ({"time_step": 1j}, "time_step"),
        ({"time_step": 1.0}, "time_step"),
        ({"nodes_per_wavelength": 1e5}, "GiB|too many|nodes"),
    ],
)
def test_settings(room, options, said):
    with pytest.raises(InputError, match=said):
        Solver(room, **{"fmax": 200.0, **options})


@pytest.mark.parametrize("boxes", [None, 5, [1, 2], "box"])
def test_boxes(boxes):
    with pytest.raises(InputError, match="bricks must"):
        Room.bricks(boxes, walls=Wall.rigid())
    with pytest.raises(InputError, match="furniture must"):
        Room.bricks([((0, 0, 0), (2, 2, 2))], walls=Wall.rigid(), furniture=boxes)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (torch.tensor([1j, 1.0, 1.0]), "source"),
        (Pulse(INSIDE, width=1e6), "width of a pulse must be .* lower"),
        (Pulse(INSIDE, width=1e-3), "width of a pulse must be .* raise"),
        (Emission(INSIDE, SIGNAL, math.inf), "rate"),
        (Emission(INSIDE, SIGNAL, WRONG[0]), "rate"),
        (Emission(INSIDE, SIGNAL, WRONG[1]), "rate"),
        (Emission(INSIDE, 1j * SIGNAL, 1000.0), "signal"),
    ],
)
def test_sources(solver, source, said):
    with pytest.raises(InputError, match=said):
        solver.simulate(source, [INSIDE], 0.01)


def test_runs(solver):
    with pytest.raises(InputError, match="duration must be at most"):
        solver.simulate(INSIDE, [INSIDE], 1e12)
    with pytest.raises(InputError, match="receivers times steps"):
        solver.simulate(INSIDE, torch.ones(2**12, 3), 1e6 * solver.time_step)
    with pytest.raises(InputError, match="memory"):
        solver.simulate(INSIDE, [INSIDE], 0.01, memory="all")
    with pytest.raises(InputError, match="walls must be"):
        solver.simulate(INSIDE, [INSIDE], 0.01, walls=5)


@pytest.mark.parametrize("low", [(5.0, 5.0, 5.0), (0.5, 0.5, 0.5)])
def test_patches_off_the_walls(room, low):
    high = tuple(place + 1.0 for place in low)
    with pytest.raises(InputError, match=r"patch 'panel' .* none"):
        Solver(room.with_patch("panel", low, high, Wall.rigid()), fmax=200.0)


@pytest.mark.parametrize(
    ("vertices", "hexahedra", "said"),
    [
        (torch.rand(8, 3), torch.arange(1, 9)[None], "hexahedra must index"),
        (torch.rand(8, 2), torch.arange(8)[None], "vertices"),
        (torch.full((8, 3), math.nan), torch.arange(8)[None], "vertices"),
        (torch.rand(8, 3), torch.rand(1, 8), "hexahedra"),
        ("corners", torch.arange(8)[None], "vertices"),
    ],
)
def test_hexahedra(vertices, hexahedra, said):
    with pytest.raises(InputError, match=said):
        Room.hexahedra(vertices, hexahedra, walls=Wall.rigid())


def test_hexahedra_may_be_lists():
    corners: Any = [(x, y, z) for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)]
    elements: Any = [list(range(8))]
    assert Solver(Room.hexahedra(corners, elements, Wall.rigid()), fmax=100.0).time_step > 0


def test_meshes_of_another_unit():
    """A room of 3 m in millimetres, and one of 3 mm."""
    with pytest.raises(InputError, match="mesh must be"):
        Room.from_mesh(WRONG[2], walls=Wall.rigid())
    for edge, said in ((3000.0, "scale the mesh"), (0.003, "in metres.*larger fmax")):
        box = Mesh(edge * CORNERS, FACES)
        with pytest.raises(InputError, match=said):
            Solver(Room.from_mesh(box, walls=Wall.rigid()), fmax=300.0)
