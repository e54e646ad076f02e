"""Training of surrogates: what is learnt, repeated and resumed, and with which networks."""

import math

import pytest
import torch
from torch import nn

from optimizers import Budget, Model, Problem, minimize
from optimizers.surrogate.ensemble import Ensemble, mlp
from optimizers.surrogate.sharpness import SharpnessPenalty
from optimizers.surrogate.training import SurrogateTrainer

F64 = torch.float64


def data(count=200, dimension=3, seed=0, dtype=F64):
    """Designs far from standard units and a smooth function of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, dimension, generator=generator, dtype=dtype)
    y = (4 * x - 2).square().sum(1) + (3 * x).sin().prod(1)
    return 50 + 10 * x, 1000 + 100 * y


def small(**changes):
    return SurrogateTrainer(**{"members": 2, "epochs": 6, "batch": 32} | changes)


def weights(ensemble):
    return ensemble.weights.detach().clone()


class Dropping(nn.Module):
    """A network of a user, with dropout, running averages and a value without a last dimension."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)
        )
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.body(x))[:, 0]


# ---- the ensemble


def test_members_predict_what_their_modules_would():
    ensemble = Ensemble(3, members=4, seed=7)
    x = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        modules = [mlp(3, 1).double() for _ in range(4)]
    each = torch.stack([module(x)[:, 0] for module in modules])
    torch.testing.assert_close(ensemble.each(x), each)
    torch.testing.assert_close(ensemble(x), each.mean(0))
    mean, deviation = ensemble.predict(x)
    torch.testing.assert_close(mean, each.mean(0))
    torch.testing.assert_close(deviation, each.std(0))


@pytest.mark.parametrize(("outputs", "last"), [(None, ()), (1, (1,)), (2, (2,))])
def test_shapes_follow_the_designs(outputs, last):
    ensemble = Ensemble(3, outputs, members=4)
    for shape in ((), (5,), (2, 5), (0,)):
        x = torch.zeros(*shape, 3, dtype=F64)
        assert ensemble(x).shape == shape + last
        assert ensemble.predict(x)[1].shape == shape + last
        assert ensemble.each(x).shape == (4, *shape, *last)


def test_mean_and_deviation_are_differentiable_in_the_design():
    ensemble = Ensemble(3, members=3)
    ensemble.weights.requires_grad_(False)
    ensemble.input_scale.fill_(2.0)
    ensemble.output_scale.fill_(3.0)
    x = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(ensemble.predict, (x,))


def test_members_that_agree_have_a_deviation_with_a_finite_gradient():
    ensemble = Ensemble(3, members=3)
    with torch.no_grad():
        ensemble.weights.copy_(ensemble.weights[:1].clone())
    x = torch.ones(2, 3, dtype=F64, requires_grad=True)
    deviation = ensemble.predict(x)[1]
    (gradient,) = torch.autograd.grad(deviation.sum(), x)
    assert deviation.max() < 1e-12
    assert gradient.isfinite().all()
    alone, none = Ensemble(3, members=1).predict(x)
    assert none.tolist() == [0, 0]
    assert alone.shape == (2,)


def test_a_state_fits_into_a_new_ensemble(tmp_path):
    points, values = data()
    trained = small().fit(points, values)
    torch.save(trained.state_dict(), tmp_path / "surrogate.pt")
    other = Ensemble(3, members=2, seed=5)
    other.load_state_dict(torch.load(tmp_path / "surrogate.pt", weights_only=True))
    assert torch.equal(other(points), trained(points))


def test_an_ensemble_is_the_function_of_a_problem_and_the_model_of_another():
    points, values = data()
    ensemble = small(epochs=40).fit(points, values)
    box = ([50.0] * 3, [60.0] * 3)
    problem = Problem.from_callable(ensemble, *box, batched=True, differentiable=True)
    result = minimize(problem, "lbfgs", budget=Budget(evaluations=60))
    assert result.value < float(ensemble(points).min())
    true = Problem.from_callable(
        lambda x: x.sum(-1), *box, batched=True, models={0.1: Model(ensemble, differentiable=True)}
    )
    answer = true.evaluate(points[:4], 1, fidelity=0.1)
    torch.testing.assert_close(answer.value, ensemble(points[:4]).detach())


# ---- what is learnt


