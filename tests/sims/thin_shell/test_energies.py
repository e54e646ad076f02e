"""What every energy of a shell must be: found by itself, tried on its own random elements."""

import importlib
import math
import pkgutil
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import sims.thin_shell.energies
from sims.thin_shell.energies.energy import Energy, by_autograd, virtual_work

ELEMENTS = 40
ROUNDING = 1e-10  # of the largest entry of an element: a few hundred operations in float64
DIFFERENCE_STEP = 1e-5  # of the size of an element: truncation and rounding both below 1e-8
DIFFERENCE = 1e-6  # relative, of a central difference with that step
SLOPE = 0.05


def energies() -> list[Energy]:
    package = sims.thin_shell.energies
    found: dict[str, Energy] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Energy):
                assert found.setdefault(value.name, value) is value, f"two energies: {value.name}"
    return [found[name] for name in sorted(found)]


@pytest.fixture(params=energies(), ids=lambda energy: energy.name)
def energy(request: pytest.FixtureRequest) -> Energy:
    return request.param


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


def sizes(energy: Energy, local: Tensor) -> Tensor:
    """The unit of each unknown: the size of the element, one radian."""
    places = local[:, : 3 * energy.points].unflatten(1, (energy.points, 3))
    size = (places - places.mean(1, keepdim=True)).flatten(1).norm(dim=1)
    result = torch.ones_like(local)
    result[:, : 3 * energy.points] = size[:, None]
    return result


def directions(energy: Energy, local: Tensor, source: torch.Generator) -> Tensor:
    """Random changes of the unknowns in those units."""
    change = torch.randn(local.shape, generator=source, dtype=torch.float64)
    return sizes(energy, local) * change


