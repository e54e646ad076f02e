"""Kernel of the stable neo-Hookean tetrahedron.

With the singular values F = U diag(s) V^T, the second derivative of the energy in F has nine known
eigenvectors U M V^T (Smith, de Goes and Kim 2018, section 4): three twists and three flips, in
which M has two entries off its diagonal, and three whose M is diagonal, from a 3x3 matrix. So a
projection adds one outer product for each negative eigenvalue, and mostly finds three or fewer.
"""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.flap_kernels import position

real = wp.float64
Shape = wp.types.matrix(shape=(4, 3), dtype=real)
ZERO, ONE, TWO = wp.constant(real(0.0)), wp.constant(real(1.0)), wp.constant(real(2.0))
SWEEPS = wp.constant(12)  # of Jacobi; three axes are orthogonal to rounding after 3 to 5
ORTHOGONAL = wp.constant(real(1e-30))  # squared cosine
COLLAPSED = wp.constant(real(1e-14))  # singular value over the largest, below it has no direction
HALF_ROOT = wp.constant(real(0.5**0.5))


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of tetrahedra."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def column(m: wp.mat33d, k: int):
        return wp.vec3d(m[0, k], m[1, k], m[2, k])

    @wp.func(module=home)
    def tangent(ratio: real):
        """Of the angle of a Jacobi rotation; ratio is the cotangent of its double."""
        t = ONE / (wp.abs(ratio) + wp.sqrt(ONE + ratio * ratio))
        return wp.where(ratio < ZERO, -t, t)

    @wp.func(module=home)
    def right_axes(f: wp.mat33d):
        """A rotation V whose columns F turns into orthogonal ones, the shortest of them last.

        One-sided Jacobi rotations, which find small singular values as exactly as large ones.
        """
        v1 = wp.vec3d(ONE, ZERO, ZERO)
        v2 = wp.vec3d(ZERO, ONE, ZERO)
        v3 = wp.vec3d(ZERO, ZERO, ONE)
        a1 = column(f, 0)
        a2 = column(f, 1)
        a3 = column(f, 2)
        done = wp.int32(0)
        for _pair in range(3 * SWEEPS):
            aa = wp.dot(a1, a1)
            bb = wp.dot(a2, a2)
            ab = wp.dot(a1, a2)
            done += 1
            if ab * ab > ORTHOGONAL * aa * bb:
                done = wp.int32(0)
                t = tangent((bb - aa) / (TWO * ab))
                c = ONE / wp.sqrt(ONE + t * t)
                s = t * c
                kept = a1
                a1 = c * a1 - s * a2
                a2 = s * kept + c * a2
                kept = v1
                v1 = c * v1 - s * v2
                v2 = s * kept + c * v2
            if done == 3:
                break
            # the next two; in a circle, so that V remains a rotation
            kept = a1
            a1 = a2
            a2 = a3
            a3 = kept
            kept = v1
            v1 = v2
            v2 = v3
            v3 = kept
        one = wp.length_sq(a1)
        two = wp.length_sq(a2)
        three = wp.length_sq(a3)
        if one < two and one < three:
            return wp.matrix_from_cols(v2, v3, v1)
        if two < three:
            return wp.matrix_from_cols(v3, v1, v2)
        return wp.matrix_from_cols(v1, v2, v3)

    @wp.func(module=home)
    def across(a: wp.vec3d):
        """A unit vector at right angles to a unit vector."""
        b = wp.vec3d(ONE, ZERO, ZERO)
        if wp.abs(a[0]) > real(0.7):
            b = wp.vec3d(ZERO, ONE, ZERO)
        return wp.normalize(b - wp.dot(a, b) * a)

    @wp.func(module=home)
    def left_axes(f: wp.mat33d, v: wp.mat33d):
        """The rotation U for which U^T F V is diagonal; its last entry has the sign of det F."""
        first = f * column(v, 0)
        second = f * column(v, 1)
        if wp.length_sq(second) > wp.length_sq(first):
            swapped = first
            first = second
            second = swapped
        size = wp.length(first)
        a = wp.vec3d(ONE, ZERO, ZERO)
        if size > ZERO:
            a = first / size
        b = second - wp.dot(second, a) * a
        if wp.length(b) <= COLLAPSED * size:
            b = across(a)
        b = wp.normalize(b)
        if wp.length_sq(f * column(v, 1)) > wp.length_sq(f * column(v, 0)):
            return wp.matrix_from_cols(b, a, wp.cross(b, a))
        return wp.matrix_from_cols(a, b, wp.cross(a, b))

    @wp.func(module=home)
    def symmetric_axes(given: wp.mat33d):
        """The eigenvectors of a symmetric matrix, as columns, by Jacobi rotations."""
        m = given
        v = wp.identity(n=3, dtype=real)
        for _sweep in range(SWEEPS):
            outside = m[0, 1] * m[0, 1] + m[0, 2] * m[0, 2] + m[1, 2] * m[1, 2]
            inside = m[0, 0] * m[0, 0] + m[1, 1] * m[1, 1] + m[2, 2] * m[2, 2]
            if outside <= ORTHOGONAL * inside:
                break
            for p in range(2):
                for q in range(p + 1, 3):
                    if m[p, q] != ZERO:
                        t = tangent((m[q, q] - m[p, p]) / (TWO * m[p, q]))
                        c = ONE / wp.sqrt(ONE + t * t)
                        s = t * c
                        turn = wp.identity(n=3, dtype=real)
                        turn[p, p] = c
                        turn[q, q] = c
                        turn[p, q] = s
                        turn[q, p] = -s
                        m = wp.transpose(turn) * m * turn
                        v = v * turn
        return v

    @wp.func(module=home)
    def add_outer(
        hessian: wp.array3d(dtype=real),
        tet: int,
        corners: int,
        weight: real,
        mode: wp.mat33d,
        shape: Shape,
    ):
        """Add weight q q^T to the Hessian, where q moves the corners so that F moves along mode."""
        for a in range(corners):
            row = weight * (mode * shape[a])
            for b in range(a + 1):
                block = wp.outer(row, mode * shape[b])
                for p in range(3):
                    for q in range(3):
                        hessian[tet, 3 * a + p, 3 * b + q] += block[p, q]
                        if b < a:
                            hessian[tet, 3 * b + q, 3 * a + p] += block[p, q]

    @wp.func(module=home)
    def clamp(
        hessian: wp.array3d(dtype=real),
        tet: int,
        corners: int,
        f: wp.mat33d,
        mu: real,
        lam: real,
        pressure: real,
        shape: Shape,
    ):
        """Take the negative eigenvalues of the second derivative in F away."""
        v = right_axes(f)
        u = left_axes(f, v)
        s = wp.vec3d(
            wp.dot(column(u, 0), f * column(v, 0)),
            wp.dot(column(u, 1), f * column(v, 1)),
            wp.dot(column(u, 2), f * column(v, 2)),
        )
        for k in range(corners - 1):
            i = (k + 1) % 3
            j = (k + 2) % 3
            twist = mu + pressure * s[k]
            flip = mu - pressure * s[k]
            ij = HALF_ROOT * wp.outer(column(u, i), column(v, j))
            ji = HALF_ROOT * wp.outer(column(u, j), column(v, i))
            if twist < ZERO:
                add_outer(hessian, tet, corners, -twist, ij - ji, shape)
            if flip < ZERO:
                add_outer(hessian, tet, corners, -flip, ij + ji, shape)
        g = wp.vec3d(s[1] * s[2], s[2] * s[0], s[0] * s[1])
        stretch = lam * wp.outer(g, g) + mu * wp.identity(n=3, dtype=real)
        mixed = pressure * wp.mat33d(
            ZERO, s[2], s[1], s[2], ZERO, s[0], s[1], s[0], ZERO
        )  # fmt: skip
        stretch += mixed
        minor = stretch[0, 0] * stretch[1, 1] - stretch[0, 1] * stretch[1, 0]
        if stretch[0, 0] > ZERO and minor > ZERO and wp.determinant(stretch) > ZERO:
            return
        axes = symmetric_axes(stretch)
        for k in range(corners - 1):
            axis = column(axes, k)
            eigenvalue = wp.dot(axis, stretch * axis)
            if eigenvalue < ZERO:
                mode = u * wp.diag(axis) * wp.transpose(v)
                add_outer(hessian, tet, corners, -eigenvalue, mode, shape)

    @wp.kernel(module=home, enable_backward=False)
    def measure_tetrahedra(
        first: int,
        local: wp.array2d(dtype=real),
        inverse_rest: wp.array3d(dtype=real),
        mu_of: wp.array(dtype=real),
        lam_of: wp.array(dtype=real),
        order: int,
        project: int,
        value: wp.array(dtype=real),
        gradient: wp.array2d(dtype=real),
        hessian: wp.array3d(dtype=real),
    ):
        """Value, then gradient (order > 0), then Hessian (order > 1) of one tetrahedron."""
        tet = first + wp.tid()
        corners = wp.int32(4)  # a variable keeps the loops rolled up, and compilation short
        mu = mu_of[tet]
        lam = lam_of[tet]
        # rows: the gradients of the four shape functions in rest space
        shape = Shape()
        for a in range(3):
            for k in range(3):
                weight = inverse_rest[tet, a, k]
                shape[a + 1, k] = weight
                shape[0, k] = shape[0, k] - weight
        x0 = position(local, tet, 0)
        f = (
            wp.outer(position(local, tet, 1) - x0, shape[1])
            + wp.outer(position(local, tet, 2) - x0, shape[2])
            + wp.outer(position(local, tet, 3) - x0, shape[3])
        )
        f1 = column(f, 0)
        f2 = column(f, 1)
        f3 = column(f, 2)
        cofactors = wp.matrix_from_cols(wp.cross(f2, f3), wp.cross(f3, f1), wp.cross(f1, f2))
        growth = wp.dot(f1, column(cofactors, 0)) - ONE
        squares = wp.dot(f1, f1) + wp.dot(f2, f2) + wp.dot(f3, f3)
        value[tet] = mu * ((squares - real(3.0)) / TWO - growth) + lam / TWO * growth * growth
        if order == 0:
            return

        pressure = lam * growth - mu
        stress = mu * f + pressure * cofactors
        for a in range(corners):
            force = stress * shape[a]
            for p in range(3):
                gradient[tet, 3 * a + p] = force[p]
        if order == 1:
            return

        for a in range(corners):
            swelling = cofactors * shape[a]  # the derivative of J
            for b in range(a + 1):
                v = pressure * (f * wp.cross(shape[a], shape[b]))
                m = mu * wp.dot(shape[a], shape[b])
                block = lam * wp.outer(swelling, cofactors * shape[b]) + wp.mat33d(
                    m, v[2], -v[1], -v[2], m, v[0], v[1], -v[0], m
                )
                for p in range(3):
                    for q in range(3):
                        hessian[tet, 3 * a + p, 3 * b + q] = block[p, q]
                        hessian[tet, 3 * b + q, 3 * a + p] = block[p, q]
        if project > 0:
            clamp(hessian, tet, corners, f, mu, lam, pressure, shape)

    return measure_tetrahedra
