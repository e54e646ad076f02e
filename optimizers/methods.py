"""The methods by name."""

from __future__ import annotations

import difflib
from typing import Any

from optimizers.direct_search.attack_search import AttackSearch
from optimizers.direct_search.covering import DirectSearch
from optimizers.external.nomad import Nomad
from optimizers.external.pycma import Pycma
from optimizers.external.scipy import (
    ScipyCobyqa,
    ScipyDifferentialEvolution,
    ScipyLbfgsb,
    ScipyNelderMead,
    ScipySlsqp,
    ScipyTrustConstr,
)
from optimizers.gradient.adam import Adam
from optimizers.gradient.lagrange_newton import LagrangeNewton
from optimizers.gradient.lbfgs import Lbfgs
from optimizers.gradient.regularized_newton import RegularizedNewton
from optimizers.hybrid.cma_then_adam import CmaThenAdam
from optimizers.hybrid.mixed_order import MixedOrder
from optimizers.hybrid.sample_refine import SampleRefine
from optimizers.population.cma import Cma
from optimizers.population.consensus import Consensus
from optimizers.population.icem import Icem
from optimizers.population.mppi import Mppi
from optimizers.surrogate.bayes import Bayes
from optimizers.surrogate.gp_gradient import GpGradient
from optimizers.surrogate.target import TargetSurrogate

METHODS: dict[str, type[Any]] = {
    method.name: method
    for method in (
        Adam,
        Lbfgs,
        RegularizedNewton,
        LagrangeNewton,
        Cma,
        Icem,
        Mppi,
        Consensus,
        DirectSearch,
        AttackSearch,
        SampleRefine,
        CmaThenAdam,
        MixedOrder,
        TargetSurrogate,
        GpGradient,
        Bayes,
        Pycma,
        Nomad,
        ScipyLbfgsb,
        ScipySlsqp,
        ScipyCobyqa,
        ScipyTrustConstr,
        ScipyNelderMead,
        ScipyDifferentialEvolution,
    )
}


def settings_of(method: Any) -> Any:
    """The settings of a method given by name or as settings.

    Raises ValueError or TypeError that says what is allowed.
    """
    if isinstance(method, str):
        if method in METHODS:
            return METHODS[method]()
        close = difflib.get_close_matches(method.lower(), METHODS, n=1, cutoff=0.0)
        raise ValueError(
            f"unknown method {method!r}, did you mean {close[0]!r}? There are: {', '.join(METHODS)}"
        )
    if isinstance(method, type) or not callable(getattr(method, "start", None)):
        given = (
            f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
        )
        raise TypeError(
            f"method must be a name or settings such as Adam(step_size=0.1), got {given}"
        )
    return method
