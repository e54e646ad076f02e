"""Shape from posed images: FlexiCubes on a grid around the object, rendered into the views and
compared with them.

The parameters are a signed distance at the grid points, in units of a cell, the grid's deformation,
the 21 weights of each cell, and colours at the grid points when the images have some (FlexiCubes,
Shen et al. 2023, sections 4 and 5). The loss

    mask + depth + normal + color  +  deviation (L_dev)  +  sign changes (entropy)  +  |weights - 1|

is evaluated in a frame where the object's box has a longest side of 2, so that one set of weights
fits objects of any size.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geomopt import assets
from geomopt.errors import InputError
from geomopt.geometry import (
    DenseGrid,
    Mesh,
    Surface,
    compare,
    extract_surface,
    quality,
    sign_change_loss,
)
from geomopt.reconstruct import pictures
from geomopt.reconstruct.carving import bounding_box, carve, cut_off
from geomopt.reconstruct.dataset import Views, load_views
from geomopt.render import antialias, interpolate, losses, rasterize
from geomopt.viewer.scene import Scene
from optimizers import METHODS, Box, Budget, Evaluation, Problem

_log = logging.getLogger(__name__)
MARGIN = 2  # cells between the object's box and the border of the grid
BAND = 3.0  # cells; the carved distance is cut off beyond it
COMPARED = ("chamfer", "f1", "normal_consistency", "normals_over_5", "edge_chamfer", "edge_f1")
SHIPPED = "meshes/bracket.ply"


@dataclass(frozen=True)
class Reconstruction:
    """Settings of a reconstruction; what `[settings]` of its spec holds.

    data: a folder with transforms.json or a mesh file, None for the bracket that ships. views,
    image_size: how many images of a mesh are rendered and their pixels a side; images of a folder
    are all used, shrunk to at most image_size. up: which axis stands upright in pictures.
    resolution: cells along the longest side. steps: gradient steps. batch: views a step sees.
    extraction: "surface-nets" leaves out weights and deformation, for comparison. The *_weight
    numbers scale the loss terms; sign_change_weight falls to a twentieth over the first quarter of
    the steps.
    """

    data: Path | None = None
    views: int = 24
    image_size: int = 128
    up: Literal["auto", "x", "y", "z"] = "auto"
    resolution: int = 40
    steps: int = 400
    batch: int = 8
    extraction: Literal["flexicubes", "surface-nets"] = "flexicubes"
    mask_weight: float = 1.0
    depth_weight: float = 10.0
    normal_weight: float = 0.0
    color_weight: float = 1.0
    deviation_weight: float = 2.0
    sign_change_weight: float = 0.2
    penalty_weight: float = 0.1
    deformation_limit: float = 0.33

    def __post_init__(self) -> None:
        for name, lowest in (
            ("views", 1),
            ("image_size", 8),
            ("resolution", 8),
            ("steps", 1),
            ("batch", 1),
        ):
            if getattr(self, name) < lowest:
                raise InputError(f"{name} must be at least {lowest}, got {getattr(self, name)}")
        for name in ("mask", "depth", "normal", "color", "deviation", "sign_change", "penalty"):
            if not 0 <= getattr(self, f"{name}_weight") < float("inf"):
                raise InputError(
                    f"{name}_weight must be finite and not negative, "
                    f"got {getattr(self, f'{name}_weight')}"
                )
        if not 0 < self.deformation_limit <= 0.5:
            raise InputError(
                f"deformation_limit must lie in (0, 0.5] cells, got {self.deformation_limit}"
            )

    def method(self) -> object:
        """Adam, as in the published examples, with steps for a short run."""
        return METHODS["adam"](step_size=0.02, decay=0.1 ** (1 / self.steps))

    def budget(self) -> Budget:
        """One iteration a step."""
        return Budget(iterations=self.steps)

    def start(self, device: torch.device, seed: int) -> ReconstructionProblem:
        """Read or render the views, find the object's box, and carve the first shape."""
        source = assets.path(SHIPPED) if self.data is None else self.data
        views = load_views(source, count=self.views, size=self.image_size, seed=seed, up=self.up)
        return ReconstructionProblem(self, views, device, seed)


