"""Rooms: sound waves between walls that absorb, solved, learned, listened to and designed."""

from sims.acoustics.room import Room
from sims.acoustics.solver import Solver, Unstable
from sims.acoustics.source import Emission, Pulse
from sims.acoustics.walls.wall import Wall

__all__ = ["Emission", "Pulse", "Room", "Solver", "Unstable", "Wall"]
