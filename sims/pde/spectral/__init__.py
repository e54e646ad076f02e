"""Periodic equations solved in Fourier space: the reference the surrogates are judged by.

`grid` knows the modes, `etdrk` the coefficients of the time scheme and `stepper` how one step is
made of them. Each equation adds a linear symbol and a nonlinearity. `initial` draws fields to
start from.
"""

from sims.pde.spectral.advection_diffusion import AdvectionDiffusion
from sims.pde.spectral.burgers import Burgers
from sims.pde.spectral.gray_scott import GrayScott
from sims.pde.spectral.initial import filtered_noise, random_waves, spots
from sims.pde.spectral.korteweg_de_vries import KortewegDeVries
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing
from sims.pde.spectral.stepper import Stepper

__all__ = [
    "AdvectionDiffusion",
    "Burgers",
    "GrayScott",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "NavierStokes2D",
    "Stepper",
    "filtered_noise",
    "kolmogorov_forcing",
    "random_waves",
    "spots",
]
