"""The kernel of the St. Venant-Kirchhoff membrane."""

from functools import cache
from typing import Any

import warp as wp

from sims.thin_shell.energies.membrane_kernels import Law, evaluation, real


@cache
def kernel() -> Any:
    """Value, gradient and Hessian of triangles."""
    home = wp.get_module(f"{__name__}.float64")

    @wp.func(module=home)
    def law(
        stiffness: wp.array3d(dtype=real),
        rest_strain: wp.array2d(dtype=real),
        row: int,
        strain: wp.vec3d,
    ):
        e = strain - wp.vec3d(rest_strain[row, 0], rest_strain[row, 1], rest_strain[row, 2])
        tangent = wp.mat33d()
        for i in range(3):
            for j in range(3):
                tangent[i, j] = stiffness[row, i, j]
        stress = tangent * e
        return wp.dot(e, stress) / real(2.0), stress, tangent

    return evaluation(home, Law(law, first=3, second=2))
