"""Two numbers, heating time and microwave power, that make a batch of bio-diesel pay.

A stirred reactor of oil and alcohol is heated by microwaves. With temperature T in degrees Celsius,
energy used Q in kJ and concentrations of oil A, alcohol M, ester E and glycerol G in mol/l,

    C T' = 60 (eta P - loss (T - 25)) + heat * r        r = k(T) (A M - E G / K)
    Q'   = 0.06 (P + 40), with the stirrer's 40 W        w = w(T) E
    A'   = -r,  M' = -3 r,  E' = 3 r - w,  G' = r       (per minute)

and Arrhenius rates k(T), w(T): ester forms faster in the heat, and spoils faster still. The outputs
are the six quantities at 100 instants of the heating, 600 numbers; wanted is

    max  price * E(end) / 3 - cost * Q(end)
    s.t. 20 <= T <= 65, Q <= limit, concentrations >= 0 at all instants

(worst instant of each, seven constraints). The *true* model integrates the equations; the network
is trained on their residual and on a few integrated runs (a physics-informed network), its initial
state is exact by construction.

After the experiment "microwave bio-diesel" of Bouchet and Vidal, Optimization by directional
attacks (2025); equations, constants and network are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import odeint
from torch import Tensor, nn

from attack_problems.trained import descend, trained
from optimizers import Model, Problem

INSTANTS = 100
LOWER, UPPER, START = (1.0, 20.0), (30.0, 140.0), (6.0, 50.0)  # minutes, watts
INITIAL = np.array([25.0, 0.0, 1.0, 6.0, 0.0, 0.0])
SCALES = torch.tensor([40.0, 200.0, 1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
GRID = torch.linspace(0, 1, INSTANTS, dtype=torch.float64)


@dataclass(frozen=True)
class Chemistry:
    """Constants of one variant."""

    rate: float = 0.02  # of the reaction at 50 C, l / mol / min
    activation: float = 60.0  # kJ / mol
    spoiling: float = 0.004  # of ester at 50 C, 1 / min
    balance: float = 25.0  # equilibrium constant K
    loss: float = 0.9  # W / K
    price: float = 2.4
    cost: float = 0.006
    energy_limit: float = 110.0  # kJ


def chemistry(variant: int) -> Chemistry:
    """Constants, each up to 15 % away from those of variant 0."""
    random = np.random.default_rng(variant)
    factors = 1 + 0.15 * random.uniform(-1, 1, 8) * (variant > 0)
    defaults = np.array(list(vars(Chemistry()).values()))
    return Chemistry(*(defaults * factors).tolist())


def slopes(state, power, constants: Chemistry, exp):
    """Time derivatives of (T, Q, A, M, E, G), each alike floats or tensors, per minute."""
    temperature, _, oil, alcohol, ester, glycerol = state
    warmth = 1 / 323.15 - 1 / (temperature + 273.15)
    rate = constants.rate * exp(constants.activation / 8.314e-3 * warmth)
    reaction = rate * (oil * alcohol - ester * glycerol / constants.balance)
    spoiled = constants.spoiling * exp(90 / 8.314e-3 * warmth) * ester
    heating = 0.06 * (0.7 * power - constants.loss * (temperature - 25)) + 5 * reaction
    return heating, 0.06 * (power + 40), -reaction, -3 * reaction, 3 * reaction - spoiled, reaction


def integrated(design: Tensor, constants: Chemistry) -> Tensor:
    """Outputs (600,) of one design (time, power) by the true model."""
    time, power = design.tolist()
    states = odeint(
        lambda state, _: slopes(state, power, constants, math.exp),
        INITIAL, time * GRID.numpy(), rtol=1e-9, atol=1e-9,
    )  # fmt: skip
    return torch.as_tensor(states).reshape(-1)


class Network(nn.Module):
    """State at an instant s in [0, 1] of the heating: initial + scale * s * time * net."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
            nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 6),
        )  # fmt: skip
        self.register_buffer("lower", torch.tensor(LOWER))
        self.register_buffer("upper", torch.tensor(UPPER))
        self.register_buffer("initial", torch.tensor(INITIAL))
        self.register_buffer("scales", SCALES)

    def states(self, designs: Tensor, instants: Tensor) -> Tensor:
        """(..., 6) of designs (..., 2) at instants (...)."""
        unit = 2 * (designs - self.lower) / (self.upper - self.lower) - 1
        lapse = instants[..., None] * designs[..., :1] / UPPER[0]
        out = self.layers(torch.cat((unit, 4 * lapse - 1), -1))
        return self.initial + self.scales * lapse * 3 * out

    def forward(self, designs: Tensor) -> Tensor:
        """Outputs (..., 600) of designs (..., 2)."""
        shape = (*designs.shape[:-1], INSTANTS)
        each = designs[..., None, :].expand(*shape, 2)
        return self.states(each, GRID.expand(shape)).flatten(-2)


