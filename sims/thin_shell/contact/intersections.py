"""Faces that intersect, exactly: what a scene must not have at the start, nor ever after.

Unlike `geomopt.geometry.self_intersections` this knows no tolerance: faces in contact count, flat
ones that overlap do, and faces with a common vertex are looked at beyond it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.launch import Vectors, launch
from sims.thin_shell.contact import intersection_kernels as kernels
from sims.thin_shell.contact.exact import integers, triangles_meet
from sims.thin_shell.contact.trees import Tree

NO, YES, UNSURE = range(3)
GRAIN = 1024  # faces worth a thread


def intersections(positions: Tensor, faces: Tensor) -> Tensor:
    """Pairs of faces (k, 2) int64 that intersect, the lower index first, in order.

    positions (V, 3) finite float64, faces (M, 3). Closed triangles with at least one point in
    common, beyond the vertex or edge that neighbours share; a face that is there twice intersects
    itself. Decided in float64 where its errors allow, else in exact arithmetic.
    """
    positions = positions.detach().contiguous()
    corners = faces.to(torch.int32).contiguous()
    pairs = _overlaps(positions, corners)
    verdict = torch.empty(len(pairs), dtype=torch.int32, device=positions.device)
    launch(
        kernels.judge_kernel(),
        len(pairs),
        [pairs, Vectors(corners), Vectors(positions)],
        [verdict],
        split=True,
        grain=GRAIN,
    )
    open_rows = (verdict == UNSURE).nonzero().squeeze(1)
    if len(open_rows):
        ours, theirs = corners[pairs[open_rows].long()].unbind(1)
        # both triangles of a pair on one scale
        places = positions[torch.cat([ours, theirs], 1).long()].tolist()
        meets = []
        for face, other, corner in zip(ours.tolist(), theirs.tolist(), places, strict=True):
            points = integers(corner)
            meets.append(triangles_meet(face, other, points[:3], points[3:]))
        verdict[open_rows] = torch.tensor(meets, dtype=torch.int32, device=verdict.device)
    found = pairs[verdict == YES].long()
    return found[torch.sort(found[:, 0] * len(faces) + found[:, 1]).indices]


def _overlaps(positions: Tensor, faces: Tensor) -> Tensor:
    """Pairs of faces (n, 2) int32 whose boxes overlap."""
    tree = Tree(faces)
    number = tree.fit(positions, positions.new_zeros(len(positions)))
    counts = torch.empty(len(faces), dtype=torch.int64, device=faces.device)

    def find(ends: Tensor, pairs: Tensor, fill: int) -> None:
        inputs = [number, Vectors(faces), Vectors(positions), fill]
        launch(
            kernels.overlap_kernel(),
            len(faces),
            inputs,
            [ends, counts, pairs],
            split=True,
            grain=GRAIN,
        )

    find(counts, faces.new_empty(0, 2), 0)
    ends = counts.cumsum(0)
    pairs = faces.new_empty(int(ends[-1]) if len(ends) else 0, 2)
    find(ends, pairs, 1)
    if positions.is_cuda:
        torch.cuda.current_stream(positions.device).synchronize()  # the tree ends with this call
    return pairs
