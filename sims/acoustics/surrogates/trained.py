"""What all surrogates share: the call of the solver, the error that they carry, and their files."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from geomopt.errors import InputError
from optimizers import checkpoint
from sims.acoustics.source import Emission
from sims.acoustics.surrogates.domain import Domain
from sims.acoustics.surrogates.records import Error, Records, error_of


class Surrogate(torch.nn.Module):
    """Answers as a `Solver` does, for one room, from what it has learned of it.

    domain: where it answers. error: measured on sources that it has not seen, None before that.
    """

    kind = ""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        self.error: Error | None = None

    def times(self, duration: float) -> Tensor:
        """The times (T,) float64 [s] of `simulate`, those of the solver."""
        steps = self.domain.steps(duration)
        return self.domain.time_step * torch.arange(steps + 1, dtype=torch.float64)

    def simulate(self, source: Any, receivers: Any, duration: float) -> Tensor:
        """The pressure (R, T) at receivers (R, 3) [m] at `times(duration)`.

        source: a position (3,) for the default pulse, a `Pulse` of the width that was trained, or
        an `Emission`, which may move. Differentiable in positions, amplitude and signal. Raises
        InputError outside of the domain.
        """
        times = self.times(duration)
        like = next(self.parameters())
        places = self.domain.receivers(receivers, like)
        if isinstance(source, Emission):
            positions, signal = source.at(times)
            return self.emitted(self.domain.sources(positions, like), signal, places, times)
        position, amplitude, width = self.domain.pulse(source, like)
        return amplitude * self.pulsed(position, width, places, times)

    def pulsed(
        self, source: Tensor, width: float | Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of the unit pulse of a width [m] at source (3,)."""
        raise TypeError(f"{type(self).__name__} does not say how it answers a pulse")

    def emitted(
        self, positions: Tensor, signal: Tensor, receivers: Tensor, times: Tensor
    ) -> Tensor:
        """The pressure (R, T) of a signal (T,) that is given out at positions (T, 3)."""
        raise TypeError(f"{type(self).__name__} does not say how it answers an emission")

    def settings(self) -> dict[str, Any]:
        """What `of_settings` needs beside the domain to make an untrained one like this."""
        raise TypeError(f"{type(self).__name__} does not say what it is made of")

    @classmethod
    def of_settings(cls, domain: Domain, settings: dict[str, Any]) -> Self:
        """An untrained surrogate."""
        return cls(domain, **settings)

    def parameter_count(self) -> int:
        """How many real numbers were learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def measure(self, records: Records) -> Error:
        """Compare with records of sources that were not trained on, and carry the error."""
        duration = min(self.domain.duration, float(records.times[-1]))
        with torch.no_grad():
            answers = [self.simulate(at, records.receivers, duration) for at in records.sources]
        self.error = error_of(torch.stack(answers), records)
        return self.error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a file."""
        content = {
            "kind": self.kind,
            "domain": self.domain.state(),
            "settings": self.settings(),
            "error": None if self.error is None else asdict(self.error),
            "weights": self.state_dict(),
        }
        checkpoint.save(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The surrogate of a file; raises InputError for one of another architecture."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            kind = content["kind"]
        except OSError:
            raise
        except Exception as error:  # damaged files raise errors of many kinds
            raise InputError(f"path must be a file of a surrogate, got {path}: {error}") from None
        if kind != cls.kind:
            raise InputError(f"path must be a file of a {cls.kind!r}, {path} holds a {kind!r}")
        found = cls.of_settings(Domain(**content["domain"]), content["settings"])
        found.load_state_dict(content["weights"])
        found.requires_grad_(False)
        found.error = None if content["error"] is None else Error(**content["error"])
        return found.eval()
