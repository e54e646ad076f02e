"""One implicit solve as a torch function, with its exact derivative.

A step, and an equilibrium, is the root of r(z; inputs) = dP/dz over the free unknowns z. With the
derivative zbar of a loss with respect to z, one solve with the same Hessian gives

    H y = zbar,      inputs_bar = - y . dr/d(inputs),      held_bar = zbar_held - H_held,free y

(implicit function theorem). H is the Hessian at the solution as it is, never one that was clamped
or extrapolated on the way, and nothing of Newton's iterations is differentiated. y . dr/d(inputs)
is the derivative of the work that the elements do along y, `energies.energy.virtual_work`, and only
inputs that are asked for are differentiated. Where reactions at held unknowns are asked for, minus
their derivative stands in the held rows of y.

The director of an edge is turned from a reference that follows from where the step starts. No
energy feels which reference that is, so nothing is differentiated in it; but a moment on an edge
does work along the turn from the reference, see `MidEdge.drift`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geomopt.linear import Solver
from sims.thin_shell.bending import Values, references, yielded
from sims.thin_shell.contact.touching import Contacts, Known, Touching
from sims.thin_shell.energies.energy import virtual_work
from sims.thin_shell.linearised import Linearised
from sims.thin_shell.model import Model
from sims.thin_shell.newton import Solution, solve
from sims.thin_shell.relaxation import settle
from sims.thin_shell.system import System
from sims.thin_shell.tangent import push_forward

OUTER = ("weight", "forces", "moments", "predicted", "mass", "targets")  # outside the elements
CREASES = ("plastic_angles", "accumulated")  # of a material that yields, the last two outputs


@dataclass(frozen=True, eq=False)
class Step:
    """What a solve needs besides tensors.

    factor: mass is multiplied by this [1/s^2], None for an equilibrium. time_step [s]: of the
    viscous potential, None for none. tolerance [m]: Newton's. reactions: whether they are asked
    for. contacts: where surfaces touch, None for a scene without contact. ended: how each forward
    solve ended, what touched there, and whether a crease yielded.
    """

    model: Model
    solver: Solver
    factor: float | None
    time_step: float | None
    tolerance: float
    reactions: bool = False
    contacts: Contacts | None = None
    ended: list[tuple[Solution, Known | None, bool]] = field(default_factory=list)

    @property
    def solution(self) -> Solution:
        """How Newton's method ended in the forward solve."""
        return self.ended[-1][0]

    def system(
        self,
        values: Values,
        loads: Tensor,
        inertia: Tensor | None = None,
        predicted: Tensor | None = None,
    ) -> System:
        """The potential under these values, with what touches at the solution if there is one."""
        terms = self.model.terms(values, self.time_step)
        touching = None
        if self.contacts is not None:
            known = self.ended[-1][1] if self.ended else None
            touching = Touching.of(self.contacts, values, known)
        return System(self.model, terms, self.solver, loads, inertia, predicted, touching)

    def outputs(
        self,
        unknowns: Tensor,
        values: Values,
        system: System,
        asked: Sequence[bool] = (True,) * 5,
    ) -> list[Tensor]:
        """Angles, slip, torques and creases that follow from a solution.

        asked: for which of them; others may come without rows.
        """
        bending, touching = self.model.bending, system.touching
        # each its own tensor, as outputs of one function have to be
        angles, slip, torques, *creases = (
            unknowns.new_zeros(0, 3) for _ in range(5 if self.model.plastic else 3)
        )
        if asked[0] or any(asked[3:]):
            angles = bending.angles(unknowns, values)
        if touching is not None:
            positions = self.model.split(unknowns)[0]
            slip = touching.slip(positions) if asked[1] else slip
            torques = touching.torques(positions) if asked[2] else torques
        if creases and any(asked[3:]):
            creases = yielded(angles, values, bending.order)
        return [angles, slip, torques, *creases]


