"""The training of surrogates: budget, rate, average, checkpoints and what it cost."""

from sims.pde.training.loop import Diverged, Source, train
from sims.pde.training.record import TrainingRecord
from sims.pde.training.settings import TrainingSettings

__all__ = ["Diverged", "Source", "TrainingRecord", "TrainingSettings", "train"]
