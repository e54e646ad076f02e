"""Searches in the bounding volume hierarchy of a mesh, one thread a point or face."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def closest_face(
    first: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3f),
    reach: float,
    face: wp.array(dtype=wp.int32),
):
    i = first + wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[i], reach)
    face[i] = query.face if query.result else -1


@wp.kernel
def is_inside(
    first: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3f),
    reach: float,
    inside: wp.array(dtype=wp.int32),
):
    """Whether the winding number is above one half; clusters of faces beyond 2 radii count as
    dipoles.
    """
    i = first + wp.tid()
    query = wp.mesh_query_point_sign_winding_number(mesh, points[i], reach, 2.0, 0.5)
    inside[i] = 1 if query.sign < 0.0 else 0


@wp.func
def share_vertex(a: wp.vec3i, b: wp.vec3i):
    shared = False
    for i in range(3):
        for j in range(3):
            if a[i] == b[j]:
                shared = True
    return shared


@wp.kernel
def count_neighbors(
    first: int,
    mesh: wp.uint64,
    lower: wp.array(dtype=wp.vec3f),
    upper: wp.array(dtype=wp.vec3f),
    corners: wp.array(dtype=wp.vec3i),
    count: wp.array(dtype=wp.int32),
):
    """How many later faces, without a common vertex, have a box that meets the box of a face."""
    i = first + wp.tid()
    query = wp.mesh_query_aabb(mesh, lower[i], upper[i])
    other = wp.int32(0)
    found = wp.int32(0)
    while wp.mesh_query_aabb_next(query, other):
        if other > i and not share_vertex(corners[i], corners[other]):
            found += 1
    count[i] = found


@wp.kernel
def list_neighbors(
    first: int,
    start: int,
    mesh: wp.uint64,
    lower: wp.array(dtype=wp.vec3f),
    upper: wp.array(dtype=wp.vec3f),
    corners: wp.array(dtype=wp.vec3i),
    offset: wp.array(dtype=wp.int64),
    pairs: wp.array(dtype=wp.vec2i),
):
    """The faces that `count_neighbors` counts, for the faces from `start` on, written from `offset`
    on.
    """
    i = start + first + wp.tid()
    query = wp.mesh_query_aabb(mesh, lower[i], upper[i])
    other = wp.int32(0)
    place = offset[i] - offset[start]
    while wp.mesh_query_aabb_next(query, other):
        if other > i and not share_vertex(corners[i], corners[other]):
            pairs[place] = wp.vec2i(i, other)
            place += wp.int64(1)