class Solved(NamedTuple):
    """positions (V, 3), angles (n, k), plastic_angles (n, k) and accumulated (n,) after a solve;
    slip (m, 3) [m], how far what touched at the start has moved within what friction holds; torques
    (B, 3) [N m], what friction takes to turn bodies besides the forces on their points; both
    without rows where nothing can touch;
    reactions (V, 3) [N]: what elements pull at held coordinates, less the loads; no rows where not
    asked for."""

    positions: Tensor
    angles: Tensor
    plastic_angles: Tensor
    accumulated: Tensor
    slip: Tensor
    torques: Tensor
    reactions: Tensor


def solve_step(step: Step, inputs: Values) -> Solved:
    """The state after a step or in an equilibrium.

    inputs: the model's values and start (V, 3), start_angles, plastic_angles, accumulated; weight
    (V, 3), and where there are any forces (V, 3), moments (E,), predicted (V, 3), mass (V,);
    targets (V, 3), read at held coordinates; with contact slip (m, 3) and turns (B, 3, 3), see
    `contact`. Differentiable once in all of them, in reverse and in forward mode.
    """
    count = 3 * len(step.model.scene.vertices)
    unknowns, pulls, angles, slip, torques, *creases = _Solve.apply(
        step, tuple(inputs), *inputs.values()
    )  # pyright: ignore[reportGeneralTypeIssues]
    plastic, accumulated = creases or (inputs["plastic_angles"], inputs["accumulated"])
    positions, reactions = (part[:count].reshape(-1, 3) for part in (unknowns, pulls))
    return Solved(positions, angles, plastic, accumulated, slip, torques, reactions)


def _values(inputs: Values) -> Values:
    """The part of the inputs that the elements depend on."""
    return {name: tensor for name, tensor in inputs.items() if name not in OUTER}


def _loads(model: Model, inputs: Values) -> Tensor:
    """Force or moment (size,) of what loads there are."""
    count = 3 * len(model.scene.vertices)
    loads = model.mass.new_zeros(len(model.free))
    for name in ("weight", "forces"):
        if name in inputs:
            loads[:count] += inputs[name].flatten()
    if "moments" in inputs:
        loads[count:] = inputs["moments"]
    return loads


def _spread(model: Model, vertices: Tensor) -> Tensor:
    """Values of vertices (V,) or (V, 3) as a vector (size,), zero for directors."""
    spread = vertices.new_zeros(len(model.free))
    spread[: 3 * len(vertices)] = (
        vertices.expand(3, -1).T.flatten() if vertices.ndim == 1 else (vertices.flatten())
    )
    return spread


def _inertia(step: Step, inputs: Values) -> Tensor | None:
    return None if step.factor is None else step.factor * _spread(step.model, inputs["mass"])


class _Solve(torch.autograd.Function):
    """Unknowns, reactions (size,), angles, slip, torques, and where a material yields its creases.

    For backward the unknowns are kept, and inputs, which are shared with the model or with the
    state before.
    """

    @staticmethod
    def forward(step: Step, names: tuple[str, ...], *tensors: Tensor) -> Any:
        inputs = {name: t.detach() for name, t in zip(names, tensors, strict=True)}
        model, values = step.model, _values(inputs)
        values["references"] = references(model.scene, values)
        turns = model.bending.turns(inputs["start"], inputs["start_angles"])
        still = torch.zeros_like(turns)
        inertia = _inertia(step, inputs)
        predicted = None if inertia is None else _spread(model, inputs["predicted"])
        system = step.system(values, _loads(model, inputs), inertia, predicted)
        find = settle if inertia is None else solve
        solution = find(
            system,
            torch.cat([inputs["start"].flatten(), turns]),
            torch.cat([inputs["targets"].flatten(), still]),
            step.tolerance,
        )
        unknowns = solution.unknowns
        system = system.around(unknowns)
        known = None
        if system.touching is not None:
            known = system.touching.known(model.split(unknowns)[0])
        found = step.outputs(unknowns, values, system)
        before = [inputs[name] for name in CREASES]
        yielding = not all(map(torch.equal, found[3:], before))
        # records of solutions outlive the unknowns that they would hold
        ended = solution._replace(unknowns=unknowns.new_zeros(0))
        step.ended.append((ended, known, yielding))
        pulls = unknowns.new_zeros(0)
        if step.reactions:
            pulls = torch.where(model.free, 0.0, system.assemble(unknowns, 1).gradient)
        return unknowns, pulls, *found

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        step, names, *tensors = inputs
        given = dict(zip(names, tensors, strict=True))
        asked = zip(names, ctx.needs_input_grad[2:], strict=True)
        dropped = _not_read(step, {name for name, needed in asked if needed})
        kept = {name: tensor for name, tensor in given.items() if name not in dropped}
        ctx.step, ctx.names, ctx.kept = step, names, tuple(kept)
        ctx.save_for_backward(output[0], *kept.values())
        ctx.save_for_forward(output[0], *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "a solve has no second derivative; drop create_graph=True and take differences "
                "of gradients"
            )
        unknowns, *tensors = ctx.saved_tensors
        saved = dict(zip(ctx.kept, tensors, strict=True))
        asked = zip(ctx.names, ctx.needs_input_grad[2:], strict=True)
        wanted = {name for name, needed in asked if needed}
        found = _pull_back(ctx.step, unknowns, saved, wanted, gradients)
        return None, None, *(found.get(name) for name in ctx.names)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        unknowns, *tensors = ctx.saved_tensors
        inputs = dict(zip(ctx.names, tensors, strict=True))
        ways = dict(zip(ctx.names, tangents[2:], strict=True))
        ways = {name: way for name, way in ways.items() if way is not None}
        return _push(ctx.step, unknowns, inputs, ways)


