"""Grippers: where two fingers are for seven numbers, and how they follow."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from geomopt.errors import InputError
from sims.thin_shell.gripper import gripper_pair, pair_poses
from sims.thin_shell.pose import rotation_matrix

TURNS = [(0.0, 0.0, 0.0), (0.3, -0.2, 0.5), (math.pi, 0.0, 0.0), (0.0, 2.5, 1.0), (1e-9, 0.0, 0.0)]
ROUNDING = 1e-12


@pytest.mark.parametrize("turn", TURNS)
def test_rotations_agree_with_scipy(turn):
    wanted = torch.from_numpy(Rotation.from_rotvec(turn).as_matrix())
    found = rotation_matrix(torch.tensor(turn, dtype=torch.float64))
    torch.testing.assert_close(found, wanted, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("turn", TURNS)
def test_tips_face_each_other_at_the_spacing(turn):
    pose = [0.1, -0.2, 0.3, *turn, 0.004]
    upper, lower = gripper_pair(pose, cells=3)
    axis = torch.from_numpy(Rotation.from_rotvec(turn).apply([0.0, 0.0, 1.0]))
    centre = torch.tensor(pose[:3], dtype=torch.float64)
    for finger, side in ((upper, 1.0), (lower, -1.0)):
        along = side * (finger.vertices - centre) @ axis
        tip = finger.vertices[along.argmin()]
        torch.testing.assert_close(tip, centre + side * 0.002 * axis, rtol=0, atol=ROUNDING)
        # the base is the far end, flat
        base = along[finger.local[:, 2].abs() > 0.0074 - ROUNDING]
        torch.testing.assert_close(base, torch.full_like(base, 0.0094), rtol=0, atol=ROUNDING)
        assert (finger.volumes() > 0).all()


def test_fingers_follow_the_poses():
    """Where `moved` puts the points is where a gripper made there has them."""
    there = torch.tensor([0.01, 0.02, 0.03, 0.4, -0.5, 0.6, 0.001], dtype=torch.float64)
    start = gripper_pair([0.0] * 6 + [0.004], cells=2)
    for finger, pose, wanted in zip(
        start, pair_poses(there), gripper_pair(there, cells=2), strict=True
    ):
        torch.testing.assert_close(finger.moved(pose), wanted.vertices)


@pytest.mark.parametrize("turn", TURNS)
def test_poses_are_differentiable(turn):
    upper, lower = gripper_pair([0.0] * 6 + [0.004], cells=1)

    def points(pose):
        one, two = pair_poses(pose)
        return torch.cat([upper.moved(one), lower.moved(two)])

    pose = torch.tensor([0.1, 0.2, 0.3, *turn, 0.004], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(points, pose, rtol=1e-6, atol=1e-8)


def test_many_poses_at_once():
    poses = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(2)).double()
    found = pair_poses(poses)
    assert found.shape == (4, 5, 2, 6)
    torch.testing.assert_close(found[2, 3], pair_poses(poses[2, 3]))


@pytest.mark.parametrize("pose", [[0.0] * 6, [math.nan] * 7, "open", 0.0])
def test_wrong_poses_are_named(pose):
    with pytest.raises(InputError, match=r"pose must be \(\.\.\., 7\) finite numbers"):
        pair_poses(pose)


def test_a_pair_takes_one_pose():
    with pytest.raises(InputError, match=r"pose must have shape \(7,\)"):
        gripper_pair(torch.zeros(2, 7))
