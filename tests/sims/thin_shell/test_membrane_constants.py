"""Constants of membranes: rest triangles, and isotropic and orthotropic stiffness."""

import math

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell.energies.membrane import green_strain
from sims.thin_shell.energies.stvk import STVK
from sims.thin_shell.membrane_constants import (
    inverse_rest,
    lame,
    orthotropic,
    plane_stress,
    rest_axes,
)

ROUNDING = 1e-12  # relative: some hundred operations in float64
YOUNG, POISSON = 3.0, 0.3


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def random_turn(source: torch.Generator) -> Tensor:
    """A random rotation."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=source, dtype=torch.float64))[0]
    return turn * torch.linalg.det(turn).sign()


E1, E2, NU12, G12 = (tensor(value) for value in (5.0, 2.0, 0.4, 0.7))


def test_orthotropic_compliance():
    """Pulled along an axis it has that axis' modulus, and nu12 E2 = nu21 E1."""
    compliance = torch.linalg.inv(orthotropic(E1, E2, NU12, G12))
    wanted = tensor([[1 / 5.0, -0.4 / 5.0, 0.0], [-0.4 / 5.0, 1 / 2.0, 0.0], [0.0, 0.0, 1 / 0.7]])
    torch.testing.assert_close(compliance, wanted, rtol=ROUNDING, atol=ROUNDING)


def test_equal_moduli_are_isotropic():
    young, poisson = tensor(YOUNG), tensor(POISSON)
    made = orthotropic(young, young, poisson, lame(young, poisson)[1])
    torch.testing.assert_close(made, plane_stress(young, poisson), rtol=ROUNDING, atol=ROUNDING)


def test_orthotropic_energy_follows_the_warp():
    """Sheet and warp turned together in space keep the energy; so do exchanged axes."""
    source = generator()
    corners, change = torch.randn(2, 20, 3, 3, generator=source, dtype=torch.float64)
    moved = corners + 0.2 * change
    warp = tensor([0.3, -0.5, 0.8])

    def energies(corners: Tensor, warp: Tensor, stiffness: Tensor) -> Tensor:
        rest, area = inverse_rest(corners, rest_axes(corners, warp))
        constants = (rest, area[:, None, None] * stiffness, torch.zeros(20, 3))
        return STVK.evaluate(moved.flatten(1), constants, 0).value

    stiffness = orthotropic(E1, E2, NU12, G12)
    wanted = energies(corners, warp, stiffness)
    turn = random_turn(source)
    turned = energies(corners @ turn.mT, turn @ warp, stiffness)
    torch.testing.assert_close(turned, wanted, rtol=1e-10, atol=0)
    # the other axis as warp, with the two sets of moduli exchanged
    across = torch.linalg.cross(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]),
        warp.expand(20, 3),
    )
    exchanged = energies(corners, across, orthotropic(E2, E1, NU12 * E2 / E1, G12))
    torch.testing.assert_close(exchanged, wanted, rtol=1e-10, atol=0)
    assert (energies(corners, tensor([1.0, 0.0, 0.0]), stiffness) - wanted).abs().max() > 0.1


def test_off_axis_modulus():
    """1/E(t) = c^4/E1 + s^4/E2 + c^2 s^2 (1/G12 - 2 nu12/E1) (Jones 1999, equation 2.97)."""
    corners = tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    for angle in (0.0, 0.3, math.pi / 4, 1.2, math.pi / 2):
        c, s = math.cos(angle), math.sin(angle)
        rest, area = inverse_rest(corners, rest_axes(corners, tensor([c, s, 0.0])))
        constants = (rest, area[:, None, None] * orthotropic(E1, E2, NU12, G12), torch.zeros(1, 3))
        # the compliance of the sheet is that of the linear problem with corner 0 held
        hessian = STVK.evaluate(corners.flatten(1), constants, 2).hessian[0]
        held = hessian[[[3], [6], [7]], [3, 6, 7]]  # x of corner 1, x and y of corner 2
        load = tensor([0.5, 0.0, 0.0])  # of unit stress along x on this triangle
        stretch = torch.linalg.solve(held, load)[0]
        wanted = c**4 / E1 + s**4 / E2 + c * c * s * s * (1 / G12 - 2 * NU12 / E1)
        torch.testing.assert_close(stretch, wanted, rtol=1e-10, atol=0)


def test_rest_axes_and_inverse():
    corners = torch.randn(30, 3, 3, generator=generator(), dtype=torch.float64)
    for warp in (
        None,
        tensor([1.0, 2.0, -1.0]),
        torch.randn(30, 3, generator=generator()).double(),
    ):
        axes = rest_axes(corners, warp)
        rest, area = inverse_rest(corners, axes)
        identity = torch.eye(2).double().expand(30, 2, 2)
        torch.testing.assert_close(axes @ axes.mT, identity, rtol=0, atol=ROUNDING)
        strain = green_strain(corners.flatten(1), rest)
        assert strain.abs().max() < 1e-11  # a sliver among the triangles costs a digit
        across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        torch.testing.assert_close(area, across.norm(dim=1) / 2, rtol=ROUNDING, atol=0)
        if warp is not None:
            assert ((axes[:, 0] * warp).sum(-1) > 0).all()
            assert (axes[:, 1] * warp).sum(-1).abs().max() < ROUNDING * 10


def test_constants_are_differentiable():
    corners = torch.randn(2, 3, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    numbers = tensor([5.0, 2.0, 0.4, 0.7]).requires_grad_()

    def constants(corners: Tensor, numbers: Tensor):
        rest, area = inverse_rest(corners, rest_axes(corners, tensor([1.0, 0.0, 0.5])))
        return rest, area, orthotropic(*numbers), plane_stress(numbers[0], numbers[2])

    assert torch.autograd.gradcheck(constants, (corners, numbers))


def test_bad_numbers():
    corners = tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    with pytest.raises(InputError, match=r"warp .* face 0"):
        rest_axes(corners, tensor([0.0, 0.0, 2.0]))
    with pytest.raises(InputError, match=r"must stay below 1, got 1\.6"):
        orthotropic(tensor(1.0), tensor(10.0), tensor(0.4), tensor(1.0))
