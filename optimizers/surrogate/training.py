"""Training of surrogates: an ensemble of networks fitted to values that are already there."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optimizers.checks import check_count, check_number
from optimizers.state import restore, snapshot
from optimizers.surrogate.ensemble import Ensemble, Network, mlp
from optimizers.surrogate.sharpness import SharpnessPenalty

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam; Kingma and Ba, 2015
LEAST_STEPS = 8  # in an epoch

_log = logging.getLogger("optimizers")


@dataclass(frozen=True)
class SurrogateTrainer:
    """Fits an ensemble of networks to designs and their values: a cheap, smooth model of both.

    members: networks in the ensemble; all are trained in one batch.
    epochs: passes over the data, at most.
    batch: designs in a step; fewer where the data is so small that an epoch had under 8 steps.
    step_size: of Adam, falling to 0 along a half cosine over the epochs.
    weight_decay: share of the weights that a step takes away, per step size.
    validation: share of the data, another one for each member, that is kept to judge it. A member
        then ends with the weights it was judged best with; with 0 it ends with its last ones.
    patience: epochs without a better judgement of any member before the training ends.
    regularizer: `SharpnessPenalty()` for a surrogate whose minimum will be searched, where designs
        have many numbers for the data that there is.
    network: makes a member, as in `Ensemble`; any torch.nn.Module will do.

        ensemble = SurrogateTrainer(regularizer=SharpnessPenalty()).fit(points, values)
        mean, deviation = ensemble.predict(x)

    Inputs and outputs are standardised, the loss is the mean square of the error. Each member has
    its own start, split and order of the data. By default nothing is kept back: a search leaves the
    data, and what is best within it is no better there; keep a share where predictions themselves
    are wanted.
    Adam, Kingma and Ba, 2015; the decay beside it, Loshchilov and Hutter, 2019; ensembles,
    Lakshminarayanan et al., 2017, without their variances and attacks.
    """

    members: int = 5
    epochs: int = 100
    batch: int = 128
    step_size: float = 2e-3
    weight_decay: float = 0.0
    validation: float = 0.0
    patience: int = 50
    regularizer: SharpnessPenalty | None = None
    network: Network = mlp

    def __post_init__(self) -> None:
        for name in ("members", "epochs", "batch", "patience"):
            check_count(name, getattr(self, name))
        check_number("step_size", self.step_size, above=0)
        check_number("weight_decay", self.weight_decay, least=0)
        check_number("validation", self.validation, least=0, below=1)
        if not isinstance(self.regularizer, SharpnessPenalty | None):
            raise TypeError(
                "regularizer must be a SharpnessPenalty or None, "
                f"got {type(self.regularizer).__name__}"
            )
        if not callable(self.network):
            raise TypeError(f"network must be a function, got {type(self.network).__name__}")

    def start(self, points: Tensor, values: Tensor, seed: int = 0) -> Training:
        """A training that has not begun: for a progress bar, a pause, a loop of one's own."""
        return Training(self, points, values, seed)

    def fit(self, points: Tensor, values: Tensor, seed: int = 0) -> Ensemble:
        """The trained ensemble.

        points: designs (n, d). values: (n,), or outputs (n, k). Rows that are not finite are left
        out. Precision and device are those of points.
        """
        training = self.start(points, values, seed)
        for _ in training.run():
            pass
        return training.ensemble


@dataclass(frozen=True)
class Epoch:
    """What is known after one pass over the data; all of it means over the members.

    epoch: 0-based. loss: mean square error in standardised outputs.
    judged: the same on the data that was kept back; that of the training where none was.
    sharpness: rho |grad_w G|, in units of the regularizer's radius; 0 without one.
    multiplier: lambda of the penalty; 0 without one.
    """

    epoch: int
    loss: float
    judged: float
    sharpness: float
    multiplier: float


