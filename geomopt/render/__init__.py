from geomopt.render.antialias import antialias
from geomopt.render.camera import Camera
from geomopt.render.edges import edge_opposites, position_indices
from geomopt.render.fragments import Fragments
from geomopt.render.rasterize import interpolate, rasterize

__all__ = [
    "Camera",
    "Fragments",
    "antialias",
    "edge_opposites",
    "interpolate",
    "position_indices",
    "rasterize",
]
