"""Hierarchies of boxes around the primitives of a surface."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import warp as wp
from torch import Tensor

from geomopt.launch import Vectors, initialize, launch
from sims.thin_shell.contact.tree_kernels import box_kernel

REFITS = 64  # of a tree, before it is built anew
GRAIN = 4096  # boxes worth a thread


class Tree:
    """Boxes around primitives, in a hierarchy."""

    def __init__(self, primitives: Tensor) -> None:
        self.primitives = primitives
        # a tree needs a box; one out of sight stands in where there are no primitives
        self.lower = torch.full(
            (max(len(primitives), 1), 3), 1e30, dtype=torch.float32, device=primitives.device
        )
        self.upper = self.lower.clone()
        self.hierarchy: Any = None
        self.refits = 0

    def fit(self, positions: Tensor, spread: Tensor) -> int:
        """Fit the boxes to positions (V, 3) with a spread (V,) about each; the tree's number."""
        initialize()
        launch(
            box_kernel(),
            len(self.primitives),
            [self.primitives, Vectors(positions), spread],
            [Vectors(self.lower), Vectors(self.upper)],
            split=True,
            grain=GRAIN,
        )
        if self.hierarchy is None or self.refits == REFITS:
            lower = wp.from_torch(self.lower, dtype=wp.vec3)
            with _stream(positions.device):
                self.hierarchy = wp.Bvh(lower, wp.from_torch(self.upper, dtype=wp.vec3))
            self.refits = 0
        else:
            with _stream(positions.device):
                self.hierarchy.refit()
            self.refits += 1
        return int(self.hierarchy.id)


def _stream(device: torch.device) -> AbstractContextManager[Any]:
    """Work on hierarchies comes after that of torch, and before what torch does next."""
    if device.type != "cuda":
        return nullcontext()
    return wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device)))
