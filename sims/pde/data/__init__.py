"""Trajectories of solvers: made, kept in files, streamed, and drawn from."""

from sims.pde.data.campaign import Campaign
from sims.pde.data.downsample import downsample
from sims.pde.data.generate import generate
from sims.pde.data.reservoir import Reservoir
from sims.pde.data.stream import Stream
from sims.pde.data.trajectories import Trajectories

__all__ = ["Campaign", "Reservoir", "Stream", "Trajectories", "downsample", "generate"]
