"""Rooms: sound waves between walls that absorb, solved, learned, listened to and designed.

    from sims.acoustics import Room, Solver, Wall

    room = Room.box(2.0, 2.0, 2.0, walls=Wall.impedance(7400.0))
    solver = Solver(room, fmax=1000.0)
    pressure = solver.simulate((0.7, 0.9, 1.1), [(1.5, 1.3, 0.6)], duration=0.05)   # (1, times)

`room` and `source` say what is solved, `walls/` what walls do. `elements/` makes nodes, mass and
stiffness of it, lattices of bricks or mapped hexahedra, which `meshing/` makes of triangles;
`stepping/` goes through time and `gradients/` back. `solver` puts them together. `exact/` and
`validation/` judge it, `surrogates/` answer in its place, `metrics/` and `auralize/` tell what is
heard, `inverse/` designs and identifies, `furnished/` is all of it in one study.
"""

from sims.acoustics.room import Room
from sims.acoustics.solver import Solver, Unstable
from sims.acoustics.source import Emission, Pulse
from sims.acoustics.walls.wall import Wall

__all__ = ["Emission", "Pulse", "Room", "Solver", "Unstable", "Wall"]
