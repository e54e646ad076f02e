"""The DeepONet of Borrel-Jensen et al., "Sound propagation in realistic interactive 3D scenes with
parameterized sources using deep neural operators", PNAS 121(2) e2312159120 (2024), for one room: a
net for the source, and a net for receivers and times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.trained import Surrogate

SHARPNESS = 30.0  # the factor in the first sine
NODES_PER_WAVELENGTH = 2.0  # of the grid that the source is sampled on, at fmax
LOUDEST = 2.0  # Pa, that the initial pressure is scaled by
PERIODS = (1.0, 0.5, 1 / 3)  # frequencies of the features as shares of fmax
ROLL_OFF = 0.25  # of fmax, over which the spectrum of an emission ends
BRANCHES = ("mlp", "resnet")


class ModifiedMlp(torch.nn.Module):
    """Sine layers that are each blended between two encodings U and V of the input (Wang, Wang and
    Perdikaris, SIAM Journal on Scientific Computing 43(5), A3055-A3081 (2021)).

    H <- H U + (1 - H) V after each layer; the output is linear.
    """

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs] + [width] * (depth - 1)
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(size, width) for size in sizes)
        self.blends = torch.nn.ModuleList(torch.nn.Linear(inputs, width) for _ in range(2))
        self.last = torch.nn.Linear(width, outputs)

    def forward(self, values: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        first, second = (torch.sin(blend(values)) for blend in self.blends)
        for number, layer in enumerate(self.hidden):
            angle = layer(values)
            values = torch.sin(angle if number else SHARPNESS * angle)
            values = torch.lerp(second, first, values)
        return self.last(values)

    def start(self, generator: torch.Generator) -> None:
        """Draw all weights: uniform in ±1/d for the inputs, ±sqrt(6/d)/30 deeper."""
        near = [self.hidden[0], *self.blends]
        for layer in [*self.hidden, *self.blends, self.last]:
            size = layer.in_features
            bound = 1 / size if layer in near else math.sqrt(6 / size) / SHARPNESS
            torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            torch.nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


class ResidualBlock(torch.nn.Module):
    """Two convolutions of 3 x 3 x 3 with batch norm, and a way around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.convolutions = torch.nn.Sequential(
            torch.nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
            torch.nn.BatchNorm3d(outputs),
            torch.nn.ReLU(),
            torch.nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False),
            torch.nn.BatchNorm3d(outputs),
        )
        self.around = torch.nn.Identity()
        if inputs != outputs:
            self.around = torch.nn.Conv3d(inputs, outputs, 1, stride, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """(S, inputs, x, y, z) -> (S, outputs, ...)."""
        return torch.relu(self.convolutions(values) + self.around(values))


class ResNet(torch.nn.Module):
    """Residual blocks on the grid of the source, by default (3, 3, 3, 3) of (16, 32, 64, 128)
    channels, and a linear output.
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, channels: Sequence[int], blocks: Sequence[int]
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        layers: list[torch.nn.Module] = [torch.nn.Conv3d(1, channels[0], 3, padding=1)]
        now = channels[0]
        for wide, count in zip(channels, blocks, strict=True):
            layers += [ResidualBlock(now if not block else wide, wide) for block in range(count)]
            now = wide
        sizes = self.shape
        for _ in channels[1:]:
            sizes = tuple((size + 1) // 2 for size in sizes)
        self.blocks = torch.nn.Sequential(*layers)
        self.last = torch.nn.Linear(now * math.prod(sizes), outputs)

    def forward(self, values: Tensor) -> Tensor:
        """(S, grid) -> (S, outputs)."""
        return self.last(self.blocks(values.reshape(-1, 1, *self.shape)).flatten(1))

    def start(self, generator: torch.Generator) -> None:
        """Draw all weights: Kaiming's normal for convolutions, uniform ±1/sqrt(d) at the output."""
        for layer in self.modules():
            if isinstance(layer, torch.nn.Conv3d):
                torch.nn.init.kaiming_normal_(layer.weight, generator=generator)
                if layer.bias is not None:
                    torch.nn.init.zeros_(layer.bias)
        bound = 1 / math.sqrt(self.last.in_features)
        torch.nn.init.uniform_(self.last.weight, -bound, bound, generator=generator)
        torch.nn.init.zeros_(self.last.bias)


class DeepONet(Surrogate):
    """p(x, t) = sum_k b_k(initial pressure) t_k(x, t) + bias, with `rank` terms.

    branch: "mlp" or "resnet". widths, depths: of branch and trunk, which the ResNet has as channels
    (the depth is then not read) and blocks. samples: of the source along x, y and z, None for two
    per wavelength at fmax. scale: what the sum is multiplied by, the root mean square of the
    pressure to be learned [Pa]. generator: of the weights at the start.
    """

    kind = "deeponet"
    grid: Tensor

    def __init__(
        self,
        domain: Domain,
        *,
        generator: torch.Generator,
        branch: str = "mlp",
        branch_width: int = 96,
        branch_depth: int = 3,
        trunk_width: int = 160,
        trunk_depth: int = 3,
        channels: Sequence[int] = (16, 32, 64, 128),
        blocks: Sequence[int] = (3, 3, 3, 3),
        rank: int = 100,
        samples: Sequence[int] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(domain)
        if branch not in BRANCHES:
            raise InputError(f"branch must be one of {BRANCHES}, got {branch!r}")
        low, high = domain.bounds
        counts = _samples(domain) if samples is None else [int(count) for count in samples]
        if len(counts) != 3 or min(counts) < 2:
            raise InputError(f"samples must be three numbers of at least 2, got {samples}")
        self._settings = {
            "branch": branch, "branch_width": branch_width, "branch_depth": branch_depth,
            "trunk_width": trunk_width, "trunk_depth": trunk_depth, "channels": list(channels),
            "blocks": list(blocks), "rank": rank, "samples": counts,
        }  # fmt: skip
        self.scale = scale
        lines = [
            torch.linspace(float(a), float(b), n) for a, b, n in zip(low, high, counts, strict=True)
        ]
        self.register_buffer("grid", torch.cartesian_prod(*lines), persistent=False)
        if branch == "mlp":
            self.branch = ModifiedMlp(math.prod(counts), branch_width, branch_depth, rank)
        else:
            self.branch = ResNet(counts, rank, channels, blocks)
        features = 4 * (1 + 2 * len(PERIODS))
        self.trunk = ModifiedMlp(features, trunk_width, trunk_depth, rank)
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.branch.start(generator)
        self.trunk.start(generator)

    def settings(self) -> dict[str, Any]:
        """The sizes of both nets."""
        return {**self._settings, "scale": self.scale}

    @classmethod
    def of_settings(cls, domain: Domain, settings: dict[str, Any]) -> DeepONet:
        """An untrained one."""
        return cls(domain, generator=torch.Generator(), **settings)

    def sources(self, positions: Tensor) -> Tensor:
        """The terms b (S, rank) of unit pulses at positions (S, 3)."""
        squared = (positions[:, None] - self.grid).square().sum(2)
        pressure = torch.exp(-squared / self.domain.width**2)
        return self.branch(pressure / LOUDEST)

    def places(self, receivers: Tensor, times: Tensor) -> Tensor:
        """The terms t (..., rank) at receivers (..., 3) and times (...)."""
        low, high = (corner.to(receivers) for corner in self.domain.bounds)
        half = (high - low).max() / 2  # all axes by the longest
        centre = (low + high) / 2
        # in these units sound travels one unit of length in one unit of time
        along = SPEED_OF_SOUND * times.to(receivers) / half
        coordinates = torch.cat([(receivers - centre) / half, along[..., None]], -1)
        waves = 2 * math.pi * self.domain.fmax / SPEED_OF_SOUND
        angles = [waves * share * coordinates for share in PERIODS]
        parts = [part for angle in angles for part in (torch.cos(angle), torch.sin(angle))]
        return self.trunk(torch.cat([coordinates, *parts], -1))

    def combine(self, sources: Tensor, places: Tensor) -> Tensor:
        """Pressure (S, P) of terms b (S, rank) and t (P, rank)."""
        return self.scale * (sources @ places.T + self.bias)

    def pulsed(
        self, source: Tensor, width: float | Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of the unit pulse at source (3,), of the width that was trained."""
        held = float(torch.as_tensor(width).detach())
        if not math.isclose(held, self.domain.width, rel_tol=1e-6):
            raise InputError(
                f"the width of a pulse must be the {self.domain.width:.6g} m that the DeepONet was "
                f"trained on, got {held:.6g}; ask a Green operator or the solver"
            )
        count = len(times)
        at = receivers[:, None].expand(-1, count, 3)
        places = self.places(at, times.to(receivers).expand(len(receivers), count))
        return self.combine(self.sources(source[None]), places.flatten(0, 1)).reshape(-1, count)

    def emitted(
        self, positions: Tensor, signal: Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of a signal (T,) that is given out at positions (T, 3).

        A sum of pulses, one at each time, of a signal that is sharpened by what the pulse's width
        takes from its spectrum; what it has above fmax is left out.
        """
        count, step = len(times), self.domain.time_step
        sharp = sharpened(signal, step, self.domain.width, self.domain.fmax).to(positions)
        sent = self.sources(positions) * sharp[:, None] * step  # (T, rank)
        answers = []
        for place in receivers:
            terms = self.places(place.expand(count, 3), times.to(place))
            # the trapezium rule: the pulse that starts at the time of the answer counts by half
            terms = torch.cat([terms[:1] / 2, terms[1:]])
            both = torch.fft.rfft(sent, 2 * count, 0) * torch.fft.rfft(terms, 2 * count, 0)
            constant = self.bias * step * (sharp.cumsum(0) - sharp / 2)
            answers.append(torch.fft.irfft(both.sum(1), 2 * count)[:count] + constant)
        return self.scale * torch.stack(answers)


def _samples(domain: Domain) -> list[int]:
    low, high = domain.bounds
    step = SPEED_OF_SOUND / domain.fmax / NODES_PER_WAVELENGTH
    return [math.ceil(float(size) / step - 1e-9) + 1 for size in high - low]


def sharpened(signal: Tensor, step: float, width: float, fmax: float) -> Tensor:
    """A signal (T,) over the spectrum π^(3/2) w³ exp(-(π f w / c)²) of the pulse, up to fmax."""
    count = len(signal)
    frequencies = torch.fft.rfftfreq(2 * count, step, dtype=signal.dtype, device=signal.device)
    gain = torch.exp((math.pi * width / SPEED_OF_SOUND * frequencies) ** 2)
    end = ((frequencies / fmax - 1) / ROLL_OFF).clamp(0, 1)
    gain = torch.where(end < 1, gain, 0.0) * torch.cos(math.pi / 2 * end) ** 2
    spectrum = torch.fft.rfft(signal, 2 * count) * gain
    return torch.fft.irfft(spectrum, 2 * count)[:count] / (math.pi**1.5 * width**3)
