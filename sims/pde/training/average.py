"""The exponential average of a module over its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """Exponential average of all parameters and buffers of a module.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the first weights do not
    linger in a short training. Integer buffers are those of the last update. A buffer that does not
    change is kept to the bit.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: value.clone() for name, value in _values(module).items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """Follow the module."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        floating, targets = [], []
        for name, value in _values(module).items():
            if value.is_floating_point() or value.is_complex():
                floating.append(self.values[name])
                targets.append(value)
            else:
                self.values[name].copy_(value)
        get_ema_multi_avg_fn(decay)(floating, targets, self.updates)

    @contextmanager
    def in_place(self, module: torch.nn.Module) -> Iterator[None]:
        """The module with the averaged values while the block runs."""
        own = {name: value.clone() for name, value in _values(module).items()}
        self.copy_to(module)
        try:
            yield
        finally:
            _copy(own, module)

    def copy_to(self, module: torch.nn.Module) -> None:
        """Give the module the averaged values."""
        _copy(self.values, module)

    def state(self) -> dict[str, Any]:
        """For a file."""
        return {"updates": self.updates, "values": self.values}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a file."""
        self.updates = state["updates"]
        for name, value in self.values.items():
            value.copy_(state["values"][name])


def _values(module: torch.nn.Module) -> dict[str, Tensor]:
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: value.detach() for name, value in named}


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], module: torch.nn.Module) -> None:
    for name, value in _values(module).items():
        value.copy_(values[name])
