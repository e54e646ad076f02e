"""Fit a mesh to eight depth images: the parts behind `geomopt run reconstruct`, in one script.

Writes reconstructed.ply; takes about half a minute on one core.
"""

import torch

from geomopt import assets
from geomopt.geometry import DenseGrid, Mesh, compare, extract_surface, sign_change_loss
from geomopt.reconstruct import carve, render_views
from geomopt.render import antialias, interpolate, losses, rasterize
from optimizers import Adam, Box, Budget, Problem, iterate

target = Mesh.load(assets.path("meshes/bracket.ply"))
views = render_views(target, 8, (128, 128), seed=0)
cameras = views.cameras

grid = DenseGrid(32)
cell = grid.spacing[0]
start = (carve(views, grid.points) / cell).clamp(-3, 3)  # what masks and depths tell by themselves
parameters = {
    "sdf": Box(grid.point_count, start=start),
    "deformation": Box((grid.point_count, 3), -0.4 * cell, 0.4 * cell, start=0.0, scale=cell),
    "corner_weights": Box((grid.cell_count, 8), 0.01, 1.99, start=1.0, scale=1.0),
    "edge_weights": Box((grid.cell_count, 12), 0.01, 1.99, start=1.0, scale=1.0),
}


def loss(design):
    surface = extract_surface(**design, grid=grid)
    vertices, faces = surface.vertices, surface.faces
    clip = cameras.project(vertices)
    fragments = rasterize(clip, faces, cameras.resolution)
    covered = interpolate(torch.ones_like(vertices[:, :1]), faces, fragments)
    mask = antialias(covered, fragments, clip, faces)
    depth = interpolate(-cameras.to_camera(vertices)[..., 2:], faces, fragments)
    seen = fragments.mask[..., None] & (views.depth > 0)
    image_loss = losses.mask_loss(mask, views.mask) + 10 * losses.depth_loss(
        depth, views.depth, seen
    )
    return image_loss + surface.deviation_loss() + 0.05 * sign_change_loss(design["sdf"], grid)


problem = Problem(parameters, loss, differentiable=True, dtype=torch.float32)
for step in iterate(problem, Adam(step_size=0.02, decay=0.99), budget=Budget(iterations=300)):
    if step.iteration % 50 == 0:
        print(f"step {step.iteration:4d}   loss {step.value:.4f}")

with torch.no_grad():
    design = problem.parameters_of(step.best_x)
    mesh = extract_surface(**design, grid=grid, mode="test").mesh()
mesh.save("reconstructed.ply")
print(compare(mesh, target))
