"""The shape of a room or of a diffuser in it, against resonances at chosen frequencies.

Sides of a box bend smoothly and its proportions change while its volume stays. The slopes in all
shape parameters come from one reverse sweep through the positions of the vertices, where Borrel-
Jensen et al. (arXiv 2511.11415, 2025) take random differences: they report 48.1 % less resonance
energy for a room of theirs, a figure that depends on the room and the frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from geomopt.geometry.mesh import Mesh
from geomopt.viewer.scene import Scene
from optimizers import METHODS, Box, Budget, Problem, minimize
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements import trilinear
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.spaces import as_hexahedra
from sims.acoustics.inverse.bending import Bending
from sims.acoustics.inverse.certify import Certificate, certified
from sims.acoustics.inverse.spectra import FADED, damped_spectrum
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver
from sims.acoustics.walls.wall import Wall

GRADIENT_COST = 4.5  # values for one with its gradient, measured: the sweep looks at all elements
NODES_PER_WAVELENGTH = 6.0
STEP_SHARE = 0.75  # of the box's stability limit, so that bent elements may be narrower
LEAST_JACOBIAN = 0.3  # scaled, of any element
ELEMENTS_A_WAVE = 2  # along a side, for each half wave that it can bend in
QUADS = ((0, 1, 3), (0, 3, 2))  # triangles of a face whose corners run in binary order

Position = tuple[float, float, float]


class ShapeProblem(Problem):
    """How sides bend and proportions change, and the energy that resonances leave at receivers.

    bending: of the box. walls: by side, or one for all. source, receivers (R, 3): where they stay
    [m]. frequencies: whose energy is to fall [Hz], up to fmax. depth: what each wave may move a
    side at most [m]. stretch: logarithm of the largest change of a proportion, 0 for none.
    duration: of the responses [s].

    The value is the mean over receivers and frequencies of |P|², P the spectrum of the response
    that has faded to a thousandth at the end, in dB over that of the box. Shapes of which an
    element has a scaled Jacobian below 0.3, or is too narrow for the time step, are failed rows.
    Raises InputError.
    """

    def __init__(
        self,
        bending: Bending,
        walls: Any,
        fmax: float,
        source: Position,
        receivers: Sequence[Position],
        frequencies: Sequence[float],
        depth: float = 0.15,
        stretch: float = 0.1,
        duration: float = 0.4,
        *,
        order: int = 3,
        refinement: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        if not frequencies or any(not 0 < f <= fmax for f in frequencies):
            raise InputError(
                f"frequencies must lie above 0 and at or below fmax = {fmax:g} Hz, got "
                f"{list(frequencies)}"
            )
        if not 0 <= stretch < 1:
            raise InputError(f"stretch must lie in [0, 1), got {stretch}")
        if bending.sides and not 0 < depth < math.inf:
            raise InputError(f"depth must be above 0 m where sides bend, got {depth}")
        if not bending.sides and stretch == 0:
            raise InputError("stretch must be above 0 where no side bends: nothing could change")
        self.bending, self.duration = bending, duration
        self.given = {
            "walls": walls, "fmax": fmax, "source": source, "receivers": receivers,
            "frequencies": frequencies, "depth": depth, "stretch": stretch,
            "duration": duration, "order": order, "device": device,
        }  # fmt: skip
        self.refinement = refinement
        places = as_tensor(
            "receivers", receivers, "positions (R, 3) [m]", dtype=torch.float64, device=device
        )
        self.receivers = check_tensor("receivers", places, (None, 3))
        self.source = as_tensor("source", source, "a position (3,) [m]", dtype=torch.float64)
        omega = 2 * math.pi * torch.tensor(list(frequencies), dtype=torch.float64, device=device)
        self.s = torch.complex(torch.full_like(omega, FADED / duration), omega)
        self.solver = self._solver_of_box(walls, fmax, order, device)
        with torch.no_grad():
            self.box_energy = self.energy(self.solver)
        boxes = {}
        if bending.sides:
            boxes["bends"] = Box(bending.shape, -depth, depth, start=0.0, scale=depth)
        if stretch > 0:
            boxes["stretch"] = Box((2,), -stretch, stretch, start=0.0, scale=stretch)
        super().__init__(
            boxes,
            self._value,
            constraints=0,
            differentiable=True,
            gradient_cost=GRADIENT_COST,
            device="cpu",
        )

    def _solver_of_box(
        self, walls: Any, fmax: float, order: int, device: torch.device | str
    ) -> Solver:
        waves = max(1, self.bending.waves - 1) if self.bending.sides else 1
        most = max(self.bending.size) / (ELEMENTS_A_WAVE * waves)
        room = Room.box(*self.bending.size, walls=walls)
        wanted = order * SPEED_OF_SOUND / (NODES_PER_WAVELENGTH * fmax)
        room = as_hexahedra(room, min(most, wanted) / self.refinement)
        limit = Solver(room, fmax, order, device=device).stability_limit
        return Solver(room, fmax, order, time_step=STEP_SHARE * limit, device=device)

    @property
    def space(self) -> Hexahedra:
        """The elements of the box."""
        space = self.solver.space
        assert isinstance(space, Hexahedra)
        return space

    @property
    def nodes(self) -> int:
        """Of the solver's mesh."""
        return len(self.space.mass)

    def on_finer_mesh(self, refinement: float) -> ShapeProblem:
        """The same problem with elements smaller by `refinement`, which bend more smoothly."""
        finer = refinement * self.refinement
        return ShapeProblem(self.bending, **self.given, refinement=finer)

    def vertices(self, parameters: dict[str, Tensor]) -> Tensor:
        """Of a design's elements, (V, 3) [m]."""
        space = self.space
        unbent = torch.zeros(self.bending.shape, dtype=torch.float64)
        bends = parameters.get("bends", unbent).to(space.vertices)
        stretch = parameters.get("stretch", unbent.new_zeros(2)).to(space.vertices)
        return self.bending.vertices(space.vertices, space.hexahedra, bends, stretch)

    def least_jacobian(self, vertices: Tensor) -> float:
        """The least scaled Jacobian of elements with these vertices; 1 for bricks."""
        return float(trilinear.scaled_jacobians(vertices.detach()[self.space.hexahedra]).min())

    def energy(self, solver: Solver) -> Tensor:
        """The mean of |P(s)|² over receivers and frequencies, ()."""
        response = solver.simulate(self.source, self.receivers, self.duration)
        spectrum = damped_spectrum(response, solver.time_step, self.s)
        return spectrum.abs().square().mean()

    def value(self, design: Tensor) -> Tensor:
        """The energy of a flat design (d,) over that of the box, () [dB]."""
        return self._value(self.parameters_of(design))

    def _value(self, parameters: dict[str, Tensor]) -> Tensor:
        vertices = self.vertices(parameters)
        if self.least_jacobian(vertices) < LEAST_JACOBIAN:
            return 0 * vertices.sum() + math.nan
        try:
            energy = self.energy(self.solver.moved(vertices))
        except InputError:  # too narrow for the time step, or a wall beyond a receiver
            return 0 * vertices.sum() + math.nan
        return (10 * torch.log10(energy / self.box_energy)).to(self.device)

    def mesh(self, parameters: dict[str, Tensor]) -> Mesh:
        """The walls of a design as triangles that face outwards."""
        ends = self.space.hexahedra.reshape(-1, 2, 2, 2)
        low, high = zip(*(ends.unbind(axis) for axis in (1, 2, 3)), strict=True)
        # corners run so that triangles face outwards, which turns them over on opposite sides
        outward = (low[0], high[0].mT, low[1].mT, high[1], low[2], high[2].mT)
        quads = torch.cat([quad.flatten(1) for quad in outward])
        key = quads.sort(dim=1).values
        _, place, count = torch.unique(key, dim=0, return_inverse=True, return_counts=True)
        outer = quads[count[place] == 1]
        faces = torch.cat([outer[:, list(corners)] for corners in QUADS])
        return Mesh(self.vertices(parameters).detach().cpu(), faces.cpu())

    def scene(self, parameters: dict[str, Tensor]) -> Scene:
        """The walls, coloured by how far they have moved [m], with source and receivers."""
        mesh = self.mesh(parameters)
        moved = (mesh.vertices - self.space.vertices.detach().cpu()).norm(dim=1)
        return Scene(
            meshes={"walls": mesh},
            fields={"walls": {"moved": moved}},
            points={"source": self.source[None].cpu(), "receivers": self.receivers.cpu()},
        )

    def metrics(self, parameters: dict[str, Tensor]) -> dict[str, Any]:
        """The reduction of energy, by this and by a finer mesh, and what became of the elements."""
        design = self.flatten(parameters)
        certificate = certified(self, design, torch.zeros_like(design))
        return {
            "reduction": reduction(certificate.found),
            "reduction_on_finer_mesh": reduction(certificate.confirmed),
            "least_scaled_jacobian": self.least_jacobian(self.vertices(parameters)),
            **certificate.metrics(),
        }

    def write_artifacts(self, parameters: dict[str, Tensor], folder: Path) -> None:
        """The walls as walls.ply."""
        self.mesh(parameters).save(folder / "walls.ply")


