"""Partial differential equations on periodic boxes: solved, learned, judged, designed through.

    from sims.pde import KuramotoSivashinsky, correlation_time, random_waves, rollout

    stepper = KuramotoSivashinsky(length=64.0, points=128, time_step=0.1)
    u = random_waves(stepper, 16, torch.Generator().manual_seed(0))         # (16, 1, 128)
    states = rollout(stepper, u, steps=800, every=8)                         # (16, 100, 1, 128)

A surrogate has the `step` of a stepper and goes wherever one goes:

    data = generate(stepper, 256, 140, 0.2, initial=random_waves, generator=..., warm_up=100.0)
    model = OneStep(UNet(), time_step=0.8, length=64.0, points=128)
    train(model, data, TrainingSettings(stride=4), objective=one_step, generator=...)
    correlation_time(rollout(model, u, 100), states, frame_time=0.8).of_mean

A PDE-Refiner takes the place of both calls; this one is no larger than the model above:

    model = Refiner(UNet(widths=(32, 61, 106)), fine=LocalNet(width=20), levels=1, spectrum="error",
                    time_step=0.8, length=64.0, points=128)
    train(model, data, TrainingSettings(stride=4, fine_rate=1e-2), objective=refine, generator=...)
    forecast_horizons(model.with_amplitude(1.0), u, states, samples=32, generator=...)   # trust

and `Refiner(UNet(1, 2, 1, leveled=True), levels=3, sigma_min=2e-3, ...)` is the published form.

`spectral/` solves, `data/` keeps what was solved or streams it, `networks/` are the functions that
`surrogates/` make forecasts of, `objectives` what `training/` brings down. `rollout` is
the one loop through time. `metrics/` judges forecasts, `design/` goes back through them to initial
fields, forcings and parameters, `refining/` is all of it in one study.
"""

from sims.pde.data import Stream, Trajectories, generate
from sims.pde.metrics import correlation_time, lyapunov_spectrum
from sims.pde.networks import FourierNet, LocalNet, UNet
from sims.pde.objectives import (
    Batch,
    input_noise,
    one_step,
    pushforward,
    refine,
    sobolev,
    unrolled,
)
from sims.pde.rollout import Diverged, rollout
from sims.pde.spectral import (
    AdvectionDiffusion,
    Burgers,
    GrayScott,
    KortewegDeVries,
    KuramotoSivashinsky,
    NavierStokes2D,
    filtered_noise,
    kolmogorov_forcing,
    random_waves,
    spots,
)
from sims.pde.surrogates.refiner import Refiner, load_surrogate
from sims.pde.surrogates.surrogate import OneStep
from sims.pde.training import TrainingSettings, train

__all__ = [
    "AdvectionDiffusion",
    "Batch",
    "Burgers",
    "Diverged",
    "FourierNet",
    "GrayScott",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "LocalNet",
    "NavierStokes2D",
    "OneStep",
    "Refiner",
    "Stream",
    "TrainingSettings",
    "Trajectories",
    "UNet",
    "correlation_time",
    "filtered_noise",
    "generate",
    "input_noise",
    "kolmogorov_forcing",
    "load_surrogate",
    "lyapunov_spectrum",
    "one_step",
    "pushforward",
    "random_waves",
    "refine",
    "rollout",
    "sobolev",
    "spots",
    "train",
    "unrolled",
]
