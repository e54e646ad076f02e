"""The solver: a room, its elements and its time step, and the pressure that sources make in it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from copy import copy
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import torch
from scipy.signal import kaiserord
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_tensor
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.coupling import Coupling
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.space import Space
from sims.acoustics.elements.spaces import space_of
from sims.acoustics.elements.spectrum import largest_eigenvalue, stiffest_node
from sims.acoustics.gradients.adjoint import heard
from sims.acoustics.gradients.checkpoints import GradientMemory
from sims.acoustics.room import NAMES, Room
from sims.acoustics.source import Emission, Pulse
from sims.acoustics.stepping.boundary import boundary_of, branches_of
from sims.acoustics.stepping.marching import Emitted, Stencils, Walls, Watch, walls_of
from sims.acoustics.stepping.smoothing import diffused
from sims.acoustics.walls.wall import Wall

ORDERS = range(1, 7)
LEAST_NODES = 3.0  # per wavelength; below it no order resolves the band
STEP_SHARE = 0.98  # of the stability limit
BEYOND_FIT = 1.5  # times the end of the band that a wall was fitted to, its law is a guess
MOST_VALUES = 2**31  # of a response, 8 GiB in float32
LOOK_EVERY = 50  # steps between looks at whether the field still is bounded
# times 1/dt: the derivative by central differences plus dt²/12 of its second derivative, so that
# what is emitted is of fourth order in time, as the step is
RISE = tuple(number / 144 for number in (1, 2, -79, 0, 79, -2, -1))
MOST_STEPS = 1e8  # of a run; this many take days in the smallest room
STOPPED = 70.0  # dB, of what a moving point must not shake
GROWTH = 1e3  # a field that is larger than all that came in by this factor is unstable


class Unstable(RuntimeError):
    """The field grows without bounds; the message says which element sets the time step."""


class Solver:
    """Sound in a room up to `fmax` [Hz]: spectral elements in space, ME4 in time.

    order: 1 to 6, of the elements' polynomials on Gauss-Lobatto-Legendre nodes.
    nodes_per_wavelength: nodes on the wavelength at fmax, at least 3. safe: walls of
    second order in time, without the system among their nodes; energy cannot grow either way.
    time_step [s]: None for 0.98 of the stability limit. dtype: float32 or float64.

    Raises InputError for what cannot be used, with the remedy. Warns of elements so thin that they
    set the time step of all others, and of walls that were fitted to a narrower band.
    """

    def __init__(
        self,
        room: Room,
        fmax: float,
        order: int = 4,
        nodes_per_wavelength: float = 6.0,
        *,
        safe: bool = False,
        time_step: float | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(room, Room):
            raise InputError(f"room must be a Room, got {type(room).__name__}")
        fmax = _number("fmax", fmax, "Hz")
        if not isinstance(order, Integral) or isinstance(order, bool) or order not in ORDERS:
            raise InputError(f"order must be a whole number from 1 to 6, got {order!r}")
        nodes_per_wavelength = _number("nodes_per_wavelength", nodes_per_wavelength, "nodes")
        if not nodes_per_wavelength >= LEAST_NODES:
            raise InputError(
                f"nodes_per_wavelength must be at least {LEAST_NODES:g} for the band up to "
                f"{fmax:g} Hz (6 at order 4, 10 and more at order 1), got {nodes_per_wavelength}"
            )
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.room, self.fmax, self.order = room, fmax, order
        self.nodes_per_wavelength, self.safe, self.dtype = nodes_per_wavelength, safe, dtype
        self.device = _device(device)
        _warn_of_narrow_fits(room, fmax)
        self.largest = order * SPEED_OF_SOUND / (fmax * nodes_per_wavelength)
        self.space: Space = space_of(room, self.largest, order, dtype, self.device)
        self.boundary = boundary_of(self.space.faces, room.patches, len(NAMES))
        self.stability_limit = math.sqrt(12.0 / largest_eigenvalue(self.space, dtype))
        self._couplings: dict[bytes, Coupling] = {}
        self.gradient_memory: GradientMemory | None = None
        self.time_step = STEP_SHARE * self.stability_limit
        if time_step is not None:
            self.time_step = _number("time_step", time_step, "s")
        if not self.time_step <= self.stability_limit:
            raise InputError(
                f"time_step must be above 0 and at most {self.stability_limit:.4g} s, which "
                f"{self._stiffest_element()} sets, got {self.time_step}"
            )

    def steps(self, duration: float) -> int:
        """How many steps cover a duration [s]."""
        duration = _number("duration", duration, "s")
        if duration > MOST_STEPS * self.time_step:
            raise InputError(
                f"duration must be at most {MOST_STEPS * self.time_step:.4g} s, which are "
                f"{MOST_STEPS:g} steps, got {duration:g} s: shorten it, or lower fmax"
            )
        return math.ceil(duration / self.time_step - 1e-9)

    def times(self, duration: float) -> Tensor:
        """The times (T,) float64 [s] of `simulate`: 0 to the first step at or after duration."""
        return self.time_step * torch.arange(self.steps(duration) + 1, dtype=torch.float64)

    def simulate(
        self,
        source: Any,
        receivers: Any,
        duration: float,
        *,
        walls: Mapping[str, Wall] | Wall | None = None,
        vertices: Tensor | None = None,
        memory: float | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """The pressure (R, T) at receivers (R, 3) [m] at `times(duration)`.

        source: a position (3,) for the default pulse, a `Pulse`, or an `Emission`. walls: others
        than those of the room, by the name of the surface. vertices: others than those of a room of
        hexahedra, see `moved`. Differentiable in positions, pulse, signal, walls and vertices.

        memory: how much of the history of all nodes gradients may keep, see `adjoint.heard`;
        `gradient_memory` then says what they do keep, and is None after a run without gradients.
        watch: called after each step with its number, the pressure at all nodes (N,) and that of
        the step before. Raises InputError for positions outside of the air, and Unstable.
        """
        if vertices is not None:
            other = self.moved(vertices)
            options: dict[str, Any] = {"walls": walls, "memory": memory, "watch": watch}
            found = other.simulate(source, receivers, duration, **options)
            self.gradient_memory = other.gradient_memory
            return found
        steps = self.steps(duration)
        places = self._positions("receivers", receivers)
        if len(places) * (steps + 1) > MOST_VALUES:
            raise InputError(
                f"receivers times steps must be at most {MOST_VALUES:.3g}, got {len(places)} times "
                f"{steps + 1}: ask for fewer receivers at once, or a shorter duration"
            )
        stencils = self._stencils("receivers", places)
        initial, emitted, loudness = self._sound(source, steps)

        def look(step: int, field: Tensor, before: Tensor) -> None:
            self._look(step, field, loudness)
            if watch is not None:
                watch(step, field, before)

        pressure, self.gradient_memory = heard(
            self.space,
            self.walls(walls),
            initial,
            stencils,
            steps,
            self.time_step,
            emitted=emitted,
            watch=look,
            memory=memory,
        )
        return pressure.T

    def moved(self, vertices: Tensor) -> Solver:
        """The same elements, walls and time step with other vertices (V, 3) [m], in the order of
        `space.vertices`, which may require gradients.

        Raises InputError for rooms that are not of hexahedra, for folded elements, and for elements
        that the time step is too long for.
        """
        if not isinstance(self.space, Hexahedra):
            raise InputError(
                "vertices can be moved in a room of hexahedra only, make one of this by "
                "spaces.as_hexahedra"
            )
        other = copy(self)
        other.__dict__.pop("_exact", None)
        other.space = self.space.moved(vertices.to(self.device))
        other.boundary = boundary_of(other.space.faces, self.room.patches, len(NAMES))
        other._couplings = {}
        other.stability_limit = math.sqrt(12.0 / largest_eigenvalue(other.space, self.dtype))
        if self.time_step > other.stability_limit:
            raise InputError(
                f"vertices must leave elements for which a time step of {self.time_step:.4g} s is "
                f"stable, got a limit of {other.stability_limit:.4g} s, which "
                f"{other._stiffest_element()} sets: give the solver a shorter time_step"
            )
        return other

    def walls(self, walls: Mapping[str, Wall] | Wall | None = None) -> Walls:
        """The walls of the room, or others in their place, for the time loop."""
        room = self.room if walls is None else self.room.with_walls(walls)
        branches = branches_of(room.surfaces, room.walls, self.device)
        return walls_of(
            self.space,
            self.boundary,
            branches,
            self.time_step,
            self.dtype,
            self.safe,
            self._couplings,
        )

    def _positions(self, name: str, values: Any) -> Tensor:
        positions = as_tensor(
            name, values, "positions (R, 3) [m]", dtype=torch.float64, device=self.device
        )
        positions = positions[None] if positions.ndim == 1 else positions
        return check_tensor(name, positions, (None, 3))

    def _stencils(self, name: str, positions: Tensor) -> Stencils:
        nodes, weights = self.space.interpolation(name, positions)
        return Stencils(nodes.int().contiguous(), weights.to(self.dtype).contiguous())

    def _sound(self, source: Any, steps: int) -> tuple[Tensor, Emitted | None, float]:
        """The initial field, what is emitted in each step, and how loud that can become."""
        if isinstance(source, Emission):
            return self._emission(source, steps)
        pulse = source if isinstance(source, Pulse) else Pulse(source)
        strength, width = pulse.strength_and_width(self.fmax)
        position = self._positions("source", pulse.position)
        if len(position) != 1:
            raise InputError(f"source must be one position (3,) [m], got {len(position)}")
        (nodes,), (weights,) = self.space.interpolation("source", position)
        amounts = strength.to(self.device) * weights / self.space.mass[nodes]
        point = self.space.mass.new_zeros(len(self.space.mass)).index_add(0, nodes, amounts)
        spread = (width / (2 * SPEED_OF_SOUND)).square().to(self.device)
        field = diffused(self._exact, point, spread, 12.0 / self.stability_limit**2)
        return field.to(self.dtype), None, float(field.detach().abs().max())

    @cached_property
    def _exact(self) -> Space:
        """The same elements in float64: a point is too sharp to be spread out in float32."""
        if self.dtype == torch.float64 or isinstance(self.space, Hexahedra):
            return self.space
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to warn of was said before
            return space_of(self.room, self.largest, self.order, torch.float64, self.device)

    def _emission(self, source: Emission, steps: int) -> tuple[Tensor, Emitted, float]:
        h = self.time_step
        moves = torch.as_tensor(source.positions).ndim > 1
        rise = np.array(RISE) / h
        if moves:
            rise = np.convolve(rise, low_pass(self.fmax, h))
        margin = len(rise) // 2
        steps_and_more = torch.arange(-margin, steps + margin, device=self.device)
        positions, signal = source.at(h * steps_and_more.double())
        taps = torch.from_numpy(rise).to(self.device)
        if not moves:
            # what stands still is told apart by its signal alone
            signal = signal.unfold(0, len(taps), 1) @ taps
            positions, taps = positions[:1], taps.new_ones(1)
        nodes, weights = self.space.interpolation("source", positions)
        amounts = signal[:, None] * weights / self.space.mass[nodes]
        emitted = Emitted(
            nodes.expand(amounts.shape).int().contiguous(),
            amounts.to(self.dtype),
            taps.to(self.dtype),
        )
        field = torch.zeros(len(self.space.points), dtype=self.dtype, device=self.device)
        largest = (taps.abs().sum() * amounts.detach()).abs().sum(0).max()
        return field, emitted, float(h * h * largest)

    def _look(self, step: int, field: Tensor, loudness: float) -> None:
        if step % LOOK_EVERY:
            return
        largest = float(field.abs().max())
        if not largest <= GROWTH * loudness + 1e-30:
            raise Unstable(
                f"the pressure reached {largest:.3g} Pa after {step} steps from sources of "
                f"{loudness:.3g} Pa: give a time_step below {self.time_step:.4g} s, or safe=True; "
                f"{self._stiffest_element()} sets the step"
            )

    def _stiffest_element(self) -> str:
        return self.space.element_of_node(stiffest_node(self.space, self.dtype))


def _number(name: str, value: Any, unit: str) -> float:
    """A finite number above 0."""
    number = as_tensor(name, value, f"a number [{unit}]", dtype=torch.float64)
    if number.ndim or not 0 < float(number) < math.inf:
        raise InputError(f"{name} must be a finite number above 0 {unit}, got {value!r}")
    return float(number)


def _device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device must be 'cpu' or 'cuda', got {device!r}") from error
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if found.type not in there:
        raise InputError(f"device must be one of {', '.join(there)}, got {device!r}")
    return found


def _warn_of_narrow_fits(room: Room, fmax: float) -> None:
    for name, wall in room.walls.items():
        if wall.fit_error is not None and fmax > BEYOND_FIT * wall.fit_error.band[1]:
            warnings.warn(
                f"the wall of {name!r}, {wall!r}, was fitted to a band that ends well below "
                f"fmax = {fmax:g} Hz: what it does above is a guess",
                stacklevel=3,
            )


def low_pass(fmax: float, time_step: float) -> np.ndarray:
    """A filter that leaves what is below fmax and takes 70 dB from what is above 2 fmax [Hz].

    A point that moves from element to element shakes the shortest waves of the grid, which its
    signal does not: they would ring. Kaiser's window (Oppenheim and Schafer, Discrete-Time Signal
    Processing, section 7.5).
    """
    count, shape = kaiserord(STOPPED, min(0.95, 2 * fmax * time_step))
    cutoff = min(0.95, 3 * fmax * time_step)
    taps = count | 1
    ideal = cutoff * np.sinc(cutoff * (np.arange(taps) - taps // 2))
    windowed = ideal * np.kaiser(taps, shape)
    return windowed / windowed.sum()


def peak_error(found: Tensor, exact: Tensor) -> tuple[float, float]:
    """RMS error over the largest exact pressure, and the relative L2 error, of (R, T)."""
    error = (found - exact).double()
    peak = exact.abs().max().double()
    return (
        float(error.square().mean().sqrt() / peak),
        float(error.norm() / exact.double().norm()),
    )
