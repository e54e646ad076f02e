"""What is optimised: a box of named parameters and a way to evaluate points in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from optimizers.box import Box
from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation
from optimizers.functions import Answers
from optimizers.target import LinearizedTarget

Bound = float | Sequence[float] | Tensor


@dataclass(frozen=True, eq=False)
class Model:
    """A cheaper version of a problem's function: a coarse simulation, a learned surrogate.

    function: with the arguments and results of the function it stands for.
    cost: of one value, in evaluations of the true function.
    differentiable: whether gradients come from it by torch autograd.
    """

    function: Callable[[Any], Any]
    cost: float = 0.01
    differentiable: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be callable, got {type(self.function).__name__}")
        check_number("cost", self.cost, least=0)


class Problem:
    """A box, a number of constraints, and `evaluate(x, order) -> Evaluation` on a batch.

    parameters: the named parts in their order; optimizers see them as one flat vector.
    evaluate: takes the dictionary of one design, shaped tensors, and returns its value or (value,
        constraints), feasible where <= 0. With `batched` it takes tensors with a leading dimension
        B and returns (B,) or ((B,), (B, m)). For full control, write a subclass instead that
        overrides the method `evaluate`.
    outer: F of a composite value F(Phi(x)). Then `evaluate` is Phi and returns the outputs (k,), or
        (B, k) with `batched`; F takes them, in torch, to the value or (value, constraints).
    models: cheaper versions of `evaluate` by fidelity, numbers in [0, 1); methods that know how ask
        them, and believe them as far as the true one bears them out.
    constraints: their number m; None when only an evaluation tells.
    equalities: how many of them, the last ones, are to be zero instead of <= 0.
    differentiable: whether order 1 can be answered; for a given function, by torch autograd.
    gradient_cost: price of a value with its gradient, in evaluations.
    inner_share: part of a price that Phi alone takes; below 1 where F is the costly one.
    current: True when values depend on the iteration (schedules, sampled views); then the newest
        iterate is the result.
    dtype, device: of all tensors; by default those of the tensors in the boxes, else float64, CPU.
    """

    current: bool = False

    def __init__(
        self,
        parameters: Mapping[str, Box],
        evaluate: Callable[[dict[str, Tensor]], Any] | None = None,
        *,
        outer: Callable[[Tensor], Any] | None = None,
        models: Mapping[float, Model] | None = None,
        constraints: int | None = None,
        equalities: int = 0,
        batched: bool = False,
        differentiable: bool = False,
        gradient_cost: float = 3,
        inner_share: float = 1.0,
        current: bool | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if (
            not isinstance(parameters, Mapping)
            or not parameters
            or not all(isinstance(box, Box) for box in parameters.values())
        ):
            raise ValueError(
                f"parameters must be a dictionary of at least one Box, got {parameters!r:.80}"
            )
        dtype, device = _precision_and_place(parameters.values(), dtype, device)
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        if evaluate is not None and not callable(evaluate):
            raise TypeError(f"evaluate must be a function, got {type(evaluate).__name__}")
        if constraints is not None:
            check_count("constraints", constraints, least=0)
        check_count("equalities", equalities, least=0)
        if equalities > (constraints or math.inf):
            raise ValueError(
                f"equalities must be at most the {constraints} constraints, got {equalities}"
            )
        if outer is not None and (evaluate is None or not callable(outer)):
            raise TypeError("outer must be a function of what evaluate returns")
        check_number("gradient_cost", gradient_cost, above=0)
        check_number("inner_share", inner_share, above=0, most=1)
        self.models = _checked_models(models or {})
        self.parameters = dict(parameters)
        self.dtype, self.device = dtype, device
        self.constraints = 0 if constraints is None and evaluate is None else constraints
        self.equalities, self.composite = equalities, outer is not None
        self.inner_share = inner_share
        self.differentiable = differentiable
        self.gradient_cost = gradient_cost
        if current is not None:
            self.current = current
        self._function = evaluate
        self._answers = Answers(self.parameters_of, outer, batched, equalities, inner_share == 1)

        parts, self._slices, offset = [], {}, 0
        for name, box in self.parameters.items():
            try:
                parts.append(box.flat(dtype, self.device))
            except ValueError as error:
                raise ValueError(f"parameter {name!r}: {error}") from error
            self._slices[name] = slice(offset, offset + box.size)
            offset += box.size
        self.lower, self.upper, start, self.scale = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        self.dimension = offset
        self.start = start.clamp(self.lower, self.upper)
        self.start_was_outside = not torch.equal(self.start, start)

    @classmethod
    def from_callable(
        cls,
        fun: Callable[[Tensor], Any],
        lower: Bound,
        upper: Bound,
        start: Bound | None = None,
        batched: bool = False,
        differentiable: bool = False,
        **options: Any,
    ) -> Problem:
        """The problem of a plain function.

        fun: takes (d,) and returns the value or (value, constraints (m,)), feasible where <= 0;
            with `batched` it takes (B, d) and returns (B,) or ((B,), (B, m)).
        lower, upper, start: (d,), or numbers where another of them tells d.
        differentiable: fun is written in torch, and gradients come from autograd.
        options: as for `Problem`; the functions of `models` take what fun takes.
        """
        if not callable(fun):
            raise TypeError(f"fun must be a function, got {type(fun).__name__}")
        if options.get("models"):
            options["models"] = {
                fidelity: replace(model, function=_of_x(model.function))
                for fidelity, model in _checked_models(options["models"]).items()
            }
        return cls(
            {"x": Box((_length(lower, upper, start),), lower, upper, start)},
            _of_x(fun),
            batched=batched,
            differentiable=differentiable,
            **options,
        )

    @classmethod
    def box(cls, lower: Bound, upper: Bound, start: Bound | None = None, **options: Any) -> Problem:
        """Only a box, for ask and tell by hand with answers from a robot, a cluster."""
        options.setdefault("differentiable", True)
        return cls({"x": Box((_length(lower, upper, start),), lower, upper, start)}, **options)

    @property
    def surrogate(self) -> float | None:
        """Fidelity of the cheapest model with gradients, None where there is none."""
        costs = [(model.cost, key) for key, model in self.models.items() if model.differentiable]
        return min(costs)[1] if costs else None

    @property
    def trajectories(self) -> dict[str, tuple[slice, tuple[int, ...]]]:
        """Place in the flat design and shape, time first, of every part that is a trajectory."""
        boxes = self.parameters.items()
        return {name: (self._slices[name], box.shape) for name, box in boxes if box.trajectory}

    def cost(self, order: int = 0, fidelity: float | None = None, target: bool = False) -> float:
        """Price of one point, in evaluations of the true function.

        A curvature is charged as one tangent of Phi for every coordinate where the problem is
        composite, and else as one gradient of the gradient. A target needs Phi alone.
        """
        prices = (1.0, self.gradient_cost, self.gradient_cost * (1 + self.dimension))
        price = prices[order]
        if order == 2 and self.composite and not target:
            price = 1 + (self.gradient_cost - 1) * self.dimension
        share = self.inner_share if target else 1.0
        return price * share * (1.0 if fidelity is None else self.models[fidelity].cost)

    def parameters_of(self, x: Tensor) -> dict[str, Tensor]:
        """The named parts of a flat design (..., d): views (..., *shape)."""
        if x.shape[-1] != self.dimension:
            raise ValueError(f"x must have shape (..., {self.dimension}), got {tuple(x.shape)}")
        return {
            name: x[..., self._slices[name]].unflatten(-1, box.shape)
            if box.shape
            else x[..., self._slices[name].start]
            for name, box in self.parameters.items()
        }

    def flatten(self, parameters: Mapping[str, Any]) -> Tensor:
        """The flat design (d,) of all named parts; ValueError where names or shapes differ."""
        if set(parameters) != set(self.parameters):
            raise ValueError(
                f"parameters must be named {sorted(self.parameters)}, got {sorted(parameters)}"
            )
        parts = []
        for name, box in self.parameters.items():
            part = torch.as_tensor(parameters[name], dtype=self.dtype, device=self.device)
            if part.shape != torch.Size(box.shape):  # pyright: ignore[reportArgumentType]
                raise ValueError(
                    f"parameter {name!r} must have shape {box.shape}, got {tuple(part.shape)}"
                )
            parts.append(part.reshape(-1))
        return torch.cat(parts)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Random designs (count, d): uniform between two bounds, else normal around the start."""
        size = (count, self.dimension)
        uniform = torch.rand(size, generator=generator, dtype=self.dtype, device=self.device)
        normal = torch.randn(size, generator=generator, dtype=self.dtype, device=self.device)
        bounded = self.lower.isfinite() & self.upper.isfinite()
        width = torch.where(bounded, self.upper - self.lower, 0.0)
        inside = torch.where(bounded, self.lower, 0.0) + uniform * width
        points = torch.where(bounded, inside, self.start + self.scale * normal)
        return points.clamp(self.lower, self.upper)

    def evaluate(
        self,
        x: Tensor,
        order: int = 0,
        *,
        fidelity: float | None = None,
        iteration: int = 0,
        target: LinearizedTarget | None = None,
    ) -> Evaluation:
        """Values, from order 1 on gradients, at order 2 curvatures, at designs x (B, d).

        fidelity: which of `models`, None for the true one.
        target: a function of the outputs to evaluate instead of the value.
        iteration: 0-based index of the round of ask and tell, for values that follow a schedule.
        An exception in the user's function is a bug and passes through; values that are not finite
        are failed rows.
        """
        del iteration  # a plain function knows no schedule
        if self._function is None:
            raise ValueError(
                "this problem is only a box: answer its queries yourself with ask and tell"
            )
        if fidelity is not None and fidelity not in self.models:
            allowed = f"None or one of {sorted(self.models)}" if self.models else "None"
            raise ValueError(f"fidelity must be {allowed} for this problem, got {fidelity}")
        model = None if fidelity is None else self.models[fidelity]
        differentiable = self.differentiable if model is None else model.differentiable
        if order not in (0, 1, 2) or (order > 0 and not differentiable):
            raise ValueError(
                f"order must be {'0, 1 or 2' if differentiable else '0'} for this problem, "
                f"got {order}"
            )
        function = self._function if model is None else model.function
        return self._answers.evaluate(function, x, order, target)


