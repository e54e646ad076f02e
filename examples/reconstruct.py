"""Fit a mesh to eight depth images: the parts behind `geomopt run reconstruct`, in one script.

Writes reconstructed.ply; takes about half a minute on one core.
"""

import torch

from geomopt import assets
from geomopt.geometry import DenseGrid, Mesh, compare, extract_surface, sdf, sign_change_loss
from geomopt.render import antialias, interpolate, losses, orbit_cameras, rasterize, render
from optimizers import Adam, Box, Budget, Problem, iterate

target = Mesh.load(assets.path("meshes/bracket.ply"))
cameras = orbit_cameras(8, radius=3.5, resolution=(128, 128))
images = render(target, cameras)

grid = DenseGrid(32)
cell = 2 / 32
parameters = {
    "sdf": Box(grid.point_count, start=sdf.sphere(grid.points, 0.9) / cell),
    "deformation": Box((grid.point_count, 3), -0.49 * cell, 0.49 * cell, start=0.0),
    "corner_weights": Box((grid.cell_count, 8), 0.01, 1.99, start=1.0),
    "edge_weights": Box((grid.cell_count, 12), 0.01, 1.99, start=1.0),
}


def loss(design):
    surface = extract_surface(**design, grid=grid)
    clip = cameras.project(surface.vertices)
    fragments = rasterize(clip, surface.faces, cameras.resolution)
    covered = interpolate(torch.ones_like(surface.vertices[:, :1]), surface.faces, fragments)
    mask = antialias(covered, fragments, clip, surface.faces)
    depth = interpolate(-cameras.to_camera(surface.vertices)[..., 2:], surface.faces, fragments)
    image_loss = losses.mask_loss(mask, images.mask)
    image_loss += 10 * losses.depth_loss(
        depth, images.depth, fragments.mask[..., None] & (images.mask > 0.5)
    )
    return (
        image_loss + 0.5 * surface.deviation_loss() + 0.05 * sign_change_loss(design["sdf"], grid)
    )


problem = Problem(parameters, loss, differentiable=True, dtype=torch.float32)
for step in iterate(problem, Adam(step_size=0.02), budget=Budget(iterations=300)):
    if step.iteration % 50 == 0:
        print(f"step {step.iteration:4d}   loss {step.value:.4f}")

with torch.no_grad():
    mesh = extract_surface(**problem.parameters_of(step.x), grid=grid, mode="test").mesh()
mesh.save("reconstructed.ply")
print(compare(mesh, target))