def assert_rows_close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Entries agree to a share of the largest of their element."""
    found, wanted = (rows.reshape(len(rows), -1) for rows in (found, wanted))
    worst = (found - wanted).abs().amax(1) / wanted.abs().amax(1).clamp(min=1e-300)
    assert worst.max() <= tolerance, f"{worst.max():.1e} in element {int(worst.argmax())}"


def test_kernels_agree_with_the_twin(energy: Energy, device: torch.device):
    local, constants = energy.sample(generator(), ELEMENTS)
    wanted = by_autograd(energy.value, local, constants, 2)
    moved = tuple(constant.to(device) for constant in constants)
    for order in range(3):
        made = energy.evaluate(local.to(device), moved, order)
        assert (made.gradient is not None) == (order > 0)
        assert (made.hessian is not None) == (order > 1)
        for found, other in zip(made[: order + 1], wanted[: order + 1], strict=True):
            assert found.device.type == device.type
            assert found.dtype == torch.float64
            assert_rows_close(found.cpu(), other, ROUNDING)


def test_work_agrees_with_the_twin(energy: Energy):
    """Along a direction, and its derivatives in the constants, symmetric ones made symmetric."""
    source = generator()
    local, constants = energy.sample(source, ELEMENTS)
    direction = directions(energy, local, source)
    leaves = tuple(constant.clone().requires_grad_() for constant in constants)
    found, wanted = (
        virtual_work(kind, local, direction, leaves)
        for kind in (energy, replace(energy, work=None))
    )
    assert_rows_close(found.detach(), wanted.detach(), ROUNDING)
    parts = [torch.autograd.grad(work.sum(), leaves, allow_unused=True) for work in (found, wanted)]
    for first, second in zip(*parts, strict=True):
        assert first is not None
        assert second is not None
        if first.shape[1:] == (3, 3):
            first, second = first + first.mT, second + second.mT
        error = (first - second).abs().max()
        assert error <= ROUNDING * second.abs().max()


def test_gradient_by_taylor(energy: Energy):
    """|W(x + h d) - W(x) - h g.d| falls with the square of h, in each of three decades."""
    source = generator()
    local, constants = energy.sample(source, ELEMENTS)
    direction = directions(energy, local, source)
    start = energy.evaluate(local, constants, 1)
    slope = (start.gradient * direction).sum(1)
    remainders = []
    for step in (1e-3, 1e-4, 1e-5, 1e-6):
        moved = energy.evaluate(local + step * direction, constants, 0).value
        remainders.append(float((moved - start.value - step * slope).abs().sum()))
    for large, small in pairwise(remainders):
        assert abs(math.log10(large / small) - 2.0) < SLOPE


def test_hessian_by_differences(energy: Energy):
    local, constants = energy.sample(generator(), ELEMENTS)
    made = energy.evaluate(local, constants, 2)
    size = sizes(energy, local)
    columns = []
    for k in range(energy.size):
        step = torch.zeros_like(local)
        step[:, k] = DIFFERENCE_STEP * size[:, k]
        after = energy.evaluate(local + step, constants, 1).gradient
        before = energy.evaluate(local - step, constants, 1).gradient
        columns.append((after - before) * size / (2 * DIFFERENCE_STEP))
    # in units of the element, where positions and angles compare
    scaled = size[:, :, None] * made.hessian * size[:, None, :]
    assert_rows_close(torch.stack(columns, dim=2), scaled, DIFFERENCE)
    assert_rows_close(scaled.mT, scaled, ROUNDING)


def test_moving_and_turning_changes_nothing(energy: Energy):
    source = generator()
    local, constants = energy.sample(source, ELEMENTS)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=source, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn).sign()
    places = local[:, : 3 * energy.points].unflatten(1, (energy.points, 3))
    shift = places.abs().amax() * torch.randn(3, generator=source, dtype=torch.float64)
    rest = local[:, 3 * energy.points :]

    def turned(vectors: Tensor) -> Tensor:
        return vectors @ turn.mT

    moved = torch.cat([(turned(places) + shift).flatten(1), rest], dim=1)
    constants_moved = tuple(
        turned(constant) if index in energy.vectors else constant
        for index, constant in enumerate(constants)
    )
    before = energy.evaluate(local, constants, 1)
    after = energy.evaluate(moved, constants_moved, 1)
    assert_rows_close(after.value, before.value, ROUNDING)
    forces = before.gradient[:, : 3 * energy.points].unflatten(1, (energy.points, 3))
    expected = torch.cat(
        [turned(forces).flatten(1), before.gradient[:, 3 * energy.points :]], dim=1
    )
    assert_rows_close(after.gradient, expected, ROUNDING)
    largest = forces.abs().amax()
    assert forces.sum(1).abs().amax() <= ROUNDING * largest


def test_projected_hessian(energy: Energy):
    local, constants = energy.sample(generator(), ELEMENTS)
    plain = energy.evaluate(local, constants, 2)
    projected = energy.evaluate(local, constants, 2, project=True)
    torch.testing.assert_close(projected.value, plain.value, rtol=0, atol=0)
    torch.testing.assert_close(projected.gradient, plain.gradient, rtol=0, atol=0)
    largest = plain.hessian.abs().amax((1, 2))
    assert (torch.linalg.eigvalsh(projected.hessian)[:, 0] >= -ROUNDING * largest).all()
    # it may add stiffness, never take any
    added = torch.linalg.eigvalsh(projected.hessian - plain.hessian)[:, 0]
    assert (added >= -ROUNDING * largest).all()


def test_twin_differentiates_its_gradient_in_every_constant(energy: Energy):
    """y . d(gradient)/d(constant), as the adjoint asks for it, against central differences."""
    source = generator()
    local, constants = energy.sample(source, ELEMENTS)
    weights = directions(energy, local, source)

    def weighted_gradient(*constants: Tensor) -> Tensor:
        x = local.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy.value(x, *constants).sum(), x, create_graph=True)
        return (weights * gradient).sum(1)

    tracked = tuple(constant.clone().requires_grad_() for constant in constants)
    results = torch.autograd.grad(
        weighted_gradient(*tracked).sum(), tracked, materialize_grads=True
    )
    for index, (constant, result) in enumerate(zip(constants, results, strict=True)):
        assert result.isfinite().all()
        # infinite constants stay: the change of an elastic element's yield is no change
        change = torch.randn(constant.shape, generator=source, dtype=torch.float64)
        change = change * torch.where(constant.isfinite(), constant, 0.0).abs().amax()
        ends = []
        for sign in (1.0, -1.0):
            given = list(constants)
            given[index] = constant + sign * DIFFERENCE_STEP * change
            ends.append(weighted_gradient(*given).detach())
        wanted = (ends[0] - ends[1]) / (2 * DIFFERENCE_STEP)
        found = (result * change).reshape(ELEMENTS, -1).sum(1)
        torch.testing.assert_close(
            found, wanted, rtol=DIFFERENCE, atol=float(DIFFERENCE * wanted.abs().amax())
        )


def test_twin_differentiates_its_gradient_in_the_unknowns(energy: Energy):
    source = generator()
    local, constants = energy.sample(source, ELEMENTS)
    weights = directions(energy, local, source)
    x = local.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy.value(x, *constants).sum(), x, create_graph=True)
    (found,) = torch.autograd.grad((weights * gradient).sum(), x)
    hessian = energy.evaluate(local, constants, 2).hessian
    assert_rows_close(found, (hessian @ weights[:, :, None])[:, :, 0], ROUNDING)


def test_no_elements(energy: Energy):
    local, constants = energy.sample(generator(), 0)
    made = energy.evaluate(local, constants, 2, project=True)
    assert made.value.shape == (0,)
    assert made.gradient.shape == (0, energy.size)
    assert made.hessian.shape == (0, energy.size, energy.size)
    assert energy.value(local, *constants).shape == (0,)


def test_elements_do_not_see_each_other(energy: Energy):
    """The same rows give the same bits again, and in two halves."""
    local, constants = energy.sample(generator(), ELEMENTS)
    whole = energy.evaluate(local, constants, 2, project=True)
    again = energy.evaluate(local, constants, 2, project=True)
    halves = [
        energy.evaluate(local[rows], tuple(c[rows] for c in constants), 2, project=True)
        for rows in (slice(0, ELEMENTS // 2), slice(ELEMENTS // 2, None))
    ]
    for one, two, *parts in zip(whole, again, *halves, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, torch.cat(parts))
