"""Inverse problems of flows: what started, drives or governs those that were observed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from optimizers import Box, Evaluation, LinearizedTarget, Problem
from sims.pde.design.observations import Observations
from sims.pde.design.unknowns import Coefficients, Field, Number
from sims.pde.rollout import Diverged, rollout
from sims.pde.surrogates.refiner import Refiner
from sims.pde.surrogates.surrogate import Surrogate

INITIAL = "initial"  # the unknown that is not an argument of the model
AT_ONCE = 32  # coordinates that are moved in one rollout
Unknown = Field | Number


class InverseProblem(Problem):
    """What a model must be given for its rollout to pass through observations, least squares.

        J = 1/2 sum over measured values of (frame - observed)^2 / (n noise^2)
            + 1/2 sum over coefficients of (a - start)^2 / (n spread^2)

    with the second part, the prior of the fields, only where the noise is known; else the root mean
    square of the observations stands for it, and J is half the squared relative error. n counts the
    measured values. J is F(Phi(x)) of the residuals Phi, so that Gauss-Newton methods work too.

    model: a stepper or a surrogate, anything with `step`; or, where the stepper itself is unknown,
    what makes one of the unknowns, called with their names and values (B,), such as
    `functools.partial(KuramotoSivashinsky, 64.0, 128, 0.1)` for a `viscosity`, and fields (B, C,
    *space), such as the `forcing` of `NavierStokes2D`. A surrogate gets numbers as conditions.
    observations: of E trajectories. unknowns: name to `Field` or `Number`; `initial` is the field
    at time 0, one for each trajectory. initial: the fields (E, C, *space) at 0 where they are
    known. condition: what else a surrogate wants to be told. spin_up: time [s] that an unknown
    initial field is advanced before time 0, so that its short waves are those that the flow makes
    of the long ones and it lies near the attractor; the unknown is the field before that.
    checkpoint: keep frames only for the way back, and compute again what lies between. seed: of the
    noise of a surrogate that draws some, the same in every evaluation.

    A design that diverges is a failed row. Raises InputError for arguments that do not fit.
    """

    def __init__(
        self,
        model: Any,
        observations: Observations,
        unknowns: Mapping[str, Unknown],
        *,
        initial: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
        spin_up: float = 0.0,
        checkpoint: bool = True,
        seed: int = 0,
        gradient_cost: float = 3.0,
    ) -> None:
        if not isinstance(observations, Observations):
            raise InputError(f"observations must be Observations, got {observations!r:.80}")
        kinds = isinstance(unknowns, Mapping) and all(
            isinstance(unknown, Field | Number) for unknown in unknowns.values()
        )
        if not kinds or not unknowns:
            raise InputError(f"unknowns must map names to Field or Number, got {unknowns!r:.80}")
        self.model, self.observations = model, observations
        self.unknowns, self.condition = dict(unknowns), dict(condition or {})
        self.checkpoint, self.seed, self.spin_up = checkpoint, seed, spin_up
        frames = observations.frames
        self._each = len(frames)
        self.channels, self.space = frames.shape[2], tuple(frames.shape[3:])
        self.initial = self._known(initial)
        if spin_up and self.initial is not None:
            raise InputError("spin_up is for an unknown initial field, got a known one")
        if not 0 <= spin_up < math.inf:
            raise InputError(f"spin_up must be at least 0 s, got {spin_up}")
        self._check_model()
        self._fields = {
            name: Coefficients(unknown, self.channels if name == INITIAL else 1, self.space, frames)
            for name, unknown in unknowns.items()
            if isinstance(unknown, Field)
        }
        boxes = {name: self._box(name, unknown, frames) for name, unknown in unknowns.items()}
        self._weight = observations.weight
        self._target = torch.where(observations.seen, frames.detach(), 0.0)
        super().__init__(
            boxes,
            self.residuals,
            outer=lambda residuals: 0.5 * residuals.square().sum(-1),
            constraints=0,
            batched=True,
            differentiable=True,
            gradient_cost=gradient_cost,
            dtype=frames.dtype,
            device=frames.device,
        )
        self._starts = {name: self.parameters_of(self.start)[name] for name in self._fields}

    def by(self, model: Any, condition: Mapping[str, Any] | None = None) -> InverseProblem:
        """The same problem by another model, such as a surrogate of this one's."""
        return self._with(self.observations, model, condition)

    def _with(
        self,
        observations: Observations,
        model: Any,
        condition: Mapping[str, Any] | None = None,
    ) -> InverseProblem:
        return InverseProblem(
            model,
            observations,
            self.unknowns,
            initial=self.initial,
            condition=self.condition if condition is None else condition,
            spin_up=self.spin_up,
            checkpoint=self.checkpoint,
            seed=self.seed,
            gradient_cost=self.gradient_cost,
        )

    def until(self, frames: int) -> InverseProblem:
        """The same problem with the first so many frames alone."""
        whole = self.observations
        every = whole.frames.shape
        mask, noise = whole.mask, whole.noise
        if mask is not None:
            mask = mask.expand(every)[:, :frames]
        if isinstance(noise, Tensor):
            noise = noise.expand(every)[:, :frames]
        times = torch.as_tensor(whole.times)[:frames]
        part = Observations(whole.frames[:, :frames], times, mask, noise)
        return self._with(part, self.model)

    def starting(self, x: Tensor) -> InverseProblem:
        """The same problem from another start (d,); the prior stays where it was."""
        other = copy(self)
        other.start = check_tensor("x", x, (self.dimension,), like=self.start).detach().clone()
        return other

    def values(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the unknowns are in a batch of named parts: numbers (B,), the initial fields (B, E,
        C, *space) before the spin-up, other fields (B, 1, *space).
        """
        found: dict[str, Tensor] = {}
        for name, unknown in self.unknowns.items():
            if isinstance(unknown, Number):
                found[name] = unknown.value(named[name])
            else:
                found[name] = self._fields[name].field_of(named[name])
        return found

    def found(self, x: Tensor) -> dict[str, Tensor]:
        """What the unknowns are at one design (d,): numbers (), the initial fields (E, C, *space)
        at time 0, other fields (1, *space).
        """
        with torch.no_grad():
            values = self.values(self.parameters_of(x[None]))
            if INITIAL in values:
                values[INITIAL] = self._begun(values)[0].unflatten(0, (1, self._each))
        return {name: value[0] for name, value in values.items()}

    def frames(self, values: Mapping[str, Tensor]) -> Tensor:
        """The frames (B, E, F, C, *space) at the times of the observations, of `values`."""
        u, model, options = self._begun(values)
        steps = self.observations.steps(float(model.time_step))
        every = even_stride(math.gcd(*steps))
        states = self._rolled(model, u, steps[-1], every, options)
        states = states[:, [step // every - 1 for step in steps]]
        return states.unflatten(0, (-1, self._each))

    def residuals(self, named: Mapping[str, Tensor]) -> Tensor:
        """Phi (B, k): weighted deviations from what was measured, then those from the prior."""
        rows = len(next(iter(named.values())))
        if rows > 1 and isinstance(self.model, Refiner):
            # one by one, so that a design meets the same noise whatever stands beside it
            each = [{name: part[i : i + 1] for name, part in named.items()} for i in range(rows)]
            return torch.cat([self.residuals(one) for one in each])
        return self.deviations(self.frames(self.values(named)), named)

    def deviations(self, frames: Tensor, named: Mapping[str, Tensor]) -> Tensor:
        """Phi (B, k) of frames (B, E, F, C, *space) and of the named parts that they came from."""
        measured = self.observations.seen.flatten()
        parts = [((frames - self._target) * self._weight).flatten(1)[:, measured]]
        if self.observations.noise is not None:
            count = math.sqrt(int(measured.sum()))
            parts += [
                ((named[name] - self._starts[name]) / (field.spread * count)).flatten(1)
                for name, field in self._fields.items()
            ]
        return torch.cat(parts, 1)

    def evaluate(
        self,
        x: Tensor,
        order: int = 0,
        *,
        fidelity: float | None = None,
        iteration: int = 0,
        target: LinearizedTarget | None = None,
    ) -> Evaluation:
        """As `Problem.evaluate`, with the matrix of `gauss_newton` at order 2."""
        if order == 2 and target is None:
            answer = super().evaluate(x, 1, fidelity=fidelity, iteration=iteration)
            return replace(answer, curvature=torch.stack([self.gauss_newton(row) for row in x]))
        return super().evaluate(x, order, fidelity=fidelity, iteration=iteration, target=target)

    def gauss_newton(self, x: Tensor) -> Tensor:
        """J^T J (d, d) of Phi at one design (d,), by central differences of all coordinates at
        once: rollouts without a graph are far quicker than tangents, and the matrix only shapes
        steps.
        """
        exact = self.model.dtype if isinstance(self.model, Surrogate) else self.dtype
        size = torch.finfo(exact).eps ** (1 / 3) * self.scale
        ahead, behind = (x + size).clamp(max=self.upper), (x - size).clamp(min=self.lower)
        rows = []
        with torch.no_grad():
            for some in torch.arange(len(x), device=x.device).split(AT_ONCE):
                near = x.repeat(2, len(some), 1)
                row = torch.arange(len(some), device=x.device)
                near[0, row, some], near[1, row, some] = ahead[some], behind[some]
                moved = self.residuals(self.parameters_of(near.flatten(0, 1)))
                high, low = moved.unflatten(0, (2, -1))
                rows.append((high - low) / (ahead - behind)[some, None])
        jacobian = torch.cat(rows)
        return jacobian @ jacobian.mT

    def _begun(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Any, dict[str, Any]]:
        """Fields (B E, C, *space) at time 0, the model, and what its rollout is told."""
        batch, each = len(next(iter(values.values()))), self._each
        given = {
            name: value if each == 1 else value.repeat_interleave(each, 0)
            for name, value in values.items()
            if name != INITIAL
        }
        model, options = self.model, {}
        if isinstance(model, Surrogate):
            options["condition"] = {**self.condition, **given} or None
            options["generator"] = torch.Generator(self.device).manual_seed(self.seed)
        elif given:
            model = model(**given)
        if INITIAL in values:
            u = values[INITIAL].flatten(0, 1)
        else:
            assert self.initial is not None
            u = self.initial.expand(batch, *self.initial.shape).flatten(0, 1)
        if self.spin_up:
            steps = round(self.spin_up / float(model.time_step))
            u = self._rolled(model, u, steps, even_stride(steps), options)[:, -1]
            u = torch.where(
                u.isfinite(), u, torch.finfo(u.dtype).max
            )  # diverges again, and is told
        return u, model, options

    def _rolled(
        self, model: Any, u: Tensor, steps: int, every: int, options: dict[str, Any]
    ) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Diverged)  # a failed row tells it
            return rollout(model, u, steps, every, checkpoint=self.checkpoint, **options)

    def _known(self, initial: Tensor | None) -> Tensor | None:
        """The known initial fields. Raises InputError unless exactly what is unknown is missing."""
        if (initial is None) == (INITIAL not in self.unknowns):
            raise InputError(
                f"initial must be given, or be among the unknowns {sorted(self.unknowns)}, "
                "and not both"
            )
        if initial is None:
            if not isinstance(self.unknowns[INITIAL], Field):
                raise InputError("unknowns must have a Field for 'initial', got a Number")
            return None
        shape = (self._each, self.channels, *self.space)
        return check_tensor("initial", initial, shape, like=self.observations.frames)

    def _check_model(self) -> None:
        """Raise InputError where the model cannot be told what is unknown."""
        others = sorted(set(self.unknowns) - {INITIAL})
        if isinstance(self.model, Surrogate):
            strange = sorted(set(others) - set(self.model.conditions))
            if strange:
                raise InputError(
                    f"unknowns must be conditions {sorted(self.model.conditions)} of the "
                    f"surrogate, got {strange}"
                )
        elif others and (hasattr(self.model, "step") and not isinstance(self.model, type)):
            raise InputError(
                f"model must be what makes a stepper of {', '.join(others)}, such as "
                "functools.partial(KuramotoSivashinsky, 64.0, 128, 0.1); got a ready one"
            )
        elif not others and not hasattr(self.model, "step"):
            raise InputError(f"model must have step(u), got {type(self.model).__name__}")
        elif others and not callable(self.model):
            raise InputError(f"model must make a stepper, got {type(self.model).__name__}")
        if not others:
            self.observations.steps(float(self.model.time_step))
            self._check_spin_up(float(self.model.time_step))

    def _check_spin_up(self, time_step: float) -> None:
        steps = self.spin_up / time_step
        if abs(steps - round(steps)) > 1e-6 * max(steps, 1.0):
            raise InputError(
                f"spin_up must be a multiple of the model's time_step {time_step:g} s, got "
                f"{self.spin_up}"
            )

    def _box(self, name: str, unknown: Unknown, like: Tensor) -> Box:
        if isinstance(unknown, Number):
            return unknown.box(like)
        return self._fields[name].box(self._each if name == INITIAL else 0, like)


def even_stride(steps: int) -> int:
    """The divisor of a number of steps that is nearest to its root: about as many fields are kept
    for the way back as are computed again at once.
    """
    divisors = [n for n in range(1, steps + 1) if steps % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n * n / steps))) if divisors else 1