def _of_x(fun: Callable[[Tensor], Any]) -> Callable[[dict[str, Tensor]], Any]:
    return lambda named: fun(named["x"])


def _checked_models(models: Any) -> dict[float, Model]:
    fits = isinstance(models, Mapping) and all(
        isinstance(key, float | int) and 0 <= key < 1 and isinstance(model, Model)
        for key, model in models.items()
    )
    if not fits:
        raise ValueError(
            f"models must map fidelities in [0, 1) to optimizers.Model, got {models!r:.80}"
        )
    return dict(models)


def _precision_and_place(
    boxes: Iterable[Box], dtype: torch.dtype | None, device: torch.device | str | None
) -> tuple[torch.dtype, torch.device]:
    """dtype and device as given, else those of the tensors in the boxes, else float64 and CPU."""
    values = [value for box in boxes for value in (box.lower, box.upper, box.start, box.scale)]
    tensors = [value for value in values if isinstance(value, Tensor)]
    if dtype is None:
        kinds = [tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point]
        dtype = reduce(torch.promote_types, kinds) if kinds else torch.float64
    if device is None:
        device = tensors[0].device if tensors else "cpu"
    return dtype, torch.device(device)


def _length(*bounds: Any) -> int:
    try:
        given = [torch.as_tensor(bound) for bound in bounds if bound is not None]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"lower, upper and start must be numbers or arrays: {error}") from error
    lengths = {bound.numel() for bound in given if bound.ndim > 0}
    if len(lengths) > 1:
        raise ValueError(f"lower, upper and start must have one length, got {sorted(lengths)}")
    return lengths.pop() if lengths else 1
