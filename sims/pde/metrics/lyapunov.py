"""How fast neighbouring states part: Lyapunov exponents of a solver or a surrogate."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.runs.progress import Progress
from sims.pde.metrics.neutral import Neutral
from sims.pde.metrics.tangents import Tangents

EVERY = 10  # steps between two orthonormalisations, less where tangents change too much
_FREE = 2**15  # values in one step that cost little more than a few hundred
_COPIES = 48
_CLEAR = 2.0  # a growth by e^2 over the transient tells an unstable direction
_SHARE, _STEPS = 0.25, 2000  # of the duration, and at least, for the transient
_REFRESH = 10  # factorisations between two looks at the neutral directions
_APART = 1e-3  # of a copy from its trajectory at the start, relative


def lyapunov_spectrum(
    stepper: Any,
    u: Tensor,
    exponents: int = 8,
    duration: float = 2000.0,
    *,
    transient: float | None = None,
    every: int | None = None,
    copies: int | None = None,
    condition: Mapping[str, Any] | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """The largest Lyapunov exponents (exponents,) [1/s], descending, averaged over the batch of u.

    lambda_i = lim 1/T sum log R_ii, where Q R is the factorisation of the tangents that the step
    carries along, made anew every few steps (Benettin et al. 1980, Meccanica 15, 9). The tangents
    are differences of relative size 1e-7 in float64, all in one call of the stepper with their
    state; what that adds is below 1e-6. Where `stepper.conserves_mean`, the mean, which has
    an exponent of 0 of its own, is left out.

    u: (B, C, *space), on the attractor or not. duration: seconds of each trajectory that are
    averaged, after a `transient` [s] (a quarter of the duration, but at least 2000 steps). The
    first 2/5 of it bring the state to the attractor and the next 2/5 align the tangents. Those of
    exponents near 0 would take far longer, for nothing parts them but chance: the directions along
    the orbit and of translation, which stay neutral for ever where the equation allows them, take
    their place, and the last 1/5 aligns the rest.

    every: steps between two factorisations. copies: trajectories followed for each one of u, which
    begin 1e-3 apart and are strangers after the transient; by default as many as cost little, up
    to 48, as a single one of Kuramoto-Sivashinsky at L = 22 leaves +-0.005 in the first exponent
    and +-0.008 in the fifth after 2000 s.
    condition, generator: of a surrogate, as in `rollout`; its noise is the same for all tangents.
    A torch module is evaluated as a copy in float64.

    Raises InputError for arguments that do not fit, a state that diverges, and tangents that a
    single step shrinks or stretches beyond what differences resolve.
    """
    if not callable(getattr(stepper, "step", None)):
        raise InputError(f"stepper must have step(u), got {stepper!r}")
    count, seconds = _checked(u, exponents, duration)
    module = isinstance(stepper, torch.nn.Module)
    model = copy.deepcopy(stepper).double().eval() if module else stepper
    tangents = Tangents(model, count, condition, generator)
    shortest = max(_SHARE * seconds, _STEPS * tangents.time_step)
    warm = shortest if transient is None else _seconds("transient", transient, zero=True)
    dimensions = u[0].numel() - (u.shape[1] if tangents.conserves_mean else 0)
    if count > dimensions:
        raise InputError(
            f"exponents must be at most {dimensions}, the dimensions of a state, got {count}"
        )
    with torch.no_grad(), Progress("Lyapunov exponents", None, progress) as shown:
        fields = tangents.apart(u.detach().double(), _copies(copies, u, tangents), _APART)
        run = _Run(tangents, fields, every, shown, warm + seconds)
        run.settle(0.4 * warm)
        run.average(0.2 * warm)
        grown = run.average(0.2 * warm) * (0.2 * warm)
        run.insert(int((grown > _CLEAR).sum()))
        run.average(0.2 * warm)
        run.settled = True
        return run.average(seconds).sort(descending=True).values


def kaplan_yorke(exponents: Tensor) -> float:
    """Dimension of the attractor, j + (lambda_1 + ... + lambda_j) / |lambda_j+1|.

    j: the most exponents whose sum is not negative (Kaplan and Yorke 1979). exponents (n,),
    descending. Raises InputError where their sum never becomes negative: more are needed then.
    """
    check_tensor("exponents", exponents, (None,))
    sums = exponents.double().cumsum(0)
    if not len(sums) or not bool((sums < 0).any()):
        raise InputError(
            "exponents must have a negative sum for a dimension to be found, "
            f"got {len(sums)} with the sum {float(sums[-1:].sum()):.3g}; ask for more"
        )
    held = int((sums >= 0).to(torch.int8).argmin())
    before = float(sums[held - 1]) if held else 0.0
    return held + before / abs(float(exponents[held]))


class _Run:
    """The trajectories of one estimate on their way."""

    def __init__(
        self, tangents: Tangents, fields: Tensor, every: int | None, shown: Progress, total: float
    ) -> None:
        self.tangents, self.fields, self.shown, self.total = tangents, fields, shown, total
        self.time_step = tangents.time_step
        self.every = EVERY if every is None else _whole("every", every)
        self.adapts = every is None
        self.frame = tangents.start(fields)
        self.neutral: Neutral | None = None
        self.done, self.factorised, self.settled = 0, 0, False

    def settle(self, seconds: float) -> None:
        """Let the states alone go on."""
        left = round(seconds / self.time_step)
        while left > 0:
            steps = min(left, 100)
            self.fields = self.tangents.advance(self.fields, steps)
            self._tell(steps)
            left -= steps

    def average(self, seconds: float) -> Tensor:
        """Mean growth [1/s] (exponents,) of the tangents over the next seconds."""
        left = max(1, round(seconds / self.time_step))
        span, total = 0, torch.zeros(self.frame.shape[1], dtype=torch.float64)
        while left > 0:
            steps = min(left, self.every)
            fields, grown = self.tangents.move(self.fields, self.frame, steps)
            frame, factor = torch.linalg.qr(grown.mT)
            size = factor.diagonal(dim1=-2, dim2=-1).abs()
            if not self._resolved(size, steps):
                continue
            self.fields, self.frame = fields, frame.mT
            total += size.log().mean(0).cpu()
            left, span = left - steps, span + steps
            self._tell(steps)
            self.factorised += 1
            if self.neutral is not None and self.factorised % _REFRESH == 0:
                self.frame = self.neutral.renew(self.frame, self.fields)
        return total / (span * self.time_step)

    def insert(self, after: int) -> None:
        """Put the neutral directions behind the first `after` tangents, and drop the last ones."""
        self.neutral = Neutral(self.tangents, self.fields, after)
        self.frame = self.neutral.insert(self.frame, self.fields)

    def _resolved(self, size: Tensor, steps: int) -> bool:
        """Whether differences resolve the growth; takes fewer steps from now on where not."""
        least, most = (float(bound) for bound in torch.aminmax(size))
        if self.tangents.smallest < least and most < self.tangents.largest:
            return True
        if self.adapts and steps > 1 and not self.settled:
            self.every = max(1, steps // 2)
            return False
        raise InputError(
            f"a tangent changed by the factor {least if most < 1e3 else most:.1e} within {steps} "
            "steps, more than differences resolve: "
            + ("take a smaller `every`" if steps > 1 else "ask for fewer exponents")
        )

    def _tell(self, steps: int) -> None:
        self.done += steps
        time = self.done * self.time_step
        share = min(1.0, time / self.total)
        self.shown.step(share, f"{time:.0f} s of {self.total:.0f} s", "")


def _checked(u: Tensor, exponents: int, duration: float) -> tuple[int, float]:
    """The number of exponents, and the seconds of averaging."""
    check_tensor("u", u)
    if u.ndim < 3 or not u.numel():
        raise InputError(f"u must have shape (B, C, *space), got {tuple(u.shape)}")
    return _whole("exponents", exponents), _seconds("duration", duration)


def _copies(copies: int | None, u: Tensor, tangents: Tangents) -> int:
    if copies is not None:
        wanted = _whole("copies", copies)
        if wanted > 1 and not tangents.together:
            raise InputError("copies must be 1 where parameters differ by trajectory or noise acts")
        return wanted
    if not tangents.together:
        return 1
    return max(1, min(_COPIES // len(u), _FREE // (u.numel() * (tangents.count + 1))))


def _whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def _seconds(name: str, value: float, zero: bool = False) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be seconds, got {value!r}") from None
    if not (number > 0 or (zero and number == 0)) or number == float("inf"):
        raise InputError(f"{name} must be {'non-negative' if zero else 'positive'}, got {value}")
    return number
