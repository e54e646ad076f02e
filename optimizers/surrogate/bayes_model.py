"""The models of `Bayes`: one BoTorch Gaussian process for the value and one for each constraint."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from optimizers.surrogate.gaussian_process import kernel_terms

Kernel = Literal["matern52", "infinite-width-network"]
ITERATIONS = 75  # of L-BFGS-B in one fit of the hyperparameters


@contextlib.contextmanager
def secluded(seed: int, device: torch.device) -> Iterator[None]:
    """A block whose global random numbers come from a seed and whose warnings stay inside."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield


def fitted_models(
    points: Tensor, outputs: Tensor, kernel: Kernel, fidelities: bool, start: list[list[Tensor]]
) -> tuple[Any, list[list[Tensor]]]:
    """A BoTorch model of -value and the constraints, and its hyperparameters.

    points: (n, d) in the unit cube; with `fidelities` a last column holds the fidelity, 1 for the
        true model. outputs: (n, 1 + m).
    start: hyperparameters to set, those of the last fit; none for the defaults.
    """
    from botorch.models import ModelListGP

    signs = torch.ones_like(outputs[0])
    signs[0] = -1.0
    models = [
        _model(points, column[:, None], kernel, fidelities) for column in (signs * outputs).mT
    ]
    if len(start) == len(models):
        for model, values in zip(models, start, strict=True):
            _set(model, values)
    return ModelListGP(*models), [_numbers(model) for model in models]


def refit(model: Any) -> list[list[Tensor]]:
    """Fit the hyperparameters of every part of a model, and return them.

    A fit that fails leaves a part as it was.
    """
    from botorch.exceptions.errors import ModelFittingError
    from botorch.fit import fit_gpytorch_mll
    from gpytorch.mlls import ExactMarginalLogLikelihood

    for part in model.models:
        before = _numbers(part)
        try:
            fit_gpytorch_mll(
                ExactMarginalLogLikelihood(part.likelihood, part),
                optimizer_kwargs={"options": {"maxiter": ITERATIONS}},
            )
        except (ModelFittingError, RuntimeError):  # a covariance that round-off made singular
            _set(part, before)
            part.eval()
    return [_numbers(part) for part in model.models]


def _model(points: Tensor, column: Tensor, kernel: Kernel, fidelities: bool) -> Any:
    from botorch.models import SingleTaskGP, SingleTaskMultiFidelityGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior

    d = points.shape[1]
    if fidelities:
        return SingleTaskMultiFidelityGP(points, column, data_fidelities=[d - 1])
    if kernel == "matern52":
        covariance = get_covar_module_with_dim_scaled_prior(ard_num_dims=d, use_rbf_kernel=False)
    else:
        covariance = _network_kernel(d)
    return SingleTaskGP(points, column, covar_module=covariance)


def _numbers(model: Any) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _set(model: Any, values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(value)


class _NetworkCovariance(torch.autograd.Function):
    """The network kernel of scaled inputs, with its closed-form slopes.

    Autograd through arccos would divide by zero where two inputs are equal.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return kernel_terms("network", first, second)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        first, second = ctx.saved_tensors
        (weights,) = gradients

        def pulled(one: Tensor, other: Tensor, weights: Tensor) -> Tensor:
            _, along, across = kernel_terms("network", one, other)
            own = (weights * along).sum(-1, keepdim=True) * one
            return own + (weights * across) @ other

        back = pulled(first, second, weights), pulled(second, first, weights.mT)
        return tuple(
            gradient.sum_to_size(like.shape)
            for gradient, like in zip(back, (first, second), strict=True)
        )


def _network_kernel(d: int) -> Any:
    """A GPyTorch kernel of infinitely wide ReLU layers over the unit cube, with an output scale."""
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import Kernel as Base
    from gpytorch.kernels import ScaleKernel
    from gpytorch.priors import LogNormalPrior

    class NetworkKernel(Base):
        has_lengthscale = True

        def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
            first, second = (x1 - 0.5) / self.lengthscale, (x2 - 0.5) / self.lengthscale
            if diag:
                return _NetworkCovariance.apply(first[..., None, :], second[..., None, :])[
                    ..., 0, 0
                ]  # pyright: ignore
            return _NetworkCovariance.apply(first, second)  # pyright: ignore

    kernel = NetworkKernel(
        ard_num_dims=d,
        lengthscale_prior=LogNormalPrior(-1.0, 1.5),
        lengthscale_constraint=GreaterThan(0.01, initial_value=0.3),
    )
    return ScaleKernel(kernel)
