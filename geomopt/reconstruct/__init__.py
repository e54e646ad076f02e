"""Shape from posed images.

`dataset` reads a transforms.json folder or renders a mesh into `Views`; `carving` finds from their
masks and depths where the object is and a first signed distance; `problem` fits FlexiCubes to them
through the rasterizer; `pictures` shows the result. `geomopt run reconstruct` does all of it.
"""

from geomopt.reconstruct.carving import bounding_box, carve
from geomopt.reconstruct.dataset import (
    Views,
    load_views,
    read_views,
    render_dataset,
    render_views,
    write_views,
)
from geomopt.reconstruct.problem import Reconstruction, ReconstructionProblem

__all__ = [
    "Reconstruction",
    "ReconstructionProblem",
    "Views",
    "bounding_box",
    "carve",
    "load_views",
    "read_views",
    "render_dataset",
    "render_views",
    "write_views",
]