def network(variant: int) -> Network:
    """The physics-informed network of a variant; about half a minute when it is new."""
    constants = chemistry(variant)
    lower, upper = torch.tensor(LOWER), torch.tensor(UPPER)

    def fit(module: nn.Module) -> None:
        assert isinstance(module, Network)
        generator = torch.Generator().manual_seed(variant)

        def designs(count: int) -> Tensor:
            unit = torch.rand(count, 2, generator=generator, dtype=torch.float64)
            return lower + unit * (upper - lower)

        known = designs(40)
        data = torch.stack([integrated(design, constants) for design in known])
        data = data.unflatten(-1, (INSTANTS, 6)) / SCALES
        rows = torch.arange(0, INSTANTS, 9)

        def loss(_: int) -> Tensor:
            guess = module(known).unflatten(-1, (INSTANTS, 6)) / SCALES
            misfit = (guess - data)[:, rows].square().mean()
            asked = designs(160)
            instants = torch.rand(160, generator=generator, dtype=torch.float64)
            later, earlier = (module.states(asked, instants + lag) for lag in (1e-4, -1e-4))
            states, rates = 0.5 * (later + earlier), (later - earlier) / 2e-4
            wanted = slopes(states.unbind(-1), asked[:, 1], constants, torch.exp)
            residual = rates / asked[:, :1] - torch.stack(wanted, -1)
            return misfit + 0.1 * (residual / SCALES).square().mean()

        descend(module, loss, steps=2500, rate=5e-3)

    return trained(Network, fit, f"biodiesel-{variant}")


def profit_and_limits(outputs: Tensor, constants: Chemistry) -> tuple[Tensor, Tensor]:
    """Minus the profit (...,) and constraints (..., 7) of outputs (..., 600)."""
    states = outputs.unflatten(-1, (INSTANTS, 6))
    temperature, energy, ester = states[..., 0], states[..., 1], states[..., 4]
    profit = constants.price * ester[..., -1] / 3 - constants.cost * energy[..., -1]
    limits = (
        (temperature.amax(-1) - 65) / 45,
        (20 - temperature.amin(-1)) / 45,
        energy.amax(-1) / constants.energy_limit - 1,
        *(-states[..., 2:].amin(-2)).unbind(-1),
    )
    return -profit, torch.stack(limits, -1)


def problem(variant: int = 0, certified: bool = False) -> Problem:
    """The network alone; `certified`: the true model, and the network as its cheaper model."""
    constants, net = chemistry(variant), network(variant)

    def simulated(designs: Tensor) -> Tensor:
        return torch.stack([integrated(design, constants) for design in designs])

    options: dict[str, Any] = {"differentiable": True}
    if certified:
        options = {"models": {0.0: Model(net, cost=0.01, differentiable=True)}}
    return Problem.from_callable(
        simulated if certified else net,
        list(LOWER),
        list(UPPER),
        list(START),
        batched=True,
        outer=lambda outputs: profit_and_limits(outputs, constants),
        constraints=7,
        **options,
    )
