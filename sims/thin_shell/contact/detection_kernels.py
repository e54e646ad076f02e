"""Kernels of detection: the list of candidates, and the two tests of a candidate.

A query is a primitive that looks for others. In this order, which is that of the kinds: points look
for faces, edges for edges that come after them, points for planes, points for lone edges.
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.contact.ccd_kernels import relative_length, safe_share
from sims.thin_shell.contact.closest_kernels import closest
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE, VERTEX_FACE, VERTEX_PLANE
from sims.thin_shell.contact.tree_kernels import high_corner, low_corner

ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))
INFINITE = wp.constant(wp.float64(float("inf")))
KEPT = wp.constant(wp.float64(0.899))  # of a gap that a move may close, as in `ccd_kernels`
TOUCHING = wp.constant(wp.float64(1e-6))  # distance at rest over the longest side
FACE = wp.constant(VERTEX_FACE)
EDGES = wp.constant(EDGE_EDGE)
PLANE = wp.constant(VERTEX_PLANE)
EDGE = wp.constant(VERTEX_EDGE)


@wp.func
def pair_of(
    kind: int,
    one: int,
    other: int,
    points: wp.array(dtype=wp.int32),
    edges: wp.array2d(dtype=wp.int32),
    faces: wp.array2d(dtype=wp.int32),
    planes: wp.array2d(dtype=wp.int32),
    lone_edges: wp.array2d(dtype=wp.int32),
):
    """The four vertices of primitives `one` and `other`."""
    if kind == FACE:
        return wp.vec4i(points[one], faces[other, 0], faces[other, 1], faces[other, 2])
    if kind == EDGES:
        return wp.vec4i(edges[one, 0], edges[one, 1], edges[other, 0], edges[other, 1])
    if kind == PLANE:
        return wp.vec4i(points[one], planes[other, 0], planes[other, 1], planes[other, 2])
    end = lone_edges[other, 1]
    return wp.vec4i(points[one], lone_edges[other, 0], end, end)


@wp.func
def second_of(kind: int, pair: wp.vec4i):
    """A vertex of the second primitive."""
    if kind == EDGES:
        return pair[2]
    return pair[1]


@wp.func
def may_touch(
    kind: int,
    pair: wp.vec4i,
    component: wp.array(dtype=wp.int32),
    held: wp.array(dtype=wp.bool),
    collides: wp.array2d(dtype=wp.bool),
):
    """No vertex in common, not all held, and of components that may touch."""
    apart = pair[0] != pair[2] and pair[0] != pair[3]
    if kind == EDGES:
        apart = apart and pair[1] != pair[2] and pair[1] != pair[3]
    else:
        apart = apart and pair[0] != pair[1]
    if not apart:
        return False
    if held[pair[0]] and held[pair[1]] and held[pair[2]] and held[pair[3]]:
        return False
    return collides[component[pair[0]], component[second_of(kind, pair)]]


@wp.func
def distance_of(kind: int, pair: wp.vec4i, positions: wp.array(dtype=wp.vec3d)):
    found = closest(
        kind, positions[pair[0]], positions[pair[1]], positions[pair[2]], positions[pair[3]]
    )
    return wp.sqrt(found.square)


@wp.func
def relative_move(kind: int, pair: wp.vec4i, move: wp.array(dtype=wp.vec3d)):
    return relative_length(kind, move[pair[0]], move[pair[1]], move[pair[2]], move[pair[3]])


@wp.func
def rest_distance(
    kind: int,
    pair: wp.vec4i,
    component: wp.array(dtype=wp.int32),
    rest: wp.array(dtype=wp.vec3d),
):
    """How far a pair of one component is apart at rest, 0 if it touches there; else infinite."""
    if component[pair[0]] != component[second_of(kind, pair)]:
        return INFINITE
    distance = distance_of(kind, pair, rest)
    side = wp.length(rest[pair[0]] - rest[pair[1]]) + wp.length(rest[pair[2]] - rest[pair[0]])
    if distance <= TOUCHING * side:
        return ZERO
    return distance


@wp.func
def gap_of(distance: wp.float64, radii: wp.float64, at_rest: wp.float64):
    return distance - wp.min(radii, HALF * at_rest)


@cache
def find_kernel() -> Any:
    """The partners of each query, counted, or written where the counts said."""
    home = wp.get_module(f"{__name__}.find")

    @wp.func(module=home)
    def is_candidate(
        kind: int,
        pair: wp.vec4i,
        component: wp.array(dtype=wp.int32),
        held: wp.array(dtype=wp.bool),
        collides: wp.array2d(dtype=wp.bool),
        radius: wp.array(dtype=wp.float64),
        rest: wp.array(dtype=wp.vec3d),
        positions: wp.array(dtype=wp.vec3d),
        move: wp.array(dtype=wp.vec3d),
        margin: wp.float64,
    ):
        if not may_touch(kind, pair, component, held, collides):
            return False
        if kind == PLANE:
            return True
        radii = radius[component[pair[0]]] + radius[component[second_of(kind, pair)]]
        far = margin + relative_move(kind, pair, move) / KEPT
        distance = distance_of(kind, pair, positions)
        if distance - radii >= far:
            return False
        at_rest = rest_distance(kind, pair, component, rest)
        return at_rest > ZERO and gap_of(distance, radii, at_rest) < far

    @wp.kernel(module=home, enable_backward=False)
    def find_partners(
        first: int,
        face_tree: wp.uint64,
        edge_tree: wp.uint64,
        points: wp.array(dtype=wp.int32),
        edges: wp.array2d(dtype=wp.int32),
        faces: wp.array2d(dtype=wp.int32),
        planes: wp.array2d(dtype=wp.int32),
        lone_edges: wp.array2d(dtype=wp.int32),
        component: wp.array(dtype=wp.int32),
        held: wp.array(dtype=wp.bool),
        collides: wp.array2d(dtype=wp.bool),
        radius: wp.array(dtype=wp.float64),
        rest: wp.array(dtype=wp.vec3d),
        positions: wp.array(dtype=wp.vec3d),
        move: wp.array(dtype=wp.vec3d),
        spread: wp.array(dtype=wp.float64),
        margin: wp.float64,
        fill: int,
        slots: wp.array2d(dtype=wp.int32),
        ends: wp.array(dtype=wp.int64),
        counts: wp.array(dtype=wp.int64),
        query_of: wp.array(dtype=wp.int32),
        partner_of: wp.array(dtype=wp.int32),
    ):
        """One query."""
        query = first + wp.tid()
        room = slots.shape[1]
        begin = wp.int64(0)
        if fill == 1:
            count = int(counts[query])
            begin = ends[query] - counts[query]
            for k in range(count):
                query_of[int(begin) + k] = query
            if count <= room:
                for k in range(count):
                    partner_of[int(begin) + k] = slots[query, k]
                return
        one = query
        kind = FACE
        if one >= points.shape[0]:
            one -= points.shape[0]
            kind = EDGES
            if one >= edges.shape[0]:
                one -= edges.shape[0]
                kind = PLANE
                if one >= points.shape[0]:
                    one -= points.shape[0]
                    kind = EDGE
        tree = face_tree
        vertex = wp.int32(0)
        if kind == EDGES:
            tree = edge_tree
            vertex = edges[one, 0]
        else:
            vertex = points[one]
        low = low_corner(positions[vertex], spread[vertex])
        high = high_corner(positions[vertex], spread[vertex])
        if kind == EDGES:
            vertex = edges[one, 1]
            low = wp.min(low, low_corner(positions[vertex], spread[vertex]))
            high = wp.max(high, high_corner(positions[vertex], spread[vertex]))
        in_tree = query < points.shape[0] + edges.shape[0]
        others = wp.int32(0)
        if kind == PLANE:
            others = planes.shape[0]
        if kind == EDGE:
            others = lone_edges.shape[0]
        found = wp.int32(0)
        other = wp.int32(-1)
        search = wp.bvh_query_aabb(tree, low, high)
        going = wp.bool(True)
        while going:
            if in_tree:
                going = wp.bvh_query_next(search, other)
            else:
                other += 1
                going = other < others
            if going and (kind != EDGES or other > one):
                pair = pair_of(kind, one, other, points, edges, faces, planes, lone_edges)
                if is_candidate(
                    kind,
                    pair,
                    component,
                    held,
                    collides,
                    radius,
                    rest,
                    positions,
                    move,
                    margin,
                ):
                    if fill == 1:
                        partner_of[int(begin) + found] = other
                    elif found < room:
                        slots[query, found] = other
                    found += 1
        if fill == 0:
            counts[query] = wp.int64(found)

    return find_partners


@cache
def describe_kernel() -> Any:
    """Kind, vertices, gap and distance at rest of candidates."""
    home = wp.get_module(f"{__name__}.describe")

    @wp.kernel(module=home, enable_backward=False)
    def describe(
        first: int,
        query_of: wp.array(dtype=wp.int32),
        partner_of: wp.array(dtype=wp.int32),
        points: wp.array(dtype=wp.int32),
        edges: wp.array2d(dtype=wp.int32),
        faces: wp.array2d(dtype=wp.int32),
        planes: wp.array2d(dtype=wp.int32),
        lone_edges: wp.array2d(dtype=wp.int32),
        component: wp.array(dtype=wp.int32),
        radius: wp.array(dtype=wp.float64),
        rest: wp.array(dtype=wp.vec3d),
        positions: wp.array(dtype=wp.vec3d),
        kinds: wp.array(dtype=wp.int64),
        vertices: wp.array2d(dtype=wp.int64),
        gaps: wp.array(dtype=wp.float64),
        at_rest: wp.array(dtype=wp.float64),
    ):
        """One candidate."""
        index = first + wp.tid()
        one = query_of[index]
        kind = FACE
        if one >= points.shape[0]:
            one -= points.shape[0]
            kind = EDGES
            if one >= edges.shape[0]:
                one -= edges.shape[0]
                kind = PLANE
                if one >= points.shape[0]:
                    one -= points.shape[0]
                    kind = EDGE
        pair = pair_of(kind, one, partner_of[index], points, edges, faces, planes, lone_edges)
        radii = radius[component[pair[0]]] + radius[component[second_of(kind, pair)]]
        apart = rest_distance(kind, pair, component, rest)
        kinds[index] = wp.int64(kind)
        for k in range(4):
            vertices[index, k] = wp.int64(pair[k])
        at_rest[index] = apart
        gaps[index] = gap_of(distance_of(kind, pair, positions), radii, apart)

    return describe


@wp.func
def vertices_of(vertices: wp.array2d(dtype=wp.int64), index: int):
    return wp.vec4i(
        int(vertices[index, 0]),
        int(vertices[index, 1]),
        int(vertices[index, 2]),
        int(vertices[index, 3]),
    )


@cache
def near_kernel() -> Any:
    """Which candidates are near."""
    home = wp.get_module(f"{__name__}.near")

    @wp.kernel(module=home, enable_backward=False)
    def is_near(
        first: int,
        kinds: wp.array(dtype=wp.int64),
        vertices: wp.array2d(dtype=wp.int64),
        gaps: wp.array(dtype=wp.float64),
        at_rest: wp.array(dtype=wp.float64),
        component: wp.array(dtype=wp.int32),
        radius: wp.array(dtype=wp.float64),
        positions: wp.array(dtype=wp.vec3d),
        moved: wp.array(dtype=wp.vec3d),
        reach: wp.float64,
        near: wp.array(dtype=wp.bool),
    ):
        """One candidate, first by the gap it had and how far it has moved since."""
        index = first + wp.tid()
        kind = int(kinds[index])
        pair = vertices_of(vertices, index)
        near[index] = False
        if kind != PLANE and gaps[index] - relative_move(kind, pair, moved) >= reach:
            return
        radii = radius[component[pair[0]]] + radius[component[second_of(kind, pair)]]
        near[index] = gap_of(distance_of(kind, pair, positions), radii, at_rest[index]) < reach

    return is_near


@cache
def share_kernel() -> Any:
    """How much of a move each candidate allows."""
    home = wp.get_module(f"{__name__}.share")

    @wp.kernel(module=home, enable_backward=False)
    def share_of(
        first: int,
        kinds: wp.array(dtype=wp.int64),
        vertices: wp.array2d(dtype=wp.int64),
        gaps: wp.array(dtype=wp.float64),
        at_rest: wp.array(dtype=wp.float64),
        component: wp.array(dtype=wp.int32),
        radius: wp.array(dtype=wp.float64),
        positions: wp.array(dtype=wp.vec3d),
        moved: wp.array(dtype=wp.vec3d),
        move: wp.array(dtype=wp.vec3d),
        shares: wp.array(dtype=wp.float64),
    ):
        """One candidate, first by the gap it had and how far it has moved since."""
        index = first + wp.tid()
        kind = int(kinds[index])
        pair = vertices_of(vertices, index)
        shares[index] = ONE
        if kind != PLANE:
            least = gaps[index] - relative_move(kind, pair, moved)
            if relative_move(kind, pair, move) <= KEPT * least:
                return
        radii = radius[component[pair[0]]] + radius[component[second_of(kind, pair)]]
        shares[index] = safe_share(
            kind,
            wp.min(radii, HALF * at_rest[index]),
            positions[pair[0]],
            positions[pair[1]],
            positions[pair[2]],
            positions[pair[3]],
            move[pair[0]],
            move[pair[1]],
            move[pair[2]],
            move[pair[3]],
        )

    return share_of
