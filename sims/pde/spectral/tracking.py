"""Whether a derivative of what is computed may be asked for."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transforming() -> bool:
    """Whether a transform of torch.func (vmap, jvp, grad) is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore


def wants_graph(tensors: Iterable[Tensor]) -> bool:
    """Whether a derivative with respect to any of `tensors` may be asked for: backwards, forwards
    or by a transform of torch.func.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return True
    return transforming() or forward_ad._current_level >= 0
