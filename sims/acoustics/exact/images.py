"""The field of a Gaussian pulse in free space and in a rigid shoebox, for any time.

The field starts from rest as amplitude exp(-|x - x0|² / width²). The images are those of J. B.
Allen and D. A. Berkley, "Image method for efficiently simulating small-room acoustics", Journal of
the Acoustical Society of America 65(4), 943-950 (1979). All is float64 and differentiable.

The start is mirrored too: at a wall at a distance d from the source the images add
exp(-d² / width²) to a pressure at t = 0 that is a plain Gaussian in a solver.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor, check_shape
from sims.acoustics.air import SPEED_OF_SOUND

REACH = 6.2  # widths beyond which a Gaussian, exp(-38), is below rounding
TIMES_TOGETHER = 16  # times of one chunk, which share the images that any of them hears
MOST_IMAGES = 30_000_000
NEAR = 1e-2  # widths from the source within which a series replaces a quotient of small numbers


def free_field(
    distances: Tensor,
    times: Tensor,
    width: float | Tensor,
    amplitude: float | Tensor = 1.0,
    speed: float = SPEED_OF_SOUND,
) -> Tensor:
    """Pressure at distances r [m] and times t [s], broadcast, of a Gaussian pulse in free space.

    A ((r - ct) exp(-(r - ct)²/w²) + (r + ct) exp(-(r + ct)²/w²)) / (2 r), d'Alembert's solution
    for r p; at the source A (1 - 2 (ct/w)²) exp(-(ct/w)²).
    """
    return amplitude * _pulse((distances / width) ** 2, speed * times / width, both=True)


def image_sum(
    lengths: object,
    source: object,
    receivers: object,
    times: object,
    width: float | Tensor,
    amplitude: float | Tensor = 1.0,
    speed: float = SPEED_OF_SOUND,
) -> Tensor:
    """Pressure (R, T) in a rigid box from 0 to lengths, the sum of the free fields of all images.

    lengths, source: (3,) [m]. receivers: (R, 3) [m]. times: (T,) [s], any order. width: of the
    pulse [m]. An image stands at 2 m L ± x0 along each axis. Differentiable in all of these.
    Raises InputError for positions outside of the box, negative times, and times so late that
    more than 3e7 images are heard: `rigid_modes` gives the same field there.
    """
    size, start, points, when, wide = _checked(lengths, source, receivers, times, width)
    reach = REACH * wide
    if not len(when) or not len(points):
        return points.new_zeros(len(points), len(when))
    squared, listener = _images(size, start, points, speed * float(when.detach().max()) + reach)
    distances = squared.detach().sqrt()
    order = torch.argsort(when.detach())
    chunks = []
    for chunk in order.split(TIMES_TOGETHER):
        now = when[chunk]
        first, last = (speed * float(now[end].detach()) for end in (0, -1))
        heard = ((distances > first - reach) & (distances < last + reach)).nonzero().squeeze(1)
        parts = _pulse(squared[heard, None] / width**2, speed * now / width, both=first < reach)
        chunks.append(points.new_zeros(len(points), len(now)).index_add(0, listener[heard], parts))
    return amplitude * torch.cat(chunks, dim=1)[:, torch.argsort(order)]


def rigid_modes(
    lengths: object,
    source: object,
    receivers: object,
    times: object,
    width: float | Tensor,
    amplitude: float | Tensor = 1.0,
    speed: float = SPEED_OF_SOUND,
    cutoff: float = 1e-15,
) -> Tensor:
    """The field of `image_sum` (R, T) as a sum of the cosine modes of the box.

    By Poisson's summation, p = A pi^(3/2) w³ / V times the sum over n >= 0 of
    e_n phi_n(x) phi_n(x0) exp(-(k_n w)²/4) cos(c k_n t), phi_n the product of cos(n pi x / L), e_n
    a factor 2 for each index above 0. Modes are left out where exp(-(k w)²/4) is below the cutoff.
    Cheaper than images for many receivers and for late times. Differentiable in the same.
    """
    size, start, points, when, wide = _checked(lengths, source, receivers, times, width)
    if not 0 < cutoff < 1:
        raise InputError(f"cutoff must be between 0 and 1, got {cutoff!r}")
    highest = 2.0 * math.sqrt(-math.log(cutoff)) / wide
    # a double for each index: a product of integers and numbers is of single precision
    along = [
        torch.arange(int(float(length) * highest / math.pi) + 1, device=size.device).double()
        for length in size.detach()
    ]
    steps = [math.pi * n / length for n, length in zip(along, size, strict=True)]
    grid = torch.cartesian_prod(*(torch.arange(len(n), device=size.device) for n in along))
    squared = torch.stack([step[grid[:, axis]] ** 2 for axis, step in enumerate(steps)]).sum(dim=0)
    kept = squared <= highest**2
    grid, squared = grid[kept], squared[kept]
    # the first mode is constant; its root has no slope
    still = torch.zeros_like(squared)
    still[0] = 1.0
    number = torch.sqrt(squared + still) - still
    multiplicity = torch.exp2((grid > 0).sum(dim=1).double())
    factor = amplitude * (math.sqrt(math.pi) * width) ** 3 / size.prod()
    weights = factor * multiplicity * torch.exp(-squared * width**2 / 4.0)
    for axis, step in enumerate(steps):
        weights = weights * torch.cos(start[axis] * step)[grid[:, axis]]
    shapes = weights.expand(len(points), -1)
    for axis, step in enumerate(steps):
        shapes = shapes * torch.cos(points[:, axis, None] * step)[:, grid[:, axis]]
    return shapes @ torch.cos(speed * number[:, None] * when)


def _checked(
    lengths: object, source: object, receivers: object, times: object, width: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """The places and times as tensors, and the width as a number."""
    given = (("lengths", lengths, (3,)), ("source", source, (3,)))
    given += (("receivers", receivers, (None, 3)), ("times", times, (None,)))
    values = []
    for name, value, shape in given:
        tensor = as_tensor(name, value, "real numbers", dtype=torch.float64)
        check_shape(name, tensor, shape)
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{name} must be finite, got NaN or infinite values")
        values.append(tensor)
    size, start, points, when = values
    if not bool((size > 0).all()):
        raise InputError(f"lengths must be positive [m], got {size.tolist()}")
    for name, places in (("source", start[None]), ("receivers", points)):
        outside = ((places < 0) | (places > size)).any(dim=1)
        if bool(outside.any()):
            raise InputError(
                f"{name} must lie in the box from 0 to {size.tolist()} m, got "
                f"{places[outside][0].tolist()}"
            )
    if bool((when < 0).any()):
        raise InputError(f"times must be at least 0 s, got {float(when.detach().min()):g}")
    wide = float(as_tensor("width", width, "a number [m]", dtype=torch.float64).detach())
    if not 0 < wide < math.inf:
        raise InputError(f"width must be positive and finite [m], got {wide:g}")
    return size, start, points, when, wide


def _images(size: Tensor, source: Tensor, points: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Squared distances (P,) of images within reach and the receivers (P,) that hear them."""
    expected = len(points) * 4.0 / 3.0 * math.pi * reach**3 / float(size.detach().prod())
    if expected > MOST_IMAGES:
        raise InputError(
            f"times must be earlier: {expected:.1g} images are heard until the last, at most "
            f"{MOST_IMAGES:.0g} are summed; rigid_modes gives the same field at any time"
        )
    tables = []
    for axis in range(3):
        most = math.ceil(reach / (2.0 * float(size[axis].detach()))) + 1
        shifts = torch.arange(-most, most + 1, dtype=torch.float64, device=size.device)
        images = torch.cat(
            (2.0 * shifts * size[axis] + source[axis], 2.0 * shifts * size[axis] - source[axis])
        )
        tables.append((points[:, axis, None] - images) ** 2)
    bound = reach**2
    # pairs in reach along the first two axes, before the third multiplies their number
    flat = (tables[0][:, :, None] + tables[1][:, None, :]).detach()
    listener, i, j = (flat < bound).nonzero(as_tuple=True)
    above = tables[2].detach()[listener] < bound - flat[listener, i, j][:, None]
    pair, k = above.nonzero(as_tuple=True)
    listener, i, j = listener[pair], i[pair], j[pair]
    return tables[0][listener, i] + tables[1][listener, j] + tables[2][listener, k], listener


def _pulse(squared: Tensor, travelled: Tensor, both: bool) -> Tensor:
    """The free field of a unit pulse, lengths in widths: r² and c t; with its ingoing part or not.

    A function of r², which has a slope where r has none.
    """
    near = squared < NEAR**2
    distance = torch.sqrt(torch.where(near, 1.0, squared))
    quotient = _moment(distance - travelled)
    if not both:
        return quotient / (2.0 * distance)
    quotient = (quotient + _moment(distance + travelled)) / (2.0 * distance)
    if not bool(near.any()):
        return quotient
    close = torch.where(near, squared, 0.0)
    t = travelled**2
    series = (
        (1.0 - 2.0 * t)
        + close * (-1.0 + t * (4.0 - t * (4.0 / 3.0)))
        + close**2 * (0.5 + t * (-3.0 + t * (2.0 - t * (4.0 / 15.0))))
    )
    return torch.where(near, torch.exp(-t) * series, quotient)


def _moment(distance: Tensor) -> Tensor:
    return distance * torch.exp(-(distance**2))
