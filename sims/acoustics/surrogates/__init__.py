"""Surrogates of the solver for one room, which answer in a fraction of a millisecond a receiver."""

from sims.acoustics.surrogates.deeponet import DeepONet
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.green import GreenOperator
from sims.acoustics.surrogates.green_training import train_green
from sims.acoustics.surrogates.records import Error, Records, record

__all__ = ["DeepONet", "Domain", "Error", "GreenOperator", "Records", "record", "train_green"]