def _not_read(step: Step, wanted: set[str]) -> set[str]:
    """Inputs that backward does not read and that need not stay in memory."""
    dropped = {"weight", "forces", "targets"}
    if not step.model.damped or step.time_step is None:
        dropped.add("start_angles")
    if "mass" not in wanted:
        dropped.add("predicted")
    if "start" not in wanted:
        dropped.add("moments")
    return dropped


def _pull_back(
    step: Step,
    unknowns: Tensor,
    saved: Values,
    wanted: set[str],
    gradients: tuple[Tensor | None, ...],
) -> Values:
    """Derivatives of the loss in the wanted inputs, from those in the outputs."""
    model, count = step.model, 3 * len(step.model.scene.vertices)
    # a loss that reads one step of a trajectory gives zeros for the others
    gradients = tuple(None if g is None or not bool(g.any()) else g for g in gradients)
    passed: dict[str, Tensor | None] = {}
    if not step.ended[-1][2]:  # creases are at the end what they were at the start
        passed = dict(zip(CREASES, gradients[5:], strict=False))
        gradients = gradients[:5] + (None,) * len(gradients[5:])
    with torch.enable_grad():
        values = {n: t.detach().requires_grad_(n in wanted) for n, t in _values(saved).items()}
        values["references"] = references(model.scene, values)
        system = step.system(values, _loads(model, saved))
        terms = system.terms  # made here, where their constants have graphs
    at = Linearised.at(system, unknowns, _inertia(step, saved))

    names = [name for name, tensor in values.items() if tensor.is_leaf and tensor.requires_grad]
    leaves = [values[name] for name in names]
    incoming, direct, felt = _after(step, unknowns, values, system, gradients, leaves)
    if gradients[0] is not None:
        incoming = gradients[0] if incoming is None else incoming + gradients[0]
    if incoming is None:
        incoming = torch.zeros_like(unknowns)
    held = None if gradients[1] is None else torch.where(model.free, 0.0, -gradients[1])
    y = at.solve(incoming, held)
    at.flag()

    with torch.enable_grad():
        works = [
            virtual_work(
                term.energy, system.local(term, unknowns), system.local(term, y), term.constants
            ).sum()
            for term in terms
            if any(constant.requires_grad for constant in term.constants)
        ]
        if "start" in wanted and "moments" in saved:
            works.append(_drift_work(model, unknowns, y, values["start"], saved["moments"]))
        felt += [-work for work in works if work.requires_grad]
        direct = _added(direct, felt, leaves)

    found = {name: part for name, part in zip(names, direct, strict=True) if part is not None}
    for name, part in passed.items():
        if part is not None:
            found[name] = found[name] + part if name in found else part
    moved = y[:count].reshape(-1, 3)
    found |= {"weight": moved, "forces": moved, "moments": y[count:]}
    if step.factor is not None and "predicted" in wanted:
        found["predicted"] = step.factor * saved["mass"][:, None] * moved
    if step.factor is not None and "mass" in wanted:
        offset = saved["predicted"] - model.split(unknowns)[0]
        found["mass"] = step.factor * (offset * moved).sum(dim=1)
    if "targets" in wanted and not bool(model.free[:count].all()):
        reaction = torch.where(model.free, 0.0, incoming - at.product(y))
        found["targets"] = reaction[:count].reshape(-1, 3)
    return {name: part for name, part in found.items() if name in wanted}


