"""How a net is trained: pulses of the solver stream into a reservoir that batches come from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.runs.progress import Progress
from optimizers import checkpoint as files
from sims.acoustics.surrogates.deeponet import DeepONet
from sims.acoustics.surrogates.records import (
    HELD_OUT,
    Records,
    Teacher,
    apart,
    places_in_air,
    record,
    sources_in,
)

RUNS_FIRST = 16  # sources that are there before the first step


@dataclass(frozen=True)
class Schedule:
    """How a net is trained.

    seconds: of processor time, the solver's included; steps: at most; whichever ends first. runs:
    how many sources the solver is run for. receivers: how many each of these is heard at. solving:
    the share of the time that the solver gets until all runs are made. sources, points: of a batch,
    with so many receivers and times for each source. rate: of Adam with decoupled weight decay,
    falling as a cosine to 0 at the end of the seconds, or, with `published`, by 0.9 every 2000
    steps. clip: the largest norm of a gradient.
    """

    seconds: float = 180.0
    steps: int = 10**9
    runs: int = 200
    receivers: int = 2000
    fresh: int = 20
    sources: int = 64
    points: int = 1024
    rate: float = 2e-3
    published: bool = False
    clip: float = 1.0

    def rate_at(self, step: int, share: float) -> float:
        """The learning rate at a step, with a share of the budget spent."""
        if self.published:
            return self.rate * 0.9 ** (step / 2000)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


class Reservoir:
    """Pulses that were run: sources (n, 3), pressure (n, R, T) at receivers (R, 3) of them all."""

    def __init__(self, receivers: Tensor) -> None:
        self.receivers = receivers
        self.sources: list[Tensor] = []
        self.pressure: list[Tensor] = []

    def draw(
        self, count: int, points: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sources (S, 3), receivers (P, 3), numbers of times (P,), pressure (S, P).

        Sources are without repetition as long as there are enough; all meet the same points, so
        that the trunk is evaluated once for each of these.
        """
        chosen = torch.randperm(len(self.sources), generator=generator)[:count].tolist()
        heard, lasting = self.pressure[0].shape
        at = torch.randint(heard, (points,), generator=generator)
        when = torch.randint(lasting, (points,), generator=generator)
        values = torch.stack([self.pressure[number][at, when] for number in chosen])
        return torch.stack([self.sources[n] for n in chosen]), self.receivers[at], when, values

    def state(self) -> dict[str, Any]:
        """For a file."""
        kept = {"receivers": self.receivers}
        lists = {"sources": self.sources, "pressure": self.pressure}
        return kept | {name: torch.stack(values) for name, values in lists.items() if values}

    def restore(self, state: dict[str, Any]) -> None:
        """From a file."""
        self.receivers = state["receivers"]
        self.sources = list(state.get("sources", ()))
        self.pressure = list(state.get("pressure", ()))


def train_deeponet(
    teacher: Teacher,
    model: DeepONet,
    schedule: Schedule,
    *,
    generator: torch.Generator,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 500,
    progress: bool = False,
    listen: Callable[[int, float, float], None] | None = None,
    look_every: int = 500,
) -> DeepONet:
    """Train a DeepONet on pulses in its box of sources; it carries the error at the end.

    Weights that do not require gradients stay as they are.

    Loss: the mean square error in units of the pressure's root mean square, which becomes the
    model's scale. listen(step, loss, relative L2 of held-out sources): called every `look_every`
    steps. checkpoint: a file to go on from, with all that was drawn and learned, written every
    `save_every` steps. Raises InputError for a file of another net or of other frozen weights, and
    for a net whose weights are all frozen, as those of a trained one are.
    """
    training = _Training(teacher, model, schedule, generator)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        files.check_writable(path)
        if path.exists():
            training.restore(path)
    with Progress("deeponet", None, progress) as shown:
        while not training.done():
            loss = training.step()
            if training.number % look_every == 0:
                error = model.eval().measure(training.held)
                shown.step(training.share(), f"step {training.number}", f"{loss:.3g}  {error}")
                if listen is not None:
                    listen(training.number, loss, error.relative)
                model.train()
            if path is not None and training.number % save_every == 0:
                files.save(path, training.state())
        error = model.eval().requires_grad_(False).measure(training.held)
        shown.step(1.0, f"step {training.number}", str(error))
    return model


