"""Surrogates in the place of a stepper: scale, shapes, conditions, files."""

import pytest
import torch
from torch.autograd import gradcheck

from geomopt.errors import InputError
from sims.pde.networks import FourierNet, UNet
from sims.pde.surrogates.conditions import OutsideTraining
from sims.pde.surrogates.refiner import Refiner, load_surrogate
from sims.pde.surrogates.surrogate import OneStep

DATA = {"time_step": 0.5, "length": 8.0, "points": 16}


@pytest.fixture(autouse=True)
def _weights_of_every_run_alike():
    torch.manual_seed(0)


def waves(trajectories=6, frames=5, channels=1, points=(16,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        trajectories, frames, channels, *points, generator=generator, dtype=torch.float64
    )


def stirred(surrogate, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in surrogate.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return surrogate


def net(**options):
    return UNet(1, widths=(6, 8), **options)


def one_step(network=None, **options):
    surrogate = OneStep(network or net(), **{**DATA, **options})
    surrogate.fit_scale(waves(channels=surrogate.channels, points=surrogate.points))
    return stirred(surrogate)


def test_scale_brings_increments_to_unit_deviation_for_each_channel():
    states = waves(channels=2, points=(8, 4)) * torch.tensor([3.0, 0.02]).view(2, 1, 1) + 5
    surrogate = OneStep(
        UNet(2, 2, 2, widths=(4, 6)), time_step=1.0, length=(2.0, 1.0), points=(8, 4), channels=2
    )
    assert not surrogate.fitted
    assert surrogate.largest is None
    surrogate.fit_scale(states)
    y = surrogate.target(states[:, 0], states[:, 1])
    assert y.dtype == torch.float32
    every = torch.stack([(b - a) for a, b in zip(states[:, :-1], states[:, 1:], strict=True)])
    expected = every.transpose(0, 2).flatten(1).std(1, correction=0)
    torch.testing.assert_close(surrogate.scale, expected, rtol=1e-12, atol=0)
    flat = states.transpose(0, 2).flatten(1)
    torch.testing.assert_close(surrogate.centre, flat.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(surrogate.spread, flat.std(1, correction=0), rtol=1e-12, atol=0)
    assert surrogate.largest == pytest.approx(10 * float(states.abs().max()))
    seen = surrogate.seen(states[:, 0])
    assert seen.std((0, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=0.2)
    assert seen.mean((0, 2, 3)).tolist() == pytest.approx([0.0, 0.0], abs=0.3)
    assert surrogate.length == (2.0, 1.0)
    assert surrogate.spacing == 0.25


def test_an_untrained_surrogate_changes_nothing():
    surrogate = OneStep(net(), **DATA)
    surrogate.fit_scale(waves())
    u = waves()[:, 0]
    torch.testing.assert_close(surrogate.step(u), u, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fields_keep_their_dtype_and_the_network_its_own(dtype):
    surrogate = one_step()
    u = waves()[:, 0].to(dtype)
    out = surrogate.step(u)
    assert out.dtype == dtype
    assert surrogate.increment(u).dtype == torch.float32
    expected = u + surrogate.scale.to(dtype) * surrogate.increment(u).to(dtype)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    assert surrogate.double().increment(u).dtype == torch.float64


def test_advance_is_so_many_steps():
    surrogate = one_step()
    u = waves()[:, 0]
    three = surrogate.step(surrogate.step(surrogate.step(u)))
    torch.testing.assert_close(surrogate.advance(u, 3), three, rtol=0, atol=0)


def test_gradients_in_the_field_and_in_conditions_meet_differences():
    surrogate = OneStep(
        net(conditions=2), **DATA, conditions={"viscosity": (0.5, 1.5), "drag": (0.0, 0.1)}
    )
    surrogate.fit_scale(waves())
    surrogate = stirred(surrogate).double().requires_grad_(False)
    u = waves()[:2, 0].requires_grad_()
    viscosity = torch.tensor([0.7, 1.2], dtype=torch.float64, requires_grad=True)
    drag = torch.tensor(0.03, dtype=torch.float64, requires_grad=True)
    given = {"viscosity": viscosity, "drag": drag}
    assert gradcheck(lambda u, a, b: surrogate.step(u, {"viscosity": a, "drag": b}),
                     (u, *given.values()))  # fmt: skip


def test_conditions_are_told_from_zero_to_one_in_their_own_order():
    surrogate = one_step(
        net(conditions=3),
        conditions={"viscosity": (0.5, 1.5), "drag": (0.0, 0.1), "still": (2.0, 2.0)},
    )
    given = {"drag": 0.1, "still": 2.0, "viscosity": torch.linspace(0.5, 1.5, 6)}
    told = surrogate.told(waves()[:, 0], given)
    torch.testing.assert_close(told[:, 0], torch.linspace(0, 1, 6), rtol=0, atol=1e-6)
    assert told[:, 1].tolist() == [1.0] * 6
    assert told[:, 2].tolist() == [0.0] * 6


def test_conditions_outside_the_trained_range_are_warned_of_once_and_recorded():
    surrogate = one_step(net(conditions=1), conditions={"viscosity": (0.5, 1.5)})
    u = waves()[:, 0]
    surrogate.step(u, {"viscosity": 0.5})
    surrogate.step(u, {"viscosity": torch.full((6,), 1.5)})
    assert surrogate.warned == set()
    with pytest.warns(OutsideTraining, match=r"viscosity was trained between 0.5 and 1.5, and is"):
        surrogate.step(u, {"viscosity": 1.7})
    assert surrogate.warned == {"viscosity"}
    surrogate.step(u, {"viscosity": 1.9})  # warnings are errors in these tests
    assert "warned" not in str(surrogate.state_dict().keys())


def test_what_the_grid_tells_need_not_be_given_and_must_agree():
    surrogate = one_step()
    u = waves()[:, 0]
    surrogate.step(u, {"spacing": 0.5, "time_step": 0.5})
    with pytest.raises(InputError, match=r"spacing must be 0.5, as the surrogate was trained"):
        surrogate.step(u, {"spacing": 0.25})
    with pytest.raises(InputError, match=r"time_step must be 0.5"):
        surrogate.step(u, {"time_step": torch.full((6,), 0.4)})
    surrogate.check_grid(16.0, 32, 0.5)
    surrogate.check_grid((16.0, 1.0), (32, 2))
    with pytest.raises(InputError, match=r"spacing must be 0.5, as the surrogate was trained, got"):
        surrogate.check_grid(8.0, 32)
    told = one_step(net(conditions=2), conditions={"spacing": (0.4, 0.6), "time_step": (0.4, 0.6)})
    told.check_grid(8.8, 16, 0.4)
    torch.testing.assert_close(
        told.step(u), told.step(u, {"spacing": 0.5, "time_step": 0.5}), rtol=0, atol=0
    )
    longer = waves(points=(32,))[:, 0]
    assert told.step(longer, {"spacing": 0.45}).shape == longer.shape
    with pytest.raises(InputError, match="condition must have a value of 'spacing'"):
        told.step(longer)


@pytest.mark.parametrize("shape", [(6, 2, 16), (6, 1, 32), (6, 16), (6, 1, 16, 16)])
def test_fields_of_another_shape(shape):
    with pytest.raises(InputError, match=r"u must have shape \(any, 1, 16\)"):
        one_step().step(torch.zeros(shape))


def test_input_that_cannot_be():
    surrogate = one_step(net(conditions=1), conditions={"viscosity": (0.5, 1.5)})
    u = waves()[:, 0]
    with pytest.raises(InputError, match="u must be finite, got 1 NaN"):
        surrogate.step(torch.where(torch.arange(u.numel()).view(u.shape) == 3, torch.nan, u))
    with pytest.raises(InputError, match="u must be finite, got 96 NaN"):
        surrogate.advance(u * torch.nan, 2, {"viscosity": 1.0})
    with pytest.raises(InputError, match="condition must have a value of 'viscosity'"):
        surrogate.step(u)
    with pytest.raises(InputError, match=r"must have the names \['viscosity'\], got 'drag'"):
        surrogate.step(u, {"viscosity": 1.0, "drag": 1.0})
    with pytest.raises(InputError, match=r"must be a number or have shape \(6,\), got \(5,\)"):
        surrogate.step(u, {"viscosity": torch.ones(5)})
    with pytest.raises(InputError, match="condition 'viscosity' must be finite"):
        surrogate.step(u, {"viscosity": float("nan")})
    with pytest.raises(InputError, match="a number or values"):
        surrogate.step(u, {"viscosity": "thick"})
    with pytest.raises(InputError, match="condition must map names to values, got 1"):
        surrogate.step(u, 1)
    with pytest.raises(InputError, match="u must be a torch tensor, got list"):
        surrogate.increment([1.0])
    with pytest.raises(InputError, match="length must be a number for each axis"):
        surrogate.check_grid([], 16)
    with pytest.raises(InputError, match="scale was not measured"):
        OneStep(net(), **DATA).step(u)
    for states, said in (
        (waves()[:, :1], "at least two frames"),
        (waves()[:, :1].repeat(1, 3, 1, 1), r"channels \[0\] do not"),
        (waves() * torch.nan, "must be finite"),
        (waves(channels=2), "must have shape"),
    ):
        with pytest.raises(InputError, match=said):
            surrogate.fit_scale(states)


def test_surrogates_that_cannot_be():
    for network, options, said in (
        (net(conditions=1), {}, "conditions=0"),
        (net(leveled=True), {}, "leveled=False"),
        (UNet(2), {"points": (16, 16), "channels": 2}, "channels_in=2"),
        (UNet(1, widths=(4, 4, 4)), {"points": 6}, "multiples of the stride 4"),
        (net(), {"time_step": -1.0}, "time_step must be a number above 0"),
        (net(), {"length": 0.0}, "length must be a number above 0"),
        (net(), {"points": (16, 16)}, "points must be a number or 1 numbers"),
        (net(), {"conditions": {"viscosity": (2.0, 1.0)}}, "lowest, highest"),
        (net(), {"conditions": ["viscosity"]}, "conditions must map names"),
        (net(), {"length": "long"}, "length must be a number above 0"),
        (net(), {"points": None}, "points must be an integer"),
        (torch.sin, {}, "network must be a torch module"),
    ):
        with pytest.raises(InputError, match=said):
            OneStep(network, **{**DATA, **options})


def test_a_network_that_gives_another_shape_is_named():
    class Mean(torch.nn.Linear):
        def forward(self, fields, condition=None):
            return fields.mean(-1, keepdim=True) * self.weight

    model = one_step(Mean(1, 1))
    with pytest.raises(InputError, match=r"network must give \(2, 1, 16\) .* gave \(2, 1, 1\)"):
        model.step(torch.randn(2, 1, 16))


@pytest.mark.parametrize("kind", ["unet", "fourier", "refiner", "fine"])
def test_files_bring_the_surrogate_back(kind, tmp_path):
    u = waves()[:, 0]
    ranges = {"viscosity": (0.5, 1.5)}

    def make():
        if kind == "unet":
            return OneStep(net(conditions=1), **DATA, conditions=ranges)
        if kind == "fourier":
            network = FourierNet(1, width=4, modes=3, layers=2, conditions=1)
            return OneStep(network.double(), **DATA, conditions=ranges)
        seeing = net(channels_in=2, leveled=True, conditions=1)
        if kind == "refiner":
            return Refiner(seeing, **DATA, conditions=ranges, form="velocity", levels=2)
        return Refiner(net(conditions=1), fine=seeing, **DATA, conditions=ranges, forecast=(3,))

    surrogate = make()
    surrogate.fit_scale(waves())
    surrogate = stirred(surrogate)
    surrogate.save(tmp_path / "one.pt")
    again, other = load_surrogate(tmp_path / "one.pt"), stirred(make(), 1)
    other.load(tmp_path / "one.pt")
    expected = surrogate.step(u, {"viscosity": 1.1}, torch.Generator().manual_seed(0))
    for loaded in (again, other):
        found = loaded.step(u, {"viscosity": 1.1}, torch.Generator().manual_seed(0))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert loaded.settings() == surrogate.settings()
        assert loaded.largest == surrogate.largest


def test_files_of_another_architecture_say_what_differs(tmp_path):
    one_step().save(tmp_path / "one.pt")
    with pytest.raises(InputError, match=r"widths is \[6, 8\] in the file and \[8, 8\] here"):
        one_step(UNet(1, widths=(8, 8))).load(tmp_path / "one.pt")
    with pytest.raises(InputError, match="points is"):
        one_step(points=32).load(tmp_path / "one.pt")
    with pytest.raises(InputError, match="kind is 'OneStep' in the file and 'Refiner' here"):
        Refiner(net(channels_in=2, leveled=True), **DATA).load(tmp_path / "one.pt")
    (tmp_path / "none.pt").write_bytes(b"no weights")
    with pytest.raises(InputError, match="path must be a file of a surrogate"):
        load_surrogate(tmp_path / "none.pt")
    torch.save({"weights": {}}, tmp_path / "less.pt")
    with pytest.raises(InputError, match="path must be a file of a surrogate"):
        load_surrogate(tmp_path / "less.pt")
    with pytest.raises(FileNotFoundError):
        load_surrogate(tmp_path / "nowhere.pt")


def test_files_that_lack_or_spoil_parts_are_named(tmp_path):
    model = one_step()
    model.save(tmp_path / "one.pt")
    whole = torch.load(tmp_path / "one.pt", weights_only=True)

    def loaded(**changed):
        torch.save({**whole, **changed}, tmp_path / "spoilt.pt")
        return load_surrogate(tmp_path / "spoilt.pt")

    settings = {name: value for name, value in whole["settings"].items() if name != "length"}
    with pytest.raises(InputError, match=r"path must be a file of a surrogate, .*length"):
        loaded(settings=settings)
    weights = {name: value for name, value in whole["weights"].items() if name != "scale"}
    with pytest.raises(InputError, match="holds other weights"):
        loaded(weights=weights)
    weights = {name: value * torch.nan for name, value in whole["weights"].items()}
    with pytest.raises(InputError, match="holds weights that are not finite"):
        loaded(weights=weights)


class Own(torch.nn.Conv1d):
    """A network that does not describe itself."""

    def forward(self, fields, condition=None):
        return super().forward(fields)


def test_a_network_of_ones_own_is_loaded_into_one_that_is_there(tmp_path):
    own = one_step(Own(1, 1, 1))
    own.save(tmp_path / "own.pt")
    with pytest.raises(InputError, match="the network 'Own' is none of"):
        load_surrogate(tmp_path / "own.pt")
    other = one_step(Own(1, 1, 1))
    other.load(tmp_path / "own.pt")
    torch.testing.assert_close(other.network.weight, own.network.weight)
    with pytest.raises(InputError, match="holds other weights"):
        one_step(Own(1, 1, 3)).load(tmp_path / "own.pt")


@pytest.mark.gpu
def test_on_cuda_as_on_the_cpu(device):
    surrogate = one_step().to(device)
    u = waves()[:, 0].to(device)
    expected = surrogate.step(u).cpu()
    torch.testing.assert_close(expected, surrogate.cpu().step(u.cpu()), rtol=0, atol=1e-5)