def test_it_learns_a_smooth_function_in_any_units():
    points, values = data(400)
    ensemble = SurrogateTrainer(epochs=150, members=3, step_size=5e-3).fit(points, values)
    test_points, test_values = data(200, seed=1)
    error = (ensemble(test_points) - test_values).square().mean() / test_values.var()
    assert error < 0.05  # explains 95 % of the variance where it has not been


def test_units_of_the_data_do_not_matter():
    points, values = data()
    one = small().fit(points, values)
    other = small().fit(3 * points - 7, 0.01 * values + 5)
    # round-off of 1e-16 grows over 36 steps of Adam, whose first are signs of gradients
    torch.testing.assert_close(other(3 * points - 7), 0.01 * one(points) + 5, rtol=1e-6, atol=1e-6)


def test_the_deviation_is_larger_away_from_the_data():
    points, values = data(300)
    ensemble = SurrogateTrainer(epochs=60).fit(points, values)
    near = ensemble.predict(points)[1].mean()
    far = ensemble.predict(points + 20.0)[1].mean()
    assert far > 2 * near


def test_outputs_of_a_mapping_are_learnt_together():
    points, values = data()
    both = torch.stack((values, -3 * values), 1)
    ensemble = small(epochs=60, step_size=5e-3).fit(points, both)
    predicted = ensemble(points)
    assert predicted.shape == both.shape
    assert ((predicted - both).square().mean(0) < 0.3 * both.var(0)).all()


def test_failed_rows_are_left_out(caplog):
    points, values = data(50)
    bad_points, bad_values = torch.cat((points, points[:2])), torch.cat((values, values[:2]))
    bad_points[50, 1], bad_values[51] = math.nan, math.inf
    assert torch.equal(
        weights(small().fit(bad_points, bad_values)), weights(small().fit(points, values))
    )
    assert "2 of 52 rows are not finite" in caplog.text


def test_constant_columns_and_values_are_no_trouble():
    points, values = data(50)
    points[:, 1] = 4.0
    ensemble = small().fit(points, torch.full_like(values, 3.0))
    assert ensemble.weights.isfinite().all()
    assert (ensemble(points) - 3.0).abs().max() < 2.0  # within its unit, which is 1 here


def test_the_decay_takes_weights_away():
    points, values = data()
    free, held = (
        weights(small(epochs=20, weight_decay=decay).fit(points, values)) for decay in (0.0, 5.0)
    )
    assert (held.norm(dim=1) < 0.9 * free.norm(dim=1)).all()


def test_the_penalty_lowers_the_sharpness_that_is_reached():
    points, values = data()
    plain = SharpnessPenalty(multiplier=0.0, rate=0.0)
    strong = SharpnessPenalty(multiplier=10.0, rate=0.0)
    last = [
        list(small(epochs=40, regularizer=kind).start(points, values).run())[-1].sharpness
        for kind in (plain, strong)
    ]
    assert last[1] < 0.8 * last[0]


def test_small_data_still_has_eight_steps_an_epoch():
    points, values = data(20)
    training = small(batch=128).start(points, values)
    training.advance()
    assert training.steps == 8


def test_a_spread_takes_the_penalty_away_from_the_data():
    points, values = data()
    settings = {"multiplier": 10.0, "rate": 0.0}
    near, wide = (
        small(regularizer=SharpnessPenalty(spread=spread, **settings)).fit(points, values)
        for spread in (0.0, 1.0)
    )
    assert not torch.equal(near.weights, wide.weights)


def test_a_penalty_of_weight_zero_changes_nothing():
    points, values = data()
    none = SharpnessPenalty(multiplier=0.0, rate=0.0)
    assert torch.equal(
        weights(small(regularizer=none).fit(points, values)), weights(small().fit(points, values))
    )


# ---- the course of a training


def test_members_end_with_the_weights_that_were_judged_best():
    points, values = data()
    training = small(epochs=30, step_size=0.05, validation=0.2).start(points, values)
    judged = [epoch.judged for epoch in training.run()]
    best = training._judge_of(training.best_weights)
    torch.testing.assert_close(best, training.best_loss)
    assert float(best.mean()) <= min(judged)


def test_without_a_share_for_validation_members_end_with_their_last_weights():
    points, values = data()
    training = small(epochs=10, patience=1, step_size=0.05).start(points, values)
    epochs = list(training.run())
    assert training.done == "epochs"
    assert torch.equal(training.ensemble.weights, training.weights)
    assert all(epoch.judged == epoch.loss for epoch in epochs)


