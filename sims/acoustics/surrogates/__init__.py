"""Surrogates of the solver for one room, which answer in a fraction of a millisecond a receiver."""

from sims.acoustics.surrogates.decomposed import Decomposed, train_decomposed
from sims.acoustics.surrogates.deeponet import DeepONet
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.green import GreenOperator
from sims.acoustics.surrogates.green_training import train_green
from sims.acoustics.surrogates.records import Error, Records, record
from sims.acoustics.surrogates.training import Schedule, train_deeponet
from sims.acoustics.surrogates.transfer import transfer_deeponet, transferred

__all__ = [
    "Decomposed",
    "DeepONet",
    "Domain",
    "Error",
    "GreenOperator",
    "Records",
    "Schedule",
    "record",
    "train_decomposed",
    "train_deeponet",
    "train_green",
    "transfer_deeponet",
    "transferred",
]
