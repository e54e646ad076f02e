"""Design through models: what started, drives or governs a flow, found by solver or surrogate.

`observations` and `unknowns` say what was seen and what is looked for; an `InverseProblem` makes an
`optimizers.Problem` of them, for any method there. `in_windows` leads it through chaos. `verified`
lets a surrogate propose and the solver judge, and `gradient_cosine` tells what a surrogate's
gradients are worth.
"""

from sims.pde.design.coarse import Coarse
from sims.pde.design.gradients import (
    GradientMatch,
    gradient_cosine,
    gradient_table,
    taylor_remainders,
)
from sims.pde.design.observations import Observations
from sims.pde.design.problems import InverseProblem
from sims.pde.design.unknowns import Field, Number
from sims.pde.design.verified import Proposal, Solved, VerifiedDesign, verified
from sims.pde.design.windows import in_windows

__all__ = [
    "Coarse",
    "Field",
    "GradientMatch",
    "InverseProblem",
    "Number",
    "Observations",
    "Proposal",
    "Solved",
    "VerifiedDesign",
    "gradient_cosine",
    "gradient_table",
    "in_windows",
    "taylor_remainders",
    "verified",
]
