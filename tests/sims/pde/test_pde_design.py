"""Inverse problems of flows: gradients, laws, recovery, bad input."""

import functools
import math

import pytest
import torch

from geomopt.errors import InputError
from optimizers import Budget, RegularizedNewton, minimize
from sims.pde.design.coarse import Coarse
from sims.pde.design.observations import Observations
from sims.pde.design.problems import InverseProblem, even_stride
from sims.pde.design.unknowns import Coefficients, Field, Number
from sims.pde.design.windows import in_windows
from sims.pde.networks.unet import UNet
from sims.pde.rollout import rollout
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky
from sims.pde.spectral.navier_stokes import NavierStokes2D
from sims.pde.surrogates.refiner import Refiner
from sims.pde.surrogates.surrogate import OneStep

DOUBLE = torch.float64
DIFFERENCE = 1e-6  # of a coordinate, between central differences
GRADIENT = 1e-6  # relative, what central differences of that step can tell in float64
TRUNCATED = (
    1e-2  # of fields of about 2, what waves beyond the tenth of L = 22 make in half a second
)
ROUNDING = 1e-12  # of equal operations in another order


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def small_flow(seed=0, count=1, **parameters):
    solver = KuramotoSivashinsky(22.0, 32, 0.1, **parameters)
    generator = torch.Generator().manual_seed(seed)
    return solver, solver.advance(random_waves(solver, count, generator), 800)


def initial_problem(**options):
    solver, u = small_flow()
    frames = rollout(solver, u, 20, 5)
    unknown = {"initial": Field(6, start=frames[0, :1], spread=0.5)}
    times = [0.5 * (i + 1) for i in range(4)]
    return InverseProblem(solver, Observations(frames, times), unknown, **options), u


def viscosity_problem(count=2, **options):
    true, u = small_flow(count=count, viscosity=0.9)
    frames = rollout(true, u, 20, 10)
    seen = Observations(frames, [1.0, 2.0], **options)
    make = functools.partial(KuramotoSivashinsky, 22.0, 32, 0.1)
    return InverseProblem(make, seen, {"viscosity": Number(0.5, 2.0)}, initial=u)


def flow_2d(forcing, **numbers):
    return NavierStokes2D(points=16, time_step=0.05, forcing=forcing, **numbers)