class _Training:
    def __init__(
        self, teacher: Teacher, model: DeepONet, schedule: Schedule, generator: torch.Generator
    ) -> None:
        self.teacher, self.model, self.schedule = teacher, model, schedule
        self.generator = generator
        self.times = model.times(model.domain.duration)
        self.frozen = [
            name for name, weight in model.named_parameters() if not weight.requires_grad
        ]
        learned = [weight for weight in model.parameters() if weight.requires_grad]
        if not learned:
            raise InputError(
                "model must have weights that require gradients, got none; "
                "call requires_grad_() to train a trained one further"
            )
        self.optimizer = torch.optim.AdamW(learned, lr=schedule.rate)
        places = places_in_air(model.domain, schedule.receivers, generator)
        self.reservoir = Reservoir(places.float())
        self.number, self.spent = 0, 0.0
        self.held = self._held_out()
        self.mark = time.process_time()

    def _held_out(self) -> Records:
        domain, (sources, receivers) = self.model.domain, HELD_OUT
        at = sources_in(domain, sources, self.generator)
        heard = places_in_air(domain, receivers, self.generator)
        apart(at, heard)  # or the error could not be told after the training
        return record(self.teacher, at, heard, domain.duration)

    def share(self) -> float:
        """Of the budget that is spent."""
        return max(self.spent / self.schedule.seconds, self.number / self.schedule.steps)

    def done(self) -> bool:
        return self.share() >= 1

    def step(self) -> float:
        """One step of the optimizer, and what the solver is due; the loss."""
        held = len(self.reservoir.sources)
        if not held:
            self._solve(min(RUNS_FIRST, self.schedule.runs))
        elif self.number % self.schedule.fresh == 0 and held < self.schedule.runs:
            self._solve(1)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(self.number, self.share())
        sources, places, when, exact = self.reservoir.draw(
            self.schedule.sources, self.schedule.points, self.generator
        )
        basis = self.model.places(places, self.times.to(places)[when])
        found = self.model.combine(self.model.sources(sources), basis)
        loss = ((found - exact) / self.model.scale).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self.optimizer.step()
        self.number += 1
        now = time.process_time()
        self.spent, self.mark = self.spent + now - self.mark, now
        return float(loss.detach())

    def _solve(self, count: int) -> None:
        domain = self.model.domain
        for source in sources_in(domain, count, self.generator):
            places = self.reservoir.receivers
            heard = self.teacher.simulate(source, places, domain.duration).detach().cpu()
            self.reservoir.sources.append(source.float())
            self.reservoir.pressure.append(heard[:, : len(self.times)].float())
        if not self.number:
            self.model.scale = float(torch.stack(self.reservoir.pressure).square().mean().sqrt())

    def state(self) -> dict[str, Any]:
        return {
            "training": "deeponet",
            "sizes": self.model.settings(),
            "scale": self.model.scale,
            "frozen": self.frozen,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "held": vars(self.held),
            "reservoir": self.reservoir.state(),
            "counts": [self.number, self.spent],
        }

    def restore(self, path: Path) -> None:
        """Go on from a file."""
        try:
            kept = torch.load(path, map_location="cpu", weights_only=True)
            sizes = kept["sizes"]
        except Exception as error:  # damaged files raise errors of many kinds
            raise InputError(f"checkpoint {path} is damaged: {error}") from None
        # the scale is learned from the first sources
        if {**sizes, "scale": 0.0} != {**self.model.settings(), "scale": 0.0}:
            raise InputError(f"checkpoint {path} is of another net, {sizes}; give another file")
        frozen = kept.get("frozen", [])
        if frozen != self.frozen:
            raise InputError(
                f"checkpoint {path} is of a training with frozen weights {frozen}, not "
                f"{self.frozen}; give another file"
            )
        self.model.scale = kept["scale"]
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.generator.set_state(kept["generator"])
        self.held = Records(**kept["held"])
        self.reservoir.restore(kept["reservoir"])
        self.number, self.spent = kept["counts"]
        self.mark = time.process_time()
