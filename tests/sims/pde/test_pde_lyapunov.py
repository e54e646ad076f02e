"""Lyapunov exponents: of linear equations in closed form, and of a chaotic one as measured."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.pde.metrics import kaplan_yorke, lyapunov_spectrum
from sims.pde.metrics.tangents import Tangents
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

F64 = torch.float64
DIFFERENCES = 1e-6  # relative size 1e-7 of a difference, and 1e-16 / 1e-7 of rounding


class Linear:
    """u_t = c u_x + diffusivity u_xx on [0, 2 pi), exactly."""

    conserves_mean = True

    def __init__(self, points=16, time_step=0.05, diffusivity=0.1):
        self.points, self.time_step = (points,), time_step
        k = torch.arange(points // 2 + 1, dtype=F64)
        self.factor = torch.exp(time_step * (0.3j * k - diffusivity * k.square()))

    def step(self, u):
        modes = torch.fft.rfft(u) * self.factor.to(torch.fft.rfft(u).dtype)
        return torch.fft.irfft(modes, n=self.points[0])


class Lorenz:
    """The three variables of Lorenz (1963) as a field of three points, by Runge-Kutta."""

    time_step = 0.01

    def rate(self, u):
        x, y, z = u.unbind(-1)
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)

    def step(self, u):
        h = self.time_step
        a = self.rate(u)
        b = self.rate(u + h / 2 * a)
        c = self.rate(u + h / 2 * b)
        return u + h / 6 * (a + 2 * b + 2 * c + self.rate(u + h * c))


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponents_of_diffusion_are_its_rates(dtype):
    u = drawn(2, 1, 16).to(dtype)
    found = lyapunov_spectrum(Linear(), u, exponents=6, duration=100.0)
    wanted = torch.tensor([-0.1, -0.1, -0.4, -0.4, -0.9, -0.9], dtype=F64)
    assert found.dtype == F64
    assert (found - wanted).abs().max() < DIFFERENCES


def test_exponents_about_the_state_at_rest(device):
    # u = 0 stays, and about it k^2 - k^4 holds for each wave, twice
    stepper = KuramotoSivashinsky(length=22.0, points=16, time_step=1.0)
    u = torch.zeros(2, 1, 16, dtype=F64, device=device)
    found = lyapunov_spectrum(stepper, u, exponents=4, duration=100.0, transient=2000.0)
    k = 2 * math.pi / 22.0 * torch.tensor([2.0, 2.0, 3.0, 3.0], dtype=F64)
    assert (found.cpu() - (k**2 - k**4)).abs().max() < DIFFERENCES


def test_the_mean_counts_unless_it_is_conserved():
    stepper = Linear()
    stepper.conserves_mean = False
    u = drawn(1, 1, 16)
    found = lyapunov_spectrum(stepper, u, exponents=3, duration=50.0, transient=200.0)
    wanted = torch.tensor([0.0, -0.1, -0.1], dtype=F64)
    assert (found - wanted).abs().max() < DIFFERENCES


def test_lorenz():
    # 0.9056, 0, -14.5723 (Sprott 2003, Chaos and Time-Series Analysis, table of appendix A)
    u = drawn(24, 1, 3) + torch.tensor([0.0, 0.0, 25.0])
    found = lyapunov_spectrum(Lorenz(), u, exponents=3, duration=60.0)
    assert abs(float(found[0]) - 0.9056) < 0.02  # 24 trajectories of 60 s
    assert abs(float(found[1])) < 5e-3
    assert abs(float(found.sum()) + 10 + 1 + 8 / 3) < 1e-3  # the trace, up to the scheme's error
    assert abs(kaplan_yorke(found) - 2.062) < 2e-3


def test_differences_are_the_derivative():
    stepper = KuramotoSivashinsky(length=22.0, points=32, time_step=0.1)
    u = stepper.advance(drawn(1, 1, 32), 500)
    tangents = Tangents(stepper, 3, None, None)
    frame = tangents.start(u)
    moved, grown = tangents.move(u, frame, 10)
    exact = torch.autograd.functional.jacobian(lambda v: stepper.advance(v, 10), u)
    wanted = frame[0] @ exact.reshape(32, 32).T
    assert (grown[0] - wanted).norm() / wanted.norm() < DIFFERENCES
    torch.testing.assert_close(moved, stepper.advance(u, 10))


def test_exponents_of_kuramoto_sivashinsky_in_short():
    # 0.0478, 0, 0, -0.0031, -0.1903 after 8e4 s; here 28 trajectories of 150 s, of which
    # one alone scatters by 0.016 in the first and by 0.025 in the fifth
    stepper = KuramotoSivashinsky(length=22.0, points=32, time_step=0.1)
    found = lyapunov_spectrum(
        stepper, drawn(1, 1, 32), exponents=5, duration=150.0, transient=400.0, copies=28
    )
    assert abs(float(found[0]) - 0.0478) < 0.012
    assert found[1:3].abs().max() < 5e-3
    assert abs(float(found[4]) + 0.1903) < 0.02


@pytest.mark.slow
def test_exponents_of_kuramoto_sivashinsky():
    stepper = KuramotoSivashinsky(length=22.0, points=64, time_step=0.1)
    found = lyapunov_spectrum(stepper, drawn(2, 1, 64), exponents=8, duration=2000.0)
    assert abs(float(found[0]) - 0.048) < 0.004
    assert int((found.abs() < 2e-3).sum()) == 2
    assert abs(float(found[4]) + 0.190) < 0.005
    assert abs(kaplan_yorke(found) - 4.24) < 0.05


def test_parameters_of_each_trajectory():
    both = KuramotoSivashinsky(
        length=torch.tensor([2.0, 4.0], dtype=F64), points=16, time_step=0.01
    )
    u = 1e-3 * drawn(2, 1, 16)
    # on these lengths every wave decays: k^2 - k^4 at the longest wave
    k = 2 * math.pi / torch.tensor([2.0, 4.0], dtype=F64)
    found = lyapunov_spectrum(both, u, exponents=2, duration=2.0, transient=1.0)
    assert (found - (k**2 - k**4).mean()).abs().max() < 1e-3  # u is small, not zero


def test_a_module_is_asked_in_double_precision():
    class Growth(torch.nn.Module):
        time_step = 0.1

        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor([1.25, 0.5, 0.75, 1.0]))

        def step(self, u, condition=None, generator=None):
            noise = torch.rand(u.shape, generator=generator, dtype=u.dtype)
            return self.factor * condition["gain"] * u + noise

    model = Growth()
    found = lyapunov_spectrum(
        model,
        torch.zeros(2, 1, 4),
        exponents=2,
        duration=5.0,
        transient=20.0,
        condition={"gain": 0.5},
        generator=torch.Generator().manual_seed(0),
    )
    wanted = torch.tensor([0.625, 0.5], dtype=F64).log() / 0.1
    assert model.factor.dtype == torch.float32
    assert (found - wanted).abs().max() < DIFFERENCES / model.time_step


def test_kaplan_yorke_of_a_known_list():
    exponents = torch.tensor([0.5, 0.0, -0.2, -0.6], dtype=F64)
    assert abs(kaplan_yorke(exponents) - (3 + 0.3 / 0.6)) < 1e-12
    assert kaplan_yorke(torch.tensor([-1.0, -2.0])) == 0.0
    with pytest.raises(InputError, match="ask for more"):
        kaplan_yorke(torch.tensor([0.5, 0.1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u": torch.ones(1, 16)}, r"\(B, C, \*space\)"),
        ({"u": torch.full((1, 1, 16), math.nan)}, "finite"),
        ({"exponents": 0}, "exponents"),
        ({"exponents": 16}, "at most 15"),
        ({"duration": 0.0}, "duration"),
        ({"duration": math.nan}, "duration"),
        ({"transient": -1.0}, "transient"),
        ({"every": 0}, "every"),
        ({"every": 1000}, "smaller `every`"),
        ({"copies": 0}, "copies"),
        ({"stepper": Linear(diffusivity=5.0), "exponents": 15}, "fewer exponents"),
        ({"stepper": Linear(diffusivity=-100.0)}, "diverged|more than differences"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"stepper": Linear(), "u": drawn(1, 1, 16), "exponents": 4, "duration": 100.0} | change
    with pytest.raises(InputError, match=words):
        lyapunov_spectrum(**given)
