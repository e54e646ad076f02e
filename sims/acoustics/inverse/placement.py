"""Where to put loudspeakers, and seats, so that low frequencies are alike at all seats.

Reciprocity proposes: one run from each seat tells what a loudspeaker anywhere would sound like
there, so that all places on a grid, and their combinations, are compared without further runs. The
gradients of the solver then lead on from the best of them, in positions, delays and gains. The
landscape has a minimum every half wavelength, which is why the proposals matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from geomopt.viewer.scene import Scene
from optimizers import METHODS, Box, Budget, Problem, minimize
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.inverse.certify import Certificate, certified, finer
from sims.acoustics.inverse.panels import edges
from sims.acoustics.inverse.seat_spread import (
    log_frequencies,
    seat_levels,
    seat_spread,
    unevenness,
)
from sims.acoustics.inverse.spectra import damped_spectrum
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.walls.wall import Wall

GRADIENT_COST = 3.0  # values for one with its gradient; measured 2.6
LONGEST_DELAY = 0.02  # s
GAINS = (-12.0, 6.0)  # dB
SPACING = 1 / 8  # of the shortest wavelength, between places that are compared
APART = 3.0  # spacings between proposals: neighbours lead to the same minimum
RESTARTS = 24  # of the search among combinations of places
TUNINGS, TUNING_STEPS = 6, 40  # random starts in delays and gains, and gradients from each
FIRST_STEP = 0.2  # m, a typical change of a position

Position = tuple[float, float, float]


class LoudspeakerProblem(Problem):
    """Positions of loudspeakers in a box, and the spread over seats that they give.

    solver: its fmax bounds the band. region: lowest and highest corner (3,) of where loudspeakers
    may stand [m], inside of the air; equal coordinates are kept. seats: (R, 3), R >= 2 [m].
    loudspeakers: how many play the same signal; all but the first have a delay of at most 20 ms and
    a gain of -12 to 6 dB of their own. seat_freedom: how far seats may move along x and y [m].
    Raises InputError for positions outside of the air, also within the region.
    """

    def __init__(
        self,
        solver: Solver,
        region: tuple[Position, Position],
        seats: Sequence[Position],
        loudspeakers: int = 1,
        duration: float = 0.6,
        band: tuple[float, float] = (25.0, 250.0),
        frequencies: int = 48,
        seat_freedom: float = 0.0,
    ) -> None:
        if not band[1] <= solver.fmax:
            raise InputError(
                f"band must end at or below fmax = {solver.fmax:g} Hz of the solver, got {band}"
            )
        if loudspeakers < 1:
            raise InputError(f"loudspeakers must be at least 1, got {loudspeakers}")
        if not 0 <= seat_freedom < math.inf:
            raise InputError(f"seat_freedom must be at least 0 m, got {seat_freedom}")
        numbers = {"dtype": torch.float64}
        corners = as_tensor("region", region, "two corners (3,) [m]", **numbers)
        self.low, self.high = check_tensor("region", corners, (2, 3))
        if bool((self.low > self.high).any()) or bool((self.low == self.high).all()):
            raise InputError(f"region must have low below high along some axis, got {region}")
        places = as_tensor("seats", seats, "positions (R, 3) [m]", **numbers)
        self.seats = check_tensor("seats", places, (None, 3))
        if len(self.seats) < 2:
            raise InputError(f"seats must be at least 2 for a spread, got {len(self.seats)}")
        self.solver, self.loudspeakers, self.duration = solver, loudspeakers, duration
        self.band, self.seat_freedom = band, seat_freedom
        self.s = log_frequencies(band, frequencies, duration)
        self.free = torch.nonzero(self.low < self.high)[:, 0]
        boxes = self._boxes()
        self.grid = self._grid(boxes["positions"].start)
        solver.space.interpolation("region", self.grid.to(solver.device))
        for moved in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            far = self.seats + seat_freedom * torch.tensor([*moved, 0.0], dtype=torch.float64)
            solver.space.interpolation("seats", far.to(solver.device))
        super().__init__(
            boxes,
            lambda named: seat_spread(self.spectrum(named)),
            constraints=0,
            differentiable=True,
            gradient_cost=GRADIENT_COST,
            device="cpu",
        )
        self.middle = self.start.clone()

    def _boxes(self) -> dict[str, Box]:
        count, low, high = self.loudspeakers, self.low[self.free], self.high[self.free]
        shares = (torch.arange(count, dtype=torch.float64)[:, None] + 1) / (count + 1)
        start, shape = low + shares * (high - low), (count, len(low))
        boxes = {
            "positions": Box(
                shape, low.expand(shape), high.expand(shape), start=start, scale=FIRST_STEP
            )
        }
        if count > 1:
            others = (count - 1,)
            boxes["delays"] = Box(others, 0.0, LONGEST_DELAY, start=0.0, scale=2e-3)
            boxes["gains"] = Box(others, *GAINS, start=0.0, scale=3.0)
        if self.seat_freedom > 0:
            reach = self.seat_freedom
            boxes["seats"] = Box((len(self.seats), 2), -reach, reach, start=0.0, scale=reach)
        return boxes

    def _grid(self, middle: Tensor) -> Tensor:
        """Places (G, 3) that a loudspeaker is tried at, the last of them those of `middle`."""
        axes, spacing = [], SPACING * SPEED_OF_SOUND / self.band[1]
        for low, high in zip(self.low.tolist(), self.high.tolist(), strict=True):
            axes.append(torch.linspace(low, high, math.ceil((high - low) / spacing) + 1).double())
        spread = self.low.expand(self.loudspeakers, 3).clone()
        spread[:, self.free] = middle
        return torch.cat([torch.cartesian_prod(*axes).clamp(self.low, self.high), spread])

    @property
    def nodes(self) -> int:
        """Of the solver's mesh."""
        return len(self.solver.space.mass)

    def on_finer_mesh(self, refinement: float) -> LoudspeakerProblem:
        """The same problem by a finer solver of the same room."""
        region: Any = (self.low.tolist(), self.high.tolist())
        return LoudspeakerProblem(
            finer(self.solver, refinement),
            region,
            self.seats.tolist(),  # pyright: ignore[reportArgumentType]
            self.loudspeakers,
            self.duration,
            self.band,
            len(self.s),
            self.seat_freedom,
        )

    def value(self, design: Tensor) -> Tensor:
        """The spread [dB] of a flat design (d,)."""
        return seat_spread(self.spectrum(self.parameters_of(design)))

    def positions(self, parameters: dict[str, Tensor]) -> Tensor:
        """Of the loudspeakers, (S, 3) [m]."""
        given = parameters["positions"]
        whole = self.low.to(given).expand(self.loudspeakers, 3).clone()
        whole[:, self.free] = given
        return whole

    def seated(self, parameters: dict[str, Tensor]) -> Tensor:
        """Where the seats are, (R, 3) [m]."""
        moved = parameters.get("seats")
        if moved is None:
            return self.seats
        return self.seats + torch.nn.functional.pad(moved, (0, 1))

    def transfer(self, source: Tensor, receivers: Tensor) -> Tensor:
        """P(s) (R, K) of the solver's pulse at a source (3,) heard at receivers (R, 3)."""
        response = self.solver.simulate(source, receivers, self.duration)
        return damped_spectrum(response, self.solver.time_step, self.s.to(response.device))

    def spectrum(self, parameters: dict[str, Tensor]) -> Tensor:
        """What all loudspeakers together give at the seats, (R, K)."""
        seats = self.seated(parameters)
        each = [self.transfer(place, seats) for place in self.positions(parameters)]
        return self.together(torch.stack(each).to(self.device), parameters)

    def together(self, each: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Spectra (S, R, K) of loudspeakers with their delays and gains as one, (R, K)."""
        total = each[0]
        if self.loudspeakers == 1:
            return total
        turn = torch.exp(-1j * self.s.imag * parameters["delays"][:, None])
        gain = 10 ** (parameters["gains"] / 20)
        return total + ((gain[:, None] * turn)[:, None] * each[1:]).sum(0)

    def proposals(self, count: int, seed: int = 0) -> list[Tensor]:
        """Designs (d,) with loudspeakers on the grid, the best first, from one run a seat.

        Loudspeakers are moved in turn to the best place for the others, from random places until
        none moves; then delays and gains are searched, which the same runs tell about.
        """
        with torch.no_grad():
            runs = [self.transfer(seat, self.grid) for seat in self.seats]
        maps = torch.stack(runs, 1).to(self.device)  # (G, R, K)
        generator = torch.Generator().manual_seed(seed)
        found: dict[tuple[int, ...], float] = {}
        if self.loudspeakers == 1:
            found = {(g,): value for g, value in enumerate(seat_spread(maps).tolist())}
        starts = torch.randint(len(maps), (RESTARTS, self.loudspeakers), generator=generator)
        middle = torch.arange(len(maps) - self.loudspeakers, len(maps))
        for start in (middle, *starts) if self.loudspeakers > 1 else ():
            places, value = _settled(maps, start.tolist())
            found[tuple(sorted(places))] = value
        designs: list[tuple[float, Tensor]] = []
        kept: list[Tensor] = []
        apart = APART * SPACING * SPEED_OF_SOUND / self.band[1]
        for places in sorted(found, key=lambda key: found[key]):
            at = self.grid[list(places)]
            if all(float((at - other).norm(dim=1).max()) > apart for other in kept):
                kept.append(at)
                designs.append(self._tuned(at, maps[list(places)], seed))
            if len(designs) == count:
                break
        return [design for _, design in sorted(designs, key=lambda pair: pair[0])]

    def _tuned(self, at: Tensor, each: Tensor, seed: int) -> tuple[float, Tensor]:
        """The least spread and the design of loudspeakers at places (S, 3), of spectra (S, R, K),
        over delays and gains.
        """
        named = {**self.parameters_of(self.middle), "positions": at[:, self.free]}
        if self.loudspeakers == 1:
            return float(seat_spread(each[0])), self.flatten(named)
        tuning = Problem(
            {name: self.parameters[name] for name in ("delays", "gains")},
            lambda tuned: seat_spread(self.together(each, tuned)),
            constraints=0,
            differentiable=True,
        )
        generator = torch.Generator().manual_seed(seed)
        value, best = math.inf, tuning.start
        for start in (tuning.start, *tuning.sample(TUNINGS, generator)):
            tuning.start = start
            found = minimize(tuning, "lbfgs", budget=Budget(gradients=TUNING_STEPS), seed=seed)
            if found.value < value:
                value, best = found.value, found.x
        return value, self.flatten({**named, **tuning.parameters_of(best)})

    def scene(self, parameters: dict[str, Tensor]) -> Scene:
        """Loudspeakers and seats in the room's bounds."""
        return Scene(
            lines={"room": edges(self.solver.room)},
            points={
                "loudspeakers": self.positions(parameters).detach().cpu(),
                "seats": self.seated(parameters).detach().cpu(),
            },
        )

    def metrics(self, parameters: dict[str, Tensor]) -> dict[str, Any]:
        """The spread before and after, how even the mean response is, the positions, and what a
        finer mesh confirms.
        """
        design = self.flatten(parameters)
        with torch.no_grad():
            spectrum = self.spectrum(parameters)
            before = self.spectrum(self.parameters_of(self.middle))
        found: dict[str, Any] = {
            "spread_db": float(seat_spread(spectrum)),
            "spread_before_db": float(seat_spread(before)),
            "unevenness_db": float(unevenness(spectrum)),
            "unevenness_before_db": float(unevenness(before)),
        }
        for place, at in enumerate(self.positions(parameters).tolist()):
            found[f"loudspeaker_{place + 1}"] = ", ".join(f"{x:.3f}" for x in at)
        return found | certified(self, design, self.middle).metrics()

    def write_artifacts(self, parameters: dict[str, Tensor], folder: Path) -> None:
        """responses.csv: levels [dB re 1] at all seats over frequency."""
        with torch.no_grad():
            levels = seat_levels(self.spectrum(parameters)).T
        head = ",".join(["frequency_hz", *(f"seat_{n + 1}_db" for n in range(len(self.seats)))])
        rows = [
            ",".join(f"{number:.4f}" for number in (frequency, *row))
            for frequency, row in zip(
                (self.s.imag / (2 * math.pi)).tolist(), levels.tolist(), strict=True
            )
        ]
        (folder / "responses.csv").write_text("\n".join([head, *rows]) + "\n")


def _settled(maps: Tensor, places: list[int]) -> tuple[list[int], float]:
    """Places of loudspeakers, of which none gains by moving alone, and their spread."""
    value = math.inf
    while True:
        for speaker in range(len(places)):
            rest = sum(maps[p] for k, p in enumerate(places) if k != speaker)
            spreads = seat_spread(maps + rest)
            places[speaker] = int(spreads.argmin())
        lowest = float(spreads.min())
        if not lowest < value - 1e-9:
            return places, value
        value = lowest


@dataclass(frozen=True, eq=False)
class Placement:
    """Where loudspeakers and seats are to be, with delays [s] and gains [dB] of each loudspeaker.

    proposed: the spread of the best proposal on the grid. evaluations: spent, each a run for all
    loudspeakers without gradients.
    """

    loudspeakers: Tensor
    delays: Tensor
    gains: Tensor
    seats: Tensor
    design: Tensor
    proposed: float
    certificate: Certificate
    evaluations: float


def place_loudspeakers(
    problem: LoudspeakerProblem,
    evaluations: float = 50.0,
    starts: int = 3,
    seed: int = 0,
    report: Callable[[float, float], None] | None = None,
) -> Placement:
    """The placement of least spread, for the solver time of some evaluations.

    starts: how many proposals are followed by L-BFGS, which share the time. report: called after
    each with what is spent and the least spread so far. The certificate costs extra.
    """
    spent = len(problem.seats) / problem.loudspeakers
    if not evaluations >= spent + 2 * GRADIENT_COST:
        raise InputError(
            f"evaluations must be at least {spent + 2 * GRADIENT_COST:g}, a run for each seat and "
            f"two gradients, got {evaluations}"
        )
    if starts < 1:
        raise InputError(f"starts must be at least 1, got {starts}")
    designs = problem.proposals(starts, seed)
    with torch.no_grad():
        proposed = float(problem.value(designs[0]))
    spent += 1
    best, value = designs[0], proposed
    for place, start in enumerate(designs):
        share = (evaluations - spent) / (len(designs) - place)
        # the last gradient may begin when one is left
        left = max(share, 2 * GRADIENT_COST) - GRADIENT_COST
        if spent + left > evaluations:
            break
        problem.start = start
        found = minimize(problem, "lbfgs", budget=Budget(evaluations=left), seed=seed)
        problem.start = problem.middle
        spent += found.evaluations
        if found.value < value:
            best, value = found.x, found.value
        if report is not None:
            report(spent, value)
    named = problem.parameters_of(best)
    silent = problem.start.new_zeros(1)
    return Placement(
        problem.positions(named),
        torch.cat([silent, named["delays"]]) if problem.loudspeakers > 1 else silent,
        torch.cat([silent, named["gains"]]) if problem.loudspeakers > 1 else silent,
        problem.seated(named),
        best,
        proposed,
        certified(problem, best, problem.middle),
        spent,
    )


@dataclass(frozen=True)
class LoudspeakerPlacement:
    """Settings of loudspeaker placement in a box room; what `[settings]` of its spec holds.

    size: of the room [m]. wall_impedance: of its walls [Pa s/m]. region, seats, loudspeakers,
    duration, band, frequencies, seat_freedom: see `LoudspeakerProblem`.
    """

    size: Position = (5.0, 4.0, 2.6)
    wall_impedance: float = 1.5e4
    region: tuple[Position, Position] = ((0.3, 0.3, 0.4), (4.7, 1.2, 1.2))
    seats: tuple[Position, ...] = (
        (1.6, 2.4, 1.2),
        (2.5, 2.4, 1.2),
        (3.4, 2.4, 1.2),
        (2.0, 3.2, 1.2),
        (3.0, 3.2, 1.2),
    )
    loudspeakers: int = 1
    duration: float = 0.5
    band: tuple[float, float] = (25.0, 200.0)
    frequencies: int = 48
    seat_freedom: float = 0.0

    def method(self) -> object:
        """L-BFGS, from the best proposal."""
        return METHODS["lbfgs"]()

    def budget(self) -> Budget:
        """Twenty gradients."""
        return Budget(gradients=20)

    def start(self, device: torch.device, seed: int) -> LoudspeakerProblem:
        """The room, with loudspeakers at the best proposal."""
        room = Room.box(*self.size, walls=Wall.impedance(self.wall_impedance))
        problem = LoudspeakerProblem(
            Solver(room, self.band[1], device=device),
            self.region,
            self.seats,
            self.loudspeakers,
            self.duration,
            self.band,
            self.frequencies,
            self.seat_freedom,
        )
        problem.start = problem.proposals(1, seed)[0]
        return problem
