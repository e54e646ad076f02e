"""Domain decomposition: receivers are split by region, with a surrogate for each; sources may be
anywhere in the box that all were trained on (Borrel-Jensen et al., PNAS 121(2) e2312159120 (2024)).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.surrogates.deeponet import DeepONet
from sims.acoustics.surrogates.domain import Domain, box, contains
from sims.acoustics.surrogates.records import (
    HELD_OUT,
    Error,
    Teacher,
    places_in_air,
    record,
    sources_in,
)
from sims.acoustics.surrogates.trained import Surrogate
from sims.acoustics.surrogates.training import Schedule, train_deeponet

OF_RECEIVERS = ("receiver_low", "receiver_high")


class Decomposed(Surrogate):
    """Each receiver is answered by the surrogate of the first region that it lies in.

    regions: boxes (low, high), each of two corners (3,) [m]. parts: a surrogate for each, all of
    the same room, box of sources, band, duration and time step, and with receivers anywhere in
    their regions. Raises InputError otherwise.
    """

    kind = "decomposed"

    def __init__(self, regions: Sequence[tuple[Any, Any]], parts: Sequence[Surrogate]) -> None:
        if not len(regions) or len(regions) != len(parts):
            raise InputError(
                "regions and parts must be as many, at least one each, got "
                f"{len(regions)} and {len(parts)}"
            )
        for number, part in enumerate(parts):
            if not isinstance(part, Surrogate):
                raise InputError(f"parts[{number}] must be a Surrogate, got {type(part).__name__}")
            _check_same(parts[0].domain, part.domain, number)
        boxes = [box(low, high) for low, high in _pairs(regions)]
        for (low, high), part in zip(boxes, parts, strict=True):
            part.domain.heard_in(low, high)
        super().__init__(replace(parts[0].domain, receiver_low=None, receiver_high=None))
        self.regions = boxes
        self.parts = torch.nn.ModuleList(parts)

    def settings(self) -> dict[str, Any]:
        """Regions, and for each part what makes one like it, with its error."""
        parts = [
            {
                "kind": part.kind,
                "domain": part.domain.state(),
                "settings": part.settings(),
                "error": None if part.error is None else asdict(part.error),
            }
            for part in self._parts()
        ]
        return {"regions": self.regions, "parts": parts}

    @classmethod
    def of_settings(cls, domain: Domain, settings: dict[str, Any]) -> Decomposed:
        """One of untrained parts."""
        kinds = {each.kind: each for each in Surrogate.__subclasses__()}
        parts = []
        for held in settings["parts"]:
            if held["kind"] not in kinds:
                raise InputError(f"a part is a {held['kind']!r}, known are {sorted(kinds)}")
            kind = kinds[held["kind"]]
            part = kind.of_settings(Domain(**held["domain"]), held["settings"])
            part.error = None if held["error"] is None else Error(**held["error"])
            parts.append(part)
        return cls(settings["regions"], parts)

    def pulsed(
        self, source: Tensor, width: float | Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of the unit pulse of a width [m] at source (3,)."""
        return self._asked(receivers, lambda part, at: part.pulsed(source, width, at, times))

    def emitted(
        self, positions: Tensor, signal: Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of a signal (T,) that is given out at positions (T, 3)."""
        return self._asked(receivers, lambda part, at: part.emitted(positions, signal, at, times))

    def region_of(self, receivers: Tensor) -> Tensor:
        """The number of the first region that each of the receivers (R, 3) lies in, (R,) int64.

        Raises InputError for a receiver in none.
        """
        at = receivers.detach().to("cpu", torch.float64)
        inside = torch.stack(
            [contains(low, high, at, self.domain.slack) for low, high in self.regions]
        )
        missing = ~inside.any(0)
        if missing.any():
            number = int(missing.nonzero()[0])
            raise InputError(
                f"receivers[{number}] at {at[number].tolist()} m lies in no region; "
                f"{int(missing.sum())} of {len(at)} do not; move it or add a region"
            )
        return inside.int().argmax(0)  # the first of the largest

    def _asked(self, receivers: Tensor, ask: Callable[[Surrogate, Tensor], Tensor]) -> Tensor:
        region = self.region_of(receivers).to(receivers.device)
        chosen = [(region == number).nonzero()[:, 0] for number in range(len(self.regions))]
        answers = [
            ask(part, receivers[rows])
            for part, rows in zip(self._parts(), chosen, strict=True)
            if len(rows)
        ]
        return torch.cat(answers)[torch.cat(chosen).argsort()]

    def _parts(self) -> list[Surrogate]:
        return [part for part in self.parts if isinstance(part, Surrogate)]


def train_decomposed(
    teacher: Teacher,
    domain: Domain,
    regions: Sequence[tuple[Any, Any]],
    make: Callable[[Domain], DeepONet],
    schedule: Schedule,
    *,
    generator: torch.Generator,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 500,
    progress: bool = False,
) -> Decomposed:
    """Train a DeepONet for each region, one after another, each by the whole schedule.

    The solver is run anew for each. make: an untrained net for a domain whose receivers are those
    of a region. checkpoint, save_every: as of `train_deeponet`, for each part a file of the same
    name with its number. The error is measured on the same held-out sources for all regions, with
    equally many receivers in each. Raises InputError as `Domain.heard_in` and `train_deeponet` do.
    """
    heard = [domain.heard_in(low, high) for low, high in _pairs(regions)]
    parts = []
    for number, part in enumerate(heard):
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None:
            path = path.with_stem(f"{path.stem}-{number}")
        trained = train_deeponet(
            teacher, make(part), schedule, generator=generator, checkpoint=path,
            save_every=save_every, progress=progress,
        )  # fmt: skip
        parts.append(trained)
    model = Decomposed(regions, parts)
    sources, listening = HELD_OUT
    each = -(-listening // len(heard))
    held = torch.cat([places_in_air(part, each, generator) for part in heard])
    model.measure(record(teacher, sources_in(domain, sources, generator), held, domain.duration))
    return model


def _pairs(regions: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    try:
        return [(low, high) for low, high in regions]
    except (TypeError, ValueError):
        raise InputError(
            f"regions must be boxes (low, high) of two corners (3,) [m], got {regions!r}"
        ) from None


def _check_same(first: Domain, other: Domain, number: int) -> None:
    """Raise InputError where two domains differ in more than their receivers."""
    state = other.state()
    for name, value in first.state().items():
        if name in OF_RECEIVERS:
            continue
        found = state[name]
        same = torch.equal(value, found) if isinstance(value, Tensor) else value == found
        if not same:
            shown = "" if isinstance(value, Tensor) and value.ndim > 1 else f", {found} not {value}"
            raise InputError(
                f"parts must be of one room, band and duration; {name} of parts[{number}] differs "
                f"from that of parts[0]{shown}"
            )
