from geomopt.render.camera import Camera
from geomopt.render.fragments import Fragments
from geomopt.render.rasterize import interpolate, rasterize

__all__ = ["Camera", "Fragments", "interpolate", "rasterize"]
