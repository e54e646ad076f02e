"""Networks on periodic grids: no point is special, nothing is said before learning."""

import pytest
import torch
from torch.autograd import gradcheck

from geomopt.errors import InputError
from sims.pde.networks import FourierNet, LocalNet, UNet
from sims.pde.networks.conditioning import sinusoids
from sims.pde.networks.periodic import PeriodicConvolution, pad_periodic, refined

ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}  # of values of size 1 through ~20 layers
SPACES = {1: (32,), 2: (16, 8), 3: (8, 4, 8)}


@pytest.fixture(autouse=True)
def _weights_of_every_run_alike():
    torch.manual_seed(0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stirred(network, seed=0):
    """With weights that are not 0 anywhere, as after training."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return network


def unet(dimension, **options):
    widths = {1: (8, 12, 16), 2: (6, 8, 12), 3: (4, 6)}[dimension]
    return UNet(dimension, 2, 1, widths=widths, **options)


def fourier(dimension, **options):
    return FourierNet(dimension, 2, 1, width=6, modes=2, layers=2, **options)


def local(dimension, **options):
    return LocalNet(dimension, 2, 1, width=4, blocks=1, kernel=3, **options)


def normed(dimension, **options):
    return unet(dimension, norm=True, **options)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("make", [unet, normed, fourier, local])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_commute_with_shifts_over_the_seam(dimension, make, dtype):
    network = stirred(make(dimension, conditions=1, leveled=True)).to(dtype)
    space = SPACES[dimension]
    fields = torch.randn(3, 2, *space, generator=seeded(1)).to(dtype)
    told = torch.rand(3, 1, generator=seeded(2)).to(dtype)
    level = torch.tensor([0.0, 0.5, 1.0], dtype=dtype)
    axes = tuple(range(2, fields.dim()))
    still = network(fields, told, level)
    assert still.std() > 0.1
    for steps in (1, 3):
        shift = tuple(
            steps * network.total_stride + number * network.total_stride
            for number in range(len(axes))
        )
        moved = network(fields.roll(shift, axes), told, level)
        torch.testing.assert_close(
            moved,
            still.roll(shift, axes),
            rtol=0,
            atol=ROUNDING[dtype] * float(still.detach().abs().max()),
        )


def test_attention_commutes_with_shifts():
    network = stirred(unet(2, attention=True, blocks=2)).double()
    fields = torch.randn(2, 2, 16, 8, generator=seeded()).double()
    moved = network(fields.roll((4, -4), (2, 3)))
    torch.testing.assert_close(moved, network(fields).roll((4, -4), (2, 3)), rtol=0, atol=1e-12)


def test_a_shift_by_less_than_the_stride_is_another_problem():
    network = stirred(unet(1)).double()
    fields = torch.randn(2, 2, 32, generator=seeded()).double()
    apart = network(fields.roll(1, 2)) - network(fields).roll(1, 2)
    assert apart.abs().max() > 1e-3  # so that the shifts above test something


@pytest.mark.parametrize("make", [unet, fourier, local])
def test_untrained_networks_say_nothing(make):
    out = make(1)(torch.randn(2, 2, 32, generator=seeded()))
    assert out.shape == (2, 1, 32)
    assert not out.any()


def test_convolution_meets_the_sum_over_periodic_neighbours():
    layer = PeriodicConvolution(1, 1, 1, kernel=3).double()
    x = torch.randn(1, 1, 7, generator=seeded(), dtype=torch.float64)
    w, bias = layer.convolution.weight[0, 0], layer.convolution.bias
    expected = w[0] * x.roll(1, 2) + w[1] * x + w[2] * x.roll(-1, 2) + bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-15)
    coarse = PeriodicConvolution(1, 1, 1, kernel=3, stride=2).double()
    coarse.load_state_dict(layer.state_dict())
    torch.testing.assert_close(coarse(x[..., :6]), layer(x[..., :6])[..., ::2], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 0), (2, 2), (3, 2)])
def test_padding_is_the_periodic_continuation(before, after):
    x = torch.randn(2, 3, 3, generator=seeded())
    padded = pad_periodic(x, before, after, 1)
    where = torch.arange(-before, 3 + after) % 3
    torch.testing.assert_close(padded, x[..., where], rtol=0, atol=0)
    with pytest.raises(InputError, match="at least 4 points"):
        pad_periodic(x, 4, 0, 1)


def test_padding_continues_each_axis():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_periodic(x, 1, 1, 2)
    expected = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    torch.testing.assert_close(padded, expected, rtol=0, atol=0)
    assert refined(x)[0, 0].tolist() == [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2],
        [3, 3, 4, 4, 5, 5],
        [3, 3, 4, 4, 5, 5],
    ]


def test_sinusoids_tell_values_apart_and_stay_smooth():
    features = sinusoids(torch.linspace(0, 1, 9, dtype=torch.float64), 32)
    assert features.shape == (9, 32)
    apart = torch.cdist(features, features) + torch.eye(9) * 9
    assert apart.min() > 0.5
    assert (features.diff(dim=0).norm(dim=1) / (1 / 8)).max() < 16 * 4  # fastest angle, 16 of them


@pytest.mark.parametrize("make", [unet, fourier, local])
def test_gradients_in_fields_and_conditions(make):
    network = stirred(make(1, conditions=2, leveled=True)).double().requires_grad_(False)
    fields = torch.randn(1, 2, 8, generator=seeded()).double().requires_grad_()
    told = torch.rand(1, 2, generator=seeded()).double().requires_grad_()
    level = torch.tensor([0.5], dtype=torch.float64)
    assert gradcheck(lambda u, c: network(u, c, level), (fields, told))


def test_settings_make_the_same_network():
    for network in (
        unet(2, attention=True, conditions=1),
        fourier(2, leveled=True),
        local(2, conditions=1),
    ):
        again = type(network)(**network.settings)
        again.load_state_dict(network.state_dict())
        assert again.settings == network.settings


@pytest.mark.parametrize("make", [unet, fourier, local])
def test_compiles_as_one_graph(make):
    network = stirred(make(1, conditions=1, leveled=True))
    graph = torch.compile(network, backend="eager", fullgraph=True)
    given = torch.randn(2, 2, 32, generator=seeded()), torch.rand(2, 1), torch.rand(2)
    torch.testing.assert_close(graph(*given), network(*given))


def test_a_local_network_sees_its_neighbourhood_alone():
    network = stirred(LocalNet(1, 1, 1, width=4, blocks=2, kernel=5)).double()
    u = torch.randn(1, 1, 64, generator=seeded(), dtype=torch.float64)
    moved = u.clone()
    moved[..., 32] += 1
    apart = (network(moved) - network(u))[0, 0].nonzero().flatten() - 32
    assert (apart.min(), apart.max()) == (-12, 12)  # (2 blocks + 2) (kernel - 1) / 2


def test_a_local_network_can_square_exactly():
    network = LocalNet(1, 1, 1, width=2, blocks=1, kernel=1).double().requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    block = network.blocks[0]
    for layer, out, into in (
        (network.stem, 0, 0),
        (block.factors, 0, 0),  # the first factor, channel 0
        (block.factors, 2, 0),  # the second factor, channel 0
        (block.out, 1, 0),
        (network.head, 0, 1),
    ):
        layer.convolution.weight[out, into] = 1.0
    u = torch.randn(1, 1, 8, generator=seeded(), dtype=torch.float64)
    assert torch.equal(network(u), u * u)


def test_no_module_of_torch_is_changed():
    assert torch.nn.Conv1d(1, 1, 3).padding_mode == "zeros"
    assert torch.nn.Conv1d.__module__ == "torch.nn.modules.conv"


def test_arguments_that_cannot_be():
    with pytest.raises(InputError, match="dimension must be 1, 2 or 3, got 4"):
        UNet(4)
    with pytest.raises(InputError, match="widths must be an integer of at least 1, got 0"):
        UNet(1, widths=(8, 0))
    with pytest.raises(InputError, match="widths must be channels"):
        UNet(1, widths=8)
    with pytest.raises(InputError, match="modes must be a number or 2 numbers"):
        FourierNet(2, modes=(3,))
    with pytest.raises(InputError, match="kernel must be an odd number of points, got 4"):
        LocalNet(1, kernel=4)
    with pytest.raises(InputError, match="multiples of 4 points"):
        unet(1)(torch.zeros(1, 2, 30))
    with pytest.raises(
        InputError, match=r"fields must have shape \(any, 2, any\), got \(1, 3, 32\)"
    ):
        unet(1)(torch.zeros(1, 3, 32))
    with pytest.raises(InputError, match="two points for each"):
        FourierNet(1, modes=9)(torch.zeros(1, 1, 16))
    with pytest.raises(InputError, match=r"condition must have shape \(any, 1\), got None"):
        unet(1, conditions=1)(torch.zeros(1, 2, 32))
    with pytest.raises(InputError, match="level must have shape"):
        unet(1, leveled=True)(torch.zeros(1, 2, 32))


@pytest.mark.parametrize("make", [unet, normed, fourier, local])
def test_half_precision_stays_near_single(make):
    network = stirred(make(1, conditions=1, leveled=True))
    given = torch.randn(4, 2, 32, generator=seeded()), torch.rand(4, 1), torch.rand(4)
    expected = network(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(*given)
    assert found.dtype == torch.bfloat16
    # eight bits of the mantissa, and some ten layers
    torch.testing.assert_close(
        found.float(), expected, rtol=0.05, atol=0.05 * expected.std().item()
    )
    found.float().square().mean().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
