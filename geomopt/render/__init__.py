"""Images of triangle meshes, and the gradient of every pixel to the mesh.

The pieces are functions that a script puts together::

    clip = camera.project(vertices)                             # (B, V, 4)
    fragments = rasterize(clip, faces, camera.resolution)       # which triangle, where in it
    image = interpolate(colors, faces, fragments)               # (B, H, W, C)
    image = antialias(image, fragments, clip, faces)            # soft silhouettes, last of all
    loss = losses.mask_loss(image, target)

`rasterize` finds the nearest triangle at each pixel centre; which one it is has no derivative, its
barycentric weights have. `interpolate` carries gradients to the attributes and through the weights
to the positions: inside a surface. `antialias` blends pixels across silhouettes, which gives the
gradient to where surfaces end. Shade and composite between the two. `render` does all this for the
common images (mask, depth, normal, color) and `picture` makes pictures for people.

Conventions: row 0 of an image is its top row, pixel centres lie at half integers, clip space is
OpenGL's (x right, y up, z/w from -1 near to 1 far, the camera looks along -z). Images are
(B, H, W, C). Precision and device follow the tensors that are passed in; geometry is computed in
float64 throughout. `backend="warp"` is the default on CPU and CUDA, `backend="torch"` the same in
plain torch, slower. Faces are drawn from both sides. Vertices must be shared between triangles:
`position_indices` does it where texture or normal seams doubled them.
"""

from geomopt.render import losses
from geomopt.render.antialias import antialias
from geomopt.render.camera import Camera
from geomopt.render.edges import edge_opposites, position_indices
from geomopt.render.fragments import Fragments
from geomopt.render.interpolate import interpolate
from geomopt.render.rasterize import rasterize
from geomopt.render.shading import Images, Light, picture, render
from geomopt.render.transforms import Transforms, read_transforms, write_transforms
from geomopt.render.views import framing, orbit_cameras, random_cameras, sphere_directions

__all__ = [
    "Camera",
    "Fragments",
    "Images",
    "Light",
    "Transforms",
    "antialias",
    "edge_opposites",
    "framing",
    "interpolate",
    "losses",
    "orbit_cameras",
    "picture",
    "position_indices",
    "random_cameras",
    "rasterize",
    "read_transforms",
    "render",
    "sphere_directions",
    "write_transforms",
]
