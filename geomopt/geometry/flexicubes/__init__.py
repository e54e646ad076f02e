"""FlexiCubes: a mesh out of a scalar field on a grid, differentiable in the field, the grid and the
weights.

    grid = DenseGrid(32)
    deformation = used_deformation(raw_deformation, grid)
    surface = extract_surface(sdf, grid, *used_weights(raw_weights), deformation)
    loss = image_loss(surface.vertices, surface.faces) + 0.5 * surface.deviation_loss()

Surface cells are found and their loops looked up (connectivity.py, by the derived tables of
tables.py), each loop gets a vertex, each crossing edge a quad. `surface.py` is the way in. The
fused kernels (warp_backend.py and *_kernels.py) and the plain torch operations (torch_backend.py,
the oracle of the tests) give the same vertices and faces in the same order.

Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization", ACM TOG 42(4),
2023.
"""

from geomopt.geometry.flexicubes.surface import Surface, extract_surface
from geomopt.geometry.flexicubes.weights import used_deformation, used_weights

__all__ = ["Surface", "extract_surface", "used_deformation", "used_weights"]
