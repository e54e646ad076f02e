"""Correlation of frames, the time it is lost, and errors by band."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.metrics import (
    band_errors,
    correlation,
    correlation_time,
    energy_spectrum,
    spectrum_error,
    thirds,
)
from sims.pde.metrics.shells import shell_energy

F64 = torch.float64
ROUNDING = 1e-12  # of some hundred float64 terms


def waves(turned, points=64):
    """cos(x + angle) of angles (B, frames): its correlation with cos(x) is cos(angle)."""
    x = torch.arange(points, dtype=F64) / points * 2 * math.pi
    return torch.cos(x + turned[..., None, None])


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_correlation_with_itself_and_its_opposite():
    u = drawn(3, 4, 2, 8, 6)
    torch.testing.assert_close(correlation(u, 3 * u + 7), torch.ones(3, 4, dtype=F64))
    torch.testing.assert_close(correlation(u, -u), -torch.ones(3, 4, dtype=F64))


def test_correlation_of_turned_waves():
    angles = torch.tensor([[0.0, 0.5, 1.0], [0.2, 1.2, 3.0]], dtype=F64)
    found = correlation(waves(angles) + 5, waves(torch.zeros_like(angles)))
    assert (found - angles.cos()).abs().max() < ROUNDING


def test_correlation_is_numpys():
    numpy = pytest.importorskip("numpy")
    u, v = drawn(2, 3, 2, 16, seed=1), drawn(2, 3, 2, 16, seed=2)
    for row in range(2):
        for frame in range(3):
            both = numpy.corrcoef(u[row, frame].flatten(), v[row, frame].flatten())
            assert abs(float(correlation(u, v)[row, frame]) - both[0, 1]) < ROUNDING


def test_float32_states_get_float64_statistics():
    u = drawn(2, 3, 1, 64)
    near = (u + 1e3).float()  # the mean is a thousand times the variation
    exact = near.double() - near.double().mean(-1, keepdim=True)
    assert correlation(near, u).dtype == F64
    wanted = (exact * u).sum(-1) / exact.norm(dim=-1) / (u - u.mean(-1, keepdim=True)).norm(dim=-1)
    assert (correlation(near, u) - wanted[..., 0]).abs().max() < ROUNDING


def test_size_of_fields_does_not_matter():
    u, v = drawn(1, 2, 1, 32), drawn(1, 2, 1, 32, seed=1)
    for size in (1e-300, 1e-170, 1e200):
        assert (correlation(size * u, v) - correlation(u, v)).abs().max() < ROUNDING


def test_constant_and_diverged_frames_correlate_zero():
    u = drawn(2, 3, 1, 30)
    states = u.clone()
    states[0, 1] = 0.1  # whose mean over 30 points is not 0.1 to the last digit
    states[1, 2] = math.nan
    found = correlation(states, u)
    assert found[0, 1] == 0
    assert found[1, 2] == 0
    assert correlation_time(states, u).diverged == 1


def test_times_of_mean_and_of_each():
    # at 2 s: 0.9 and 0.5, so the mean 0.7 is below; alone the first one crosses at 3 s
    values = torch.tensor([[0.99, 0.9, 0.1, 0.9], [0.95, 0.5, 0.9, 0.0]], dtype=F64)
    states, reference = waves(values.acos()), waves(torch.zeros_like(values))
    found = correlation_time(states, reference, frame_time=1.0, threshold=0.8)
    assert found.of_mean == 2.0
    assert found.each.tolist() == [3.0, 2.0]
    assert found.mean_of == 2.5
    assert found.censored == 0.0
    assert found.diverged == 0
    assert "corr_time_of_mean 2 s" in str(found)


def test_who_never_crosses_has_the_whole_duration():
    values = torch.tensor([[0.99, 0.95, 0.9], [0.95, 0.9, 0.1]], dtype=F64)
    states, reference = waves(values.acos()), waves(torch.zeros_like(values))
    found = correlation_time(states, reference, 0.8, 0.45)
    assert found.each.tolist() == [0.8 * 3, 0.8 * 3]  # the first one censored, the last frame not
    assert found.censored == 0.5
    assert found.of_mean == found.duration == 0.8 * 3


def test_frame_times_that_differ_are_averaged_in_seconds():
    seconds = torch.tensor([0.5, 1.0], dtype=F64)
    # both lose correlation as 1 - t / 10, in frames of their own
    numbers = torch.arange(1, 21, dtype=F64)
    values = (1 - numbers * seconds[:, None] / 10).clamp(min=-1)
    states, reference = waves(values.acos()), waves(torch.zeros_like(values))
    found = correlation_time(states, reference, seconds, threshold=0.73)
    assert found.each.tolist() == [3.0, 3.0]
    assert found.of_mean == 3.0
    alike = correlation_time(states, reference, torch.full((2,), 0.5, dtype=F64), 0.73)
    one = correlation_time(states, reference, 0.5, 0.73)
    assert alike.of_mean == one.of_mean
    assert alike.each.tolist() == one.each.tolist()


def test_where_the_fields_are_does_not_matter(device):
    u, v = drawn(3, 4, 1, 16), drawn(3, 4, 1, 16, seed=1)
    steps = torch.tensor([0.5, 0.7, 0.9])
    here = correlation_time(u, u + 0.1 * v, steps)
    there = correlation_time(u.to(device), (u + 0.1 * v).to(device), steps.to(device))
    assert there.of_mean == here.of_mean
    assert there.each.device.type == device.type
    found = band_errors(u[:, 0].to(device), v[:, 0].to(device), edges=[(1, 3)])
    assert found.bands == pytest.approx(band_errors(u[:, 0], v[:, 0], edges=[(1, 3)]).bands)


def test_correlation_is_differentiable():
    u, v = drawn(1, 2, 1, 8).requires_grad_(), drawn(1, 2, 1, 8, seed=1)
    assert torch.autograd.gradcheck(lambda field: correlation(field, v), u)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"states": torch.ones(2, 3, 8)}, "trajectories, frames, channels"),
        ({"states": drawn(2, 4, 1, 8)}, "one apart; the initial field"),
        ({"states": drawn(2, 3, 1, 16)}, "same shape"),
        ({"states": [1.0]}, "states must be a torch tensor"),
        ({"reference": torch.full((2, 3, 1, 8), math.nan)}, "reference must be finite"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": "high"}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"frame_time": 0.0}, "frame_time"),
        ({"frame_time": torch.ones(3)}, "frame_time"),
        ({"frame_time": math.inf}, "frame_time"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"states": drawn(2, 3, 1, 8), "reference": drawn(2, 3, 1, 8)} | change
    with pytest.raises(InputError, match=words):
        correlation_time(**given)


@pytest.mark.parametrize("space", [(16,), (15,), (8, 6), (6, 4, 8), (5, 7)])
def test_shells_sum_up_to_the_mean_square(space):
    u = drawn(2, 3, *space)
    total = u.square().flatten(2).mean(-1).sum(1)
    assert (shell_energy(u).sum(1) - total).abs().max() < ROUNDING


def test_spectrum_of_one_wave():
    x = torch.arange(32, dtype=F64) / 32 * 2 * math.pi
    field = 3 * torch.cos(4 * x)[:, None] * torch.sin(3 * x)[None]  # |k| = 5, energy 9 / 4
    wavenumbers, energy = energy_spectrum(field[None, None], length=4 * math.pi)
    assert abs(float(energy[0, 5]) - 9 / 4) < ROUNDING
    assert abs(float(energy[0].sum()) - 9 / 4) < ROUNDING
    assert float(wavenumbers[5]) == 2.5


def test_shells_of_a_long_box_count_along_its_longest_edge():
    x = torch.arange(16, dtype=F64) / 16 * 2 * math.pi
    short = torch.cos(x)[None].expand(16, 16)  # one wave over the short edge of a box 2 by 1
    assert int(energy_spectrum(short[None, None], (2.0, 1.0))[1][0].argmax()) == 2


def test_thirds_of_128_points():
    assert thirds((128,)) == ((1, 14), (15, 28), (29, 42))
    assert thirds((64, 64)) == ((1, 7), (8, 14), (15, 21))


def test_errors_by_band():
    x = torch.arange(128, dtype=F64) / 128 * 2 * math.pi
    parts = [torch.cos(5 * x), 0.1 * torch.cos(20 * x), 0.01 * torch.sin(40 * x)]
    reference = torch.stack([sum(parts), 2 * sum(parts)])[:, None]
    wrong = torch.stack([1e-3 * parts[0] + 0.02 * parts[1] + 0.5 * parts[2], 0 * x])[:, None]
    found = band_errors(reference + wrong, reference)
    each = torch.tensor([1e-3, 0.02, 0.5], dtype=F64)
    assert (found.each[0] - each).abs().max() < 1e-10
    assert found.each[1].max() < ROUNDING
    pooled = torch.tensor(found.bands, dtype=F64)
    assert (pooled - each / 5**0.5).abs().max() < 1e-10
    assert abs(found.overall - float(wrong.norm() / reference.norm())) < ROUNDING
    assert band_errors(reference, reference).overall == 0.0


def test_diverged_fields_have_infinite_errors():
    reference = drawn(2, 1, 32)
    states = reference.clone()
    states[0] = math.nan
    found = band_errors(states, reference)
    assert found.each_overall.tolist() == [math.inf, 0.0]
    assert found.overall == math.inf
    assert spectrum_error(states, reference) < math.inf
    assert spectrum_error(states[:1], reference) == math.inf


def test_spectrum_error_of_a_doubled_amplitude():
    u = drawn(4, 1, 32)
    assert abs(spectrum_error(2 * u, u) - math.log10(4)) < ROUNDING


def test_bands_name_bad_input():
    u = drawn(2, 1, 32)
    with pytest.raises(InputError, match="edges"):
        band_errors(u, u, edges=[(3, 2)])
    with pytest.raises(InputError, match="same shape"):
        band_errors(u, u[:1])
    with pytest.raises(InputError, match="thirds"):
        band_errors(u[..., :4], u[..., :4])
    with pytest.raises(InputError, match="length"):
        energy_spectrum(u, -1.0)
