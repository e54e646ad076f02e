"""How far a mesh is from a reference, in the numbers that are customary in reconstruction.

Two kinds of distance stand side by side. *Sampled* ones go from samples of one surface to the
nearest samples of the other, as published tables do; they have a floor, about the spacing of the
samples, even for equal meshes. *Surface* ones go from samples to the nearest point of the other's
triangles: exact, and zero for equal meshes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry.distance import surface_distance
from geomopt.geometry.mesh import Mesh, sample_surface
from geomopt.geometry.quality import Quality, quality

F1_DISTANCE = 0.001
NORMAL_ANGLE = math.radians(5.0)
EDGE_RADIUS = 0.004
EDGE_COSINE = 0.2
EDGE_F1_DISTANCE = 0.005
PAIRS_AT_ONCE = 10_000_000  # bounds the memory of the search for edge points, about 250 MB


@dataclass(frozen=True)
class Comparison:
    """Distances of a prediction from a reference, scaled by `scale`, and the quality of both.

    scale: what lengths of the input were multiplied by; every threshold below is absolute after it.
    samples, seed: points on each surface and the seed that drew them. chamfer, chamfer_unsquared:
    mean squared, mean plain distance to the nearest sample, summed over both directions. accuracy,
    completeness: mean distance from the prediction to the reference's triangles, and back;
    surface_chamfer: their sum; surface_chamfer_unscaled: the same in units of the input. f1:
    harmonic mean of the shares of samples nearer than 0.001 to a sample of the other.
    normal_consistency: mean |n . n'| of nearest samples; normals_over_5: share of them with n . n'
    <= cos 5 degrees. Both directions averaged. edge_chamfer, edge_f1: chamfer and F1 (at 0.005)
    between the samples that have one within 0.004 with |n . n'| < 0.2.
    """

    samples: int
    seed: int
    scale: float
    chamfer: float
    chamfer_unsquared: float
    accuracy: float
    completeness: float
    surface_chamfer: float
    surface_chamfer_unscaled: float
    f1: float
    normal_consistency: float
    normals_over_5: float
    edge_chamfer: float
    edge_f1: float
    prediction: Quality
    reference: Quality

    def as_dict(self) -> dict[str, float | int | None]:
        """All numbers by name; those of the meshes as `prediction_faces` and so on."""
        numbers = asdict(self)
        for side in ("prediction", "reference"):
            numbers |= {f"{side}_{name}": value for name, value in numbers.pop(side).items()}
        return numbers

    def __str__(self) -> str:
        rows = [(field.name, getattr(self, field.name)) for field in fields(self)]
        lines = [
            f"{name:<26}{_number(value):>14}"
            for name, value in rows
            if not isinstance(value, Quality)
        ]
        lines.append(f"{'':<26}{'prediction':>14}{'reference':>14}")
        for name, value in self.prediction.as_dict().items():
            other = getattr(self.reference, name)
            lines.append(f"{name:<26}{_number(value):>14}{_number(other):>14}")
        return "\n".join(lines)


def _number(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.6g}"


def compare(
    a: Mesh, b: Mesh, samples: int = 100_000, seed: int = 0, scale: str | None = "unit"
) -> Comparison:
    """Compare a prediction `a` with a reference `b`.

    samples: points on each mesh, drawn independently from one generator seeded with `seed`. scale:
    "unit" moves and scales both so that the box of the reference is centred at the origin with a
    longest side of 1; None leaves them. A prediction without faces, or without area, is at infinite
    distance. Raises InputError for a reference without area and unknown settings.
    """
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}")
    if scale not in ("unit", None):
        raise InputError(f"scale must be 'unit' or None, got {scale!r}")
    prediction, reference = (_detached(mesh, b.vertices.device) for mesh in (a, b))
    of_both: dict[str, Any] = {"prediction": quality(prediction), "reference": quality(reference)}
    if not float(reference.area) > 0:
        raise InputError(f"b, the reference, must have area, got {len(b.faces)} faces of no area")
    factor = 1.0
    if scale == "unit":
        low, high = reference.bounds
        factor = 1.0 / float((high - low).max())
        shift = -factor * (low + high) / 2
        prediction = prediction.transformed(factor, shift)
        reference = reference.transformed(factor, shift)

    generator = torch.Generator().manual_seed(seed)
    given: dict[str, Any] = {"samples": samples, "seed": seed, "scale": factor}
    g_points, g_normals, _ = sample_surface(reference, samples, generator)
    g_edges = edge_points(g_points, g_normals)
    if not float(prediction.area) > 0:
        return Comparison(**given, **_nothing(len(g_edges) > 0), **of_both)
    p_points, p_normals, _ = sample_surface(prediction, samples, generator)
    p_edges = edge_points(p_points, p_normals)

    p_distance, p_match = nearest_samples(p_points, g_points)
    g_distance, g_match = nearest_samples(g_points, p_points)
    cosines = [
        (p_normals * g_normals[p_match]).sum(dim=1),
        (g_normals * p_normals[g_match]).sum(dim=1),
    ]
    limit = math.cos(NORMAL_ANGLE)
    accuracy = float(surface_distance(p_points, reference).mean())
    completeness = float(surface_distance(g_points, prediction).mean())
    edge_chamfer, edge_f1 = _edge_scores(p_edges, g_edges)
    return Comparison(
        **given,
        chamfer=float((p_distance**2).mean() + (g_distance**2).mean()),
        chamfer_unsquared=float(p_distance.mean() + g_distance.mean()),
        accuracy=accuracy,
        completeness=completeness,
        surface_chamfer=accuracy + completeness,
        surface_chamfer_unscaled=(accuracy + completeness) / factor,
        f1=f1_score(p_distance, g_distance, F1_DISTANCE),
        normal_consistency=float(sum(cosine.abs().mean() for cosine in cosines) / 2),
        normals_over_5=float(sum((cosine <= limit).double().mean() for cosine in cosines) / 2),
        edge_chamfer=edge_chamfer,
        edge_f1=edge_f1,
        **of_both,
    )


def _detached(mesh: Mesh, device: torch.device) -> Mesh:
    return Mesh(mesh.vertices.detach().to(device, torch.float64), mesh.faces.to(device))


def _nothing(reference_has_edges: bool) -> dict[str, float]:
    """The scores of an empty prediction."""
    distances = ("chamfer", "chamfer_unsquared", "accuracy", "completeness", "surface_chamfer")
    return {
        **dict.fromkeys((*distances, "surface_chamfer_unscaled"), math.inf),
        "f1": 0.0,
        "normal_consistency": 0.0,
        "normals_over_5": 1.0,
        "edge_chamfer": math.inf if reference_has_edges else 0.0,
        "edge_f1": 0.0 if reference_has_edges else 1.0,
    }


def nearest_samples(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (P,) of points (P, 3) from the nearest of others (Q, 3), and its index (P,)."""
    distance, match = KDTree(others.cpu().numpy()).query(points.cpu().numpy())
    return torch.from_numpy(distance).to(points), torch.from_numpy(match).to(points.device)


