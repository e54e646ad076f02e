"""How a user's function answers a query: values, gradients and curvatures by torch autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optimizers.evaluation import Evaluation
from optimizers.target import LinearizedTarget

CONSTANT = (
    "differentiable=True, but the value of fun does not depend on its argument "
    "through torch operations; if it is constant there, add 0 * x.sum()"
)


@dataclass(frozen=True, eq=False)
class Answers:
    """What stays the same from one call to the next; the fields are those of `Problem`.

    outer_is_free: tell the gradient of F with respect to the outputs at every order.
    """

    parameters_of: Callable[[Tensor], dict[str, Tensor]]
    outer: Callable[[Tensor], Any] | None
    batched: bool
    equalities: int
    outer_is_free: bool

    def evaluate(
        self,
        function: Callable[[dict[str, Tensor]], Any],
        x: Tensor,
        order: int,
        target: LinearizedTarget | None,
    ) -> Evaluation:
        """The evaluation of all rows x (B, d), in one call or, unless batched, row by row."""
        if self.batched:
            return self._called(function, x, order, target)
        rows = []
        for i in range(len(x)):
            row = slice(i, i + 1)
            aim = None if target is None else target.rows(row)
            rows.append(self._called(function, x[row], order, aim))
        if len({row.constraints is None or row.constraints.shape[1] for row in rows}) > 1:
            raise ValueError("fun must return the same number of constraints at every point")
        return Evaluation.cat(rows)

    def _called(
        self,
        function: Callable[[dict[str, Tensor]], Any],
        x: Tensor,
        order: int,
        target: LinearizedTarget | None,
    ) -> Evaluation:
        """One call of the function: on all rows when it is batched, else on the only row."""
        with torch.inference_mode(False), torch.set_grad_enabled(order > 0):
            x = x.detach().clone()  # the function may write into its argument
            x.requires_grad_(order > 0)
            named = self.parameters_of(x if self.batched else x[0])
            returned = function(named)
            if self.outer is None:
                value, constraints = self._value(returned, x)
                if target is not None:
                    return self._of_target(target, None, value, constraints, x, order)
                return self._plain(value, constraints, x, order)
            outputs = self._tensor("outputs", returned, x, (len(x), -1))
            if target is not None:
                return self._of_target(target, outputs, None, None, x, order)
            return self._composite(outputs, x, order)

    def _value(self, returned: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
        value, constraints = returned if isinstance(returned, tuple) else (returned, None)
        value = self._tensor("value", value, x, (len(x),))
        if constraints is not None:
            constraints = self._tensor("constraints", constraints, x, (len(x), -1))
        return value, constraints

    def _of_outputs(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        assert self.outer is not None
        return self._value(self.outer(outputs if self.batched else outputs[0]), outputs)

    def _plain(
        self, value: Tensor, constraints: Tensor | None, x: Tensor, order: int
    ) -> Evaluation:
        if order == 0:
            return Evaluation(value, constraints, equalities=self.equalities)
        if not value.requires_grad:
            raise ValueError(CONSTANT)
        more = constraints is not None
        gradient = _row_gradients(value, x, keep=more or order == 2, again=order == 2)
        jacobian = None if constraints is None else _row_jacobian(constraints, x)
        curvature = _row_jacobian(gradient, x) if order == 2 else None
        return Evaluation(
            value, constraints, gradient, jacobian,
            equalities=self.equalities, curvature=curvature,
        )  # fmt: skip

    def _composite(self, outputs: Tensor, x: Tensor, order: int) -> Evaluation:
        """F(Phi(x)): what F knows of its outputs, pulled back through Phi."""
        with torch.set_grad_enabled(order > 0 or self.outer_is_free):
            leaf = outputs.detach().requires_grad_(order > 0 or self.outer_is_free)
            value, constraints = self._of_outputs(leaf)
            pull = None
            if value.requires_grad:
                more = constraints is not None or order == 2
                pull = _row_gradients(value, leaf, keep=more, again=order == 2)
            if order == 0:
                return Evaluation(
                    value, constraints, equalities=self.equalities,
                    outputs=outputs, output_gradient=pull,
                )  # fmt: skip
            if pull is None or not outputs.requires_grad:
                raise ValueError(CONSTANT)
            gradient = _pulled_back(outputs, x, pull, keep=True)
            jacobian = curvature = None
            if constraints is not None:
                slopes = _row_jacobian(constraints, leaf)
                rows = [_pulled_back(outputs, x, slope, keep=True) for slope in slopes.unbind(1)]
                jacobian = torch.stack(rows, 1) if rows else x.new_zeros(len(x), 0, x.shape[1])
            if order == 2:
                phi = _tangents(outputs, x)  # (B, k, d)
                bent = [_hessian_product(pull, leaf, tangent) for tangent in phi.unbind(2)]
                curvature = phi.mT @ torch.stack(bent, 2)
        return Evaluation(
            value, constraints, gradient, jacobian, equalities=self.equalities,
            outputs=outputs, output_gradient=pull, curvature=curvature,
        )  # fmt: skip

    def _of_target(
        self,
        target: LinearizedTarget,
        outputs: Tensor | None,
        value: Tensor | None,
        constraints: Tensor | None,
        x: Tensor,
        order: int,
    ) -> Evaluation:
        """The target's value of the outputs, or of the value alone, and of the constraints."""
        told = value[:, None] if outputs is None else outputs  # pyright: ignore
        if target.direction.shape[1] > told.shape[1]:
            if outputs is not None:
                constraints = self._of_outputs(outputs)[1]
            if constraints is not None:
                told = torch.cat((told, constraints), 1)
        aim = target.value(told)
        gradient = curvature = None
        if order > 0:
            if not aim.requires_grad:
                raise ValueError(CONSTANT)
            gradient = _row_gradients(aim, x, keep=order == 2, again=order == 2)
            curvature = _row_jacobian(gradient, x) if order == 2 else None
        return Evaluation(aim, gradient=gradient, outputs=outputs, curvature=curvature)

    def _tensor(self, name: str, value: Any, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        try:
            if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
                value = torch.stack([torch.as_tensor(item) for item in value], -1)
            tensor = torch.as_tensor(value)
            if tensor.is_complex():
                raise TypeError("complex numbers have no order")
            tensor = tensor.to(like.device, like.dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"fun must return numbers as its {name}, or the tuple (value, constraints), "
                f"got {type(value).__name__}: {error}"
            ) from error
        if self.batched:
            fits = tensor.shape[:1] == shape[:1] and tensor.ndim == len(shape)
        else:
            fits = tensor.numel() == 1 or name != "value"
        if not fits:
            allowed = f"({shape[0]},)" if name == "value" else f"({shape[0]}, m)"
            raise ValueError(
                f"fun must return its {name} "
                f"{'with shape ' + allowed if self.batched else 'of one design'}, "
                f"got {tuple(tensor.shape)}"
            )
        return tensor.reshape(shape)


def _row_gradients(values: Tensor, x: Tensor, keep: bool, again: bool = False) -> Tensor:
    """Gradients (B, d) of values (B,) at independent rows x (B, d): one backward of the sum.

    keep: the graph is needed again. again: the gradient will be differentiated once more.
    """
    if not values.requires_grad:
        return torch.zeros_like(x)  # a constraint may be constant in x
    (gradient,) = torch.autograd.grad(
        values.sum(), x, retain_graph=keep, create_graph=again, materialize_grads=True
    )
    return gradient


def _row_jacobian(columns: Tensor, x: Tensor) -> Tensor:
    """Derivatives (B, m, d) of columns (B, m) at independent rows x (B, d)."""
    rows = [_row_gradients(column, x, keep=True) for column in columns.unbind(1)]
    return torch.stack(rows, 1) if rows else x.new_zeros(len(x), 0, x.shape[1])


def _pulled_back(outputs: Tensor, x: Tensor, pull: Tensor, keep: bool) -> Tensor:
    """J^T pull (B, d) through the outputs (B, k) of independent rows x (B, d)."""
    (gradient,) = torch.autograd.grad(
        outputs, x, pull.detach(), retain_graph=keep, materialize_grads=True
    )
    return gradient


def _tangents(outputs: Tensor, x: Tensor) -> Tensor:
    """The Jacobian (B, k, d) of outputs, by whichever side of it is shorter."""
    if outputs.shape[1] <= x.shape[1]:
        return _row_jacobian(outputs, x)
    weights = torch.zeros_like(outputs, requires_grad=True)
    # J^T w is linear in w, and its derivative along a coordinate of x is a column of J
    (pulled,) = torch.autograd.grad(outputs, x, weights, create_graph=True, materialize_grads=True)
    return _row_jacobian(pulled, weights).mT


def _hessian_product(gradient: Tensor, at: Tensor, direction: Tensor) -> Tensor:
    """F'' direction (B, k) from the gradient (B, k) of F, which is zero where F is linear."""
    if not gradient.requires_grad:
        return torch.zeros_like(direction)
    (product,) = torch.autograd.grad(
        gradient, at, direction.detach(), retain_graph=True, materialize_grads=True
    )
    return product
