"""Markers on a fingertip: where they are, and what they say of a known motion."""

import math

import pytest
import torch

from geomopt.errors import InputError
from sims.thin_shell.gripper import gripper_pair
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.tactile import Markers

POSE = torch.tensor([0.1, 0.2, 0.3, 0.5, -1.0, 2.0], dtype=torch.float64)
ROUNDING = 1e-15  # m, on a body of a centimetre a third of a metre away


def test_markers_lie_on_the_pad_in_a_grid():
    finger = SoftBody.fingertip(cells=20)
    pad = Markers.on(finger, grid=(5, 3))
    assert pad.local.shape == (15, 3)
    torch.testing.assert_close(pad.weights.sum(1), torch.ones(15, dtype=torch.float64))
    x, y, z = pad.local.unbind(1)
    torch.testing.assert_close(x.amax() - x.amin(), torch.tensor(0.6 * 0.015).double())
    assert (y[:3] - torch.tensor([-0.0045, 0.0, 0.0045])).abs().max() < 1e-9
    # flat faces are within a few percent of the ellipsoid
    dome = -0.0074 * (1 - (x / 0.0075) ** 2 - (y / 0.0075) ** 2).sqrt()
    assert (z - dome).abs().max() < 1e-4


def test_a_rigid_motion_is_no_signal():
    finger = SoftBody.fingertip(cells=4)
    shear, indentation = Markers.on(finger).signal(finger.moved(POSE), POSE)
    assert shear.abs().max() < ROUNDING * 100
    assert indentation.abs().max() < ROUNDING * 100


@pytest.mark.parametrize("which", [0, 1])
def test_pressed_and_sheared_fingers_say_how_much(which):
    """Either finger of a pair, squeezed along its axis by a tenth and sheared along x."""
    finger = gripper_pair([0.0] * 6 + [0.01], cells=4)[which]
    pad = Markers.on(finger)
    along = finger.local * torch.tensor([1.0, 1.0, 0.9]) + torch.tensor([2e-4, 0.0, 0.0])
    shear, indentation = pad.signal(along + finger.pose[:3], finger.pose)
    torch.testing.assert_close(shear[:, 0], torch.full((64,), 2e-4, dtype=torch.float64))
    assert shear[:, 1].abs().max() < 1e-12
    # towards the tip's own origin, away from the base: against the outward axis
    torch.testing.assert_close(indentation, 0.1 * pad.outward * pad.local[:, 2])


def test_the_signal_is_differentiable():
    finger = SoftBody.fingertip(cells=2)
    pad = Markers.on(finger, grid=(2, 2))
    noise = torch.randn(finger.local.shape, generator=torch.Generator().manual_seed(0))
    positions = (finger.moved(POSE) + 1e-3 * noise).requires_grad_()
    pose = POSE.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: pad.signal(*given), (positions, pose))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": "finger"}, "body must be a SoftBody"),
        ({"grid": 8}, "grid must be two positive whole numbers"),
        ({"grid": (8, 0)}, "grid must be whole and positive, got 0"),
        ({"share": 0.9}, "share must leave all markers on the pad, got .* beside it"),
        ({"share": math.nan}, r"share must be a number in \(0, 1\]"),
    ],
)
def test_wrong_markers_are_named(change, message):
    with pytest.raises(InputError, match=message):
        Markers.on(**{"body": SoftBody.fingertip(cells=3), **change})


def test_a_body_without_a_base_has_no_pad():
    with pytest.raises(InputError, match="body must have driven vertices"):
        Markers.on(SoftBody.ball(0.01, 1e5, 0.3, 1000.0, cells=2))
