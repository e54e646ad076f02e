"""Where to hang absorbers: panels on or off within an area, for short decays or little late sound.

Each panel is covered to a share a in [0, 1], y = a y_absorber + (1 - a) y_wall, which is physical
for pieces smaller than a wavelength and smooth, so that one reverse sweep gives the slope of the
objective in all panels (densities, as in Bendsøe and Sigmund, Topology Optimization, 2003). The
area is met exactly by a projection. What is built are panels on or off: the best shares are
rounded, then exchanged as slopes foretell, each exchange kept only if the solver confirms it
(in the manner of Sivapuram and Picelli, Finite Elem. Anal. Des. 139 (2018) 49).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.viewer.scene import Scene
from optimizers import METHODS, Box, Budget, Problem, minimize
from sims.acoustics.inverse.certify import Certificate, certified, finer
from sims.acoustics.inverse.coverage import SwitchValues, exchanges, fill, within_budget
from sims.acoustics.inverse.late_sound import Heard, Listening, bare_energy, hear, objective
from sims.acoustics.inverse.panels import edges, panels_of, rectangles, with_panels
from sims.acoustics.metrics import band_edges
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.surrogates.reduced import reduced_model
from sims.acoustics.walls.wall import Wall

GRADIENT_COST = 3.0  # values for one with its gradient; measured 2.6
SMOOTH_SHARE = 0.4  # of a search's solver time that goes into shares between 0 and 1
FIRST_EXCHANGES = 0.25  # of the panels that are on


class AbsorberProblem(Problem):
    """The coverage (n,) of a room's panels, and what is heard then.

    solver: of a room with patches, see `with_panels`. area: of absorber at most [m²]. panels: names
    of the patches, by default all. Raises InputError.
    """

    def __init__(
        self,
        solver: Solver,
        absorber: Wall,
        area: float,
        listening: Listening,
        panels: Sequence[str] | None = None,
    ) -> None:
        listening.check_band(solver.fmax)
        self.solver, self.absorber, self.listening = solver, absorber, listening
        self.panels = panels_of(solver, panels)
        self.areas = self.panels.areas
        whole = float(self.areas.sum())
        if not 0 < area <= whole * (1 + 1e-9):
            raise InputError(
                f"area must be above 0 and at most that of all panels, {whole:.4g} m², got {area}"
            )
        if not fill(torch.ones_like(self.areas), self.areas, area).any():
            raise InputError(
                f"area must hold at least one panel, {float(self.areas.min()):.4g} m², got {area}: "
                "make the panels smaller"
            )
        self.area = float(area)
        self.bare = bare_energy(solver, listening)
        count = len(self.areas)
        super().__init__(
            {"coverage": Box(count, 0.0, 1.0, start=min(1.0, area / whole))},
            lambda named: self.value(within_budget(named["coverage"], self.areas, self.area)),
            constraints=0,
            differentiable=True,
            gradient_cost=GRADIENT_COST,
        )

    @property
    def nodes(self) -> int:
        """Of the solver's mesh."""
        return len(self.solver.space.mass)

    def on_finer_mesh(self, refinement: float) -> AbsorberProblem:
        """The same problem by a finer solver of the same room."""
        solver, names = finer(self.solver, refinement), self.panels.names
        return AbsorberProblem(solver, self.absorber, self.area, self.listening, names)

    def heard(self, coverage: Tensor) -> Heard:
        """What a coverage (n,) sounds like."""
        walls = self.panels.walls(coverage, self.absorber)
        return hear(self.solver, self.listening, walls)

    def value(self, coverage: Tensor) -> Tensor:
        """The objective of a coverage (n,) as it is."""
        found = objective(self.heard(coverage), self.listening, self.bare)
        return found.to(coverage.device)

    def value_and_slopes(self, coverage: Tensor) -> tuple[float, Tensor]:
        """The objective and its gradient (n,), in one run and one reverse sweep."""
        leaf = coverage.detach().clone().requires_grad_(True)
        value = self.value(leaf)
        (slopes,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), slopes

    def rounded(self, coverage: Tensor) -> Tensor:
        """Panels on or off (n,) within the area, those of the most coverage."""
        kept = within_budget(coverage.detach().double().cpu(), self.areas, self.area)
        return fill(kept, self.areas, self.area)

    def certificate(self, chosen: Tensor, refinement: float = 1.5) -> Certificate:
        """Panels on or off, (n,), by this solver and by a finer one, beside the bare room."""
        return certified(self, chosen, torch.zeros_like(chosen), refinement)

    def slowest_mode(self, chosen: Tensor) -> float:
        """The longest decay time [s] of a resonance in the bands, by a modal model of the room; an
        opinion beside that of the time loop, which hears only modes that sources and seats share.
        """
        walls = self.panels.walls(chosen, self.absorber)
        rates = reduced_model(self.solver).with_walls(walls).resonances.rates
        edges = [edge for band in self.listening.bands for edge in band_edges(band)]
        frequency = rates.imag / (2 * math.pi)
        inside = (frequency >= min(edges)) & (frequency <= max(edges))
        if not bool(inside.any()):
            return math.nan
        return float((3 * math.log(10) / -rates.real[inside]).max())

    def scene(self, parameters: dict[str, Tensor]) -> Scene:
        """The panels, coloured by their coverage, with sources and seats."""
        coverage = within_budget(parameters["coverage"].double().cpu(), self.areas, self.area)
        room, names = self.solver.room, self.panels.names
        return Scene(
            meshes={"panels": rectangles(room, names)},
            fields={"panels": {"coverage": coverage.detach().repeat_interleave(4)}},
            lines={"room": edges(room)},
            points={
                "sources": torch.tensor(self.listening.sources),
                "seats": torch.tensor(self.listening.seats),
            },
        )

    def metrics(self, parameters: dict[str, Tensor]) -> dict[str, Any]:
        """Of the rounded design: the area, decay times by band and that of the slowest mode, before
        and after, and what a finer mesh confirms.
        """
        chosen = self.rounded(parameters["coverage"])
        found: dict[str, Any] = {
            "panels": int(chosen.sum()),
            "area": float(self.areas @ chosen),
            "area_allowed": self.area,
        }
        with torch.no_grad():
            after = self.heard(chosen).decay_times().mean((0, 1))
            before = self.heard(torch.zeros_like(chosen)).decay_times().mean((0, 1))
        for band, old, new in zip(self.listening.bands, before, after, strict=True):
            found[f"decay_time_{band:g}_hz_before"] = float(old)
            found[f"decay_time_{band:g}_hz"] = float(new)
        for name, design in (("_before", torch.zeros_like(chosen)), ("", chosen)):
            slowest = self.slowest_mode(design)
            if math.isfinite(slowest):
                found[f"slowest_mode_decay_time{name}"] = slowest
        return found | self.certificate(chosen).metrics()

    def write_artifacts(self, parameters: dict[str, Tensor], folder: Path) -> None:
        """panels.csv: which panels are on, and their areas."""
        chosen = self.rounded(parameters["coverage"])
        rows = [
            f"{name},{area:.4f},{int(on)}"
            for name, area, on in zip(
                self.panels.names, self.areas.tolist(), chosen.tolist(), strict=True
            )
        ]
        (folder / "panels.csv").write_text("\n".join(["panel,area_m2,absorbs", *rows]) + "\n")


