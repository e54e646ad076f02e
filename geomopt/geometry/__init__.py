"""Shapes: signed distances on a grid, the meshes drawn out of them, and how good those are.

    from geomopt.geometry import DenseGrid, extract_surface, sdf

    grid = DenseGrid(64)
    field = sdf.union(sdf.sphere(grid.points, 0.5), sdf.box(grid.points, (0.7, 0.3, 0.2)))
    surface = extract_surface(field, grid, mode="test")       # differentiable in the field
    surface.mesh().save("shape.ply")

`grid` and `sdf` describe a field, `flexicubes` turns it into a surface, `mesh` and `topology` hold
triangles, `quality` and `metrics` judge them alone and against a reference. Inside is where the
field is negative, and normals point to where it is positive.
"""

from geomopt.geometry import sdf
from geomopt.geometry.distance import closest_points, signed_distance, surface_distance
from geomopt.geometry.flexicubes import Surface, extract_surface, used_deformation, used_weights
from geomopt.geometry.grid import DenseGrid
from geomopt.geometry.intersections import self_intersections
from geomopt.geometry.mesh import Mesh, require_closed, sample_surface
from geomopt.geometry.metrics import Comparison, compare
from geomopt.geometry.quality import Quality, quality
from geomopt.geometry.regularizers import sign_change_loss
from geomopt.geometry.topology import Topology

__all__ = [
    "Comparison",
    "DenseGrid",
    "Mesh",
    "Quality",
    "Surface",
    "Topology",
    "closest_points",
    "compare",
    "extract_surface",
    "quality",
    "require_closed",
    "sample_surface",
    "sdf",
    "self_intersections",
    "sign_change_loss",
    "signed_distance",
    "surface_distance",
    "used_deformation",
    "used_weights",
]