def reduction(level: float) -> float:
    """The share by which energy fell, from its level [dB] over what it was."""
    return 1 - 10 ** (level / 10)


@dataclass(frozen=True, eq=False)
class ShapeDesign:
    """A shape and what came of it. vertices (V, 3), hexahedra (E, 8): a `Room.hexahedra` of it."""

    parameters: dict[str, Tensor]
    vertices: Tensor
    hexahedra: Tensor
    certificate: Certificate
    least_jacobian: float
    evaluations: float

    @property
    def reductions(self) -> tuple[float, float]:
        """The share of the energy that is gone, by the solver of the search and by a finer one."""
        return reduction(self.certificate.found), reduction(self.certificate.confirmed)


def shape_room(problem: ShapeProblem, evaluations: float = 50.0, seed: int = 0) -> ShapeDesign:
    """The shape with the least energy at the chosen frequencies that L-BFGS finds from the box.

    evaluations: runs of the solver, one with gradients counts 4.5. The certificate costs extra.
    """
    if not evaluations >= 2 * GRADIENT_COST:
        raise InputError(f"evaluations must be at least {2 * GRADIENT_COST:g}, got {evaluations}")
    # a box has symmetries along which all slopes vanish, so the search starts beside it
    generator = torch.Generator().manual_seed(seed)
    beside = torch.rand(problem.dimension, generator=generator, dtype=torch.float64) - 0.5
    problem.start = 0.1 * beside * problem.scale
    budget = Budget(evaluations=evaluations - GRADIENT_COST)
    found = minimize(problem, "lbfgs", budget=budget, seed=seed)
    problem.start = torch.zeros_like(found.x)
    vertices = problem.vertices(found.parameters).detach()
    return ShapeDesign(
        found.parameters,
        vertices,
        problem.space.hexahedra,
        certified(problem, found.x, torch.zeros_like(found.x)),
        problem.least_jacobian(vertices),
        found.evaluations,
    )


