"""The optimizer of a training, its groups of parameters, its rate and its limits on gradients."""

from __future__ import annotations

import torch

from geomopt.errors import InputError
from sims.pde.training.settings import TrainingSettings
from sims.pde.training.soap import Soap


def optimizer(model: torch.nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimizer of all parameters that require gradients, a group for each network.

    Groups have their gradients clipped by themselves: networks whose losses differ by orders of
    magnitude then do not scale each other's steps. Raises InputError for a model whose parameters
    are all frozen.
    """
    rate, betas, decay = settings.rate, settings.betas, settings.decay
    each = []
    for name, network in model.named_children():
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        own = settings.fine_rate if name == "fine" and settings.fine_rate else rate
        if weights:
            each.append({"params": weights, "lr": own})
    if not each:
        raise InputError(
            "surrogate must have weights that require gradients, got none; call requires_grad_() "
            "to train a frozen one further"
        )
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(each, lr=rate, betas=betas, weight_decay=decay, fused=True)
    return Soap(each, lr=rate, betas=betas, weight_decay=decay)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Of all groups, as a share of the rate that each began with."""
    for group in optimizer.param_groups:
        first = group.setdefault("initial_lr", group["lr"])
        group["lr"] = first * factor


def clip(optimizer: torch.optim.Optimizer, largest: float | None) -> None:
    """Scale the gradients of each group down to a norm of at most `largest`."""
    if largest is not None:
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], largest)
