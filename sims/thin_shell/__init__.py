"""Elastic and plastic sheets: paper, card, cloth, film, rubber."""

from sims.thin_shell.material import MATERIALS, Material
from sims.thin_shell.newton import NotConverged
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State, Trajectory

__all__ = [
    "MATERIALS",
    "Control",
    "Material",
    "NotConverged",
    "Scene",
    "Sheet",
    "Simulator",
    "State",
    "Trajectory",
]
