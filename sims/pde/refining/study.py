"""The study: data, a one-step model and a Refiner trained alike, forecasts, and when to trust."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.files import replacing
from geomopt.runs.progress import Progress
from geomopt.runs.store import FRAMES
from geomopt.runs.study import Case, CaseResult
from sims.pde.data.downsample import resampled
from sims.pde.data.trajectories import Trajectories
from sims.pde.metrics import (
    band_errors,
    correlation,
    correlation_time,
    energy_spectrum,
    forecast_horizons,
    horizon_map,
)
from sims.pde.objectives import Objective, one_step, refine
from sims.pde.refining import plots, views
from sims.pde.refining.scenario import Scenario, scenario
from sims.pde.rollout import Diverged, rollout
from sims.pde.surrogates.conditions import OutsideTraining
from sims.pde.surrogates.refiner import Refiner, load_surrogate
from sims.pde.surrogates.surrogate import Surrogate
from sims.pde.training import TrainingRecord, train

THRESHOLD = 0.8
ERROR = "nRMSE, one step"
HORIZON = f"corr_time_of_mean {THRESHOLD} [s]"
NOISE = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # relative, of the map of horizons
AMPLITUDE = 1.25  # of the noise of samples, in level 0's own error, as validation data chose it
POINTS_DRAWN = 50  # of a curve of losses
SHOWN = 6  # fields of a flow in a row of the report
NAMES = {"one-step": "one-step", "refiner": "PDE-Refiner"}


@dataclass(frozen=True)
class PdeRefiner:
    """A one-step model and a PDE-Refiner from the same data in as many steps, beside solvers.

    equation: kuramoto-sivashinsky or kolmogorov-flow. scale: demo, minutes on a CPU, or paper, the
    published sizes, for CUDA. steps: of each training, 0 for those of the scale. trajectories: of
    the test. sampled, samples: trajectories whose predictability is asked, and rollouts for each.
    snapshots: frames of the viewer, for flows.
    """

    equation: str = "kuramoto-sivashinsky"
    scale: str = "demo"
    steps: int = 0
    trajectories: int = 64
    sampled: int = 32
    samples: int = 12
    snapshots: int = 60

    def __post_init__(self) -> None:
        scenario(self.equation, self.scale)
        for name, least in (("steps", 0), ("trajectories", 2), ("sampled", 2), ("samples", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.sampled > self.trajectories:
            raise InputError(
                f"sampled must be at most trajectories={self.trajectories}, got {self.sampled}"
            )
        if self.snapshots < 1:
            raise InputError(f"snapshots must be at least 1, got {self.snapshots}")

    def plan(self, device: torch.device, seed: int) -> Mapping[str, Case]:
        """The cases in their order."""
        chosen = scenario(self.equation, self.scale)
        if self.steps:
            chosen = replace(chosen, training=replace(chosen.training, steps=self.steps))
        work = _Work(self, chosen, device, seed)
        return {
            "data": work.data,
            "one-step": work.one_step,
            "refiner": work.refiner,
            "forecast": work.forecast,
            "trust": work.trust,
        }


@dataclass(frozen=True, eq=False)
class _Work:
    settings: PdeRefiner
    scenario: Scenario
    device: torch.device
    seed: int

    def data(self, folder: Path) -> CaseResult:
        """What is learned from, and what a solver costs."""
        begin = time.process_time()
        data = self._data
        seconds = time.process_time() - begin
        chosen = self.scenario
        states = data.states.double()
        wavenumbers, energy = energy_spectrum(states[:, -1], chosen.length)
        plots.draw_spectra(
            folder / "spectrum.png",
            "Energy of the training data",
            "energy",
            wavenumbers,
            {"last frames": energy.mean(0)},
        )
        if chosen.dimension == 1:
            duration = chosen.frames * chosen.surrogate_step / chosen.stride
            one = {"a trajectory of the training": states[0, :, 0]}
            plots.draw_space_time(folder / "data.png", "Data", one, duration, chosen.length)
        metrics = {
            "equation": self.settings.equation,
            "trajectories": len(data),
            "frames": data.frames,
            "points": "x".join(str(count) for count in data.points),
            "seconds between frames": round(chosen.surrogate_step / chosen.stride, 4),
            "solver's time step [s]": chosen.time_step,
            "processor seconds": round(seconds, 2),
        }
        return CaseResult(metrics)

    def one_step(self, folder: Path) -> CaseResult:
        """The plain model."""
        return self._train(folder, "one-step", self.scenario.one_step, one_step)

    def refiner(self, folder: Path) -> CaseResult:
        """The model that refines."""
        return self._train(folder, "refiner", self.scenario.refiner, refine)

    def forecast(self, folder: Path) -> CaseResult:
        """Rollouts of networks and cheaper solvers beside the truth."""
        chosen, truth = self.scenario, self._truth
        begin, told = self._test.states[:, 0].to(self.device), self._told
        frame_time = self._frame_time
        rows, kept = [], {"solver": truth}
        curves, errors = {}, {}
        models = {name: self._model(folder, key) for key, name in NAMES.items()}
        for name, model in models.items():
            model.to(self.device)
            states, seconds = self._rolled(model, begin, chosen.steps, 1, told)
            kept[name] = states
            curves[name] = correlation(states, truth).mean(0)
            errors[name] = states[:, 0] - truth[:, 0]
            count = sum(weight.numel() for weight in model.parameters())
            outside = ", ".join(sorted(model.warned))
            rows.append(self._row(name, states, frame_time, seconds, count, outside))
        for steps, points in chosen.coarse:
            name = f"solver, {points} points, {steps} steps"
            states, seconds = self._coarse(begin, steps, points)
            curves[name] = correlation(states, truth).mean(0)
            rows.append(self._row(name, states, frame_time, seconds, 0))
        times = chosen.surrogate_step * torch.arange(1, chosen.steps + 1, dtype=torch.float64)
        plots.draw_correlations(folder / "correlation.png", times, curves, THRESHOLD)
        self._draw_spectra(folder, kept, errors)
        if chosen.dimension == 1:
            self._draw_horizons(folder, begin, rows)
            shown = {name: states[0, :, 0] for name, states in kept.items()}
            title = "One test trajectory, forecast from its first field"
            end = chosen.horizon
            plots.draw_space_time(folder / "forecast.png", title, shown, end, chosen.length)
        else:
            self._draw_flow(folder, kept)
        metrics = {"test trajectories": len(truth), "seconds ahead": chosen.horizon}
        return CaseResult(metrics, rows)

    def trust(self, folder: Path) -> CaseResult:
        """When the Refiner's own samples say that its forecast stops being right."""
        chosen, settings = self.scenario, self.settings
        model = (
            cast(Refiner, self._model(folder, "refiner")).to(self.device).with_amplitude(AMPLITUDE)
        )
        own = torch.Generator(self.device).manual_seed(self.seed + 3)
        count = settings.sampled
        told = None if self._told is None else {n: x[:count] for n, x in self._told.items()}
        times = self._frame_time[:count] if self._frame_time.ndim else self._frame_time
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideTraining)  # the case before has told
            found = forecast_horizons(
                model,
                self._test.states[:count, 0].to(self.device),
                self._truth[:count].to(self.device),
                samples=settings.samples,
                generator=own,
                condition=told,
                frame_time=times,
                progress=True,
            )
        title = f"{settings.samples} samples, R² {found.determination:.2f}"
        plots.draw_predictability(folder / "trust.png", found.predicted, found.true, title)
        metrics = {
            "trajectories": count,
            "samples": settings.samples,
            "squared correlation": round(found.squared_correlation, 3),
            "R² without a fit": round(found.determination, 3),
            "censored": round(found.censored, 3),
            "predicted mean [s]": round(float(found.predicted.mean()), 1),
            "true mean [s]": round(float(found.true.mean()), 1),
            "step of the surrogate [s]": chosen.surrogate_step,
        }
        return CaseResult(metrics)

    def _train(
        self,
        folder: Path,
        key: str,
        make: Callable[[], Surrogate],
        objective: Objective,
    ) -> CaseResult:
        torch.manual_seed(self.seed)  # of the first weights
        model = make().to(self.device)
        checkpoint = folder.parent / f"{key}.pt"  # beside the drafts, which a signal takes away
        train(
            model,
            self._data.to(device=self.device),
            self.scenario.training,
            objective=objective,
            generator=torch.Generator(self.device).manual_seed(self.seed + 1),
            checkpoint=checkpoint,
            look_every=max(1, self.scenario.training.steps // POINTS_DRAWN),
            progress=True,
        )
        with replacing(folder / f"{key}.pt") as draft:
            model.save(draft)
        checkpoint.unlink(missing_ok=True)
        record = cast(TrainingRecord, model.record)
        at = [record.seconds * number / record.steps for number in record.at]
        plots.draw_training(folder / "training.png", {NAMES[key]: (at, record.loss)})
        metrics = {
            "parameters": record.parameters,
            "steps": record.steps,
            "processor seconds": round(record.seconds, 1),
            "training FLOP": f"{record.flop:.2e}",
            "last loss": f"{record.loss[-1]:.3g}",
        }
        return CaseResult(metrics)

    def _row(
        self,
        name: str,
        states: Tensor,
        frame_time: Tensor,
        seconds: float,
        parameters: int,
        outside: str = "",
    ) -> dict[str, Any]:
        chosen, truth = self.scenario, self._truth
        bands = band_errors(states[:, 0], truth[:, 0])
        strict = correlation_time(states, truth, frame_time, 0.9)
        times = correlation_time(states, truth, frame_time, THRESHOLD)
        growth = chosen.growth
        calls = len(truth) * chosen.horizon
        return {
            "model": name,
            "parameters": parameters or None,
            ERROR: f"{bands.overall:.2e}",
            "low": f"{bands.bands[0]:.2e}",
            "middle": f"{bands.bands[1]:.2e}",
            "high third": f"{bands.bands[2]:.2e}",
            HORIZON: round(times.of_mean, 2),
            "0.9 [s]": round(strict.of_mean, 2),
            f"mean_of_corr_time {THRESHOLD} [s]": round(times.mean_of, 2),
            "Lyapunov times": None if growth is None else round(times.of_mean * growth, 2),
            "never below": f"{times.censored:.0%}",
            "diverged": times.diverged,
            "outside of its training": outside,
            "ms for a second": round(1e3 * seconds / calls, 3),
        }

    def _rolled(
        self, model: Any, u: Tensor, steps: int, every: int, told: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, float]:
        """Frames on the CPU, and processor seconds; who diverges is counted in the row."""
        begin = time.process_time()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", Diverged)
            warnings.simplefilter("ignore", OutsideTraining)  # told in the row by the model itself
            states = rollout(model, u, steps, every, condition=told, progress=True)
        return states.cpu().double(), time.process_time() - begin

    def _coarse(self, begin: Tensor, steps: int, points: int) -> tuple[Tensor, float]:
        """The rollout of a cheaper solver, on the points of the truth."""
        chosen = self.scenario
        own = {"length": self._test.length} if chosen.vary else {}
        solver = chosen.solver(
            points=points,
            time_step=chosen.surrogate_step * torch.as_tensor(self._pace) / steps,
            **own,
        )
        small = resampled(begin, points)
        states, seconds = self._rolled(solver, small, steps * chosen.steps, steps, None)
        fine = resampled(states.flatten(0, 1), chosen.kept)
        return fine.unflatten(0, states.shape[:2]), seconds

    def _draw_horizons(self, folder: Path, begin: Tensor, rows: list[dict[str, Any]]) -> None:
        """Horizons of the solver with noise after every step, and of the models beside it."""
        chosen, own = self.scenario, self._drawing(self.seed + 4)
        side = self._test.length if chosen.vary else chosen.length
        solver = chosen.solver(
            points=chosen.points, time_step=chosen.time_step * self._pace, length=side
        )
        found = horizon_map(
            solver, begin, NOISE, chosen.every, chosen.steps, generator=own, progress=True
        )
        models = {str(row["model"]): (float(row[ERROR]), float(row[HORIZON])) for row in rows}
        plots.draw_horizons(folder / "horizon.png", found.noise, found.of_mean, models)

    def _draw_spectra(
        self, folder: Path, kept: Mapping[str, Tensor], errors: Mapping[str, Tensor]
    ) -> None:
        """Energy at the end of the forecasts, and the error after one step beside the truth."""
        length = self.scenario.length
        ends, first = {}, {}
        for name, states in kept.items():
            wavenumbers, energy = energy_spectrum(torch.nan_to_num(states[:, -1]), length)
            ends[name] = energy.mean(0)
        for name, error in {"the field": self._truth[:, 0], **errors}.items():
            wavenumbers, energy = energy_spectrum(error, length)
            first[name] = energy.mean(0)
        title = f"After {self.scenario.horizon:g} s"
        plots.draw_spectra(folder / "spectrum.png", title, "energy", wavenumbers, ends)
        title = "Error after one step, by wavenumber"
        plots.draw_spectra(folder / "error_spectrum.png", title, "energy", wavenumbers, first)

    def _draw_flow(self, folder: Path, kept: Mapping[str, Tensor]) -> None:
        """Fields of one trajectory side by side: a few for the report, many for the viewer."""
        chosen = self.scenario
        largest = 0.9 * float(kept["solver"][0].abs().max())
        at = torch.linspace(0, chosen.steps - 1, SHOWN).round().long()
        times = [(number + 1) * chosen.surrogate_step for number in at.tolist()]
        shown = {name: states[0, at, 0] for name, states in kept.items()}
        title = f"{chosen.quantity} of one test trajectory"
        plots.draw_flow(folder / "forecast.png", title, shown, times, largest)
        frames = folder / FRAMES
        frames.mkdir()
        count = min(self.settings.snapshots, chosen.steps)
        numbers = torch.linspace(0, chosen.steps - 1, count).round().long().tolist()
        with Progress("frames", None, True) as bar:
            for place, number in enumerate(numbers):
                bar.step(place / count, f"frame {place + 1} of {count}", "")
                fields = {name: states[0, number, 0] for name, states in kept.items()}
                time_ahead = (number + 1) * chosen.surrogate_step
                title = f"{time_ahead:.2f} s: {', '.join(kept)}"
                scene = views.plane_scene(fields, chosen.length, largest, title, chosen.quantity)
                scene.save(frames / f"{place:06d}.npz")

    def _model(self, folder: Path, key: str) -> Surrogate:
        """The one that its case has left."""
        return load_surrogate(folder.parent / "artifacts" / key / f"{key}.pt")

    @cached_property
    def _data(self) -> Trajectories:
        return self.scenario.training_data(self._drawing(self.seed), progress=True)

    @cached_property
    def _test(self) -> Trajectories:
        generator = self._drawing(self.seed + 2)
        return self.scenario.test_data(self.settings.trajectories, generator, progress=True)

    @property
    def _truth(self) -> Tensor:
        return self._test.states[:, 1:]

    @property
    def _pace(self) -> Tensor | float:
        """The time step of each test trajectory over that of the scenario."""
        return self._test.frame_time / self.scenario.surrogate_step

    @property
    def _frame_time(self) -> Tensor:
        """The seconds in a step of a surrogate, one for all () or of each test trajectory."""
        return torch.as_tensor(self._test.frame_time, dtype=torch.float64)

    @property
    def _told(self) -> dict[str, Tensor] | None:
        """What networks are told of each test trajectory."""
        if not self.scenario.vary:
            return None
        conditions = self._test.conditions()
        return {name: conditions[name].to(self.device) for name in ("time_step", "spacing")}

    def _drawing(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)
