"""Data sets made with solvers: what is drawn, kept and told, and what happens to bad ones."""

from functools import partial
from typing import ClassVar

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.data import Campaign, downsample, generate
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

EXACT = 1e-12  # relative, of float64 transforms on these sizes
KS = partial(KuramotoSivashinsky, points=32)


def made(count=6, seed=0, **options):
    given = {
        "stepper": KS(length=22.0, time_step=0.1),
        "frames": 4,
        "frame_time": 0.2,
        "initial": random_waves,
        "warm_up": 1.0,
        **options,
    }
    return generate(trajectories=count, generator=torch.Generator().manual_seed(seed), **given)


def test_frames_are_those_of_the_solver_after_the_warm_up():
    data = made(warm_up=0.95)  # of steps of 0.1: ten of them
    stepper = KS(length=22.0, time_step=0.1)
    u = random_waves(stepper, 6, torch.Generator().manual_seed(0))
    for frame, steps in enumerate((10, 2, 2, 2)):
        u = stepper.advance(u, steps)
        error = (data.states[:, frame] - u).abs().max() / u.abs().max()
        assert float(error) < EXACT
    assert data.length == 22.0
    assert data.frame_time == 0.2
    assert torch.equal(data.parameters["viscosity"], torch.ones(6, dtype=torch.float64))
    assert data.equation == "KuramotoSivashinsky"


def test_the_same_numbers_give_the_same_data_and_batches_do_not_mix():
    assert torch.equal(made().states, made().states)
    assert not torch.equal(made().states, made(seed=1).states)
    assert made(7, batch=3).states.shape == (7, 4, 1, 32)


def test_values_are_drawn_for_each_trajectory_and_told():
    ranges = {"length": (57.6, 70.4), "viscosity": (0.5, 1.5)}
    data = made(
        400, stepper=KS, ranges=ranges, frame_time=(0.18, 0.22), substeps=2, batch=150, frames=2
    )
    for values, (low, high) in (
        (data.length, ranges["length"]),
        (data.parameters["viscosity"], ranges["viscosity"]),
        (data.frame_time, (0.18, 0.22)),
    ):
        place = (values - low) / (high - low)
        assert values.shape == (400,)
        assert 0 <= float(place.min()) < 0.02 < 0.98 < float(place.max()) <= 1
        assert abs(float(place.mean()) - 0.5) < 0.06  # four standard errors
    one = slice(399, 400)
    stepper = KS(
        length=data.length[one],
        time_step=data.frame_time[one] / 2,
        viscosity=data.parameters["viscosity"][one],
    )
    error = stepper.advance(data.states[one, 0], 2) - data.states[one, 1]
    assert float(error.abs().max()) < 1e-10  # chaos lets rounding grow, over two steps hardly


def test_a_solver_with_a_box_for_each_trajectory_is_solved_in_its_batches():
    sides = torch.tensor([20.0, 22.0, 24.0], dtype=torch.float64)
    data = made(6, stepper=KS(length=sides, time_step=0.1), batch=3)
    assert torch.equal(data.length, sides.repeat(2))
    with pytest.raises(InputError, match="one time_step, or frame_time be a range"):
        made(2, stepper=KS(length=22.0, time_step=torch.tensor([0.1, 0.2])))


def test_frames_are_kept_in_another_dtype_and_on_fewer_points():
    fine = made()
    data = made(points=16, dtype=torch.float32)
    assert data.states.dtype == torch.float32
    assert data.points == (16,)
    wanted = downsample(fine.states.flatten(0, 1), 16)
    assert torch.equal(data.states.flatten(0, 1), wanted.float())
    assert data.conditions()["spacing"][0] == 2 * fine.conditions()["spacing"][0]


def test_fewer_points_keep_the_waves_they_can_hold_and_nothing_of_the_others():
    x, y = (torch.arange(n, dtype=torch.float64) / n for n in (24, 36))
    tau = 2 * torch.pi

    def waves(x, y, highest):
        total = 0.3 * torch.ones(len(x), len(y), dtype=torch.float64)
        for k in range(1, highest + 1):
            total = total + torch.sin(tau * k * x + k)[:, None] * torch.cos(tau * k * y)
        return total[None, None]

    coarse = torch.arange(12, dtype=torch.float64) / 12
    found = downsample(waves(x, y, 11), 12)
    assert found.shape == (1, 1, 12, 12)
    assert float((found - waves(coarse, coarse, 5)).abs().max()) < EXACT
    assert torch.equal(downsample(found, 12), found)
    odd = torch.arange(9, dtype=torch.float64) / 9
    assert float((downsample(found, 9) - waves(odd, odd, 4)).abs().max()) < EXACT


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"frame_time": 0.25}, "multiple of the solver's time_step 0.1, got 0.25"),
        ({"frame_time": -0.2}, "frame_time must be positive"),
        ({"frame_time": (0.2, 0.1)}, "lowest <= highest"),
        ({"stepper": KS, "frame_time": (0.1, 0.2)}, "needs substeps"),
        ({"ranges": {"length": (20.0, 24.0)}}, "stepper must be what makes a solver"),
        ({"stepper": KS, "ranges": {"length": (-1.0, 24.0)}}, "length must be positive"),
        ({"stepper": KS, "ranges": {"length": 3.0}}, "length must be a range"),
        ({"stepper": "KS"}, "stepper must be a solver"),
        ({"warm_up": -1.0}, "warm_up must be at least 0"),
        ({"warm_up": "long"}, "warm_up must be seconds, got 'long'"),
        ({"initial": None}, "initial must draw the first fields, got None"),
        ({"initial": lambda *_: [0.0]}, "initial's fields must be a torch tensor, got list"),
        ({"points": 64}, "points must be at most 32"),
        ({"dtype": torch.float16}, "dtype must be float32 or float64"),
        ({"count": 0}, "trajectories must be an integer"),
    ],
)
def test_bad_campaigns_are_named(options, what):
    with pytest.raises(InputError, match=what):
        made(**options)


def test_what_is_no_generator_is_named():
    with pytest.raises(InputError, match=r"generator must be a torch\.Generator, got 1"):
        generate(KS(), 1, 1, 0.2, initial=random_waves, generator=1)


def test_trajectories_that_diverge_are_counted():
    class Growing:
        time_step, length = 0.1, 1.0
        parameters: ClassVar[dict[str, float]] = {}

        def step(self, u):
            return self.advance(u, 1)

        def advance(self, u, steps):
            return torch.where(u > 0.5, u * u.new_tensor(1e200), u)

    def initial(stepper, count, generator):
        return torch.arange(count, dtype=torch.float64).view(-1, 1, 1).expand(-1, 1, 8)

    with pytest.raises(InputError, match=r"3 of 4 trajectories diverged with time_step=0.1"):
        made(4, stepper=Growing(), initial=initial)
    with pytest.raises(InputError, match="3 of 4"):
        made(4, stepper=Growing(), initial=initial, warm_up=0.0)


def test_a_campaign_says_how_long_its_frames_are():
    assert Campaign(KS, random_waves, 0.2).frame_times() == (0.2, 0.2)
    assert Campaign(KS, random_waves, (0.1, 0.2), substeps=2).frame_times() == (0.1, 0.2)
