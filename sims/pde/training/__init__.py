"""The training of surrogates: budget, rate, average, checkpoints and what it cost."""

from sims.pde.training.loop import LossNotFinite, Source, train
from sims.pde.training.record import TrainingRecord
from sims.pde.training.settings import TrainingSettings

__all__ = ["LossNotFinite", "Source", "TrainingRecord", "TrainingSettings", "train"]
