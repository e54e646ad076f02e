"""The study: the solver, a surrogate trained on the spot, the check, and the sound."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.files import replacing
from geomopt.runs.progress import Progress
from geomopt.runs.store import FRAMES
from geomopt.runs.study import Case, CaseResult
from sims.acoustics.auralize import SIGNALS, auralize, dry_signal, hybrid_response, spectrogram
from sims.acoustics.furnished import plots, views
from sims.acoustics.metrics import room_parameters
from sims.acoustics.room import Room
from sims.acoustics.solver import Solver, peak_error
from sims.acoustics.source import Emission
from sims.acoustics.surrogates import GreenOperator, train_green
from sims.acoustics.surrogates.reduced import reduced_model
from sims.acoustics.walls.wall import Wall
from sims.acoustics.wav import write_wav

SIZE = (3.0, 2.4, 2.2)
TABLE = ((1.7, 0.8, 0.0), (2.5, 1.8, 0.75))
CABINET = ((0.0, 1.8, 0.0), (0.9, 2.4, 1.5))  # edges in line with the table: no thin elements
SOURCES = ((0.4, 0.4, 1.0), (1.6, 1.6, 1.8))  # the box that sources may move in
PATH = ((0.5, 0.5, 1.6), (1.5, 0.6, 1.2), (1.5, 1.5, 1.4), (0.6, 1.3, 1.7))
EARS = ((2.69, 1.2, 1.2), (2.69, 1.38, 1.2))
POINTS = 24  # of the path that responses are made for
RATE = 48000
RINGING = 0.6  # s that responses are followed for
PEAK_GOAL = 0.02


def furnished_room(wall: Wall, ceiling: Wall) -> Room:
    """A room of 3 x 2.4 x 2.2 m with a table and a cabinet."""
    sides = dict.fromkeys(("left", "right", "front", "back", "floor", "furniture"), wall)
    walls = {**sides, "ceiling": ceiling}
    return Room.bricks([((0.0, 0.0, 0.0), SIZE)], walls, furniture=[TABLE, CABINET])


@dataclass(frozen=True)
class FurnishedRoom:
    """A furnished room with a moving source: solved, learned, checked, listened to.

    fmax [Hz]: band of the solver. impedance [Pa s/m]: of the hard walls and the furniture.
    flow_resistivity [Pa s/m²], thickness [m]: of the porous layer on the ceiling. duration [s]: of
    the responses that the surrogate learns. training_seconds: processor time for the surrogate.
    signal: what is heard, one of click, burst, melody, speech. snapshots: frames of the viewer.
    """

    fmax: float = 500.0
    impedance: float = 7400.0
    flow_resistivity: float = 10000.0
    thickness: float = 0.05
    duration: float = 0.06
    training_seconds: float = 60.0
    signal: str = "speech"
    snapshots: int = 60

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise InputError(f"signal must be one of {', '.join(SIGNALS)}, got {self.signal!r}")
        if not self.training_seconds > 0:
            raise InputError(f"training_seconds must be above 0, got {self.training_seconds}")
        if self.snapshots < 2:
            raise InputError(f"snapshots must be at least 2, got {self.snapshots}")

    def plan(self, device: torch.device, seed: int) -> Mapping[str, Case]:
        """The cases in their order; raises InputError for settings that a room cannot have."""
        ceiling = Wall.miki(flow_resistivity=self.flow_resistivity, thickness=self.thickness)
        room = furnished_room(Wall.impedance(self.impedance), ceiling)
        work = _Work(self, Solver(room, self.fmax, device=device), seed)
        return {
            "response": work.response,
            "moving": work.moving,
            "surrogate": work.surrogate,
            "check": work.check,
            "sound": work.sound,
        }


@dataclass(frozen=True)
class _Work:
    settings: FurnishedRoom
    solver: Solver
    seed: int

    def response(self, folder: Path) -> CaseResult:
        """Impulse responses of the solver, and what the room does to sound."""
        solver = self.solver
        begin = time.process_time()
        heard = self._long
        seconds = time.process_time() - begin
        rate = 1 / solver.time_step
        ears = {"left ear": heard[0], "right ear": heard[1]}
        plots.draw_traces(
            folder / "pressure.png",
            "A pulse at the start of the path, heard by the ears",
            solver.times(RINGING)[: 4 * len(heard[0]) // 10],
            {name: trace[: 4 * len(trace) // 10] for name, trace in ears.items()},
        )
        plots.draw_spectra(folder / "spectrum.png", rate, self.settings.fmax, ears)
        plots.draw_decays(folder / "decay.png", rate, ears)
        parameters = room_parameters(heard[0].double(), rate, self._bands)
        rows = [
            {
                "band [Hz]": row["band"],
                "EDT [s]": _rounded(row["early_decay_time"]),
                "T20 [s]": _rounded(row["t20"]),
                "T30 [s]": _rounded(row["t30"]),
                "C50 [dB]": _rounded(row["c50"], 1),
                "D50": _rounded(row["d50"], 2),
                "notes": row["notes"],
            }
            for row in parameters.table()
        ]
        metrics = {
            "nodes": int((solver.space.mass > 0).sum()),
            "steps": solver.steps(RINGING),
            "time step [µs]": round(1e6 * solver.time_step, 2),
            "seconds of sound": RINGING,
            "processor seconds": round(seconds, 2),
        }
        return CaseResult(metrics, rows)

    def moving(self, folder: Path) -> CaseResult:
        """The field of a moving source, for the viewer."""
        solver, settings = self.solver, self.settings
        emission, duration = self._emission(), 1.6 * settings.duration
        sheets = {
            "walls": views.walls_of(solver),
            "level": views.slice_of(solver, 2, EARS[0][2]),
        }
        every = max(1, solver.steps(duration) // settings.snapshots)
        kept: list[tuple[int, Tensor]] = []

        def watch(step: int, field: Tensor, _: Tensor) -> None:
            if step % every == 0:
                kept.append((step, field.clone()))

        solver.simulate(emission, [EARS[0]], duration, watch=watch)
        largest = 0.15 * float(torch.stack([field.abs().max() for _, field in kept]).max())
        times = torch.tensor([step * solver.time_step for step, _ in kept], dtype=torch.float64)
        where, _ = emission.at(times)
        frames = folder / FRAMES
        frames.mkdir()
        with Progress("room", None, True) as shown:
            for number, (step, field) in enumerate(kept):
                shown.step(number / len(kept), f"frame {number + 1} of {len(kept)}", "moving")
                title = f"{1e3 * step * solver.time_step:.1f} ms"
                points = {"source": views.point(where[number]), "ears": torch.tensor(EARS)}
                scene = views.frame(sheets, field, largest, points, title)
                scene.save(frames / f"{number:06d}.npz")
        return CaseResult({"frames": len(kept), "duration [ms]": round(1e3 * duration, 1)})

    def surrogate(self, folder: Path) -> CaseResult:
        """A Green operator that learns from the solver, beside a reduced model that need not."""
        solver, settings = self.solver, self.settings
        begin = time.process_time()
        generator = torch.Generator().manual_seed(self.seed)
        green = train_green(
            solver,
            *SOURCES,
            settings.duration,
            generator=generator,
            seconds=settings.training_seconds,
            progress=True,
        )
        training = time.process_time() - begin
        with replacing(folder / "green.pt") as draft:
            green.save(draft)
        reduced = reduced_model(solver).measure(settings.duration)
        one = partial(solver.simulate, PATH[0], EARS, settings.duration)
        own = _seconds(one, 3)
        rows = []
        for name, model, built in (
            ("green operator, learned", green, training),
            ("reduced model, no training", reduced, reduced.cost.build),
        ):
            answer = _seconds(partial(model.simulate, PATH[0], EARS, settings.duration), 5)
            saved = own - answer
            error = model.error
            assert error is not None
            rows.append(
                {
                    "model": name,
                    "relative L2 [%]": round(100 * error.relative, 2),
                    "err/peak [%]": round(100 * error.peak, 3),
                    "built in [s]": round(built, 1),
                    "an answer [ms]": round(1e3 * answer, 2),
                    "the solver's [ms]": round(1e3 * own, 1),
                    "repays after sources": math.ceil(built / saved) if saved > 0 else None,
                    "goal: err/peak [%]": 100 * PEAK_GOAL,
                    "verdict": _verdict(error.peak),
                }
            )
        return CaseResult({"training seconds": round(training, 1)}, rows)

    def check(self, folder: Path) -> CaseResult:
        """The moving source by surrogate and solver, and by a finer solver."""
        solver, settings = self.solver, self.settings
        emission = self._emission()
        fine = Solver(solver.room, settings.fmax, nodes_per_wavelength=9.0, device=solver.device)
        models = {"solver": solver, "surrogate": self._green(folder), "finer solver": fine}
        times = solver.times(settings.duration)
        traces = {
            name: _at(
                times,
                model.times(settings.duration),
                model.simulate(emission, EARS, settings.duration),
            )
            for name, model in models.items()
        }
        plots.draw_traces(
            folder / "moving.png",
            "A moving source at the left ear",
            times,
            {name: trace[0] for name, trace in traces.items()},
        )
        rows = []
        for name in ("surrogate", "solver"):
            peak, relative = peak_error(traces[name], traces["finer solver"])
            rows.append(
                {
                    "beside the finer solver": name,
                    "relative L2 [%]": round(100 * relative, 2),
                    "err/peak [%]": round(100 * peak, 3),
                    # what a surrogate should reach of a source that fast is not known
                    "verdict": "report" if name == "surrogate" else _verdict(peak),
                }
            )
        return CaseResult({}, rows)

    def sound(self, folder: Path) -> CaseResult:
        """What the ears hear of a source that moves along the path."""
        solver, settings = self.solver, self.settings
        path = _along(torch.linspace(0, 1, POINTS, dtype=torch.float64))
        dry = dry_signal(settings.signal, RATE)
        passing = torch.linspace(0, len(dry) / RATE, POINTS, dtype=torch.float64)
        heard = []
        with Progress("room", None, True) as shown:
            for place, ear in enumerate(EARS):
                shown.step(place / 2, f"ear {place + 1} of 2", "responses along the path")
                # swapping source and receiver changes no response: one run has the whole path
                pressure = solver.simulate(ear, path, RINGING).cpu()
                distances = (path - torch.tensor(ear, dtype=torch.float64)).norm(dim=1)
                responses = hybrid_response(
                    pressure.double(), solver.time_step, settings.fmax, distances
                )
                heard.append(responses)
        both = torch.stack(heard, 1)
        walk = auralize(dry, both, RATE, passing)
        write_wav(folder / "dry.wav", 0.9 * dry / dry.abs().max(), RATE, "pcm16")
        write_wav(folder / "walk.wav", walk, RATE, "pcm16")
        mono = walk.mean(0)
        times, frequencies, level = spectrogram(mono, RATE)
        title = f"{settings.signal} along the path"
        plots.draw_spectrogram(folder / "spectrogram.png", title, times, frequencies, level)
        return CaseResult({"seconds of sound": round(len(mono) / RATE, 2)})

    def _emission(self) -> Emission:
        """A burst in the middle of the band that moves along the path."""
        settings = self.settings
        rate = 8 * settings.fmax
        count = int(0.8 * settings.duration * rate)
        when = torch.arange(count, dtype=torch.float64) / rate
        middle, spread = 0.35 * settings.duration, 2.5 / settings.fmax
        envelope = torch.exp(-(((when - middle) / (2 * spread)) ** 2))
        signal = envelope * torch.sin(2 * math.pi * 0.6 * settings.fmax * (when - middle))
        return Emission(_along(when / when[-1]), signal, rate)

    def _green(self, folder: Path) -> GreenOperator:
        """The one that the case before has left."""
        return GreenOperator.load(folder.parent / "artifacts" / "surrogate" / "green.pt")

    @property
    def _bands(self) -> list[float]:
        highest = self.settings.fmax / 1.42  # an octave reaches that far above its middle
        return [band for band in (63.0, 125.0, 250.0, 500.0, 1000.0) if band <= highest]

    @property
    def _long(self) -> Tensor:
        return self.solver.simulate(PATH[0], EARS, RINGING).cpu()


def _along(share: Tensor) -> Tensor:
    """Positions (n, 3) on a smooth path through the corners, at shares (n,) in [0, 1] of it."""
    corners = torch.tensor(PATH, dtype=torch.float64)
    last = len(corners) - 1
    weights = [math.comb(last, k) * share**k * (1 - share) ** (last - k) for k in range(last + 1)]
    return torch.stack(weights, 1) @ corners


def _at(times: Tensor, own: Tensor, values: Tensor) -> Tensor:
    """Values (R, T') at `own` times, at `times` instead."""
    from scipy.interpolate import CubicSpline

    found = CubicSpline(own.numpy(), values.detach().double().numpy(), axis=1)(times.numpy())
    return torch.from_numpy(found)


def _seconds(call: Callable[[], object], times: int) -> float:
    """Processor seconds of a call, the least of a few."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return min(found)


def _verdict(peak: float) -> str:
    return "pass" if peak <= PEAK_GOAL else "miss"


def _rounded(value: float | str, digits: int = 3) -> float | None:
    number = float(value)
    return round(number, digits) if math.isfinite(number) else None
