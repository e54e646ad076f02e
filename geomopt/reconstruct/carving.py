"""What the masks and depths alone already say: where the object is, and a first signed distance.

A point is outside as soon as one view sees past it: its pixel lies outside of that view's mask, or
it lies in front of the depth measured there. The largest such distance over the views is a signed
distance that is right in sign wherever some view decides, and it spares the fit the long search
that a random start would need.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.errors import InputError
from geomopt.geometry import DenseGrid
from geomopt.reconstruct.dataset import Views
from geomopt.render import Camera

SEARCH_RESOLUTION = 64  # cells along the cube in which the object is looked for


def pixel_rays(camera: Camera, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Origins and unit directions (P, 3), in world space, of rays through pixel positions of one
    view.
    """
    height, width = camera.resolution
    x, y = 2 * columns / width - 1, 1 - 2 * rows / height
    ends = torch.stack([x, y, torch.full_like(x, -0.5), torch.ones_like(x)], dim=-1)
    ends = torch.stack([ends, ends + ends.new_tensor([0, 0, 1, 0])])
    inverse = torch.linalg.inv((camera.projection @ camera.world_to_camera).reshape(4, 4).double())
    world = ends.double() @ inverse.T
    near, far = world[..., :3] / world[..., 3:]
    return near, torch.nn.functional.normalize(far - near, dim=-1)


def _mask_rays(views: Views, index: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.nonzero(views.mask[index, ..., 0] > 0.5, as_tuple=True)
    if not len(rows):
        raise InputError(
            f"the mask of view {views.names[index]} is empty, so nothing can be fitted to it"
        )
    step = max(1, len(rows) // 2000)
    return pixel_rays(views.cameras[index], columns[::step] + 0.5, rows[::step] + 0.5)


def cut_off(views: Views) -> int:
    """In how many views the object reaches the border of the image, so that parts may be unseen."""
    covered = views.mask[..., 0] > 0.5
    edges = [covered[:, 0], covered[:, -1], covered[:, :, 0], covered[:, :, -1]]
    return int(torch.stack([edge.any(dim=1) for edge in edges]).any(dim=0).sum())


def bounding_cube(views: Views) -> tuple[Tensor, float]:
    """Centre (3,) and half width of a cube that surely holds the object: from the cones of the
    masks.
    """
    rays = [_mask_rays(views, index) for index in range(len(views))]
    # the point nearest to the middle ray of each mask
    origins = torch.stack([origin.mean(dim=0) for origin, _ in rays])
    directions = torch.nn.functional.normalize(
        torch.stack([way.mean(dim=0) for _, way in rays]), dim=-1
    )
    across = torch.eye(3, dtype=torch.float64) - directions[:, :, None] * directions[:, None, :]
    center = torch.linalg.lstsq(across.sum(0), (across @ origins[:, :, None]).sum(0)).solution[:, 0]
    reach = [torch.linalg.cross(center - origin, way).norm(dim=-1).max() for origin, way in rays]
    half_width = 1.2 * float(torch.stack(reach).max())
    if not (half_width > 0 and half_width < float("inf")):
        raise InputError(
            "the camera poses do not surround an object: "
            "the rays through the masks have no common centre"
        )
    return center, half_width


def carve(views: Views, points: Tensor) -> Tensor:
    """Signed distance estimate (P,), in world units, of points (P, 3): the largest over the views
    that can tell.

    A view whose mask keeps off the border shows the whole object, so what lies out of its frame is
    outside. Where no view can tell, the point is taken as outside.
    """
    homogeneous = torch.cat(
        [points.double(), torch.ones(len(points), 1, dtype=torch.float64)], dim=1
    )
    best = torch.full((len(points),), -torch.inf, dtype=torch.float64)
    for index in range(len(views)):
        best = torch.maximum(best, _distance_in_view(views, index, homogeneous))
    blind = torch.isinf(best)
    farthest = best[~blind].abs().max() if not bool(blind.all()) else best.new_ones(())
    return torch.where(blind, farthest, best)


def _distance_in_view(views: Views, index: int, homogeneous: Tensor) -> Tensor:
    """What one view tells of the signed distance at points (P, 4); -inf or +inf where it tells
    nothing or only the sign.
    """
    from scipy.ndimage import distance_transform_edt

    camera = views.cameras[index]
    height, width = camera.resolution
    projection = camera.projection[0].double().cpu()
    local = homogeneous @ camera.world_to_camera[0].double().cpu().T
    clip = local @ projection.T
    w = clip[:, 3]
    in_front_of_camera = w > 0
    safe = torch.where(in_front_of_camera, w, 1.0)
    column = ((clip[:, 0] / safe + 1) / 2 * width).floor()
    row = ((1 - clip[:, 1] / safe) / 2 * height).floor()
    nearest_column, nearest_row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    out_of_frame = torch.hypot(column - nearest_column, row - nearest_row)
    at = (nearest_row.long(), nearest_column.long())

    inside = (views.mask[index, ..., 0] > 0.5).cpu()
    outline = torch.from_numpy(distance_transform_edt(~inside.numpy()))
    outline = outline - torch.from_numpy(distance_transform_edt(inside.numpy()))
    outline = outline - 0.5 * outline.sign()  # from pixel centres to the border between them
    pixel_size = (
        2 * safe / (height * projection[1, 1].abs())
    )  # world units that a pixel spans at this depth
    distance = (outline[at] + out_of_frame) * pixel_size
    if views.depth is not None:
        measured = views.depth[index, ..., 0].double().cpu()[at]
        known = (measured > 0) & inside[at] & (out_of_frame == 0)
        # camera space looks along -z; in front of what was measured there, the point is outside
        distance = torch.where(known, torch.maximum(distance, measured + local[:, 2]), distance)
    border = torch.cat([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    beyond = -torch.inf if bool(border.any()) else torch.inf
    distance = torch.where(out_of_frame > 0, distance if beyond > 0 else beyond, distance)
    return torch.where(in_front_of_camera, distance, beyond)


def bounding_box(views: Views) -> tuple[Tensor, Tensor]:
    """Lower and upper corner (3,) of a box around the object, a little larger than it."""
    center, half_width = bounding_cube(views)
    for _ in range(2):  # the second search has the finer cells of the smaller cube
        lower, upper = center - half_width, center + half_width
        grid = DenseGrid(SEARCH_RESOLUTION, lower.tolist(), upper.tolist(), dtype=torch.float64)
        points = grid.points
        cell = 2 * half_width / SEARCH_RESOLUTION
        held = points[carve(views, points) < 0.25 * cell]
        if not len(held):
            raise InputError(
                "masks, depths and poses do not fit each other: "
                "no point in space is inside all of them; "
                "check that transform_matrix is camera-to-world with the camera looking along -z"
            )
        lower, upper = held.amin(dim=0) - 0.5 * cell, held.amax(dim=0) + 0.5 * cell
        center, half_width = (lower + upper) / 2, float((upper - lower).max()) / 2
    return lower, upper