def forcing_problem():
    u = drawn(2, 1, 16, 16)
    u = u - u.mean((2, 3), keepdim=True)
    true = drawn(1, 1, 16, 16, seed=1)
    frames = rollout(flow_2d(true, viscosity=0.05, drag=0.1), u, 4, 2)
    unknown = {
        "forcing": Field(2, mean=False),
        "viscosity": Number(1e-3, 1.0),
        "drag": Number(0.0, 1.0),
    }
    mask = torch.rand(2, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    seen = Observations(frames.masked_fill(~mask, math.nan), [0.1, 0.2], mask, noise=0.1)
    return InverseProblem(flow_2d, seen, unknown, initial=u)


PROBLEMS = {
    "initial": lambda: initial_problem()[0],
    "initial after a spin-up": lambda: initial_problem(spin_up=0.4, checkpoint=False)[0],
    "viscosity": viscosity_problem,
    "forcing, viscosity and drag": forcing_problem,
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradients_are_those_of_central_differences(name):
    problem = PROBLEMS[name]()
    x = problem.start + 0.1 * problem.scale * drawn(problem.dimension, seed=3).clamp(-1, 1)
    gradient = problem.evaluate(x[None], 1).gradient[0]
    steps = DIFFERENCE * torch.eye(problem.dimension, dtype=DOUBLE)
    value = problem.evaluate(torch.cat([x + steps, x - steps])).value
    ahead, behind = value.chunk(2)
    differences = (ahead - behind) / (2 * DIFFERENCE)
    assert (gradient - differences).norm() <= GRADIENT * gradient.norm()


def test_a_batch_is_its_rows_one_by_one():
    problem = forcing_problem()
    points = problem.sample(3, torch.Generator().manual_seed(0))
    together = problem.evaluate(points, 1)
    for row, point in enumerate(points):
        alone = problem.evaluate(point[None], 1)
        torch.testing.assert_close(together.value[row], alone.value[0], rtol=ROUNDING, atol=0)
        torch.testing.assert_close(together.gradient[row], alone.gradient[0])


def test_the_gauss_newton_matrix_is_that_of_the_jacobian():
    problem = viscosity_problem()
    x = problem.start
    carried = problem.evaluate(x[None], 2)
    by_reverse = problem.evaluate(x[None], 1)
    torch.testing.assert_close(carried.value, by_reverse.value)
    torch.testing.assert_close(carried.gradient, by_reverse.gradient)
    size = DIFFERENCE
    outputs = [problem.evaluate(x[None] + s).outputs[0] for s in (size, -size)]
    column = (outputs[0] - outputs[1]) / (2 * size)
    torch.testing.assert_close(carried.curvature[0, 0, 0], column.square().sum(), rtol=1e-6, atol=0)


def test_the_value_is_half_the_squared_relative_error():
    problem, u = initial_problem()
    frames = problem.observations.frames
    named = problem.parameters_of(problem.start[None])
    guess = problem.frames(problem.values(named))[0]
    expected = 0.5 * (guess - frames).square().sum() / frames.square().sum()
    torch.testing.assert_close(problem.evaluate(problem.start[None]).value[0], expected)
    assert problem.found(problem.start)["initial"].shape == u.shape


def test_known_noise_makes_half_at_the_truth_and_brings_the_prior():
    solver, u = small_flow(count=4)
    frames = rollout(solver, u, 10, 5)
    noise = 0.1
    seen = Observations(frames + noise * drawn(*frames.shape, seed=5), [0.5, 1.0], noise=noise)
    problem = InverseProblem(solver, seen, {"initial": Field(spread=2.0)})
    truth = problem.flatten({"initial": u.flatten(2)})
    value = float(problem.evaluate(truth[None]).value)
    count = frames.numel()
    prior = 0.5 * float(u.square().sum()) / 4.0 / count
    assert value == pytest.approx(0.5 + prior, abs=3 / math.sqrt(2 * count))  # of chi squared / 2n
    assert problem.evaluate(truth[None]).outputs.shape[1] == count + u.numel()


@pytest.mark.parametrize(("points", "modes"), [((16,), 5), ((8, 12), 2), ((8, 8, 8), 1)])
@pytest.mark.parametrize("mean", [True, False])
def test_coefficients_are_orthonormal_and_come_back(points, modes, mean):
    basis = Coefficients(Field(modes, mean=mean), 1, points, torch.zeros((), dtype=DOUBLE))
    assert basis.count == (2 * modes + 1) ** len(points) - (not mean)
    given = drawn(3, basis.count)
    fields = basis.field_of(given)
    assert fields.shape == (3, *points)
    torch.testing.assert_close(basis.of(fields), given)
    torch.testing.assert_close(fields.square().flatten(1).mean(1), given.square().sum(1))


def test_a_spectrum_of_spreads_is_a_spread_for_each_coefficient():
    spread = [3.0, 2.0, 1.0]
    basis = Coefficients(Field(2, spread=spread), 1, (8,), torch.zeros((), dtype=DOUBLE))
    assert basis.spread.tolist() == [3.0, 2.0, 2.0, 1.0, 1.0]


def test_numbers_are_searched_by_their_logarithm_where_they_can():
    like = torch.zeros((), dtype=DOUBLE)
    wide = Number(1e-4, 1.0)
    assert float(wide.box(like).lower) == pytest.approx(math.log(1e-4))
    torch.testing.assert_close(wide.value(like + math.log(0.01)), like + 0.01)
    signed = Number(-1.0, 1.0)
    assert float(signed.value(like - 0.3)) == pytest.approx(-0.3)


def test_a_viscosity_is_found():
    found = minimize(viscosity_problem(), RegularizedNewton("gauss-newton"))
    assert float(found.parameters["viscosity"].exp()) == pytest.approx(0.9, rel=1e-5)


def test_an_initial_field_is_found_through_growing_windows():
    solver, u = small_flow(seed=1)
    frames = rollout(solver, u, 60, 5)
    seen = Observations(frames, [0.5 * (i + 1) for i in range(12)])
    problem = InverseProblem(solver, seen, {"initial": Field(7, spread=0.3)}, spin_up=1.0)
    found = in_windows(problem, shares=(0.25, 1.0), budget=Budget(iterations=15, target=1e-10))
    error = (problem.found(found.x)["initial"] - u).norm() / u.norm()
    assert float(error) <= 1e-3
    assert float(problem.evaluate(found.x[None]).value) == pytest.approx(found.value, rel=1e-6)


def test_windows_are_parts_of_the_observations():
    problem = viscosity_problem(noise=0.1)
    part = problem.until(1)
    assert part.observations.frames.shape[1] == 1
    moved = problem.starting(problem.start + 0.1)
    assert float(moved.start - problem.start) == pytest.approx(0.1)
    with pytest.raises(InputError, match="shares must increase"):
        in_windows(problem, shares=(0.5, 0.25, 1.0))
    with pytest.raises(InputError, match="shares must increase"):
        in_windows(problem, shares=(0.5,))


def surrogate_of(kind, **options):
    torch.manual_seed(0)
    refining = kind is Refiner
    network = UNet(
        widths=(4, 4), channels_in=1 + refining, leveled=refining,
        conditions=len(options.get("conditions", {})),
    )  # fmt: skip
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    surrogate = kind(network, time_step=0.5, length=22.0, points=32, **options)
    surrogate.fit_scale(small_flow(count=2)[1].unsqueeze(1).repeat(1, 3, 1, 1) * drawn(2, 3, 1, 32))
    return surrogate.double()


def test_the_same_problem_by_a_surrogate_that_is_told_its_conditions():
    surrogate = surrogate_of(OneStep, conditions={"viscosity": (0.4, 2.0)})
    problem = viscosity_problem().by(surrogate)
    x = problem.start[None].repeat(2, 1) + torch.tensor([[0.0], [0.2]], dtype=DOUBLE)
    answer = problem.evaluate(x, 1)
    size = DIFFERENCE
    ahead, behind = (problem.evaluate(x + s).value for s in (size, -size))
    torch.testing.assert_close(answer.gradient[:, 0], (ahead - behind) / (2 * size), rtol=1e-5,
                               atol=1e-9)  # fmt: skip
    curved = problem.evaluate(x, 2)
    torch.testing.assert_close(curved.gradient, answer.gradient)


def test_a_surrogate_that_draws_noise_draws_the_same_in_every_evaluation():
    problem = initial_problem()[0].by(surrogate_of(Refiner, levels=2, sigma_min=1e-2))
    x = problem.sample(2, torch.Generator().manual_seed(0))
    together = problem.evaluate(x).value
    torch.testing.assert_close(together, problem.evaluate(x).value, rtol=0, atol=0)
    torch.testing.assert_close(together[1:], problem.evaluate(x[1:]).value, rtol=ROUNDING, atol=0)


def test_a_coarse_solver_stands_in_for_a_fine_one():
    solver, u = small_flow()
    fine = KuramotoSivashinsky(22.0, 64, 0.1)
    wide = Coarse(solver, 64)
    lifted = torch.fft.irfft(torch.fft.rfft(u)[..., :16], n=64) * 2
    after = fine.advance(lifted, 5)
    torch.testing.assert_close(wide.advance(lifted, 5), after, rtol=0, atol=TRUNCATED)
    with pytest.raises(InputError, match="points must be at least"):
        Coarse(fine, 32)


def test_designs_that_diverge_are_failed_rows():
    problem, _ = initial_problem()
    answer = problem.evaluate(torch.full((1, problem.dimension), 1e6, dtype=DOUBLE), 1)
    assert not bool(answer.ok[0])
    assert float(answer.value) == math.inf


@pytest.mark.parametrize("steps", [1, 7, 12, 112, 114])
def test_a_stride_divides_the_steps(steps):
    assert steps % even_stride(steps) == 0


def test_bad_observations_are_named():
    frames = drawn(1, 2, 1, 8)
    for message, arguments in {
        "frames must have shape": (frames[0], [1.0, 2.0]),
        "times must be one for each": (frames, [1.0]),
        "times must increase": (frames, [1.0, 1.0]),
        "mask must be broadcastable": (frames, [1.0, 2.0], torch.ones(3, dtype=torch.bool)),
        "mask must be True somewhere": (frames, [1.0, 2.0], torch.tensor(False)),
        "frames must be finite": (frames * math.nan, [1.0, 2.0]),
        "noise must be above 0": (frames, [1.0, 2.0], None, -0.1),
    }.items():
        with pytest.raises(InputError, match=message):
            Observations(*arguments)


def test_bad_unknowns_are_named():
    for message, make in {
        "modes must be an integer": lambda: Field(0),
        "spread must be above 0": lambda: Field(3, spread=0.0),
        "spread must be a number or": lambda: Field(3, spread=[1.0, 2.0]),
        "lowest must be below highest": lambda: Number(1.0, 1.0),
        "lowest must be above 0": lambda: Number(-1.0, 1.0, logarithmic=True),
        "start must lie between": lambda: Number(0.5, 1.0, start=2.0),
    }.items():
        with pytest.raises(InputError, match=message):
            make()


def test_bad_problems_are_named():
    solver, u = small_flow()
    seen = Observations(rollout(solver, u, 2), [0.1, 0.2])
    late = Observations(rollout(solver, u, 2), [0.1, 0.25])
    field, number = {"initial": Field(3)}, {"viscosity": Number(0.5, 2.0)}
    make = functools.partial(KuramotoSivashinsky, 22.0, 32, 0.1)
    told = surrogate_of(OneStep)
    for message, arguments, options in (
        ("observations must be", (solver, u, field), {}),
        ("unknowns must map", (solver, seen, {"initial": 3}), {}),
        ("unknowns must map", (solver, seen, {}), {}),
        ("initial must be given, or", (make, seen, number), {}),
        ("initial must be given, or", (solver, seen, field), {"initial": u}),
        ("initial must have shape", (make, seen, number), {"initial": u[..., :16]}),
        ("must have a Field for 'initial'", (solver, seen, {"initial": Number(0, 1)}), {}),
        ("model must be what makes a stepper", (solver, seen, number), {"initial": u}),
        (r"model must have step\(u\)", (make, seen, field), {}),
        ("times must be multiples", (solver, late, field), {}),
        ("spin_up must be a multiple", (solver, seen, field), {"spin_up": 0.25}),
        ("spin_up must be at least 0", (solver, seen, field), {"spin_up": -1.0}),
        ("spin_up is for an unknown", (make, seen, number), {"initial": u, "spin_up": 0.1}),
        ("modes must be below half", (solver, seen, {"initial": Field(16)}), {}),
        ("start must have shape", (solver, seen, {"initial": Field(3, start=u[..., :9])}), {}),
        ("unknowns must be conditions", (told, seen, number), {"initial": u}),
    ):
        with pytest.raises(InputError, match=message):
            InverseProblem(*arguments, **options)
