"""The kernel of the neo-Hookean membrane."""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.membrane_kernels import ONE, TWO, Law, evaluation, real


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of triangles."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def log_plus_one(x: real):
        """ln(1 + x) without loss for small x: the rounding of 1 + x cancels in the quotient."""
        sum = ONE + x
        if sum == ONE:
            return x
        return x * wp.log(sum) / (sum - ONE)

    @wp.func(module=home)
    def law(lam_of: wp.array(dtype=real), mu_of: wp.array(dtype=real), row: int, strain: wp.vec3d):
        lam = lam_of[row]
        mu = mu_of[row]
        growth = TWO * (strain[0] + strain[1]) + real(4.0) * strain[0] * strain[1]
        growth -= strain[2] * strain[2]
        energy = real(wp.inf)
        stress = wp.vec3d(real(wp.nan), real(wp.nan), real(wp.nan))
        tangent = wp.mat33d(real(wp.nan))
        if growth > -ONE:
            determinant = ONE + growth
            log_stretch = log_plus_one(growth) / TWO
            energy = mu * (strain[0] + strain[1] - log_stretch)
            energy += lam / TWO * log_stretch * log_stretch
            # C^-1, and mu (I - C^-1) as mu C^-1 (C - I), which small strains do not cancel in
            a = (ONE + TWO * strain[1]) / determinant
            b = (ONE + TWO * strain[0]) / determinant
            c = -strain[2] / determinant
            pressure = lam * log_stretch
            stress = wp.vec3d(
                mu * (TWO * strain[0] * a + strain[2] * c) + pressure * a,
                mu * (TWO * strain[1] * b + strain[2] * c) + pressure * b,
                (pressure - mu) * c,
            )
            m = mu - pressure
            both = lam + TWO * m
            tangent = wp.mat33d(
                both * a * a,
                lam * a * b + TWO * m * c * c,
                both * a * c,
                lam * a * b + TWO * m * c * c,
                both * b * b,
                both * b * c,
                both * a * c,
                both * b * c,
                lam * c * c + m * (a * b + c * c),
            )
        return energy, stress, tangent

    return evaluation(home, Law(law, first=1, second=1))
