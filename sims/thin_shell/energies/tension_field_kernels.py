"""The kernel of the tension field."""

import math
from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.membrane_kernels import ONE, TWO, ZERO, Law, evaluation, real

ANGLES = 16  # directions tried before Newton; multiples of a right angle are among them
ROUNDS = 20  # Newton needs about 5 from there; a few bisections may come first
STEP = wp.constant(real(math.pi / ANGLES))
STEP_COSINE = wp.constant(real(math.cos(math.pi / ANGLES)))
STEP_SINE = wp.constant(real(math.sin(math.pi / ANGLES)))
CLOSE = 1e-15  # angles that are the same to rounding


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of triangles."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def strip(angle: real):
        """Voigt vector v of the dyad of a direction, and its first two derivatives in the angle."""
        c = wp.cos(angle)
        s = wp.sin(angle)
        cosine = c * c - s * s
        sine = TWO * c * s
        v = wp.vec3d(c * c, s * s, c * s)
        return v, wp.vec3d(-sine, sine, cosine), wp.vec3d(-TWO * cosine, TWO * cosine, -TWO * sine)

    @wp.func(module=home)
    def slope(angle: real, strain: wp.vec3d, compliance: wp.mat33d):
        """2 N' D - N D', zero at the best direction, and its derivative; N = v.e, D = v.Cv."""
        v, dv, ddv = strip(angle)
        soft = compliance * v
        n = wp.dot(v, strain)
        d = wp.dot(v, soft)
        dn = wp.dot(dv, strain)
        dd = TWO * wp.dot(dv, soft)
        ddd = TWO * (wp.dot(ddv, soft) + wp.dot(dv, compliance * dv))
        return TWO * dn * d - n * dd, TWO * wp.dot(ddv, strain) * d + dn * dd - n * ddd

    @wp.func(module=home)
    def best_direction(strain: wp.vec3d, compliance: wp.mat33d):
        """Angle of the largest N / sqrt(D): the best of a fan, then Newton in its interval."""
        c = ONE
        s = ZERO
        best = real(-wp.inf)
        angle = ZERO
        for k in range(ANGLES):
            v = wp.vec3d(c * c, s * s, c * s)
            score = wp.dot(v, strain) / wp.sqrt(wp.dot(v, compliance * v))
            if score > best:
                best = score
                angle = real(k) * STEP
            turned = c * STEP_COSINE - s * STEP_SINE
            s = s * STEP_COSINE + c * STEP_SINE
            c = turned
        low = angle - STEP
        high = angle + STEP
        for _round in range(ROUNDS):
            rise, bend = slope(angle, strain, compliance)
            if rise > ZERO:
                low = angle
            else:
                high = angle
            moved = angle - rise / bend
            if not (moved >= low and moved <= high):
                moved = (low + high) / TWO
            done = wp.abs(moved - angle) <= real(CLOSE)
            angle = moved
            if done:
                break
        return angle

    @wp.func(module=home)
    def uniaxial(strain: wp.vec3d, compliance: wp.mat33d):
        """Energy, stress and tangent of a wrinkled triangle."""
        angle = best_direction(strain, compliance)
        v, dv, _ddv = strip(angle)
        soft = compliance * v
        n = wp.dot(v, strain)
        d = wp.dot(v, soft)
        dd = TWO * wp.dot(dv, soft)
        tension = n / d
        change = (wp.dot(dv, strain) - tension * dd) / d
        _rise, bend = slope(angle, strain, compliance)
        # how the stress turns with the direction, and the direction with the strain
        turn = change * v + tension * dv
        stiff = -n * bend / (TWO * d * d)
        tangent = wp.outer(v, v) / d
        if stiff > ZERO:
            tangent += wp.outer(turn, turn) / stiff
        return n * tension / TWO, tension * v, tangent

    @wp.func(module=home)
    def law(
        stiffness: wp.array3d(dtype=real),
        slack_of: wp.array(dtype=real),
        row: int,
        strain: wp.vec3d,
    ):
        tangent = wp.mat33d()
        for i in range(3):
            for j in range(3):
                tangent[i, j] = stiffness[row, i, j]
        slack = slack_of[row]
        stress = tangent * strain
        energy = wp.dot(strain, stress) / TWO
        if stress[0] + stress[1] < ZERO or stress[0] * stress[1] < stress[2] * stress[2]:
            relaxed = ZERO
            pull = wp.vec3d()
            stretch = wp.mat33d()
            product = real(4.0) * strain[0] * strain[1]
            if strain[0] + strain[1] > ZERO or product < strain[2] * strain[2]:
                relaxed, pull, stretch = uniaxial(strain, wp.inverse(tangent))
            energy = relaxed + slack * (energy - relaxed)
            stress = pull + slack * (stress - pull)
            tangent = stretch + slack * (tangent - stretch)
        return energy, stress, tangent

    return evaluation(home, Law(law, first=3, second=1))
