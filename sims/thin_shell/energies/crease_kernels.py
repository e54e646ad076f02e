"""The yield law for kernels; the text of `crease` has the formulas."""

import warp as wp

ZERO = wp.constant(wp.float64(0.0))
ONE = wp.constant(wp.float64(1.0))
TWO = wp.constant(wp.float64(2.0))
FOUR = wp.constant(wp.float64(4.0))
SIX = wp.constant(wp.float64(6.0))
TWELVE = wp.constant(wp.float64(12.0))


@wp.func
def crease_law(
    elastic: wp.float64,
    bending: wp.float64,
    yield_curvature: wp.float64,
    hardening: wp.float64,
    softness: wp.float64,
):
    """W and its first two derivatives in the elastic energy E.

    With kappa = sqrt(2 E / bending) they are phi' / kappa and (phi'' - phi' / kappa) / kappa^2 /
    bending, so that gradient and Hessian of W follow from those of E by the chain rule.
    """
    curvature = wp.sqrt(wp.max(TWO * elastic / bending, ZERO))
    if curvature <= yield_curvature * (ONE - softness):
        return wp.vec3d(elastic, ONE, ZERO)
    width = softness * yield_curvature
    excess = curvature - yield_curvature
    integral = excess * excess / TWO + width * width / SIX
    rounded = excess
    slope = ONE
    if excess < width:
        reach = excess + width
        integral = reach * reach * reach / (TWELVE * width)
        rounded = reach * reach / (FOUR * width)
        slope = reach / (TWO * width)
    share = ONE / (ONE + hardening)
    return wp.vec3d(
        elastic - bending * share * integral,
        ONE - share * rounded / curvature,
        share * (rounded / curvature - slope) / (curvature * curvature * bending),
    )