class ReconstructionProblem(Problem):
    """The loss of a shape against its views, as a function of the grid's parameters.

    dtype: of the parameters and images; float32 is enough for a fit.
    """

    current = True

    def __init__(
        self,
        settings: Reconstruction,
        views: Views,
        device: torch.device,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings, self.views, self.seed = settings, views, seed
        cut = cut_off(views)
        if cut > len(views) / 2 and views.depth is None:
            _log.warning(
                "the object reaches the border in %d of %d images: what no image shows whole is "
                "guessed; take some from farther away",
                cut,
                len(views),
            )
        lower, upper = bounding_box(views)
        # the frame in which the fit happens: world = center + scale * frame
        # the box comes out of a least-squares solve, whose last digits follow where its memory lies
        lower, upper = lower.float().double(), upper.float().double()
        self.center, self.scale_factor = (lower + upper) / 2, float((upper - lower).max()) / 2
        self.targets = views.in_frame(self.center, self.scale_factor).to(device, dtype)
        cell = 2 / (settings.resolution - 2 * MARGIN)
        half = (upper - lower) / 2 / self.scale_factor
        cells = [int(torch.ceil(2 * side / cell)) + 2 * MARGIN for side in half]
        corner = [count * cell / 2 for count in cells]
        self.cell = cell
        self.grid = DenseGrid(cells, [-side for side in corner], corner, device, dtype)
        border = self._border()
        sdf = carve(self.targets, self.grid.points.cpu()) / self.cell
        sdf = torch.where(border, sdf.clamp(min=1.0), sdf).clamp(-BAND, BAND)
        # the colours of views that were rendered here are only shading
        photographed = views.color is not None and views.reference is None
        self.colored = photographed and settings.color_weight > 0
        # points on the border stay outside, so that the surface closes
        parts = {"sdf": Box(self.grid.point_count, torch.where(border, 0.5, -torch.inf), start=sdf)}
        if settings.extraction == "flexicubes":
            # bounds in place of the published tanh: the same ranges, without a function of every
            # weight in every step
            limit = settings.deformation_limit * self.cell * (1 - 1e-3)
            cells = self.grid.cell_count
            parts["deformation"] = Box(
                (self.grid.point_count, 3), -limit, limit, start=0.0, scale=self.cell
            )
            parts["corner_weights"] = Box((cells, 8), 0.01, 1.99, start=1.0, scale=1.0)
            parts["edge_weights"] = Box((cells, 12), 0.01, 1.99, start=1.0, scale=1.0)
            parts["split_weights"] = Box((cells,), 0.005, 0.995, start=0.5, scale=1.0)
        if self.colored:
            parts["colors"] = Box((self.grid.point_count, 3), start=0.5)
        super().__init__(parts, differentiable=True, dtype=dtype, device=device)

    def _border(self) -> Tensor:
        border = torch.ones(self.grid.shape, dtype=torch.bool)
        border[1:-1, 1:-1, 1:-1] = False
        return border.reshape(-1)

    def surface(self, parameters: dict[str, Tensor], mode: Literal["train", "test"]) -> Surface:
        """The extracted surface in the frame of the fit."""
        names = ("corner_weights", "edge_weights", "split_weights", "deformation")
        shaping: dict[str, Any] = {name: parameters[name] for name in names if name in parameters}
        return extract_surface(
            parameters["sdf"], self.grid, **shaping, mode=mode, features=parameters.get("colors")
        )

    def terms(self, parameters: dict[str, Tensor], iteration: int) -> dict[str, Tensor]:
        """The weighted terms of the loss, scalars, at one iteration's views and schedule."""
        settings = self.settings
        surface = self.surface(parameters, "train")
        targets = (
            self.targets
            if len(self.targets) <= settings.batch
            else self.targets.select(self._batch(iteration))
        )
        terms = self._image_terms(surface, targets)
        terms["deviation"] = settings.deviation_weight * surface.deviation_loss()
        fade = min(1.0, 4 * iteration / settings.steps)
        weight = settings.sign_change_weight * (1 - 0.95 * fade)
        terms["sign_change"] = weight * sign_change_loss(parameters["sdf"], self.grid)
        if "edge_weights" in parameters and settings.penalty_weight > 0:
            strayed = [
                (parameters[name] - 1).abs().mean() for name in ("corner_weights", "edge_weights")
            ]
            terms["penalty"] = settings.penalty_weight * (8 * strayed[0] + 12 * strayed[1]) / 20
        return terms

    def _image_terms(self, surface: Surface, targets: Views) -> dict[str, Tensor]:
        settings, cameras = self.settings, targets.cameras
        faces, vertices = surface.faces, surface.vertices
        clip = cameras.project(vertices)
        fragments = rasterize(clip, faces, cameras.resolution)
        shown = [torch.ones_like(vertices[:, :1])]
        if self.colored:
            assert surface.features is not None
            shown.append(surface.features)
        image = interpolate(torch.cat(shown, dim=1), faces, fragments)
        image = antialias(image, fragments, clip, faces)
        terms = {"mask": settings.mask_weight * losses.mask_loss(image[..., :1], targets.mask)}
        if self.colored and targets.color is not None:
            terms["color"] = settings.color_weight * losses.color_loss(
                image[..., 1:], targets.color
            )
        if targets.depth is not None and settings.depth_weight > 0:
            depth = interpolate(-cameras.to_camera(vertices)[..., 2:], faces, fragments)
            seen = fragments.mask[..., None] & (targets.depth > 0)
            terms["depth"] = settings.depth_weight * losses.depth_loss(depth, targets.depth, seen)
        if targets.normal is not None and settings.normal_weight > 0:
            normal = interpolate(Mesh(vertices, faces).vertex_normals, faces, fragments)
            seen = fragments.mask[..., None] & (targets.normal != 0).any(dim=-1, keepdim=True)
            terms["normal"] = settings.normal_weight * losses.normal_loss(
                normal, targets.normal, seen
            )
        return terms

    def _batch(self, iteration: int) -> Tensor:
        """Views of one iteration: each epoch goes once through them in an order of its own."""
        count, size = len(self.targets), self.settings.batch
        epoch, place = divmod(iteration, count // size)
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(count, generator=generator)[place * size : (place + 1) * size].to(
            self.device
        )

    def evaluate(
        self, x: Tensor, order: int = 0, *, fidelity: float | None = None, iteration: int = 0
    ) -> Evaluation:
        """Loss, and its gradient, of designs (B, d) against the views of an iteration."""
        if fidelity is not None:
            raise ValueError(f"a reconstruction has no fidelities, got fidelity={fidelity}")
        values, gradients, rows = [], [], []
        for row in x:
            leaves = {
                name: part.detach().requires_grad_(order > 0)
                for name, part in self.parameters_of(row).items()
            }
            with torch.set_grad_enabled(order > 0):
                terms = self.terms(leaves, iteration)
                value = torch.stack(list(terms.values())).sum()
            if order > 0:
                gradient = torch.autograd.grad(value, list(leaves.values()))
                gradients.append(torch.cat([part.reshape(-1) for part in gradient]))
            values.append(value.detach())
            rows.append({name: term.detach() for name, term in terms.items()})
        return Evaluation(
            torch.stack(values),
            gradient=torch.stack(gradients) if order > 0 else None,
            terms={name: torch.stack([row[name] for row in rows]) for name in rows[0]},
        )

    def mesh(self, parameters: dict[str, Tensor]) -> Mesh:
        """The surface of a design in test mode and in the coordinates of the input, float64."""
        with torch.no_grad():
            surface = self.surface(parameters, "test")
        vertices = self.center + self.scale_factor * surface.vertices.double().cpu()
        colors = surface.features
        if colors is not None:
            colors = colors.double().cpu().clamp(0, 1)
        return Mesh(vertices, surface.faces.cpu(), colors)

    def scene(self, parameters: dict[str, Tensor]) -> Scene:
        """What the viewer shows of an iterate: its mesh, and one view's target and rendering."""
        mesh = self.mesh(parameters).to(dtype=torch.float32)
        target, result = pictures.pair(mesh, self.views, 0)
        return Scene(meshes={"surface": mesh}, images={"target": target, "result": result})

    def metrics(self, parameters: dict[str, Tensor]) -> dict[str, float | int | None]:
        """Mesh quality, and where there is a reference mesh the distance to it, in input units."""
        mesh = self.mesh(parameters)
        cell = self.cell * self.scale_factor
        alone = quality(mesh).as_dict()
        if self.views.reference is None:
            return {"cell": cell, **alone}
        comparison = compare(mesh, self.views.reference.to(dtype=torch.float64))
        distance = comparison.surface_chamfer_unscaled / 2  # the mean of both directions
        return {
            "cell": cell,
            "distance": distance,
            "distance_in_cells": distance / cell,
            **{name: getattr(comparison, name) for name in COMPARED},
            **alone,
            "reference_genus": comparison.reference.genus,
        }

    def write_artifacts(self, parameters: dict[str, Tensor], folder: Path) -> None:
        """The mesh as PLY and OBJ, target beside result, and a turntable."""
        mesh = self.mesh(parameters)
        if not len(mesh.faces):
            raise RuntimeError(
                "the fit ended without a surface, so there is no mesh to write; give more views or "
                "steps, a finer resolution, or a smaller sign_change_weight"
            )
        mesh.save(folder / "mesh.ply")
        mesh.save(folder / "mesh.obj")
        shown = mesh.to(dtype=torch.float32)
        pictures.comparison(shown, self.views, folder / "comparison.png")
        pictures.turntable(shown, folder / "turntable.gif", up=self.views.up)
