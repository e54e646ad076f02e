"""Elastic and plastic sheets that touch: paper, card, cloth, film, rubber, and what handles them.

Everything is in SI units.

    paper = Material(young=2e9, poisson=0.3, thickness=1e-4, density=800.0, yield_curvature=120.0)
    sheet = Sheet.rectangle(0.10, 0.02, cells=(40, 8), material=paper)
    scene = Scene([sheet], clamped=sheet.vertices[:, 0] <= 0.0, gravity=(0.0, 0.0, -9.81))
    simulator = Simulator(scene, time_step=5e-3)
    trajectory = simulator.rollout(simulator.initial_state(), 100)
    trajectory.positions[-1].sum().backward()      # to any tensor that went into all this

With bodies, that touch with friction, and are moved by poses:

    finger = SoftBody.fingertip(pose=(0.08, 0.01, 0.02, 0.0, 0.0, 0.0))
    scene = Scene([sheet], bodies=[Body.plane(), finger], contact=Contact())
    control = Control(poses=poses)                 # (2, 6): positions and rotation vectors
    trajectory.wrenches[-1]                        # (2, 6): what drives them has to give

The way of one step:

1. `scene.py` puts sheets (`sheet.py`, `material.py`) together and says what is held. `model.py`
   makes elements of it, once: membranes by face and bending by face or hinge (`bending.py`), each
   with its constants. An energy (`energies/`, one a file) sees elements only.
2. `integrators.py` predicts where inertia alone would go. The step is then the minimum of inertia
   around that prediction plus the potential of all elements and loads: `system.py`.
3. `newton.py` finds it, with the sparse factorisations of `geomopt.linear`.
4. Creases that went beyond their yield keep a part of their angle: `energies/crease.py`.
5. Where surfaces may touch (`contact/`), pairs of vertices, edges and faces that are near add
   barrier terms, around which every Newton step is cut before anything passes through anything;
   friction acts between the pairs that touched at the start, with the forces there.
6. `adjoint.py` makes a torch function of 2 to 5 by the implicit function theorem: backward is one
   solve with the same Hessian. `equilibrium.py` uses the same function without inertia, where
   `relaxation.py` lets a sheet go that Newton's method alone does not bring to rest. `rollout.py`
   keeps all states for backward, or a few; `worlds.py` runs many scenes at once.

The model is right for thin sheets of any triangulation, since its bending converges on every mesh.
What is too stiff on a coarse one is stretch: a sheet that bends across its mesh lines wants cells
of 2 sqrt(R t) or less at a bend of radius R, or mesh lines along the bend.
Plates that bend both ways are too soft on a coarse one: 8 % in the middle of a clamped square of
16 x 16 cells, 2 % on 32 x 32, half of that on crossed cells.
"""

from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.forces import ContactForces, contact_forces, force_between
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.forward_mode import sensitivities
from sims.thin_shell.gripper import gripper_pair, pair_poses
from sims.thin_shell.judge import Blocked
from sims.thin_shell.linearised import NearBuckling
from sims.thin_shell.material import MATERIALS, Material
from sims.thin_shell.newton import NotConverged
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.soft_body import SoftBody
from sims.thin_shell.softness import Softness
from sims.thin_shell.state import Control, State, Trajectory
from sims.thin_shell.tactile import Markers
from sims.thin_shell.worlds import World, rollout_worlds

__all__ = [
    "MATERIALS",
    "Blocked",
    "Body",
    "Contact",
    "ContactForces",
    "Control",
    "Markers",
    "Material",
    "NearBuckling",
    "NotConverged",
    "Scene",
    "Sheet",
    "Simulator",
    "SoftBody",
    "Softness",
    "State",
    "Trajectory",
    "World",
    "contact_forces",
    "force_between",
    "gripper_pair",
    "pair_poses",
    "rollout_worlds",
    "sensitivities",
]
