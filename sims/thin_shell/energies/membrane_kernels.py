"""The kernel that all membrane energies share; each gives it a law for the strain of a triangle.

A law is a Warp function (first, second, row, strain) -> (energy, stress, tangent): the energy of
element `row` at Green's strain (E11, E22, 2 E12), its first derivative (S11, S22, S12) and its
second derivative, a 3x3 matrix. `first` and `second` are the arrays of its material constants.
"""

from typing import Any, NamedTuple

import warp as wp

real = wp.float64
SWEEPS = wp.constant(12)  # of Jacobi; a 4x4 matrix is diagonal to rounding after 4 to 6
COLLAPSED = wp.constant(real(1e-14))  # sine of the angle at which columns of F count as parallel
ZERO, ONE, TWO = wp.constant(real(0.0)), wp.constant(real(1.0)), wp.constant(real(2.0))


class Law(NamedTuple):
    """A material: its function and the number of dimensions of its two constants."""

    function: Any
    first: int
    second: int


def evaluation(home: Any, law: Law) -> Any:
    """The kernel of one law, in the Warp module `home`."""
    material = law.function

    @wp.func(module=home)
    def clamp_stress(s: wp.vec3d):
        """The stress without its negative principal part."""
        mean = (s[0] + s[1]) / TWO
        half = (s[0] - s[1]) / TWO
        radius = wp.sqrt(half * half + s[2] * s[2])
        if mean >= radius:
            return s
        if mean <= -radius:
            return wp.vec3d(ZERO, ZERO, ZERO)
        low = mean - radius
        share = (mean + radius) / (TWO * radius)
        return wp.vec3d(share * (s[0] - low), share * (s[1] - low), share * s[2])

    @wp.func(module=home)
    def is_definite(m: wp.mat44d):
        """Whether all pivots of Gauss elimination are positive."""
        for k in range(4):
            if m[k, k] <= ZERO:
                return False
            for i in range(k + 1, 4):
                factor = m[i, k] / m[k, k]
                for j in range(k + 1, 4):
                    m[i, j] = m[i, j] - factor * m[k, j]
        return True

    @wp.func(module=home)
    def clamp(given: wp.mat44d):
        """The symmetric matrix with its negative eigenvalues set to zero, by Jacobi rotations."""
        if is_definite(given):
            return given
        m = given
        vectors = wp.identity(n=4, dtype=real)
        for _sweep in range(SWEEPS):
            outside = ZERO
            inside = ZERO
            for p in range(4):
                inside += m[p, p] * m[p, p]
                for q in range(p + 1, 4):
                    outside += m[p, q] * m[p, q]
            if outside <= real(1e-34) * inside:
                break
            for p in range(4):
                for q in range(p + 1, 4):
                    if m[p, q] != ZERO:
                        ratio = (m[q, q] - m[p, p]) / (TWO * m[p, q])
                        t = ONE / (wp.abs(ratio) + wp.sqrt(ONE + ratio * ratio))
                        t = wp.where(ratio < ZERO, -t, t)
                        c = ONE / wp.sqrt(ONE + t * t)
                        s = t * c
                        for k in range(4):
                            a = m[k, p]
                            b = m[k, q]
                            m[k, p] = c * a - s * b
                            m[k, q] = s * a + c * b
                            a = vectors[k, p]
                            b = vectors[k, q]
                            vectors[k, p] = c * a - s * b
                            vectors[k, q] = s * a + c * b
                        for k in range(4):
                            a = m[p, k]
                            b = m[q, k]
                            m[p, k] = c * a - s * b
                            m[q, k] = s * a + c * b
        result = wp.matrix(shape=(4, 4), dtype=real)
        for k in range(4):
            scale = wp.max(m[k, k], ZERO)
            for i in range(4):
                for j in range(4):
                    result[i, j] = result[i, j] + scale * vectors[i, k] * vectors[j, k]
        return result

    @wp.func(module=home)
    def plane(f1: wp.vec3d, f2: wp.vec3d):
        """Orthonormal axes whose plane holds both columns of F, also where they are parallel."""
        long = wp.where(wp.length_sq(f1) >= wp.length_sq(f2), f1, f2)
        other = wp.where(wp.length_sq(f1) >= wp.length_sq(f2), f2, f1)
        size = wp.length(long)
        a = wp.vec3d(ONE, ZERO, ZERO)
        if size > ZERO:
            a = long / size
        b = other - wp.dot(other, a) * a
        if wp.length(b) <= COLLAPSED * size:
            b = wp.vec3d(ZERO, ZERO, ONE)
            if wp.abs(a[2]) > real(0.7):
                b = wp.vec3d(ONE, ZERO, ZERO)
        b = wp.normalize(b - wp.dot(b, a) * a)
        b = wp.normalize(b - wp.dot(b, a) * a)
        return a, b

    @wp.func(module=home)
    def blocks(f1: Any, f2: Any, t: wp.mat33d, s: wp.vec3d, unit: Any):
        """Second derivatives of the energy in the columns of F: (1, 1), (1, 2) and (2, 2)."""
        f11 = wp.outer(f1, f1)
        f12 = wp.outer(f1, f2)
        f21 = wp.outer(f2, f1)
        f22 = wp.outer(f2, f2)
        k11 = t[0, 0] * f11 + t[0, 2] * (f12 + f21) + t[2, 2] * f22 + s[0] * unit
        k12 = t[0, 1] * f12 + t[0, 2] * f11 + t[1, 2] * f22 + t[2, 2] * f21 + s[2] * unit
        k22 = t[1, 1] * f22 + t[1, 2] * (f12 + f21) + t[2, 2] * f11 + s[1] * unit
        return k11, k12, k22

    @wp.func(module=home)
    def clamped_blocks(f1: wp.vec3d, f2: wp.vec3d, t: wp.mat33d, s: wp.vec3d):
        """`blocks` clamped to positive semi-definite as one 6x6 matrix.

        Motions in the plane of the triangle and out of it do not mix: the second part is the stress
        itself, the first a 4x4 matrix.
        """
        a, b = plane(f1, f2)
        g1 = wp.vec2d(wp.dot(a, f1), wp.dot(b, f1))
        g2 = wp.vec2d(wp.dot(a, f2), wp.dot(b, f2))
        k11, k12, k22 = blocks(g1, g2, t, s, wp.identity(n=2, dtype=real))
        m = wp.matrix(shape=(4, 4), dtype=real)
        for i in range(2):
            for j in range(2):
                m[i, j] = k11[i, j]
                m[i, j + 2] = k12[i, j]
                m[j + 2, i] = k12[i, j]
                m[i + 2, j + 2] = k22[i, j]
        m = clamp(m)
        aa = wp.outer(a, a)
        ab = wp.outer(a, b)
        ba = wp.outer(b, a)
        bb = wp.outer(b, b)
        n = wp.cross(a, b)
        nn = wp.outer(n, n)
        p = clamp_stress(s)
        r11 = m[0, 0] * aa + m[0, 1] * (ab + ba) + m[1, 1] * bb + p[0] * nn
        r12 = m[0, 2] * aa + m[0, 3] * ab + m[1, 2] * ba + m[1, 3] * bb + p[2] * nn
        r22 = m[2, 2] * aa + m[2, 3] * (ab + ba) + m[3, 3] * bb + p[1] * nn
        return r11, r12, r22

    @wp.kernel(module=home, enable_backward=False)
    def evaluate(
        first: int,
        local: wp.array2d(dtype=real),
        inverse_rest: wp.array3d(dtype=real),
        material_first: wp.array(dtype=real, ndim=law.first),
        material_second: wp.array(dtype=real, ndim=law.second),
        extrapolated: wp.array2d(dtype=real),
        order: int,
        project: int,
        extrapolate: int,
        value: wp.array(dtype=real),
        gradient: wp.array2d(dtype=real),
        hessian: wp.array3d(dtype=real),
    ):
        """Value, gradient and Hessian of one triangle as far as `order` asks.

        The Hessian is made in the columns of F and carried over to the corners: F is linear in
        them, and corner 0 takes what balances the others.
        """
        row = first + wp.tid()
        x0 = wp.vec3d(local[row, 0], local[row, 1], local[row, 2])
        d1 = wp.vec3d(local[row, 3], local[row, 4], local[row, 5]) - x0
        d2 = wp.vec3d(local[row, 6], local[row, 7], local[row, 8]) - x0
        a1 = inverse_rest[row, 0, 0]
        a2 = inverse_rest[row, 0, 1]
        b1 = inverse_rest[row, 1, 0]
        b2 = inverse_rest[row, 1, 1]
        f1 = a1 * d1 + b1 * d2
        f2 = a2 * d1 + b2 * d2
        strain = wp.vec3d(
            (wp.dot(f1, f1) - ONE) / TWO, (wp.dot(f2, f2) - ONE) / TWO, wp.dot(f1, f2)
        )
        energy, s, t = material(material_first, material_second, row, strain)
        value[row] = energy
        if order > 0:
            p1 = s[0] * f1 + s[2] * f2
            p2 = s[2] * f1 + s[1] * f2
            force1 = a1 * p1 + a2 * p2
            force2 = b1 * p1 + b2 * p2
            for i in range(3):
                gradient[row, i] = -force1[i] - force2[i]
                gradient[row, i + 3] = force1[i]
                gradient[row, i + 6] = force2[i]
        if order > 1:
            if extrapolate != 0:
                foreseen = wp.vec3d(
                    extrapolated[row, 0], extrapolated[row, 1], extrapolated[row, 2]
                )
                there, stress, _tangent = material(material_first, material_second, row, foreseen)
                if wp.isfinite(there):
                    s = stress
            k11, k12, k22 = blocks(f1, f2, t, s, wp.identity(n=3, dtype=real))
            if project != 0:
                k11, k12, k22 = clamped_blocks(f1, f2, t, s)
            k21 = wp.transpose(k12)
            h11 = a1 * a1 * k11 + a1 * a2 * (k12 + k21) + a2 * a2 * k22
            h12 = a1 * b1 * k11 + a1 * b2 * k12 + a2 * b1 * k21 + a2 * b2 * k22
            h22 = b1 * b1 * k11 + b1 * b2 * (k12 + k21) + b2 * b2 * k22
            for i in range(3):
                for j in range(3):
                    h01 = -h11[i, j] - h12[j, i]
                    h02 = -h12[i, j] - h22[i, j]
                    h00 = h11[i, j] + h12[i, j] + h12[j, i] + h22[i, j]
                    hessian[row, i, j] = h00
                    hessian[row, i, j + 3] = h01
                    hessian[row, j + 3, i] = h01
                    hessian[row, i, j + 6] = h02
                    hessian[row, j + 6, i] = h02
                    hessian[row, i + 3, j + 3] = h11[i, j]
                    hessian[row, i + 3, j + 6] = h12[i, j]
                    hessian[row, j + 6, i + 3] = h12[i, j]
                    hessian[row, i + 6, j + 6] = h22[i, j]

    return evaluate
