"""Design tasks in closed form for `offline_design.py`: each a function of designs in [0, 1]^d.

`REPORTED` are the four of the table; `TUNING` served to choose settings and nothing else. Each
takes designs (B, d) and returns values (B,), the lower the better, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.testing import rotated


@dataclass(frozen=True)
class Task:
    """A function on the cube [0, 1]^dimension."""

    name: str
    dimension: int
    value: Callable[[Tensor], Tensor]


def coating(x: Tensor) -> Tensor:
    """Mean reflectance of eight dielectric layers on glass over the visible band.

    Layers of index 1.38 and 2.3 in turn, 20 to 220 nm thick, light at right angles; the matrix of
    a layer of phase p and index n is [[cos p, i sin p / n], [i n sin p, cos p]].
    """
    wavelength = torch.linspace(420, 680, 27, dtype=x.dtype)
    thickness = 20 + 200 * x
    field = torch.ones(len(x), len(wavelength), dtype=torch.complex128)
    flux = torch.full_like(field, 1.52)  # of the glass behind the layers
    for layer in reversed(range(x.shape[1])):
        index = (1.38, 2.3)[layer % 2]
        phase = 2 * math.pi * index * thickness[:, layer, None] / wavelength
        cosine, sine = phase.cos(), 1j * phase.sin()
        field, flux = cosine * field + sine / index * flux, index * sine * field + cosine * flux
    return ((field - flux) / (field + flux)).abs().square().mean(1)


def reactor(x: Tensor) -> Tensor:
    """Loss of product in a semi-batch reactor with ten temperatures and ten rates of feed.

    A + B -> P, P + B -> waste, A -> waste, by Arrhenius laws; B is fed, which dilutes. Minus the
    share of A that ends as P, plus the price of the B that is fed.
    """
    stages, substeps = x.shape[1] // 2, 8
    step = 1.0 / (stages * substeps)
    a, b, p = (torch.full_like(x[:, 0], share) for share in (1.0, 0.0, 0.0))
    fed = torch.zeros_like(a)
    for stage in range(stages):
        temperature = 0.8 + 0.5 * x[:, stage]
        feed = 3.0 * x[:, stages + stage]
        wanted, second, loss = (
            factor * torch.exp(-energy * (1 / temperature - 1))
            for factor, energy in ((12.0, 6.0), (8.0, 11.0), (0.8, 16.0))
        )
        for _ in range(substeps):
            volume = 1 + fed
            first = wanted * a * b / volume
            over = second * p * b / volume
            a, b, p = (
                a - step * (first + loss * a),
                b + step * (feed - first - over),
                p + step * (first - over),
            )
            a, b, p = (amount.clamp(min=0.0) for amount in (a, b, p))
            fed = fed + step * feed
    return -p + 0.1 * fed


def truss(x: Tensor) -> Tensor:
    """Log of compliance times volume of a plane cantilever truss with a load at its tip.

    Eight bays, each with a top, a bottom, an upright and a diagonal bar: 32 cross-sections
    from 0.05 to 1, then the depths of the truss at the wall and between the bays, 0.4 to 1.6.
    """
    bays, count = 8, len(x)
    area = 0.05 + 0.95 * x[:, : 4 * bays]
    depth = torch.cat((0.4 + 1.2 * x[:, 4 * bays :], x.new_full((count, 1), 0.4)), 1)
    along = torch.arange(bays + 1, dtype=x.dtype).expand(count, -1)
    low, high = torch.stack((along, -depth / 2), -1), torch.stack((along, depth / 2), -1)
    nodes = torch.stack((low, high), 2).flatten(1, 2)
    first, second = [], []
    for left in range(0, 2 * bays, 2):
        first += [left, left + 1, left + 2, left + 1]
        second += [left + 2, left + 3, left + 3, left + 2]
    bar = nodes[:, second] - nodes[:, first]
    length = bar.norm(dim=-1)
    unit = bar / length[..., None]
    rows = torch.arange(len(first))
    stretch = x.new_zeros(count, len(first), nodes.shape[1], 2)
    stretch[:, rows, first], stretch[:, rows, second] = -unit, unit
    stretch = stretch.flatten(2)[..., 4:]  # the first two nodes are held
    stiffness = stretch.mT @ (stretch * (area / length)[..., None])
    load = x.new_zeros(count, stiffness.shape[1])
    load[:, [-3, -1]] = -0.5
    shift = torch.linalg.solve(stiffness, load)
    return torch.log((load * shift).sum(1) * (area * length).sum(1))


def flight(x: Tensor) -> Tensor:
    """Miss, effort and collisions of a body steered by thirty forces in the plane.

    It starts at rest at (0, 0), has drag, shall be at rest at (1, 1), and round soft obstacles
    stand in its way.
    """
    steps, time = 30, 1.0 / 30
    force = 16 * (x.reshape(-1, steps, 2) - 0.5)
    place, speed = torch.zeros_like(force[:, 0]), torch.zeros_like(force[:, 0])
    centres = torch.tensor([[0.35, 0.3], [0.7, 0.75], [0.3, 0.8]], dtype=x.dtype)
    hit = torch.zeros_like(x[:, 0])
    for step in range(steps):
        drag = 0.5 * speed * speed.norm(dim=1, keepdim=True)
        speed = speed + time * (force[:, step] - drag)
        place = place + time * speed
        near = (place[:, None] - centres).square().sum(-1)
        hit = hit + time * torch.exp(-near / 0.02).sum(1)
    miss = (place - 1).square().sum(1)
    effort = force.square().mean((1, 2)) / 64
    return torch.log(0.02 + miss + 0.1 * speed.square().sum(1) + 0.3 * hit + 0.1 * effort)


def wells(x: Tensor) -> Tensor:
    """Styblinski and Tang's function, turned and moved."""
    z = rotated(lambda y: y, x.shape[1], seed=5)(10 * x - 5.5)
    return 0.5 * (z**4 - 16 * z**2 + 5 * z).mean(1)