@dataclass(frozen=True, eq=False)
class AbsorberDesign:
    """Panels on or off and what came of them.

    names: of the panels that are on. chosen: (n,), 1 where on. shares: the best coverage (n,) that
    was found before rounding, and `smooth` its objective, a bound that panels on or off can hardly
    pass. evaluations: spent, in runs of the solver without gradients.
    """

    names: tuple[str, ...]
    chosen: Tensor
    area: float
    shares: Tensor
    smooth: float
    certificate: Certificate
    evaluations: float


def place_absorbers(
    problem: AbsorberProblem,
    evaluations: float = 50.0,
    seed: int = 0,
    report: Callable[[float, float], None] | None = None,
) -> AbsorberDesign:
    """Panels on or off that lower the objective most, for the solver time of some evaluations.

    L-BFGS on shares first, then rounding and exchanges. evaluations: runs of the solver for each of
    the sources, a run with gradients counts three. report: called after each with what is spent
    and the best objective of panels on or off so far. The certificate costs extra.
    """
    if not evaluations >= 4 * GRADIENT_COST:
        raise InputError(f"evaluations must be at least {4 * GRADIENT_COST:g}, got {evaluations}")
    smooth = minimize(
        problem, "lbfgs", budget=Budget(evaluations=SMOOTH_SHARE * evaluations), seed=seed
    )
    spent, areas = smooth.evaluations, problem.areas
    shares = within_budget(smooth.x, areas, problem.area)
    learned = SwitchValues(len(areas))
    best = fill(shares, areas, problem.area)
    value, slopes = problem.value_and_slopes(best)
    learned.learn(best, slopes)
    spent += GRADIENT_COST
    tried = {tuple(best.tolist())}
    swaps = max(1, round(FIRST_EXCHANGES * float(best.sum())))
    while spent + GRADIENT_COST <= evaluations:
        near = exchanges(best, learned.changes(), areas, problem.area, swaps)
        trial = next((design for design in near if tuple(design.tolist()) not in tried), None)
        if trial is None:
            break
        tried.add(tuple(trial.tolist()))
        new, slopes = problem.value_and_slopes(trial)
        spent += GRADIENT_COST
        learned.learn(trial, slopes)
        if new < value:
            best, value = trial, new
        else:
            swaps = max(1, swaps // 2)
        if report is not None:
            report(spent, value)
    return AbsorberDesign(
        tuple(n for n, on in zip(problem.panels.names, best.tolist(), strict=True) if on),
        best,
        float(areas @ best),
        shares,
        smooth.value,
        problem.certificate(best),
        spent,
    )


@dataclass(frozen=True)
class AbsorberPlacement:
    """Settings of absorber placement in a box room; what `[settings]` of its spec holds.

    size: of the room [m]. wall_impedance: of its walls [Pa s/m]. sides: those that may carry
    absorber, each with panels[0] by panels[1] panels. share: of their area that may be covered.
    flow_resistivity [Pa s/m²], thickness, air_gap [m]: of the porous absorber. fmax: of the solver
    [Hz]. sources, seats, duration, late, bands, targets: see `Listening`.
    """

    size: tuple[float, float, float] = (3.4, 2.7, 2.3)
    wall_impedance: float = 4e4
    sides: tuple[str, ...] = ("ceiling", "right", "back")
    panels: tuple[int, int] = (4, 3)
    share: float = 0.25
    flow_resistivity: float = 1e4
    thickness: float = 0.1
    air_gap: float = 0.0
    fmax: float = 200.0
    sources: tuple[tuple[float, float, float], ...] = ((0.5, 0.6, 0.4),)
    seats: tuple[tuple[float, float, float], ...] = (
        (1.4, 1.2, 1.2),
        (2.1, 1.7, 1.2),
        (2.7, 0.9, 1.2),
        (1.9, 0.6, 1.2),
    )
    duration: float = 0.4
    late: float = 0.1
    bands: tuple[float, ...] = (63.0, 125.0)
    targets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share must lie in (0, 1], got {self.share}")
        Listening(self.sources, self.seats, self.duration, self.late, self.bands, self.targets)

    @property
    def listening(self) -> Listening:
        """Sources, seats and what counts."""
        return Listening(
            self.sources, self.seats, self.duration, self.late, self.bands, self.targets
        )

    def method(self) -> object:
        """L-BFGS: the shares are smooth."""
        return METHODS["lbfgs"]()

    def budget(self) -> Budget:
        """Twenty gradients."""
        return Budget(gradients=20)

    def start(self, device: torch.device, seed: int) -> AbsorberProblem:
        """The room with its panels, all covered alike."""
        room = Room.box(*self.size, walls=Wall.impedance(self.wall_impedance))
        room = with_panels(room, dict.fromkeys(self.sides, self.panels))
        solver = Solver(room, self.fmax, device=device)
        absorber = Wall.miki(self.flow_resistivity, self.thickness, self.air_gap)
        area = self.share * float(panels_of(solver).areas.sum())
        return AbsorberProblem(solver, absorber, area, self.listening)
