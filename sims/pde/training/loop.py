"""The training of a surrogate, from data in memory or from a live solver."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.runs.progress import Progress
from optimizers import checkpoint as files
from sims.pde.data.trajectories import Trajectories
from sims.pde.networks.arguments import check_count, check_generator
from sims.pde.objectives import Batch, Objective, frames_of
from sims.pde.surrogates.surrogate import OF_THE_GRID, Surrogate
from sims.pde.training import optimizer as rules
from sims.pde.training.average import Average
from sims.pde.training.identity import check_same, identity_of
from sims.pde.training.record import TrainingRecord, forward_flop, parameter_count
from sims.pde.training.settings import PRECISIONS, TrainingSettings

JUDGED = 256  # windows of the validation data
FLUSH = 25  # steps between two looks at the losses, which on CUDA wait for the device

S = TypeVar("S", bound=Surrogate)


class LossNotFinite(RuntimeError):
    """The loss of a training was not finite."""


class Source(Protocol):
    """What windows are drawn from: `Trajectories`, or a `Stream` of a live solver."""

    def draw(self, batch: int, frames: int, stride: int, generator: torch.Generator) -> Batch:
        """Windows of `frames` frames that are `stride` apart."""
        ...

    def sample(self, stride: int) -> Tensor:
        """States (n, frames, C, *space) to measure scales on, frames `stride` apart."""
        ...

    def ranges(self, stride: int = 1) -> dict[str, tuple[float, float]]:
        """Lowest and highest of each condition."""
        ...

    def state(self) -> dict[str, Any]:
        """For the file of a training."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """From the file of a training."""
        ...


def train(
    surrogate: S,
    source: Source,
    settings: TrainingSettings | None = None,
    *,
    objective: Objective,
    generator: torch.Generator,
    validation: Trajectories | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 500,
    look_every: int = 250,
    progress: bool = False,
    listen: Callable[[TrainingRecord], None] | None = None,
) -> S:
    """Train a surrogate in place; it ends with averaged weights, and `record` tells what it cost.

    source: windows come from; its increments set the surrogate's scale and its conditions the
    ranges that count as trained, both before the first step. objective: (surrogate, batch,
    generator) -> loss. generator: of all that is drawn, on the surrogate's device. validation: its
    one-step error with the averaged weights is taken every `look_every` steps. listen: called as
    often with the record so far.

    checkpoint: a file to go on from if it is there, written every `save_every` steps and at the
    end. Without a limit in seconds a training that was killed and goes on ends, on a CPU, with the
    same bits as one that was not. Raises InputError for a file of another surrogate, objective,
    data or settings, naming what differs, and for data that do not fit the surrogate; LossNotFinite
    where the loss is not finite, with the last good checkpoint still there.
    """
    check_count("save_every", save_every)
    check_count("look_every", look_every)
    training = _Training(surrogate, source, settings or TrainingSettings(), objective, generator)
    if validation is not None:
        training.judge_on(validation)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        files.check_writable(path)
    if path is not None and path.exists():
        training.restore(path)
    else:
        training.begin()
    with Progress("training", None, progress) as shown, training.compiled():
        while not training.done():
            training.step()
            number = training.record.steps
            looking = number % look_every == 0 or training.done()
            saving = path is not None and (number % save_every == 0 or training.done())
            if number % FLUSH == 0 or looking or saving:
                training.flush()
            if looking:
                training.look()
            if number % FLUSH == 0 or looking:
                shown.step(training.share(), f"step {number}", training.text())
            if path is not None and saving:
                files.save(path, training.state())
            if looking and listen is not None:
                listen(training.record)
    training.average.copy_to(surrogate)
    surrogate.record = training.record
    return surrogate.eval()


class _Training:
    def __init__(
        self,
        surrogate: Surrogate,
        source: Source,
        settings: TrainingSettings,
        objective: Objective,
        generator: torch.Generator,
    ) -> None:
        _check_kinds(surrogate, source, settings, objective)
        check_generator("generator", generator)
        self.surrogate, self.source, self.settings = surrogate, source, settings
        self.objective, self.generator = objective, generator
        self.optimizer = rules.optimizer(surrogate, settings)
        needed = frames_of(objective)
        self.frames = settings.frames or needed
        if self.frames < needed:
            raise InputError(
                f"frames must be at least {needed}, which the objective looks at, got {self.frames}"
            )
        self.first = next(surrogate.parameters())
        if generator.device.type != self.first.device.type:
            raise InputError(
                f"generator must be on {self.first.device} like the surrogate, got "
                f"{generator.device}"
            )
        if settings.precision is not None and self.first.device.type != "cuda":
            raise InputError(
                f"precision={settings.precision!r} needs a surrogate on CUDA, this one is on "
                f"{self.first.device}; leave it None"
            )
        half = settings.precision == "float16"  # whose small gradients would be lost
        self.scaler = torch.amp.GradScaler(self.first.device.type, enabled=half)
        self.record = TrainingRecord(parameters=parameter_count(surrogate))
        self.validation: Trajectories | None = None
        self.drawn: Batch | None = None
        self.pending: list[Tensor] = []
        self.window = [0.0, 0]  # sum and count of losses since the last look
        self.average: Average  # of the first weights, so once the scale is known
        self.mark = _clocks()

    def begin(self) -> None:
        """What the data say before the first step: scale, ranges, and the price of a step."""
        surrogate, settings = self.surrogate, self.settings
        ranges = self.source.ranges(settings.stride)
        self._check_grid(self.source, ranges)
        if not surrogate.fitted:  # weights that were trained hold for their own scale and ranges
            surrogate.conditions = {name: ranges[name] for name in self._known(ranges)}
            surrogate.fit_scale(self.source.sample(settings.stride))
        self.average = Average(surrogate, settings.average)
        # the batch of the first step, as a live source counts what was drawn as used
        batch = self.drawn = self._draw(settings.batch)
        one = Batch(batch.states[:1], {name: v[:1] for name, v in batch.condition.items()})
        state = self.generator.get_state()
        flop = forward_flop(lambda: self.objective(surrogate, one, self.generator))
        self.generator.set_state(state)
        self.record.flop_per_step = 3 * flop * settings.batch
        surrogate.train()

    def judge_on(self, validation: Trajectories) -> None:
        """Take validation data that fit."""
        if not isinstance(validation, Trajectories):
            raise InputError(f"validation must be Trajectories, got {type(validation).__name__}")
        self._check_grid(validation, validation.ranges(self.settings.stride))
        self.validation = validation

    def share(self) -> float:
        """Of the budget that is spent."""
        limit = self.settings.seconds
        share = self.record.steps / self.settings.steps
        return share if limit is None else max(share, self.record.seconds / limit)

    def done(self) -> bool:
        return self.share() >= 1

    def step(self) -> None:
        """One step of the optimizer."""
        record, settings = self.record, self.settings
        rules.set_rate(self.optimizer, settings.rate_at(record.steps, self.share()))
        batch = self.drawn or self._draw(settings.batch)
        self.drawn = None
        precision = PRECISIONS.get(settings.precision or "")
        device = self.first.device.type
        with torch.autocast(device, precision, enabled=precision is not None):
            loss = self.objective(self.surrogate, batch, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        rules.clip(self.optimizer, settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(self.surrogate)
        self.pending.append(loss.detach())
        record.steps += 1
        record.flop += record.flop_per_step
        before, self.mark = self.mark, _clocks()
        record.seconds += self.mark[0] - before[0]
        record.elapsed += self.mark[1] - before[1]

    def flush(self) -> None:
        """Look at the losses since the last time. Raises LossNotFinite where one is not finite."""
        if not self.pending:
            return
        losses = torch.stack(self.pending).double().cpu()
        bad = torch.nonzero(~losses.isfinite()).flatten()
        if len(bad):
            step = self.record.steps - len(losses) + int(bad[0]) + 1
            raise LossNotFinite(
                f"the loss at step {step} is {float(losses[bad[0]])}; take a smaller rate than "
                f"{self.settings.rate}, a smaller clip, or look at the data"
            )
        for loss in losses.tolist():
            self.window = [self.window[0] + loss, self.window[1] + 1]
        self.pending = []

    def look(self) -> None:
        """Enter the mean loss, and the error on the validation data, into the record."""
        record = self.record
        record.at.append(record.steps)
        record.loss.append(self.window[0] / max(self.window[1], 1))
        self.window = [0.0, 0]
        if self.validation is not None:
            record.judged.append((record.steps, self._judge(self.validation)))

    def text(self) -> str:
        """For the bar."""
        total, count = self.window
        loss = total / count if count else self.record.loss[-1]
        judged = self.record.judged
        return f"loss {loss:.3g}" + (f"  error {judged[-1][1]:.3g}" if judged else "")

    def _draw(self, count: int) -> Batch:
        settings = self.settings
        batch = self.source.draw(count, self.frames, settings.stride, self.generator)
        return self._moved(batch)

    def _known(self, condition: Mapping[str, Any]) -> list[str]:
        """The surrogate's conditions. Raises InputError where the data do not tell one."""
        missing = [name for name in self.surrogate.conditions if name not in condition]
        if missing:
            raise InputError(
                f"source must tell the surrogate's conditions {missing}, it has {sorted(condition)}"
            )
        return list(self.surrogate.conditions)

    def _check_grid(self, source: Source, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Raise InputError for data of another time step or spacing than the surrogate's."""
        time_step, spacing = (torch.tensor(ranges[n], dtype=torch.float64) for n in OF_THE_GRID)
        self.surrogate.check_grid(spacing, 1, time_step)
        if isinstance(source, Trajectories) and len(source.points) == self.surrogate.dimension:
            self.surrogate.check_proportions(source.length, source.points)

    def _moved(self, batch: Batch) -> Batch:
        device, dtype = self.first.device, self.surrogate.dtype
        told = {
            name: batch.condition[name].to(device, dtype) for name in self._known(batch.condition)
        }
        return Batch(batch.states.to(device, dtype), told)

    @torch.no_grad()
    def _judge(self, data: Trajectories) -> float:
        """One-step error with the averaged weights, relative to the fields' root mean square."""
        own = torch.Generator(self.generator.device).manual_seed(0)
        batch = self._moved(data.draw(JUDGED, 2, self.settings.stride, own))
        with self.average.in_place(self.surrogate):
            self.surrogate.eval()
            found = self.surrogate.step(batch.states[:, 0], batch.condition, own)
            self.surrogate.train()
        truth = batch.states[:, 1].double()
        error = (found.double() - truth).square().mean() / truth.square().mean()
        return float(error.sqrt())

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """The networks compiled while a block runs, where that is wanted."""
        networks = list(self.surrogate.children()) if self.settings.compile else []
        for network in networks:
            network.compile()
        try:
            yield
        finally:
            for network in networks:
                network._compiled_call_impl = None

    def state(self) -> dict[str, Any]:
        return {
            "training": "pde surrogate",
            "identity": identity_of(self.surrogate, self.settings, self.objective),
            "last": self.record.steps,
            "model": self.surrogate.state_dict(),
            "conditions": {name: list(ends) for name, ends in self.surrogate.conditions.items()},
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "source": self.source.state(),
            "record": self.record.state(),
            "window": self.window,
        }

    def restore(self, path: Path) -> None:
        """Go on from a file."""
        try:
            kept = files.read(path, torch.device("cpu"))
        except ValueError as error:
            raise InputError(f"{error}; give another file") from None
        check_same(path, kept, identity_of(self.surrogate, self.settings, self.objective))
        self.source.restore(kept["source"])
        self.surrogate.load_state_dict(kept["model"])
        self.surrogate.conditions = {n: (e[0], e[1]) for n, e in kept["conditions"].items()}
        self.average = Average(self.surrogate, self.settings.average)
        self.average.restore(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.scaler.load_state_dict(kept["scaler"])
        self.generator.set_state(kept["generator"])
        self.record = TrainingRecord(**kept["record"])
        self.window = list(kept["window"])
        self.surrogate.train()
        self.mark = _clocks()


def _check_kinds(surrogate: object, source: object, settings: object, objective: object) -> None:
    """Raise InputError for what is of another kind than a training works with."""
    kinds = {
        "surrogate must be a surrogate, such as OneStep or Refiner": isinstance(
            surrogate, Surrogate
        ),
        "source must be Trajectories or a Stream": callable(getattr(source, "draw", None)),
        "settings must be TrainingSettings": isinstance(settings, TrainingSettings),
        "objective must be callable": callable(objective),
    }
    given = (surrogate, source, settings, objective)
    for (what, fits), value in zip(kinds.items(), given, strict=True):
        if not fits:
            raise InputError(f"{what}, got {type(value).__name__}")


def _clocks() -> tuple[float, float]:
    """Processor time and time of day, from any beginning [s]."""
    return time.process_time(), time.monotonic()
