"""Files of surrogates, which hold what the surrogate is made of beside its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from geomopt.errors import InputError
from sims.pde.networks import FourierNet, LocalNet, UNet

NETWORKS: dict[str, type[torch.nn.Module]] = {
    "FourierNet": FourierNet,
    "LocalNet": LocalNet,
    "UNet": UNet,
}


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a surrogate's file; raises InputError for a file that is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        parts = ("architecture", "settings", "dtype", "weights")
        return {name: content[name] for name in parts}
    except OSError:
        raise
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"path must be a file of a surrogate, got {path}: {error}") from None


def built(described: Mapping[str, Any]) -> torch.nn.Module:
    """An untrained network of an architecture; raises InputError for one that is not known."""
    kind, settings = described["kind"], described["settings"]
    if kind not in NETWORKS or settings is None:
        raise InputError(
            f"the network {kind!r} is none of {sorted(NETWORKS)}: make it and the surrogate of it "
            "first, and call its load(path)"
        )
    return NETWORKS[kind](**settings)


def fill(module: torch.nn.Module, weights: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Give a module the weights of a file; raises InputError for others and where one is not
    finite.
    """
    learned = [name for name, _ in module.named_parameters() if name in weights]
    if not all(bool(torch.isfinite(weights[name]).all()) for name in learned):
        raise InputError(f"{path} holds weights that are not finite")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path} holds other weights: {error}") from None


def differences(found: Mapping[str, Any], own: Mapping[str, Any], where: str = "") -> str:
    """What differs between two architectures, in words; empty if nothing does."""
    apart: list[str] = []
    for name in [*found, *(name for name in own if name not in found)]:
        one, other = found.get(name), own.get(name)
        at = f"{where}{name}"
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            inner = differences(one, other, f"{at}.")
            apart += [inner] if inner else []
        elif one != other:
            apart.append(f"{at} is {one!r} in the file and {other!r} here")
    return "; ".join(apart)
