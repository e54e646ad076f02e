"""What tells one training from another, for the file that one goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from geomopt.errors import InputError
from sims.pde.surrogates.surrogate import Surrogate, differences
from sims.pde.training.settings import TrainingSettings


def identity_of(
    surrogate: Surrogate, settings: TrainingSettings, objective: Callable[..., Any]
) -> dict[str, Any]:
    """Architecture, settings and objective, in plain values.

    Of the surrogate's conditions only the names: their ranges come with the data.
    """
    architecture = surrogate.architecture()
    architecture["settings"] |= {"conditions": list(surrogate.conditions)}
    weights = {name: list(value.shape) for name, value in surrogate.state_dict().items()}
    return {
        "surrogate": architecture,
        "weights": weights,
        "settings": settings.identity(),
        "objective": getattr(objective, "__qualname__", type(objective).__qualname__),
    }


def check_same(path: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError, naming what differs, where a file is of another training."""
    found = kept["identity"]
    if kept.get("training") != "pde surrogate":
        raise InputError(f"checkpoint {path} is no training of a surrogate; give another file")
    for part in ("surrogate", "weights", "settings", "objective"):  # the cause before what follows
        unlike = differences({part: found.get(part)}, {part: now[part]})
        if unlike:
            raise InputError(
                f"checkpoint {path} is of another training: {unlike}; give the same or another file"
            )