def f1_score(accuracy: Tensor, completeness: Tensor, limit: float) -> float:
    """Harmonic mean of the shares of both sets of distances that are below a limit."""
    precision = float((accuracy < limit).double().mean())
    recall = float((completeness < limit).double().mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def edge_points(points: Tensor, normals: Tensor) -> Tensor:
    """Those of points (P, 3) that have another within 0.004 whose normal makes |n . n'| < 0.2."""
    places, directions = points.cpu().numpy(), normals.cpu().numpy()
    tree = KDTree(places)
    is_edge = np.zeros(len(places), dtype=bool)
    blocks = 1 + int(tree.count_neighbors(tree, EDGE_RADIUS)) // PAIRS_AT_ONCE
    for block in np.array_split(np.arange(len(places)), blocks):
        near = KDTree(places[block]).sparse_distance_matrix(
            tree, EDGE_RADIUS, output_type="ndarray"
        )
        first = block[near["i"]]
        cosine = np.einsum("ij,ij->i", directions[first], directions[near["j"]])
        is_edge[first[np.abs(cosine) < EDGE_COSINE]] = True
    return points[torch.from_numpy(is_edge).to(points.device)]


def _edge_scores(prediction: Tensor, reference: Tensor) -> tuple[float, float]:
    """Chamfer and F1 of two sets of edge points; a reference without edges cannot be missed."""
    if len(reference) == 0:
        return 0.0, 1.0
    if len(prediction) == 0:
        prediction = reference.new_zeros(
            1, 3
        )  # far from most edges, so that the score is bad and finite
    accuracy, _ = nearest_samples(prediction, reference)
    completeness, _ = nearest_samples(reference, prediction)
    score = f1_score(accuracy, completeness, EDGE_F1_DISTANCE)
    return float((accuracy**2).mean() + (completeness**2).mean()), score
