"""Networks in the place of a solver: one call for a step, or refined level by level.

`surrogate` is what all have in common, and the one-step model; `refiner` adds levels of noise,
whose amplitudes `schedule` has and whose spectrum `error_spectrum` can measure. `conditions` are
what networks are told beside the fields, `saved` reads files.
"""

from sims.pde.surrogates.conditions import OutsideTraining
from sims.pde.surrogates.refiner import Refiner, load_surrogate
from sims.pde.surrogates.schedule import NoiseLevels
from sims.pde.surrogates.surrogate import OneStep, Surrogate

__all__ = ["NoiseLevels", "OneStep", "OutsideTraining", "Refiner", "Surrogate", "load_surrogate"]
