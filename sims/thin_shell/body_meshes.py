"""Bodies as meshes to look at: what is a point, an edge or a plane with a radius to contact."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.geometry import Mesh
from sims.thin_shell.bodies import Body
from sims.thin_shell.pose import placed
from sims.thin_shell.scene import Scene
from sims.thin_shell.soft_body import SoftBody

ROUND = 32  # points around a cylinder, and on the half circle of its ends
BALL = 3  # times the faces of an icosahedron are cut in four
PLANE_LINES = 10  # along each side of the patch of a plane
PLANE_SIDE = 1.2  # of that patch, in longest sides of what the scene has besides planes


def body_mesh(body: Body | SoftBody, radius: float, positions: Tensor, pose: Tensor) -> Mesh | None:
    """The closed surface of a body, None for a plane, which has none.

    radius [m]: how far it is from the body's points. positions (P, 3) [m] of these, pose (6,).
    A body of faces with a radius is shown as its convex hull if that is what it is, else with its
    vertices moved out along their normals.
    """
    if len(body.planes):
        return None
    if isinstance(body, SoftBody):
        return _outward(Mesh(positions, body.faces), radius)
    if not len(body.faces):
        return _round(body, radius, pose)
    if radius == 0:
        return Mesh(positions, body.faces)
    return _hull(body, radius, pose) or _outward(Mesh(positions, body.faces), radius)


def plane_lines(scene: Scene, place: int, positions: Tensor) -> Tensor:
    """Lines (L, 2, 3) of a grid on a plane, below the middle of all that starts beside it.

    place: of the plane among the bodies; positions (V, 3) [m] of the scene. The grid is as large in
    all moments of a scene.
    """
    start = torch.ones(len(scene.vertices), dtype=torch.bool, device=positions.device)
    for body, part in zip(scene.bodies, scene.body_parts, strict=True):
        if len(body.planes):
            start[part] = False
    around = scene.vertices.detach()[start]
    low, high = around.aminmax(dim=0)
    half = PLANE_SIDE / 2 * float((high - low).amax())
    origin, x, y = positions[scene.body_parts[place]]
    axes = torch.stack([x - origin, y - origin])
    middle = origin + ((low + high) / 2 - origin) @ axes.T @ axes
    at = torch.linspace(-half, half, PLANE_LINES + 1).to(positions)
    ends = torch.full_like(at, half)
    across = torch.stack([torch.stack([at, -ends], 1), torch.stack([at, ends], 1)], dim=1)
    return torch.cat([across, across.flip(2)]) @ axes + middle


def _round(body: Body, radius: float, pose: Tensor) -> Mesh:
    """A sphere, or a cylinder with round ends."""
    import trimesh

    if len(body.lone_edges):
        first, second = body.local.detach()
        made = trimesh.creation.capsule(
            height=float((second - first).norm()), radius=radius, count=[ROUND, ROUND]
        )
    else:
        made = trimesh.creation.icosphere(subdivisions=BALL, radius=radius)
    local = torch.as_tensor(made.vertices).to(pose)
    # whatever the creation puts into its origin, ours is in the middle
    local = local - (local.amax(0) + local.amin(0)) / 2
    return Mesh(placed(local, pose), torch.as_tensor(made.faces).to(body.faces.device))


def _hull(body: Body, radius: float, pose: Tensor) -> Mesh | None:
    """The hull of balls around the points of a convex body, None for one that is not."""
    import trimesh

    local = body.local.detach().cpu()
    shape = trimesh.Trimesh(local.numpy(), body.faces.cpu().numpy(), process=False)
    if not shape.is_convex:
        return None
    ball = torch.as_tensor(
        trimesh.creation.icosphere(subdivisions=BALL - 1, radius=radius).vertices
    )
    hull = trimesh.convex.convex_hull((local[:, None] + ball).reshape(-1, 3).numpy())
    vertices, faces = torch.tensor(hull.vertices), torch.tensor(hull.faces)
    return Mesh(placed(vertices.to(pose), pose), faces.to(body.faces.device))


def _outward(mesh: Mesh, radius: float) -> Mesh:
    return Mesh(mesh.vertices + radius * mesh.vertex_normals, mesh.faces) if radius else mesh
