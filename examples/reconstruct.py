"""Fit a mesh to eight depth images: the parts behind `geomopt run reconstruct`, in one script.

Writes reconstructed.ply; takes about half a minute on one core.
"""

import torch

from geomopt import assets
from geomopt.geometry import DenseGrid, Mesh, compare, extract_surface
from geomopt.reconstruct import carve, render_views
from geomopt.render import antialias, interpolate, losses, rasterize
from optimizers import Adam, Box, Budget, Problem, iterate

target = Mesh.load(assets.path("meshes/bracket.ply"))
views = render_views(target, 8, (128, 128), seed=0)  # cameras, masks and depths
cameras, grid = views.cameras, DenseGrid(32)
start = (carve(views, grid.points) / grid.spacing[0]).clamp(-3, 3)  # what the images tell at once
weights = Box((grid.cell_count, 12), lower=0.01, upper=1.99, start=1.0, scale=1.0)


def loss(design):
    surface = extract_surface(design["sdf"], grid, edge_weights=design["edge_weights"])
    clip = cameras.project(surface.vertices)
    fragments = rasterize(clip, surface.faces, cameras.resolution)
    covered = fragments.mask[..., None]
    mask = antialias(covered.float(), fragments, clip, surface.faces)
    distance = -cameras.to_camera(surface.vertices)[..., 2:]
    depth = interpolate(distance, surface.faces, fragments)
    seen = losses.depth_loss(depth, views.depth, covered & (views.depth > 0))
    return losses.mask_loss(mask, views.mask) + 10 * seen + surface.deviation_loss()


parameters = {"sdf": Box(grid.point_count, start=start), "edge_weights": weights}
problem = Problem(parameters, loss, differentiable=True, dtype=torch.float32)
for step in iterate(problem, Adam(step_size=0.02, decay=0.99), budget=Budget(iterations=300)):
    if step.iteration % 50 == 0:
        print(f"step {step.iteration:4d}   loss {step.value:.4f}")

mesh = extract_surface(**problem.parameters_of(step.best_x), grid=grid, mode="test").mesh()
mesh.save("reconstructed.ply")
print(compare(mesh, target))