def test_it_ends_when_nothing_has_become_better():
    points, values = data()
    training = small(epochs=5000, patience=3, step_size=0.05, validation=0.2).start(points, values)
    epochs = list(training.run())
    assert len(epochs) < 5000
    assert training.done is not None
    assert training.done.startswith("converged")
    assert [epoch.epoch for epoch in epochs] == list(range(len(epochs)))
    with pytest.raises(RuntimeError, match="ended"):
        training.advance()


@pytest.mark.parametrize("network", [mlp, Dropping])
def test_the_same_seed_trains_the_same_weights(network):
    points, values = data()
    trainer = small(network=network, regularizer=SharpnessPenalty())
    one, other = trainer.fit(points, values, seed=3), trainer.fit(points, values, seed=3)
    assert torch.equal(one.weights, other.weights)
    assert not torch.equal(one.weights, trainer.fit(points, values, seed=4).weights)


@pytest.mark.parametrize("network", [mlp, Dropping])
@pytest.mark.parametrize("cut", [1, 4])
def test_a_resumed_training_ends_bit_for_bit_like_an_unbroken_one(network, cut, tmp_path):
    points, values = data()
    trainer = small(network=network, regularizer=SharpnessPenalty(), validation=0.2)
    unbroken = trainer.start(points, values, seed=1)
    records = list(unbroken.run())
    begun = trainer.start(points, values, seed=1)
    for _ in range(cut):
        begun.advance()
    torch.save(begun.state_dict(), tmp_path / "training.pt")
    begun.advance()  # what happens after the save must not reach into it
    resumed = trainer.start(points, values, seed=1)
    resumed.load_state_dict(torch.load(tmp_path / "training.pt", weights_only=True))
    assert list(resumed.run()) == records[cut:]
    for ours, wanted in zip(
        resumed.ensemble.state_dict().values(), unbroken.ensemble.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("network", [mlp, Dropping])
def test_the_generators_and_the_precision_of_torch_are_left_alone(network):
    points, values = data(60, dtype=torch.float32)
    before = torch.get_rng_state()
    ensemble = small(network=network).fit(points, values)
    assert torch.equal(torch.get_rng_state(), before)
    assert ensemble(points).dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


def test_a_batch_does_not_depend_on_who_calls_it():
    points, values = data()
    with torch.no_grad():
        inside = small().fit(points, values)
    assert torch.equal(inside.weights, small().fit(points, values).weights)


# ---- networks of a user


def test_networks_with_dropout_and_running_averages_work():
    points, values = data()
    ensemble = small(network=Dropping, epochs=60, step_size=0.02).fit(points, values)
    assert torch.equal(ensemble(points), ensemble(points))  # nothing is dropped any more
    apart = torch.cat([ensemble(row[None]) for row in points])
    torch.testing.assert_close(apart, ensemble(points))  # nor does a row see the others
    error = (ensemble(points) - values).square().mean() / values.var()
    assert error < 0.5


def test_a_network_that_does_not_fit_is_named():
    points, values = data(20)
    with pytest.raises(TypeError, match="network must return a torch"):
        small(network=lambda inputs, outputs: 3.0).fit(points, values)
    with pytest.raises(ValueError, match="network must map"):
        small(network=lambda inputs, outputs: nn.Linear(inputs, 5)).fit(points, values)
    with pytest.raises(ValueError, match="without"):
        small(network=lambda inputs, outputs: nn.Identity()).fit(points, values)
    with pytest.raises(TypeError, match="network"):
        small(network=3)


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 0}, "members"),
        ({"step_size": 0.0}, "step_size"),
        ({"validation": 1.0}, "validation"),
        ({"regularizer": 0.1}, "regularizer"),
        ({"patience": 1.5}, "patience"),
    ],
)
def test_unusable_settings_are_named(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small(**change)


def test_unusable_data_is_named():
    points, values = data(20)
    with pytest.raises(ValueError, match="points and values"):
        small().fit(points, values[:5])
    with pytest.raises(ValueError, match="finite"):
        small().fit(points, torch.full_like(values, math.nan))
    with pytest.raises(TypeError, match="points"):
        small().fit([[0.0]], values)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="x must have shape"):
        small().fit(points, values)(torch.zeros(2, 5, dtype=F64))
