"""A triangle seen from one of its edges, for the kernels of angles about an edge.

The edge runs from a to b and c lies to its left. With e the direction of the edge and l its length,
the normal n, the outward normal m = e x n in the plane, the height h of c over the edge and the
place s of its foot (0 at a, 1 at b), the turn of the normal about the edge,
d alpha = -m . dn, has the coefficients w / h times n for a, b, c, where w = (1 - s, s, -1).
Its derivative at corner k of the coefficient of corner j is

    n (t_j w_k e / (l h) - w_j w_k m / h^2 - t_j t_k m / l^2)^T
    + w_j / h (t_k e / l - w_k m / h) n^T,         t = (1, -1, 0).

Dihedral angles are the sum of the turns of two flaps. What is not symmetric in it,
t_j t_k (n m^T - m n^T) / (2 l^2), belongs to the turn of the edge itself, and cancels between them.
"""

import warp as wp

ZERO = wp.constant(wp.float64(0.0))
FLATTEST = wp.constant(wp.float64(1e-12))  # double area over the longest side squared


@wp.struct
class Flap:
    normal: wp.vec3d
    outward: wp.vec3d
    height: wp.float64
    foot: wp.float64
    valid: bool


@wp.func
def position(local: wp.array2d(dtype=wp.float64), element: int, corner: int):
    return wp.vec3d(
        local[element, 3 * corner],
        local[element, 3 * corner + 1],
        local[element, 3 * corner + 2],
    )


@wp.func
def flap(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d):
    """The triangle a, b, c about its edge from a to b; without a normal it is not valid."""
    result = Flap()
    edge = b - a
    side = c - a
    cross = wp.cross(edge, side)
    area = wp.length(cross)
    result.valid = area > FLATTEST * wp.max(wp.dot(edge, edge), wp.dot(side, side))
    if result.valid:
        squared = wp.dot(edge, edge)
        length = wp.sqrt(squared)
        result.normal = cross / area
        result.outward = wp.cross(edge, result.normal) / length
        result.height = area / length
        result.foot = wp.dot(side, edge) / squared
    return result
