"""Several networks as one: a prediction and how far its members disagree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from optimizers.checks import check_count

Network = Callable[[int, int], nn.Module]


def mlp(inputs: int, outputs: int, width: int = 64, depth: int = 2) -> nn.Module:
    """The default network: `depth` hidden layers of `width` units, smooth (SiLU) in its inputs.

    Maps (B, inputs) to (B, outputs).
    """
    sizes = [inputs, *[width] * depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


class Ensemble(nn.Module):
    """K networks of one kind, evaluated together; a `SurrogateTrainer` makes and trains it.

    inputs, outputs: how many; outputs=None for a surrogate of a value, whose predictions have no
        last dimension.
    members: K.
    network: takes the numbers of inputs and outputs and returns a new torch.nn.Module that maps
        (B, inputs) to (B, outputs), or to (B,) if outputs is 1.
    seed: of the initial weights; torch's own generator is left as it was.
    dtype, device: of the weights.

    It is called with designs x (..., inputs) in the units of the data and returns the mean (...)
    or (..., outputs) over its members in the units of the data; `predict` adds the deviation, the
    spread of the members' predictions that tells where they have seen no data. Both are
    differentiable in x. It may be the function of a `Problem`, or one of its cheaper `models`.
    weights: (K, P), one row a member.
    """

    weights: nn.Parameter
    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int | None = None,
        members: int = 5,
        network: Network = mlp,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        check_count("inputs", inputs)
        check_count("members", members)
        if outputs is not None:
            check_count("outputs", outputs)
        self.inputs, self.outputs, self.members = inputs, outputs, members
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            modules = [_checked(network(inputs, outputs or 1)) for _ in range(members)]
        rows = [nn.utils.parameters_to_vector(module.parameters()).detach() for module in modules]
        if len({len(row) for row in rows}) > 1:
            raise ValueError("network must return networks of one kind, got different sizes")
        self.weights = nn.Parameter(torch.stack(rows).to(device, dtype))
        self._shapes = [(name, p.shape) for name, p in modules[0].named_parameters()]
        self._sizes = [shape.numel() for _, shape in self._shapes]
        self._state_names: dict[
            str, str
        ] = {}  # what networks carry beside weights: running averages
        for name, _ in modules[0].named_buffers():
            stacked = torch.stack([dict(module.named_buffers())[name] for module in modules])
            kind = dtype if stacked.is_floating_point() else stacked.dtype
            self._state_names[name] = "state_" + name.replace(".", "_")
            self.register_buffer(self._state_names[name], stacked.to(device, kind))
        template = copy.deepcopy(modules[0]).to(device, dtype)
        self._template = (template,)  # in a tuple, so that its weights are not counted as ours
        for name, count in (("input", inputs), ("output", outputs or 1)):
            self.register_buffer(f"{name}_mean", self.weights.new_zeros(count))
            self.register_buffer(f"{name}_scale", self.weights.new_ones(count))

    @property
    def states(self) -> list[Tensor]:
        """What the networks carry beside weights, running averages for instance; (K, ...) each."""
        return [getattr(self, name) for name in self._state_names.values()]

    def forward(self, x: Tensor) -> Tensor:
        """Mean prediction (...) or (..., outputs) at designs x (..., inputs)."""
        return self.each(x).mean(0)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, both (...) or (..., outputs), at designs x (..., inputs).

        The deviation is the standard deviation over the members; 0 for a single one.
        """
        each = self.each(x)
        if self.members == 1:
            return each[0], torch.zeros_like(each[0])
        mean = each.mean(0)
        variance = (each - mean).square().sum(0) / (self.members - 1)
        # not zero, where the slope of the root is infinite
        return mean, variance.clamp(min=torch.finfo(each.dtype).tiny).sqrt()

    def each(self, x: Tensor) -> Tensor:
        """Predictions (K, ...) or (K, ..., outputs) of the members at designs x (..., inputs)."""
        if x.shape[-1:] != (self.inputs,):
            raise ValueError(f"x must have shape (..., {self.inputs}), got {tuple(x.shape)}")
        flat = ((x - self.input_mean) / self.input_scale).reshape(-1, self.inputs)
        raw = self.standardised(self.weights, flat)
        values = raw * self.output_scale + self.output_mean
        values = values.reshape(len(values), *x.shape[:-1], values.shape[-1])
        return values[..., 0] if self.outputs is None else values

    def standardised(self, weights: Tensor, x: Tensor) -> Tensor:
        """Raw outputs (K, B, outputs) for weights (K, P) and standardised x (B, d) or (K, B, d)."""
        template = self._template[0].train(self.training)
        parts = weights.split(self._sizes, 1)
        named = {
            name: part.unflatten(1, shape) if shape else part[:, 0]
            for (name, shape), part in zip(self._shapes, parts, strict=True)
        }
        states = dict(zip(self._state_names, self.states, strict=True))

        def one(parameters: dict, buffers: dict, rows: Tensor) -> Tensor:
            answer = functional_call(template, (parameters, buffers), (rows,))
            return answer if answer.ndim == 2 else answer[:, None]

        rows = 0 if x.ndim == 3 else None
        outputs = vmap(one, in_dims=(0, 0, rows), randomness="different")(named, states, x)
        expected = (len(weights), x.shape[-2], self.outputs or 1)
        if outputs.shape != expected:
            raise ValueError(
                f"network must map (B, {self.inputs}) to (B, {expected[2]}), got an answer of "
                f"shape {tuple(outputs.shape[1:])} for B = {expected[1]}"
            )
        return outputs


def _checked(module: object) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"network must return a torch.nn.Module, got {type(module).__name__}")
    if not any(True for _ in module.parameters()):
        raise ValueError("network must return a module with weights, got one without")
    return module
