"""Natural frequencies: dense algebra, closed forms, rigid motions, prestress, damage."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.linalg import eigh

from geomopt.errors import InputError
from sims.thin_shell import Control, Material, Scene, Sheet, Simulator
from sims.thin_shell.bending import potential

PAPER = Material(young=2.5e9, poisson=0.3, thickness=1e-4, density=800.0)
RIGID = 1e-3  # of the first elastic frequency: what rounding leaves of a rigid motion's
DENSE = 1e-7  # beside dense algebra, relative: the shift and invert of a stiff membrane rounds


def free_sheet(cells=(4, 3), material=PAPER):
    return Sheet.rectangle(0.1, 0.08, cells, material)


def dense_squares(simulator):
    """All w^2 from the Hessian of the potential's torch twin, directors eliminated."""
    model, state = simulator.model, simulator.initial_state()
    inputs = simulator.inputs(state, Control())
    turns = model.bending.turns(state.positions, state.angles)
    unknowns = torch.cat([state.positions.flatten(), turns]).detach()
    hessian = torch.autograd.functional.hessian(
        lambda z: potential(z, model.terms(inputs, None), model.blocks), unknowns
    )
    places = 3 * len(model.mass)
    moving = model.free.clone()
    moving[places:] = False
    turning = model.free & ~moving
    k = hessian[moving][:, moving]
    if turning.any():
        mixed = hessian[moving][:, turning]
        k = k - mixed @ torch.linalg.solve(hessian[turning][:, turning], mixed.T)
    mass = model.mass.repeat_interleave(3)[moving[:places]]
    return torch.from_numpy(eigh(k.numpy(), torch.diag(mass).numpy(), eigvals_only=True))


@pytest.mark.parametrize("bending", ["mid-edge", "hinge"])
def test_modes_are_those_of_dense_algebra(bending):
    sheet = free_sheet()
    simulator = Simulator(Scene([sheet], clamped=sheet.vertices[:, 0] == 0), bending=bending)
    modes = simulator.modes(8)
    torch.testing.assert_close(modes.squared, dense_squares(simulator)[:8], rtol=DENSE, atol=0.0)
    gram = torch.einsum("avc,bvc,v->ab", modes.shapes, modes.shapes, simulator.model.mass)
    torch.testing.assert_close(gram, torch.eye(8, dtype=torch.float64), rtol=0.0, atol=1e-12)
    assert not modes.shapes[:, simulator.scene.held].any()
    torch.testing.assert_close(modes.frequencies * 2 * math.pi, modes.squared.sqrt())


def test_all_modes_of_a_small_sheet_are_found():
    simulator = Simulator(Scene([free_sheet((2, 2))]))
    squared = simulator.modes(27).squared
    dense = dense_squares(simulator)
    torch.testing.assert_close(squared[6:], dense[6:], rtol=DENSE, atol=0.0)


def test_each_free_sheet_has_six_rigid_motions_and_equal_modes_are_all_found():
    one, two = free_sheet(), free_sheet()
    two = replace(two, vertices=two.vertices + torch.tensor([0.0, 0.0, 1.0]))
    single = Simulator(Scene([one])).modes(9).angular_frequencies
    assert float(single[:6].abs().amax()) < RIGID * float(single[6])
    both = Simulator(Scene([one, two])).modes(18).angular_frequencies
    assert float(both[:12].abs().amax()) < RIGID * float(both[12])
    torch.testing.assert_close(both[12:], single[6:].repeat_interleave(2), rtol=1e-6, atol=0.0)


def test_a_square_has_a_pair_of_equal_frequencies():
    sheet = Sheet.rectangle(0.1, 0.1, (8, 8), PAPER)
    rim = ((sheet.vertices[:, :2] == 0) | (sheet.vertices[:, :2] > 0.0999)).any(dim=1)
    frequencies = Simulator(Scene([sheet], pinned=rim)).modes(3).frequencies
    assert float(frequencies[1]) == pytest.approx(float(frequencies[2]), rel=1e-9)


def test_a_stretched_strip_vibrates_as_a_string():
    # w = pi / l sqrt(N / m') with the tension of Green's strain: N = E A s (s^2 - 1) / 2
    length, stretch = 0.2, 1.02
    limp = Material(young=1e6, poisson=0.0, thickness=1e-3, density=1000.0, bending=1e-9)
    sheet = Sheet.rectangle(length, 0.01, (40, 2), limp)
    ends = (sheet.vertices[:, 0] == 0) | (sheet.vertices[:, 0] == length)
    simulator = Simulator(Scene([sheet], pinned=ends))
    longer = sheet.vertices * torch.tensor([stretch, 1.0, 1.0])
    state = simulator.equilibrium(positions=longer)
    tension = 1e6 * 1e-5 * stretch * (stretch**2 - 1) / 2
    line = 1000.0 * 1e-5 / stretch
    exact = math.pi / (length * stretch) * math.sqrt(tension / line)
    found = float(simulator.modes(1, state).angular_frequencies[0])
    assert found == pytest.approx(exact, rel=2e-3)  # 40 cells


def test_an_unstable_state_has_a_negative_frequency():
    sheet = free_sheet((8, 4))
    ends = (sheet.vertices[:, 0] == 0) | (sheet.vertices[:, 0] > 0.0999)
    simulator = Simulator(Scene([sheet], clamped=ends))
    pressed = simulator.initial_state(sheet.vertices * torch.tensor([0.99, 1.0, 1.0]))
    modes = simulator.modes(2, pressed)
    assert float(modes.squared[0]) < 0
    assert float(modes.frequencies[0]) < 0
    assert float(modes.squared[0]) < float(modes.squared[1])


def test_creases_vibrate_elastically_with_the_stiffness_that_damage_leaves():
    material = replace(PAPER, yield_curvature=100.0, damage=0.5)
    sheet = free_sheet((6, 4), material)
    simulator = Simulator(Scene([sheet], clamped=sheet.vertices[:, 0] == 0))
    new = simulator.initial_state()
    worn = replace(new, accumulated=torch.full_like(new.accumulated, 50.0))
    left = 1 - 0.5 * (1 - math.exp(-0.5))
    squared = simulator.modes(1, new).squared
    torch.testing.assert_close(
        simulator.modes(1, worn).squared, left * squared, rtol=1e-8, atol=0.0
    )
    elastic = Simulator(Scene([free_sheet((6, 4))], clamped=sheet.vertices[:, 0] == 0))
    torch.testing.assert_close(squared, elastic.modes(1).squared, rtol=1e-8, atol=0.0)


def test_the_same_call_gives_the_same_bits():
    simulator = Simulator(Scene([free_sheet()]))
    first, second = simulator.modes(8), simulator.modes(8)
    assert torch.equal(first.squared, second.squared)
    assert torch.equal(first.shapes, second.shapes)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, 61])
def test_a_count_that_is_none_is_named(count):
    with pytest.raises(InputError, match="count must be a whole number from 1 to 60"):
        Simulator(Scene([free_sheet()])).modes(count)
