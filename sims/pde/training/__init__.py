"""The training of surrogates: budget, rate, average, checkpoints and what it cost."""

from sims.pde.training.loop import LossNotFinite, Source, train
from sims.pde.training.record import TrainingRecord
from sims.pde.training.settings import TrainingSettings
from sims.pde.training.soap import Soap

__all__ = ["LossNotFinite", "Soap", "Source", "TrainingRecord", "TrainingSettings", "train"]
