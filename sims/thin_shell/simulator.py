"""The simulator: states, steps, rollouts and equilibria of a scene."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from geomopt.errors import InputError, check_tensor
from geomopt.linear import SparsePattern, open_solver
from sims.thin_shell.adjoint import Solved, Step, solve_step
from sims.thin_shell.bending import Values
from sims.thin_shell.contact.constants import surface_turns
from sims.thin_shell.contact.friction import transported
from sims.thin_shell.contact.near import Neighbourhood
from sims.thin_shell.contact.start import check_start
from sims.thin_shell.contact.surfaces import surface_of
from sims.thin_shell.contact.touching import Contacts
from sims.thin_shell.contact.wrenches import wrenches
from sims.thin_shell.equilibrium import STATIC_TOLERANCE, check_held, equilibrate
from sims.thin_shell.integrators import INTEGRATORS, Integrator, advance, predict
from sims.thin_shell.model import BendingName, Model
from sims.thin_shell.modes import Modes, natural_modes
from sims.thin_shell.newton import NotConverged, Solution
from sims.thin_shell.rollout import roll
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import check_triangles
from sims.thin_shell.softness import Softness, soft_contact, soft_values
from sims.thin_shell.state import Control, State, Trajectory

REST = 1e-9  # of the size of a scene: a step that moves less ends the settling


class Simulator:
    """Steps a scene through time and finds its equilibria.

    time_step: h [s]. integrator: "implicit-euler" (damps vibrations), "bdf2" (accurate, damps
    little) or "newmark" (keeps the energy of small vibrations, rings after large ones, and gains
    some where surfaces hit each other). bending: "mid-edge" (right on every mesh) or "hinge"
    (faster, see `energies.hinge` for its limits). linear: the library of the linear solves, "auto",
    "superlu", "pardiso", "cudss", or "cg" for soft cloth. tolerance [m/s]: a step is done when the
    last Newton iteration moved no vertex faster than this.

    Results are differentiable in every tensor that went into the scene, the state and the control.
    """

    def __init__(
        self,
        scene: Scene,
        time_step: float = 5e-3,
        integrator: Integrator = "implicit-euler",
        bending: BendingName = "mid-edge",
        linear: str = "auto",
        tolerance: float = 1e-8,
    ) -> None:
        if not isinstance(scene, Scene):
            raise InputError(f"scene must be a Scene, got {type(scene).__name__}")
        for name, value in (("time_step", time_step), ("tolerance", tolerance)):
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise InputError(f"{name} must be a positive number, got {value!r}")
        if integrator not in INTEGRATORS:
            raise InputError(f"integrator must be one of {INTEGRATORS}, got {integrator!r}")
        self.scene = scene
        self.time_step = float(time_step)
        self.integrator: Integrator = integrator
        self.bending: BendingName = bending
        self.linear = linear
        self.tolerance = float(tolerance)
        self.model = Model.of(scene, bending, self.time_step)
        self.solver = open_solver(self.model.pattern, linear)
        self.neighbourhood: Neighbourhood | None = None
        if scene.contact is not None:
            self.neighbourhood = Neighbourhood(surface_of(scene), self.model.pattern, linear)
        self.contact = scene.contact
        self._soft: tuple[Simulator, Softness, float] | None = None
        self._directors = len(self.model.bending.free)
        self.weight = self.model.mass[:, None] * torch.as_tensor(scene.gravity)

    def __reduce__(self) -> tuple[Callable, tuple]:
        # libraries of linear solves live in one process; another one opens its own
        if self._soft is not None:
            return Simulator.softened, self._soft
        settings = (self.time_step, self.integrator, self.bending, self.linear, self.tolerance)
        return Simulator, (self.scene, *settings)

    @property
    def softening(self) -> tuple[Softness, float] | None:
        """What made this one of another, see `softened`; None for a plain one."""
        return None if self._soft is None else self._soft[1:]

    def softened(self, softness: Softness, progress: float) -> Simulator:
        """The same with softer contact, friction and yield, at a share of the way to none of it.

        progress: in [0, 1]; at 1 it is the simulator as it was made. Costs next to nothing, and
        states go from one to the other. Raises InputError.
        """
        plain = self if self._soft is None else self._soft[0]
        if not isinstance(softness, Softness):
            raise InputError(f"softness must be a Softness, got {type(softness).__name__}")
        level = softness.at(progress)
        if progress == 1:
            return plain
        result = copy(plain)
        result.model = replace(plain.model, values=soft_values(plain.model.values, level))
        if plain.contact is not None:
            result.contact = soft_contact(plain.contact, level)
        result._soft = plain, softness, progress
        return result

    def initial_state(
        self, positions: Tensor | None = None, velocities: Tensor | None = None
    ) -> State:
        """The scene as it was given, or at these positions (V, 3) [m], velocities (V, 3) [m/s].

        Without velocities it stands still. The directors of the edges are in equilibrium. Raises
        InputError that lists what intersects, where surfaces may touch.
        """
        vertices = self.scene.vertices
        count = len(vertices)
        if positions is None:
            positions = vertices.clone()  # a state written into leaves the scene as it is
        else:
            positions = check_tensor("positions", positions, (count, 3)).to(vertices)
            check_triangles("positions", positions.detach(), self.scene.topology)
        self._check_apart(positions)
        if velocities is None:
            velocities = torch.zeros_like(vertices)
        else:
            velocities = check_tensor("velocities", velocities, (count, 3)).to(vertices)
        rest = self.model.values["rest_angles"]
        state = State(
            positions=positions,
            velocities=velocities,
            angles=torch.zeros_like(rest),
            plastic_angles=torch.zeros_like(rest),
            accumulated=torch.zeros_like(rest[:, 0]),
            poses=self.scene.poses,
            wrenches=torch.zeros_like(self.scene.poses),
        )
        relaxed = self._relaxed(state)
        state = replace(state, angles=relaxed.angles)
        if self.integrator == "newmark":
            state = replace(state, accelerations=self._accelerations(relaxed.reactions))
        return state

    def _check_apart(self, positions: Tensor) -> None:
        """Raise InputError where sheets and bodies intersect or are nearer than they are thick."""
        if self.neighbourhood is not None:
            scene = self.scene
            names = [f"sheets[{place}]" for place in range(len(scene.sheets))]
            names += [f"bodies[{place}]" for place in range(len(scene.bodies))]
            radius = self.model.values["contact_radius"]
            check_start(self.neighbourhood.surface, positions, radius, names)

    def step(self, state: State, control: Control | None = None) -> State:
        """The state one time step later.

        Raises NotConverged where Newton's method finds no solution; `state` stays valid.
        """
        return self.solved_step(self._fitting("state", state), self._checked(control))[0]

    def settled(self, state: State | None = None, steps: int = 500) -> State:
        """Where a state, the initial one by default, comes to rest if its speed is taken away after
        each time step.

        Contacts then bear what lies on them, and friction holds from the first step on; without it
        friction acts a step after surfaces first touch. Time stands still. Raises NotConverged
        where the last of `steps` still moves something.
        """
        state = self.initial_state() if state is None else self.checked_state(state)
        still, time = torch.zeros_like(state.positions), state.time
        for _ in range(steps):
            before = state.positions
            state, _ = self.solved_step(state, Control())
            accelerations = None if state.accelerations is None else still
            state = replace(
                state,
                velocities=still,
                accelerations=accelerations,
                previous_positions=None,
                previous_velocities=None,
                time=time,
            )
            moved = float((state.positions - before).detach().abs().amax())
            if moved <= REST * self.model.size:
                return state
        raise NotConverged(
            f"the scene comes to no rest in {steps} steps, the last of which moved {moved:.1e} m"
        )

    def rollout(
        self,
        state: State,
        controls: Sequence[Control | None] | Control | int,
        checkpoint: int | None = None,
    ) -> Trajectory:
        """Step through `controls`: one a step, a Control whose tensors have a leading axis of
        steps, or the number of steps without any.

        checkpoint: keep only every state of that number for backward, which repeats the steps
        between; see `rollout`.
        """
        state = self.checked_state(state)
        steps, plastic = self.checked_controls(controls), self.model.plastic
        return roll(self.solved_step, self._forget, state, steps, plastic, checkpoint)

    def _forget(self) -> None:
        """Let what comes not depend, by rounding, on steps before it."""
        if self.neighbourhood is not None:
            self.neighbourhood.forget()

    def checked_state(self, state: State) -> State:
        """`state`, if it is one of this scene. Raises InputError."""
        return self._fitting("state", state)

    def checked_controls(self, controls: Sequence[Control | None] | Control | int) -> list[Control]:
        """One control a step, in any of the forms that `rollout` takes. Raises InputError."""
        if isinstance(controls, Control):
            controls = controls.steps()
        elif isinstance(controls, int) and not isinstance(controls, bool) and controls >= 0:
            controls = [None] * controls
        elif isinstance(controls, int | Tensor) or not isinstance(controls, Iterable):
            raise InputError(
                "controls must be a list of Controls, one Control or a number of steps, "
                f"got {controls!r}"
            )
        return [self._checked(control) for control in controls]

    def equilibrium(
        self,
        loads: Tensor | None = None,
        moments: Tensor | None = None,
        start: State | None = None,
        positions: Tensor | None = None,
        directors: Tensor | None = None,
        increments: int = 1,
        poses: Tensor | None = None,
    ) -> State:
        """A state in which loads (V, 3) [N], moments (E,) [N m] and gravity are balanced.

        They grow in `increments` equal parts, from nothing or from those of `start` when that is an
        equilibrium, and so do driven positions (V, 3), directors (E, 3) and poses (B, 6) of bodies
        from where `start` has them; a part at which Newton's method fails is halved. Creases yield
        and contacts slip from part to part. Raises InputError for a scene that could move freely,
        unless it hangs from where it is held (a cloth below two corners; what touches it does not
        count), NotConverged where parts become too small.
        """
        control = self._checked(
            Control(
                positions=positions,
                directors=directors,
                forces=loads,
                moments=moments,
                poses=poses,
            )
        )
        if start is not None:
            start = self._fitting("start", start)
        forces = self.weight if control.forces is None else self.weight + control.forces
        from_where = self.scene.vertices if start is None else start.positions
        check_held(self.scene, from_where.detach(), forces.detach())
        if not (isinstance(increments, int) and increments > 0):
            raise InputError(f"increments must be a positive whole number, got {increments!r}")
        return equilibrate(self, start, control, increments)

    def modes(self, count: int, state: State | None = None) -> Modes:
        """The `count` slowest natural vibrations about a state, the initial one by default.

        Frequencies [Hz] and shapes (count, V, 3) of small undamped vibrations under the stresses of
        `state`, which should be an equilibrium; held coordinates stay. A free sheet has six rigid
        motions at frequency zero first. Raises InputError for a count beyond the free coordinates.
        """
        if state is not None:
            state = self._fitting("state", state)
        return natural_modes(self, count, state)

    def _fitting(self, name: str, state: State) -> State:
        """`state`, if it is one of this scene with this kind of bending."""
        if not isinstance(state, State):
            raise InputError(f"{name} must be a State, got {type(state).__name__}")
        rest = self.model.values["rest_angles"]
        count, order = rest.shape
        scene = self.scene
        return state.check(
            name, (count, order), len(scene.edges), len(scene.bodies), scene.vertices
        )

    def _checked(self, control: Control | None) -> Control:
        scene = self.scene
        if control is None:
            return Control()
        if not isinstance(control, Control):
            raise InputError(f"control must be a Control or None, got {type(control).__name__}")
        if control.moments is not None and not self._directors:
            raise InputError("moments act on directors and need bending 'mid-edge', got 'hinge'")
        checked = control.check(
            len(scene.vertices), len(scene.edges), len(scene.bodies), scene.vertices
        )
        if checked.directors is not None:
            short = scene.clamped_edges & (checked.directors.detach() == 0).all(dim=1)
            if bool(short.any()):
                raise InputError(
                    "control.directors must have a direction at every clamped edge, "
                    f"got zero at edge {int(torch.nonzero(short)[0])}"
                )
        return checked

    def inputs(self, state: State, control: Control) -> Values:
        """All that a solve from `state` depends on, by name; see `adjoint.solve_step`."""
        inputs = dict(self.model.values)
        inputs["start"] = state.positions
        inputs["start_angles"] = state.angles
        inputs["plastic_angles"] = state.plastic_angles
        inputs["accumulated"] = state.accumulated
        inputs["weight"] = self.weight
        if control.directors is not None:
            inputs["walls"] = control.directors
        if control.forces is not None:
            inputs["forces"] = control.forces
        if control.moments is not None:
            inputs["moments"] = control.moments
        target = state.positions if control.positions is None else control.positions
        poses = state.poses if control.poses is None else control.poses
        inputs["targets"] = self.scene.placed(poses, target)
        if self.neighbourhood is not None:
            inputs["turns"] = surface_turns(poses, state.poses)
        return inputs

    def solved_step(self, state: State, control: Control) -> tuple[State, Solution]:
        """The state one time step later and how Newton's method found it, without checks."""
        predicted, factor = predict(self.integrator, state, self.time_step)
        inputs = self.inputs(state, control)
        inputs["mass"] = self.model.mass
        inputs["predicted"] = predicted
        contacts = self.contacts(state, inputs)
        step = Step(
            model=self.model,
            solver=self.solver,
            factor=factor,
            time_step=self.time_step,
            tolerance=self.tolerance * self.time_step,
            reactions=bool(self.scene.bodies),
            contacts=contacts,
        )
        solved = solve_step(step, inputs)
        then = advance(self.integrator, state, self.time_step, predicted, solved.positions)
        poses = state.poses if control.poses is None else control.poses
        pulls = solved.positions, solved.reactions, solved.torques
        then = replace(
            then,
            angles=solved.angles,
            plastic_angles=solved.plastic_angles,
            accumulated=solved.accumulated,
            poses=poses,
            wrenches=wrenches(self.scene, poses, *pulls),
            touched=None if contacts is None else contacts.started,
            slip=None if contacts is None else solved.slip,
        )
        return then, step.solution

    def contacts(self, state: State, inputs: Values) -> Contacts | None:
        """What touches at a state; the slip that stays with it is added to the inputs."""
        around, settings = self.neighbourhood, self.contact
        if around is None or settings is None:
            return None
        reach, radius = (
            float(inputs["contact_range"].detach().max()),
            inputs["contact_radius"].detach(),
        )
        started = around.active(state.positions.detach(), radius, reach)
        slip = state.positions.new_zeros(len(started.kind), 3)
        if state.touched is not None and state.slip is not None:
            slip = transported(state.touched, state.slip, started, around.surface.component)
        inputs["slip"] = slip
        creep = settings.creep_speed * self.time_step
        return Contacts(around, settings, started, len(self.scene.sheets), creep)

    def _relaxed(self, state: State) -> Solved:
        """`state` once its directors have turned to where no moment acts, and what holds it."""
        model = self.model
        still = torch.cat([state.positions.flatten(), state.positions.new_zeros(self._directors)])
        inputs = self.inputs(state, Control())
        angles = model.bending.angles(still.detach(), inputs)
        free = torch.cat([torch.zeros_like(model.free[: 3 * len(model.mass)]), model.bending.free])
        pattern = SparsePattern.of(model.blocks, len(free), free)
        step = Step(
            model=replace(model, free=free, pattern=pattern),
            solver=open_solver(pattern, self.solver.solver),
            factor=None,
            time_step=None,
            tolerance=STATIC_TOLERANCE * model.size,
            reactions=True,
        )
        return solve_step(step, inputs | {"start_angles": angles.detach()})

    def _accelerations(self, reactions: Tensor) -> Tensor:
        """What the forces that would hold the vertices still make of the free coordinates."""
        mass = self.model.mass
        heavy = torch.where(mass > 0, mass, 1.0)  # rigid bodies have none, and are held
        return torch.where(self.scene.held, 0.0, -reactions / heavy[:, None])
