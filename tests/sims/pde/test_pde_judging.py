"""Budgets and residuals of solutions, what forecasts cost, and how far a figure is chance."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.metrics import (
    Cost,
    bootstrap,
    breakeven,
    correlation_time,
    energy_budget,
    error_matched,
    field_energy,
    field_mean,
    lyapunov_times,
    measured_cost,
    paired_bootstrap,
    rate_of_change,
    step_residual,
)
from sims.pde.rollout import rollout
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D, kolmogorov_forcing

F64 = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(batch, points, modes=4, seed=0):
    """Fields (batch, 1, points, points) of a few modes."""
    wide = torch.fft.rfft2(drawn(batch, 1, points, points, seed=seed), norm="forward")
    wide[..., modes:] = 0
    wide[..., modes : 1 - modes, :] = 0
    wide[..., 0, 0] = 0
    field = torch.fft.irfft2(wide, s=(points, points), norm="forward")
    return 3 * field / field.std()


def flow(**change):
    given = {"points": 32, "time_step": 0.005, "viscosity": 1e-2, "drag": 0.1}
    return NavierStokes2D(**given | {"forcing": kolmogorov_forcing(32)} | change)


def test_means_and_energies_of_states():
    states = drawn(2, 3, 2, 8, 8)
    assert (field_mean(states) - states.mean((-2, -1))).abs().max() < 1e-12
    energy = 0.5 * states.square().sum(2).mean((-2, -1))
    assert (field_energy(states) - energy).abs().max() < 1e-12


def test_a_solved_flow_keeps_its_energy_budget():
    stepper = flow()
    states = rollout(stepper, smooth(2, 32), steps=20)
    coarse = energy_budget(stepper, states[:, 1::2], 0.01).abs().max()
    fine = energy_budget(stepper, states).abs().max()
    assert fine < 2e-4  # of central differences over 0.005 s
    assert coarse / fine == pytest.approx(4.0, rel=0.2)


def test_a_wrong_drag_shows_in_the_energy_budget():
    states = rollout(flow(), smooth(1, 32), steps=4)
    assert energy_budget(flow(drag=0.2), states).abs().min() > 0.1


def test_taylor_green_decays_as_its_budget_says():
    x = torch.arange(32, dtype=F64) / 32 * 2 * math.pi
    vortices = 2 * torch.cos(x)[:, None] * torch.cos(x)[None]
    stepper = flow(drag=0.0, forcing=None, viscosity=torch.tensor([0.01, 0.02]))
    states = rollout(stepper, vortices.expand(2, 1, 32, 32), steps=3)
    # central differences of exp(-4 nu t): sinh(a) / a = 1 + a^2 / 6
    exact = (4 * torch.tensor([0.01, 0.02]) * 0.005) ** 2 / 6
    assert (energy_budget(stepper, states)[:, 0].abs() - exact).abs().max() < 1e-9


@pytest.mark.parametrize("dimension", [1, 2])
def test_rate_of_change_is_the_start_of_a_step(dimension):
    time = 1e-3
    if dimension == 1:
        stepper = KuramotoSivashinsky(length=22.0, points=32, time_step=time)
        u = stepper.advance(drawn(2, 1, 32), 2000)
    else:
        stepper, u = flow(time_step=time), smooth(2, 32)
    visited = [u, *rollout(stepper, u, 3).unbind(1)]
    slope = sum(w * v for w, v in zip((-11 / 6, 3, -3 / 2, 1 / 3), visited, strict=True)) / time
    rate = rate_of_change(stepper, u)
    assert (slope - rate).norm() / rate.norm() < 1e-5  # third order in 1e-3 s


def test_residual_of_exact_steps_falls_with_their_length():
    stepper = KuramotoSivashinsky(length=22.0, points=64, time_step=0.0125)
    u = stepper.advance(drawn(3, 1, 64), 4000)
    long, short = (step_residual(stepper, u, stepper.advance(u, n), n * 0.0125) for n in (4, 2))
    assert bool(((long / short).log2() > 1.6).all())  # 2 in the limit, 1.3 in the stiffest modes
    wrong = stepper.advance(u, 2) + 1e-2 * drawn(3, 1, 64)
    assert bool((step_residual(stepper, u, wrong, 0.025) > 10 * short).all())


def test_residual_knows_the_forcing_and_each_trajectorys_parameters():
    stepper = flow(viscosity=torch.tensor([0.01, 0.05]))
    u = smooth(2, 32)
    exact = step_residual(stepper, u, stepper.step(u), 0.005)
    assert exact.max() < 1e-3
    assert step_residual(flow(forcing=None, viscosity=0.01), u, stepper.step(u), 0.005).min() > 0.01
    assert step_residual(stepper, u, u, 0.005).min() == math.inf  # nothing moved, though it should


def test_judging_names_bad_input():
    u = smooth(2, 32)
    with pytest.raises(InputError, match="three frames"):
        energy_budget(flow(), u[:, None])
    with pytest.raises(InputError, match="following"):
        step_residual(flow(), u, u[:1], 0.1)
    with pytest.raises(InputError, match="frame_time"):
        step_residual(flow(), u, u, 0.0)
    with pytest.raises(InputError, match="states"):
        field_mean(torch.ones(2, 3))


def test_bootstrap_of_a_mean():
    values = drawn(400) + 5
    found = bootstrap(values, generator=generator())
    assert found.estimate == pytest.approx(float(values.mean()))
    error = float(values.std()) / 20
    assert found.deviation == pytest.approx(error, rel=0.1)  # 2000 samples scatter by 0.016
    assert found.low == pytest.approx(found.estimate - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(found.estimate + 1.96 * error, abs=0.2 * error)
    assert found == bootstrap(values, generator=generator())
    assert "at 95%" in str(found)


def test_pairs_take_out_what_trajectories_have_in_common():
    hard = 10 * drawn(100).abs() + 1
    first, second = hard * 0.9, hard + 0.01 * drawn(100, seed=1)
    found = paired_bootstrap(first, second, generator=generator())
    assert found.low < 0.9 < found.high
    assert found.high - found.low < 2e-3
    less = paired_bootstrap(first, second, "difference", generator=generator())
    assert less.estimate == pytest.approx(float((first - second).mean()))
    assert less.high < 0


def test_bootstrap_of_a_horizon():
    angles = torch.rand(30, 40, generator=generator(), dtype=F64).cumsum(1) * 0.1
    x = torch.arange(64, dtype=F64) / 64 * 2 * math.pi
    states = torch.cos(x + angles[..., None])[:, :, None]
    reference = torch.cos(x).expand_as(states)

    def horizon(drawn_angles):
        return correlation_time(
            torch.cos(x + drawn_angles[..., None])[:, :, None], reference, 1.0
        ).of_mean

    found = bootstrap(angles, horizon, generator=generator(), samples=50)
    assert found.low <= found.estimate <= found.high
    assert found.estimate == correlation_time(states, reference, 1.0).of_mean


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": drawn(1)}, "at least two trajectories"),
        ({"second": drawn(5)}, "same trajectories"),
        ({"compare": "quotient"}, "ratio or difference"),
        ({"samples": 1}, "samples"),
        ({"level": 95}, "level"),
    ],
)
def test_statistics_name_bad_input(change, words):
    given = {"first": drawn(4), "second": drawn(4), "generator": generator()} | change
    with pytest.raises(InputError, match=words):
        paired_bootstrap(**given)


class Twice(torch.nn.Module):
    """Calls its network twice a step."""

    time_step = 0.5

    def __init__(self):
        super().__init__()
        self.network = torch.nn.Conv1d(1, 1, 3, padding=1).requires_grad_(False)

    def step(self, u, condition=None, generator=None):
        return self.network(torch.tanh(self.network(u)))


def test_cost_of_a_model_and_of_a_solver():
    found = measured_cost("twice", Twice(), torch.ones(4, 1, 16), steps=3, error=0.1)
    assert found.calls == 4.0
    assert found.parameters == 4
    assert found.seconds > 0
    stepper = KuramotoSivashinsky(length=22.0, points=16, time_step=0.1)
    solver = measured_cost("solver", stepper, drawn(2, 1, 16))
    assert solver.calls == pytest.approx(10.0)
    assert solver.parameters == 0


def test_breakeven_against_a_solver_of_like_error():
    solvers = [
        Cost("fine", seconds=1.0, calls=10, error=1e-6),
        Cost("coarse", seconds=0.2, calls=2, error=1e-3),
        Cost("coarsest", seconds=0.1, calls=1, error=1e-1),
    ]
    surrogate = Cost("net", seconds=0.15, calls=1, error=2e-3, learning_seconds=100.0)
    match = error_matched(solvers, surrogate.error)
    assert match.name == "coarse"
    assert breakeven(surrogate, match, duration=10.0) == pytest.approx(200.0)
    assert breakeven(surrogate, solvers[2], duration=10.0) == math.inf
    assert lyapunov_times(98.0, 0.0878) == pytest.approx(8.6, abs=0.01)
    with pytest.raises(InputError, match="coarsest"):
        error_matched(solvers, 1e-9)
    with pytest.raises(InputError, match="duration"):
        breakeven(surrogate, match, 0.0)
    with pytest.raises(InputError, match="exponent"):
        lyapunov_times(98.0, -0.1)