@dataclass(frozen=True)
class RoomShape:
    """Settings of shape design; what `[settings]` of its spec holds.

    size: of the box [m]. sides: those that bend. waves: half waves along each axis of a side, see
    `Bending`. wall_impedance: of all walls [Pa s/m]. Others: see `ShapeProblem`.
    """

    size: Position = (3.2, 2.6, 2.2)
    sides: tuple[str, ...] = ("ceiling", "right")
    waves: int = 3
    wall_impedance: float = 2e4
    fmax: float = 150.0
    source: Position = (0.5, 0.5, 0.5)
    receivers: tuple[Position, ...] = ((1.5, 1.2, 1.1), (2.2, 1.8, 1.2), (2.4, 0.8, 1.0))
    frequencies: tuple[float, ...] = (66.0, 78.0, 85.0, 95.0, 102.0)
    depth: float = 0.15
    stretch: float = 0.05
    duration: float = 0.4

    def __post_init__(self) -> None:
        Bending(self.size, self.sides, self.waves)

    def method(self) -> object:
        """L-BFGS: few parameters, smooth, with exact slopes."""
        return METHODS["lbfgs"]()

    def budget(self) -> Budget:
        """Twenty gradients."""
        return Budget(gradients=20)

    def start(self, device: torch.device, seed: int) -> ShapeProblem:
        """The box, and what may become of it."""
        return ShapeProblem(
            Bending(self.size, self.sides, self.waves),
            Wall.impedance(self.wall_impedance),
            self.fmax,
            self.source,
            self.receivers,
            self.frequencies,
            self.depth,
            self.stretch,
            self.duration,
            device=device,
        )
