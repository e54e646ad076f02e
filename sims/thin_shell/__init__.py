"""Elastic and plastic sheets: paper, card, cloth, film, rubber, in SI units.

    paper = Material(young=2e9, poisson=0.3, thickness=1e-4, density=800.0, yield_curvature=120.0)
    sheet = Sheet.rectangle(0.10, 0.02, cells=(40, 8), material=paper)
    scene = Scene([sheet], clamped=sheet.vertices[:, 0] <= 0.0, gravity=(0.0, 0.0, -9.81))
    simulator = Simulator(scene, time_step=5e-3)
    trajectory = simulator.rollout(simulator.initial_state(), 100)
    trajectory.positions[-1].sum().backward()      # to any tensor that went into all this

The way of one step:

1. `scene.py` puts sheets (`sheet.py`, `material.py`) together and says what is held. `model.py`
   makes elements of it, once: membranes by face and bending by face or hinge (`bending.py`), each
   with its constants. An energy (`energies/`, one a file) sees elements only.
2. `integrators.py` predicts where inertia alone would go. The step is then the minimum of inertia
   around that prediction plus the potential of all elements and loads: `system.py`.
3. `newton.py` finds it, with the sparse factorisations of `geomopt.linear`.
4. Creases that went beyond their yield keep a part of their angle: `energies/crease.py`.
5. `adjoint.py` makes a torch function of 2 to 4 by the implicit function theorem: backward is one
   solve with the same Hessian. `equilibrium.py` uses the same function without inertia, where
   `relaxation.py` lets a sheet go that Newton's method alone does not bring to rest. `rollout.py`
   keeps all states for backward, or a few.

The model is right for thin sheets of any triangulation, since its bending converges on every mesh.
What is too stiff on a coarse one is stretch: a sheet that bends across its mesh lines wants cells
of 2 sqrt(R t) or less at a bend of radius R, or mesh lines along the bend.
Plates that bend both ways are too soft on a coarse one: 8 % in the middle of a clamped square of
16 x 16 cells, 2 % on 32 x 32, half of that on crossed cells.
"""

from sims.thin_shell.forward_mode import sensitivities
from sims.thin_shell.linearised import NearBuckling
from sims.thin_shell.material import MATERIALS, Material
from sims.thin_shell.newton import NotConverged
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.simulator import Simulator
from sims.thin_shell.state import Control, State, Trajectory

__all__ = [
    "MATERIALS",
    "Control",
    "Material",
    "NearBuckling",
    "NotConverged",
    "Scene",
    "Sheet",
    "Simulator",
    "State",
    "Trajectory",
    "sensitivities",
]
