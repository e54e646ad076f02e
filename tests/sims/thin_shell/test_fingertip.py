"""Meshes of domes, balls and blocks: shape, quality, winding, and what a fingertip drives."""

import math

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry.topology import Topology
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.solids import dihedral_angles

RUBBER = {"young": 1e5, "poisson": 0.3, "density": 1000.0}
SMALLEST, LARGEST = math.radians(25), math.radians(130)  # dihedral angles of a good tetrahedron


def solid(name: str) -> tuple[SoftBody, float]:
    """A body, and the volume of the solid that it is made after [m^3]."""
    if name == "fingertip":
        return SoftBody.fingertip(cells=12), 2 / 3 * math.pi * 0.0075**2 * 0.0074
    if name == "ball":
        return SoftBody.ball(0.02, cells=10, **RUBBER), 4 / 3 * math.pi * 0.02**3
    return SoftBody.block((0.1, 0.2, 0.3), (2, 3, 5), **RUBBER), 0.006


@pytest.mark.parametrize("name", ["fingertip", "ball", "block"])
def test_solids_are_whole_and_of_good_quality(name):
    body, volume = solid(name)
    assert float(body.volumes().sum()) == pytest.approx(volume, rel=0.03)
    assert float(body.masses().sum()) == pytest.approx(
        float(body.volumes().sum() * body.density), rel=1e-12
    )
    topology = Topology.of(body.faces, len(body.vertices))
    assert topology.is_closed
    assert topology.components == 1
    assert not len(topology.miswound_edges())
    assert not len(topology.nonmanifold_edges())
    corners = body.vertices[body.faces]
    enclosed = torch.linalg.det(corners).sum() / 6
    assert float(enclosed) == pytest.approx(float(body.volumes().sum()), rel=1e-10)
    angles = dihedral_angles(body.vertices, body.tetrahedra)
    assert angles.amin() > SMALLEST
    assert angles.amax() < LARGEST


def test_dihedral_angles_of_a_regular_tetrahedron():
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()
    found = dihedral_angles(corners, torch.tensor([[0, 1, 3, 2]]))
    torch.testing.assert_close(found, torch.full_like(found, math.acos(1 / 3)))


def test_a_fingertip_is_a_dome_below_its_base():
    body = SoftBody.fingertip(width=0.015, height=0.0074)
    x, y, z = body.local.unbind(1)
    level = (x / 0.0075) ** 2 + (y / 0.0075) ** 2 + (z / 0.0074) ** 2
    assert float(z.amin()) == pytest.approx(-0.0074)
    assert float(z.amax()) == 0.0
    skin = torch.zeros(len(x), dtype=torch.bool)
    skin[body.faces] = True
    off_base = skin & (z < 0)
    torch.testing.assert_close(level[off_base], torch.ones_like(level[off_base]))
    assert body.driven[z == 0].all()
    assert not body.driven[level > 0.41**2][z[level > 0.41**2] < 0].any()
    assert body.driven[level < 0.4**2].all()


def test_the_pose_puts_the_tip_where_it_says():
    """Turned by half a turn about x, the dome points up."""
    pose = [0.0, 0.0, 0.01, math.pi, 0.0, 0.0]
    body = SoftBody.fingertip(cells=3, pose=pose)
    assert float(body.vertices[:, 2].amax()) == pytest.approx(0.0174)
    assert float(body.vertices[:, 2].amin()) == pytest.approx(0.01)


def test_a_mesh_is_the_same_each_time_and_mirror_symmetric():
    one, two = (SoftBody.fingertip(cells=5) for _ in range(2))
    assert torch.equal(one.tetrahedra, two.tetrahedra)
    assert torch.equal(one.local, two.local)
    mirrored = one.local * torch.tensor([-1.0, 1.0, 1.0])
    apart = (mirrored[:, None] - one.local).abs().amax(-1)
    assert apart.amin(1).max() < 1e-15


def test_sizes_are_differentiable():
    width = torch.tensor(0.015, dtype=torch.float64, requires_grad=True)
    volume = SoftBody.fingertip(width=width, cells=3).volumes().sum()
    (slope,) = torch.autograd.grad(volume, width)
    # the volume grows with the square of the width
    assert float(slope) == pytest.approx(2 * float(volume.detach()) / 0.015)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftBody.fingertip(width=0.0), "width must be a number above 0"),
        (lambda: SoftBody.fingertip(height=-1.0), "height must be a number above 0"),
        (lambda: SoftBody.fingertip(cells=0), "cells must be whole and positive, got 0"),
        (lambda: SoftBody.fingertip(cells=2.5), "cells must be whole and positive, got 2.5"),
        (lambda: SoftBody.fingertip(core=1.0), r"core must be a number in \[0, 1\), got 1.0"),
        (lambda: SoftBody.fingertip(pose=[0.0]), "pose must be six finite numbers"),
        (lambda: SoftBody.block((1, 1), (1, 1, 1), **RUBBER), "size must be three finite"),
        (lambda: SoftBody.block((1, 1, 0), (1, 1, 1), **RUBBER), "size must be three positive"),
        (lambda: SoftBody.block((1, 1, 1), (1, 1), **RUBBER), "cells must be three positive"),
        (lambda: SoftBody.block((1, 1, 1), (1, 1, 0), **RUBBER), "cells must be whole"),
        (lambda: SoftBody.ball(-1.0, **RUBBER), "radius must be a number above 0"),
    ],
)
def test_wrong_solids_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
