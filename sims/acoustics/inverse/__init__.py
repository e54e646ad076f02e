"""Rooms from sound, and rooms for sound: what walls and sources are, and what to change.

The solver's reverse sweep gives exact slopes, cheap models propose, and every design that is
accepted is solved again on a finer mesh, whose figures stand beside those of the search.
"""

from sims.acoustics.inverse.absorbers import AbsorberProblem, place_absorbers
from sims.acoustics.inverse.bending import Bending
from sims.acoustics.inverse.certify import Certificate, certified, finer
from sims.acoustics.inverse.identify_walls import IdentifiedWalls, identify_walls
from sims.acoustics.inverse.late_sound import Listening
from sims.acoustics.inverse.locate_source import LocatedSource, locate_source
from sims.acoustics.inverse.panels import with_panels
from sims.acoustics.inverse.placement import LoudspeakerProblem, place_loudspeakers
from sims.acoustics.inverse.room_shape import ShapeProblem, shape_room

__all__ = [
    "AbsorberProblem",
    "Bending",
    "Certificate",
    "IdentifiedWalls",
    "Listening",
    "LocatedSource",
    "LoudspeakerProblem",
    "ShapeProblem",
    "certified",
    "finer",
    "identify_walls",
    "locate_source",
    "place_absorbers",
    "place_loudspeakers",
    "shape_room",
    "with_panels",
]
