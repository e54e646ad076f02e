"""How good a forecast is, how long, and at what price.

    found = correlation_time(rollout(model, u, 160), reference, frame_time=0.8)
    found.of_mean, found.mean_of                         # seconds
    band_errors(states[:, 0], reference[:, 0]).bands     # low, middle and high wavenumbers
    lyapunov_spectrum(stepper, u, exponents=8)           # 1/s

`correlation` and `bands` compare with a truth, `spectrum` and `invariants` with what holds for all
of them. `lyapunov` tells how long any forecast can last, `horizon` how long one of a given error
does, and `uncertainty` asks the samples of a model. `cost` and `statistics` make a comparison fair.
"""

from sims.pde.metrics.bands import BandErrors, band_errors, thirds
from sims.pde.metrics.correlation import CorrelationTime, correlation, correlation_time
from sims.pde.metrics.cost import Cost, breakeven, error_matched, lyapunov_times, measured_cost
from sims.pde.metrics.horizon import HorizonMap, horizon_map
from sims.pde.metrics.invariants import (
    energy_budget,
    field_energy,
    field_mean,
    rate_of_change,
    step_residual,
)
from sims.pde.metrics.lyapunov import kaplan_yorke, lyapunov_spectrum
from sims.pde.metrics.spectrum import energy_spectrum, spectrum_error
from sims.pde.metrics.statistics import Interval, bootstrap, paired_bootstrap
from sims.pde.metrics.uncertainty import ForecastHorizons, forecast_horizons, sampled_horizons

__all__ = [
    "BandErrors",
    "CorrelationTime",
    "Cost",
    "ForecastHorizons",
    "HorizonMap",
    "Interval",
    "band_errors",
    "bootstrap",
    "breakeven",
    "correlation",
    "correlation_time",
    "energy_budget",
    "energy_spectrum",
    "error_matched",
    "field_energy",
    "field_mean",
    "forecast_horizons",
    "horizon_map",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "lyapunov_times",
    "measured_cost",
    "paired_bootstrap",
    "rate_of_change",
    "sampled_horizons",
    "spectrum_error",
    "step_residual",
    "thirds",
]
