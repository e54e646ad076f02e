"""What is optimised: a box of named parameters and a way to evaluate points in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.evaluation import Evaluation

Bound = float | Sequence[float] | Tensor


@dataclass(frozen=True, eq=False)
class Box:
    """One named part of a design: an array with bounds.

    shape: of the array, an integer or a sequence of them, () for a number.
    lower, upper: a number or an array of that shape, -inf and inf where free.
    start: where a search begins; by default the middle, or nearest to 0 where a side is free.
    scale: size of a typical change, the unit of every step size; by default the width, or 1 where
        a side is free.
    """

    shape: Any = ()
    lower: Any = -math.inf
    upper: Any = math.inf
    start: Any = None
    scale: Any = None

    def __post_init__(self) -> None:
        given = self.shape
        shape = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
        shape = tuple(shape)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            raise ValueError(f"shape must hold positive integers, got {self.shape}")
        object.__setattr__(self, "shape", shape)

    @property
    def size(self) -> int:
        """How many numbers the part holds."""
        return math.prod(self.shape)

    def flat(
        self, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """lower, upper, start and scale as vectors (size,); ValueError if one does not fit."""

        def vector(name: str, value: Any) -> Tensor:
            try:
                tensor = torch.as_tensor(value, dtype=dtype, device=device).detach()
                tensor = tensor.expand(self.shape).reshape(-1).clone()  # pyright: ignore
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"{name} must be a number or an array of shape {self.shape}, got {value!r:.80}"
                ) from error
            if bool(tensor.isnan().any()):
                raise ValueError(f"{name} must not hold NaN, got {value!r:.80}")
            return tensor

        lower, upper = vector("lower", self.lower), vector("upper", self.upper)
        if not bool((lower < upper).all()):
            at = int((lower >= upper).nonzero()[0])
            raise ValueError(
                f"lower must be below upper everywhere, got {float(lower[at])} and "
                f"{float(upper[at])} at entry {at}"
            )
        bounded = lower.isfinite() & upper.isfinite()
        if self.start is None:
            start = torch.where(bounded, 0.5 * lower + 0.5 * upper, 0.0).clamp(lower, upper)
        else:
            start = vector("start", self.start)
        if not bool(start.isfinite().all()):
            raise ValueError("start must be finite")
        if self.scale is None:
            scale = torch.where(bounded, upper - lower, 1.0)
        else:
            scale = vector("scale", self.scale)
        if not bool(((scale > 0) & scale.isfinite()).all()):
            raise ValueError("scale must be positive and finite")
        return lower, upper, start, scale


class Problem:
    """A box, a number of constraints, and `evaluate(x, order) -> Evaluation` on a batch.

    parameters: the named parts in their order; optimizers see them as one flat vector.
    evaluate: takes the dictionary of one design, shaped tensors, and returns its value or (value,
        constraints), feasible where <= 0. With `batched` it takes tensors with a leading dimension
        B and returns (B,) or ((B,), (B, m)). For full control, write a subclass instead that
        overrides the method `evaluate`.
    constraints: their number m; None when only an evaluation tells.
    differentiable: whether order 1 can be answered; for a given function, by torch autograd.
    gradient_cost: price of a value with its gradient, in evaluations.
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
        constraints: int | None = None,
        batched: bool = False,
        differentiable: bool = False,
        gradient_cost: float = 3,
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
        check_number("gradient_cost", gradient_cost, above=0)
        self.parameters = dict(parameters)
        self.dtype, self.device = dtype, device
        self.constraints = 0 if constraints is None and evaluate is None else constraints
        self.differentiable = differentiable
        self.gradient_cost = gradient_cost
        if current is not None:
            self.current = current
        self._function = evaluate
        self._batched = batched

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
        options: as for `Problem`.
        """
        if not callable(fun):
            raise TypeError(f"fun must be a function, got {type(fun).__name__}")
        return cls(
            {"x": Box((_length(lower, upper, start),), lower, upper, start)},
            lambda named: fun(named["x"]),
            batched=batched,
            differentiable=differentiable,
            **options,
        )

    @classmethod
    def box(cls, lower: Bound, upper: Bound, start: Bound | None = None, **options: Any) -> Problem:
        """Only a box, for ask and tell by hand with answers from a robot, a cluster."""
        options.setdefault("differentiable", True)
        return cls({"x": Box((_length(lower, upper, start),), lower, upper, start)}, **options)

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
        self, x: Tensor, order: int = 0, *, fidelity: float | None = None, iteration: int = 0
    ) -> Evaluation:
        """Values, and gradients where order is 1, at designs x (B, d).

        iteration: 0-based index of the round of ask and tell, for values that follow a schedule.
        An exception in the user's function is a bug and passes through; values that are not finite
        are failed rows.
        """
        del iteration  # a plain function knows no schedule
        if self._function is None:
            raise ValueError(
                "this problem is only a box: answer its queries yourself with ask and tell"
            )
        if fidelity is not None:
            raise ValueError(f"this problem has no fidelities, got fidelity={fidelity}")
        if order not in (0, 1) or (order == 1 and not self.differentiable):
            raise ValueError(
                f"order must be {'0 or 1' if self.differentiable else '0'} for this problem, "
                f"got {order}"
            )
        if self._batched:
            return self._evaluated(x, order)
        rows = [self._evaluated(x[i : i + 1], order) for i in range(len(x))]
        if len({row.constraints is None or row.constraints.shape[1] for row in rows}) > 1:
            raise ValueError("fun must return the same number of constraints at every point")

        def stacked(name: str) -> Tensor | None:
            parts = [getattr(row, name) for row in rows]
            return None if parts[0] is None else torch.cat(parts)

        names = ("value", "constraints", "gradient", "constraint_gradient", "ok")
        return Evaluation(*(stacked(name) for name in names))  # pyright: ignore

    def _evaluated(self, x: Tensor, order: int) -> Evaluation:
        """One call of the function: on all rows when it is batched, else on the only row."""
        with torch.inference_mode(False), torch.set_grad_enabled(order == 1):
            x = x.detach().clone()  # the function may write into its argument
            x.requires_grad_(order == 1)
            named = self.parameters_of(x if self._batched else x[0])
            returned = self._function(named)  # pyright: ignore[reportOptionalCall]
            value, constraints = returned if isinstance(returned, tuple) else (returned, None)
            value = self._tensor("value", value, (len(x),))
            if constraints is not None:
                constraints = self._tensor("constraints", constraints, (len(x), -1))
            if order == 0:
                return Evaluation(value, constraints)
            if not value.requires_grad:
                raise ValueError(
                    "differentiable=True, but the value of fun does not depend on its argument "
                    "through torch operations; if it is constant there, add 0 * x.sum()"
                )
            gradient = _row_gradients(value, x, keep_graph=constraints is not None)
            jacobian = None
            if constraints is not None:
                columns = [
                    _row_gradients(column, x, keep_graph=True) for column in constraints.unbind(1)
                ]
                jacobian = (
                    torch.stack(columns, 1) if columns else x.new_zeros(len(x), 0, x.shape[1])
                )
            return Evaluation(value, constraints, gradient, jacobian)

    def _tensor(self, name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
        try:
            if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
                value = torch.stack([torch.as_tensor(item) for item in value], -1)
            tensor = torch.as_tensor(value)
            if tensor.is_complex():
                raise TypeError("complex numbers have no order")
            tensor = tensor.to(self.device, self.dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"fun must return numbers as its {name}, or the tuple (value, constraints), "
                f"got {type(value).__name__}: {error}"
            ) from error
        fits = (
            tensor.shape[:1] == shape[:1] and tensor.ndim == len(shape) if self._batched else True
        )
        fits = fits and (tensor.numel() == 1 or name != "value" or self._batched)
        if not fits:
            allowed = f"({shape[0]},)" if name == "value" else f"({shape[0]}, m)"
            raise ValueError(
                f"fun must return its {name} "
                f"{'with shape ' + allowed if self._batched else 'of one design'}, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor.reshape(shape)


def _row_gradients(values: Tensor, x: Tensor, keep_graph: bool) -> Tensor:
    """Gradients (B, d) of values (B,) at independent rows x (B, d): one backward of the sum."""
    if not values.requires_grad:
        return torch.zeros_like(x)  # a constraint may be constant in x
    (gradient,) = torch.autograd.grad(
        values.sum(), x, retain_graph=keep_graph, materialize_grads=True
    )
    return gradient


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