def beam(x: Tensor) -> Tensor:
    """Log of deflection times mass, with a bound on stress, of a cantilever of twelve steps.

    The first half of x are widths, the others heights.
    """
    count = x.shape[1] // 2
    width, height = 0.2 + 0.8 * x[:, :count], 0.2 + 0.8 * x[:, count:]
    arm = 1 - (torch.arange(count, dtype=x.dtype) + 0.5) / count
    deflection = (12 * arm**2 / (width * height**3)).mean(1)
    stress = 6 * arm / (width * height**2)
    excess = (stress / 15 - 1).clamp(min=0).square().mean(1)
    slender = (height / width / 3 - 1).clamp(min=0).square().mean(1)
    return torch.log(deflection * (width * height).mean(1)) + excess + slender


def swing(x: Tensor) -> Tensor:
    """A pendulum that shall stand upright after thirty torques."""
    steps, time = x.shape[1], 0.1
    angle, speed = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
    torque = 6 * (x - 0.5)
    for step in range(steps):
        speed = speed + time * (torque[:, step] - 4 * angle.sin() - 0.1 * speed)
        angle = angle + time * speed
    return 1 + angle.cos() + 0.05 * speed.square() + 0.02 * torque.square().mean(1)


def array(x: Tensor) -> Tensor:
    """Log of the power beside the beam over that in it, of sixteen antennas on a line.

    The first half of x moves the antennas, the other half turns their phases.
    """
    count = x.shape[1] // 2
    place = torch.arange(count, dtype=x.dtype) * 0.6 + 0.5 * (x[:, :count] - 0.5)
    phase = math.pi * (x[:, count:] - 0.5)
    sine = torch.linspace(-1, 1, 121, dtype=x.dtype)
    angle = 2 * math.pi * place[..., None] * (sine - 0.2) + phase[..., None]
    power = angle.cos().mean(1).square() + angle.sin().mean(1).square()
    inside = (sine - 0.2).abs() < 0.08
    return torch.log(power[:, ~inside].mean(1) / power[:, inside].mean(1))


REPORTED = (
    Task("coating", 8, coating),
    Task("reactor", 20, reactor),
    Task("truss", 40, truss),
    Task("flight", 60, flight),
)
TUNING = (
    Task("wells", 10, wells),
    Task("beam", 24, beam),
    Task("swing", 30, swing),
    Task("array", 32, array),
)
