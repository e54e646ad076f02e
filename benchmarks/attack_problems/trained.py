"""Networks that are trained once: the weights of a variant are kept in the temporary folder."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

FOLDER = Path(tempfile.gettempdir()) / "geomopt-attack-problems"


def trained(build: Callable[[], nn.Module], fit: Callable[[nn.Module], None], name: str):
    """The module of `build`, float64, fitted by `fit` under a fixed seed; frozen, ready to use.

    name: of the kept weights. They are fitted anew when the code around `fit` has changed.
    """
    code = inspect.getsource(inspect.getmodule(fit))  # pyright: ignore[reportArgumentType]
    kept = FOLDER / f"{name}-{hashlib.sha1(code.encode()).hexdigest()[:10]}.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build().double()
        if kept.exists():
            module.load_state_dict(torch.load(kept, weights_only=True))
        else:
            fit(module)
            FOLDER.mkdir(exist_ok=True)
            torch.save(module.state_dict(), kept)
    return module.requires_grad_(False).eval()


def descend(module: nn.Module, loss: Callable[[int], torch.Tensor], steps: int, rate: float):
    """Adam with a cosine decay of its step size; `loss` takes the index of the step."""
    adam = torch.optim.Adam(module.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        adam.zero_grad()
        loss(step).backward()
        adam.step()
        decay.step()
