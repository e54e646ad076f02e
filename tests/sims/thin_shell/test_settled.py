"""Scenes brought to rest: what lies on something holds from the first step on."""

import math

import pytest
import torch

from sims.thin_shell import Body, Contact, Material, NotConverged, Scene, Sheet, Simulator

SIDE, MU, GRAVITY = 0.1, 0.5, 9.81
DRIFT = 1e-6  # of the side in 100 steps; from 1e-12 on settled scenes, 1e-2 on others


def on_a_slope(share, gap, integrator="implicit-euler"):
    """A plate on a plane whose slope is a share of the friction coefficient."""
    plate = Material(young=2e9, poisson=0.3, thickness=1e-3, density=1000.0)
    flat = Sheet.rectangle(SIDE, SIDE, cells=(3, 3), material=plate)
    sheet = Sheet(flat.vertices + torch.tensor([0.0, 0.0, 5e-4 + gap]), flat.faces, plate)
    slope, table = math.atan(share * MU), Body.plane()
    gravity = (GRAVITY * math.sin(slope), 0.0, -GRAVITY * math.cos(slope))
    contact = Contact(friction={(plate, table): MU})
    scene = Scene([sheet], bodies=[table], gravity=gravity, contact=contact)
    return Simulator(scene, integrator=integrator, bending="hinge")


@pytest.mark.parametrize("integrator", ["implicit-euler", "bdf2", "newmark"])
@pytest.mark.parametrize("gap", [5e-5, 3e-4])
def test_what_has_settled_does_not_creep(gap, integrator):
    simulator = on_a_slope(0.98, gap, integrator)
    state = simulator.settled()
    assert not state.velocities.any()
    path = simulator.rollout(state, 100)
    assert float((path.positions[-1] - state.positions).abs().max()) < DRIFT * SIDE
    load = GRAVITY * math.cos(math.atan(0.98 * MU)) * float(simulator.model.mass.sum())
    assert float(path.wrenches[-1, 0, 2]) == pytest.approx(load, rel=1e-6)


def test_what_slides_does_not_settle():
    with pytest.raises(NotConverged, match="comes to no rest in 50 steps"):
        on_a_slope(1.05, 5e-5).settled(steps=50)