class Training:
    """A training between two epochs; see `SurrogateTrainer`.

        training = trainer.start(points, values)
        for epoch in training.run():
            print(epoch.epoch, epoch.judged)
        training.ensemble

    done: why it has ended, None while it can go on.
    """

    FIELDS = (
        "weights", "mean", "square", "multiplier", "best_weights", "best_states", "best_loss",
        "epoch", "steps", "waited", "done", "generator", "noise",
    )  # fmt: skip

    def __init__(self, settings: SurrogateTrainer, points: Any, values: Any, seed: int = 0) -> None:
        self.settings = settings
        check_count("seed", seed, least=-(2**62))
        points, values = _usable(points, values)
        self.generator = torch.Generator(points.device).manual_seed(seed)
        self.noise = torch.Generator(points.device).manual_seed(seed + 1)  # of the regularizer
        self._ensemble = ensemble = Ensemble(
            points.shape[1],
            None if values.ndim == 1 else values.shape[1],
            settings.members,
            settings.network,
            seed,
            points.dtype,
            points.device,
        )
        outputs = values[:, None] if values.ndim == 1 else values
        self._inputs = _standardised(points, ensemble.input_mean, ensemble.input_scale)
        self._outputs = _standardised(outputs, ensemble.output_mean, ensemble.output_scale)
        kept = min(round(settings.validation * len(points)), len(points) - 1)
        self._kept, self._used = self._orders(len(points)).split((kept, len(points) - kept), 1)
        used = self._used.shape[1]
        self._batches = max(math.ceil(used / settings.batch), min(LEAST_STEPS, used))

        self.weights = ensemble.weights.detach().clone()
        self.mean, self.square = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        begin = 0.0 if settings.regularizer is None else settings.regularizer.multiplier
        self.multiplier = self.weights.new_full((settings.members,), begin)
        self.best_weights = self.weights
        self.best_states = [state.clone() for state in ensemble.states]
        self.best_loss = self.weights.new_full((settings.members,), math.inf)
        self.epoch = self.steps = self.waited = 0
        self.done: str | None = None

    def run(self) -> Generator[Epoch, None, None]:
        """The epochs that are left; leave whenever it is enough."""
        while self.done is None:
            yield self.advance()

    def advance(self) -> Epoch:
        """One pass over the data."""
        if self.done is not None:
            raise RuntimeError(f"the training has ended: {self.done}")
        settings, epoch = self.settings, self.epoch
        order = self._used.gather(1, self._orders(self._used.shape[1]))
        loss, sharp = torch.zeros_like(self.multiplier), torch.zeros_like(self.multiplier)
        with self._random_networks():
            for rows in order.tensor_split(self._batches, 1):
                error, excess = self._step(rows)
                share = rows.shape[1] / order.shape[1]
                loss, sharp = loss + share * error, sharp + share * excess
        judged = self._judge_of(self.weights) if self._kept.shape[1] else loss
        self.epoch += 1
        self._keep_best(judged)
        if self.epoch >= settings.epochs:
            self.done = "epochs"
        elif self.waited >= settings.patience:
            self.done = f"converged: {self.waited} epochs without a better judgement"
        means = (float(column.mean()) for column in (loss, judged, sharp, self.multiplier))
        return Epoch(epoch, *means)

    def _step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam on designs `rows` (K, b) of each member: its error and sharpness."""
        settings, inputs, wanted = self.settings, self._inputs[rows], self._outputs[rows]

        def predicted(weights: Tensor) -> Tensor:
            return self._ensemble.standardised(weights, inputs)

        with torch.inference_mode(False), torch.enable_grad():
            point = self.weights.detach().requires_grad_()
            error = (predicted(point) - wanted).square().mean((1, 2))
            (gradient,) = torch.autograd.grad(error.sum(), point, materialize_grads=True)
        excess = torch.zeros_like(error)
        penalty = settings.regularizer
        if penalty is not None:
            around = inputs
            if penalty.spread > 0:
                around = inputs + penalty.spread * self._normal(inputs.shape)
            norm, added, self.multiplier = penalty.gradient(
                lambda weights: self._ensemble.standardised(weights, around).mean((1, 2)),
                self.weights,
                self.multiplier,
            )
            gradient, excess = gradient + added, penalty.radius * norm
        self.steps += 1
        total = settings.epochs * self._batches
        size = 0.5 * settings.step_size * (1 + math.cos(math.pi * self.steps / total))
        first, second = BETAS
        self.mean = self.mean.lerp(gradient, 1 - first)
        self.square = self.square.lerp(gradient.square(), 1 - second)
        mean = self.mean / (1 - first**self.steps)
        root = (self.square / (1 - second**self.steps)).sqrt() + EPSILON
        self.weights = self.weights * (1 - size * settings.weight_decay) - size * mean / root
        return error.detach(), excess

    @torch.no_grad()
    def _judge_of(self, weights: Tensor) -> Tensor:
        """Mean square error (K,) on the data that each member has not seen."""
        self._ensemble.eval()
        predicted = self._ensemble.standardised(weights, self._inputs[self._kept])
        return (predicted - self._outputs[self._kept]).square().mean((1, 2))

    def _keep_best(self, judged: Tensor) -> None:
        kept = self._kept.shape[1] > 0
        better = judged < self.best_loss if kept else torch.ones_like(judged, dtype=torch.bool)
        self.waited = 0 if bool(better.any()) else self.waited + 1
        self.best_loss = torch.where(better, judged, self.best_loss)
        self.best_weights = torch.where(better[:, None], self.weights, self.best_weights)
        self.best_states = [
            torch.where(better.view(-1, *[1] * (state.ndim - 1)), state, best)
            for state, best in zip(self._ensemble.states, self.best_states, strict=True)
        ]

    @contextmanager
    def _random_networks(self) -> Iterator[None]:
        """Dropout draws from torch's own generators: theirs are lent to it and put back."""
        device = self.weights.device
        seed = torch.randint(2**62, (), generator=self.generator, device=device)
        self._ensemble.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(seed))
            yield

    def _orders(self, count: int) -> Tensor:
        """A random order (K, count) for each member."""
        size = (self.settings.members, count)
        draws = torch.rand(size, generator=self.generator, device=self.generator.device)
        return draws.argsort(1)

    def _normal(self, size: torch.Size) -> Tensor:
        weights, generator = self.weights, self.noise
        return torch.randn(size, generator=generator, dtype=weights.dtype, device=weights.device)

    @property
    def ensemble(self) -> Ensemble:
        """A copy of the ensemble with the best weights so far, which no gradient reaches."""
        ensemble = copy.deepcopy(self._ensemble).eval().requires_grad_(False)
        with torch.no_grad():
            ensemble.weights.copy_(self.best_weights)
            for state, best in zip(ensemble.states, self.best_states, strict=True):
                state.copy_(best)
        return ensemble

    def state_dict(self) -> dict[str, Any]:
        """Copies of everything the training needs to go on, but the data."""
        return snapshot(self, self.FIELDS) | {"states": [s.clone() for s in self._ensemble.states]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of the same settings, data and seed."""
        fields = {name: value for name, value in state.items() if name != "states"}
        restore(self, self.FIELDS, fields, self.weights.device)
        for ours, value in zip(self._ensemble.states, state["states"], strict=True):
            ours.copy_(value)


def _usable(points: Any, values: Any) -> tuple[Tensor, Tensor]:
    """The finite rows of the data; raises where it does not fit or too little is left."""
    for name, value in (("points", points), ("values", values)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"{name} must be a tensor of floats, got {type(value).__name__}")
    if points.ndim != 2 or values.ndim not in (1, 2) or len(values) != len(points):
        raise ValueError(
            "points and values must have shapes (n, d) and (n,) or (n, k), "
            f"got {tuple(points.shape)} and {tuple(values.shape)}"
        )
    values = values.to(points)
    good = points.isfinite().all(1) & values.isfinite().reshape(len(values), -1).all(1)
    if int(good.sum()) < 2:
        raise ValueError(f"at least 2 rows of the data must be finite, got {int(good.sum())}")
    if not bool(good.all()):
        _log.warning("%d of %d rows are not finite: left out", int((~good).sum()), len(good))
    return points[good].detach(), values[good].detach()


def _standardised(columns: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Columns (n, m) with mean 0 and deviation 1; the unit is written to mean and scale (m,)."""
    mean.copy_(columns.mean(0))
    deviation = columns.std(0)
    scale.copy_(deviation.where(deviation > 0, 1.0))  # a column that is constant stays as it is
    return (columns - mean) / scale