def _added(
    parts: list[Tensor | None], scalars: list[Tensor], leaves: list[Tensor]
) -> list[Tensor | None]:
    """`parts` and the derivatives of scalars in the leaves."""
    if not scalars:
        return parts
    more = torch.autograd.grad(torch.stack(scalars).sum(), leaves, allow_unused=True)
    return [
        two if one is None else one if two is None else one + two
        for one, two in zip(parts, more, strict=True)
    ]


def _after(
    step: Step,
    unknowns: Tensor,
    values: Values,
    system: System,
    gradients: tuple[Tensor | None, ...],
    leaves: list[Tensor],
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor]]:
    """Derivatives of the loss through the other outputs, in the unknowns and in `leaves`, and
    scalars whose derivatives in `leaves` are what they lack."""
    seeds = gradients[2:]
    none: list[Tensor | None] = [None] * len(leaves)
    if all(seed is None for seed in seeds):
        return None, none, []
    with torch.enable_grad():
        z = unknowns.detach().requires_grad_()
        system, cuts = system.cut()
        outputs = step.outputs(z, values, system, [seed is not None for seed in seeds])
        # a sum, as torch loads a library of symbols to check gradients that are given to it
        given = [
            (o * s).sum()
            for o, s in zip(outputs, seeds, strict=True)
            if s is not None and o.requires_grad  # torques do not where nothing touches
        ]
        if not given:
            return None, none, []
        total = torch.stack(given).sum()
        asked = [z, *leaves, *(leaf for _, leaf in cuts)]
        # the references are used again after this
        found = torch.autograd.grad(total, asked, retain_graph=True, allow_unused=True)
        at_cuts = zip(cuts, found[1 + len(leaves) :], strict=True)
        felt = [(tensor * part).sum() for (tensor, _), part in at_cuts if part is not None]
    return found[0], list(found[1 : 1 + len(leaves)]), felt


def _drift_work(model: Model, unknowns: Tensor, y: Tensor, start: Tensor, moments: Tensor):
    """What moments do along y through the turn of the references from which directors turn."""
    positions, _ = model.split(unknowns)
    positions = positions.detach().requires_grad_()
    work = (moments * model.bending.drift(positions, start)).sum()
    (force,) = torch.autograd.grad(work, positions, create_graph=True)
    return (force * model.split(y)[0]).sum()


def _push(step: Step, unknowns: Tensor, inputs: Values, ways: Values) -> Any:
    """Tangents of the outputs from those of the inputs."""
    model, values = step.model, _values(inputs)
    moments = inputs.get("moments")
    at = Linearised.at(step.system(values, _loads(model, inputs)), unknowns, _inertia(step, inputs))
    loads = _loads(model, ways)
    if step.factor is not None:
        predicted, mass = ways.get("predicted"), ways.get("mass")
        if predicted is not None:
            loads += _spread(model, step.factor * inputs["mass"][:, None] * predicted)
        if mass is not None:
            offset = unknowns - _spread(model, inputs["predicted"])
            offset[3 * len(mass) :] = 0.0
            loads -= step.factor * _spread(model, mass) * offset
    held = torch.zeros_like(unknowns)
    if "targets" in ways:
        held = torch.where(model.free, 0.0, _spread(model, ways["targets"]))
    still = torch.zeros_like(loads)
    moved, pulls, others = push_forward(
        model,
        at,
        values,
        _values(ways),
        lambda leaves: step.system(leaves, still),
        step.outputs,
        loads,
        held,
        moments,
    )
    at.flag()
    return moved, pulls if step.reactions else pulls[:0], *others
