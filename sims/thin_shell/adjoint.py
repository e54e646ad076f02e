"""One implicit solve as a torch function, with its exact derivative.

A step, and an equilibrium, is the root of r(z; inputs) = dP/dz over the free unknowns z. With the
derivative zbar of a loss with respect to z, one solve with the same Hessian gives

    H y = zbar,      inputs_bar = - y . dr/d(inputs),      held_bar = zbar_held - H_held,free y

(implicit function theorem). H is the Hessian at the solution as it is, never one that was clamped
or extrapolated on the way, and nothing of Newton's iterations is differentiated. y . dr/d(inputs)
comes from the torch twins of the energies, by differentiating y . dP/dz.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomopt.linear import Solver
from sims.thin_shell.bending import Values, yielded
from sims.thin_shell.model import Model
from sims.thin_shell.newton import Solution, solve
from sims.thin_shell.system import System

LOADS = ("weight", "forces", "moments")
OUTER = (*LOADS, "predicted", "mass", "targets")  # what acts from outside the elements
OUTPUTS = 4


@dataclass(frozen=True, eq=False)
class Step:
    """What a solve needs besides tensors.

    factor: mass is multiplied by this [1/s^2], None for an equilibrium. time_step [s]: of the
    viscous potential, None for none. tolerance [m]: Newton's.
    """

    model: Model
    solver: Solver
    factor: float | None
    time_step: float | None
    tolerance: float
    ended: list[Solution] = field(default_factory=list)

    @property
    def solution(self) -> Solution:
        """How Newton's method ended in the forward solve."""
        return self.ended[-1]


def solve_step(step: Step, inputs: Values) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions (V, 3), angles (n, k), plastic angles and accumulated curvature after a step.

    inputs: the model's values and start (V, 3), start_angles, plastic_angles, accumulated; weight
    (V, 3), and where there are any forces (V, 3), moments (E,), predicted (V, 3), mass (V,);
    targets (V, 3), read at held coordinates. Differentiable in all of them.
    """
    return _Solve.apply(step, tuple(inputs), *inputs.values())  # pyright: ignore[reportReturnType]


def _system(step: Step, values: Values, inputs: Values) -> System:
    """The system of a step; the tensors carry no graph."""
    model = step.model
    size, count = len(model.free), 3 * len(model.scene.vertices)
    loads = model.mass.new_zeros(size)
    loads[:count] = inputs["weight"].flatten()
    if "forces" in inputs:
        loads[:count] += inputs["forces"].flatten()
    if "moments" in inputs:
        loads[count:] = inputs["moments"]
    inertia = predicted = None
    if step.factor is not None:
        inertia, predicted = loads.new_zeros(size), loads.new_zeros(size)
        inertia[:count] = (step.factor * inputs["mass"]).repeat_interleave(3)
        if "predicted" in inputs:
            predicted[:count] = inputs["predicted"].flatten()
    return System(model, model.terms(values, step.time_step), loads, inertia, predicted)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Step, names: tuple[str, ...], *tensors: Tensor) -> Any:
        inputs = {name: t.detach() for name, t in zip(names, tensors, strict=True)}
        values = {name: t for name, t in inputs.items() if name not in OUTER}
        model, count = step.model, 3 * len(step.model.scene.vertices)
        start = torch.cat(
            [
                inputs["start"].flatten(),
                model.bending.turns(inputs["start"], inputs["start_angles"]),
            ]
        )
        targets = torch.cat([inputs["targets"].flatten(), torch.zeros_like(start[count:])])
        system = _system(step, values, inputs)
        solution = solve(system, start, targets, step.solver, step.tolerance)
        step.ended.append(solution)
        unknowns = solution.unknowns
        angles = model.bending.angles(unknowns, values)
        plastic, accumulated = inputs["plastic_angles"], inputs["accumulated"]
        if model.plastic:
            plastic, accumulated = yielded(angles, values, model.bending.order)
        else:
            plastic, accumulated = plastic.clone(), accumulated.clone()
        ctx.step, ctx.names = step, names
        kept = _kept(step, names)
        ctx.kept = kept
        ctx.save_for_backward(
            unknowns, *(t for name, t in zip(names, tensors, strict=True) if name in kept)
        )
        ctx.set_materialize_grads(False)
        return unknowns[:count].reshape(-1, 3), angles, plastic, accumulated

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        step, names = ctx.step, ctx.names
        model, count = step.model, 3 * len(step.model.scene.vertices)
        unknowns, *tensors = ctx.saved_tensors
        saved = dict(zip([n for n in names if n in ctx.kept], tensors, strict=True))
        wanted = dict(zip(names, ctx.needs_input_grad[2:], strict=True))
        found: dict[str, Tensor] = {}
        with torch.enable_grad():
            z = unknowns.detach().requires_grad_()
            values = {
                name: t.detach().requires_grad_(wanted[name] and t.dtype.is_floating_point)
                for name, t in saved.items()
                if name not in OUTER
            }
            leaves = [z, *(t for t in values.values() if t.requires_grad)]
            keys = [None, *(name for name, t in values.items() if t.requires_grad)]
            seed = _after(model, z, values, gradients, leaves)
        incoming = torch.zeros_like(unknowns) if seed[0] is None else seed[0]
        if gradients[0] is not None:
            incoming = incoming.clone()
            incoming[:count] += gradients[0].flatten()
        for key, part in zip(keys[1:], seed[1:], strict=True):
            if part is not None:
                found[key] = part

        plain = {name: t.detach() for name, t in saved.items() if name not in OUTER}
        system = _system(step, plain, saved | _absent(saved, model))
        assembled = system.assemble(unknowns, 2)
        pattern = model.pattern
        factor = step.solver.factorise(pattern.assemble(assembled.matrices, system.inertia))
        y = torch.zeros_like(unknowns)
        y[pattern.unknowns] = factor.solve(incoming[pattern.unknowns])

        if len(leaves) > 1:
            with torch.enable_grad():
                potential = model.potential(z, values, step.time_step)
                (force,) = torch.autograd.grad(potential, z, create_graph=True)
                parts = torch.autograd.grad(
                    (force * y).sum(), leaves[1:], allow_unused=True, retain_graph=False
                )
            for key, part in zip(keys[1:], parts, strict=True):
                if part is not None:
                    found[key] = found[key] - part if key in found else -part

        moved = y[:count].reshape(-1, 3)
        for name in ("weight", "forces"):
            if wanted.get(name):
                found[name] = moved
        if wanted.get("moments"):
            found["moments"] = y[count:]
        if wanted.get("predicted"):
            found["predicted"] = step.factor * saved["mass"][:, None] * moved
        if wanted.get("mass") and step.factor is not None:
            # at the solution inertia balances the rest: m c (x - x_hat) = loads - dP/dx
            inner = assembled.gradient - (system.inertia * (unknowns - system.predicted))
            pull = (inner[:count].reshape(-1, 3) * moved).sum(dim=1)
            found["mass"] = pull / saved["mass"]
        if wanted.get("targets"):
            reaction = incoming - pattern.full_product(assembled.matrices, y)
            held = ~model.free[:count].reshape(-1, 3)
            found["targets"] = torch.where(held, reaction[:count].reshape(-1, 3), 0.0)
        return None, None, *(found.get(name) if wanted[name] else None for name in names)


def _kept(step: Step, names: tuple[str, ...]) -> set[str]:
    """What backward reads again; the rest of the inputs need not stay in memory."""
    dropped = {"predicted", "targets"}
    if not step.model.damped or step.time_step is None:
        dropped.add("start_angles")
    return set(names) - dropped


def _absent(saved: Values, model: Model) -> Values:
    """Stand-ins for the inputs of a solve that backward does not read."""
    return {} if "weight" in saved else {"weight": torch.zeros_like(model.scene.vertices)}


def _after(
    model: Model,
    unknowns: Tensor,
    values: Values,
    gradients: tuple[Tensor | None, ...],
    leaves: list[Tensor],
) -> list[Tensor | None]:
    """Derivatives of the loss through angles and creases alone, with respect to `leaves`."""
    if all(gradient is None for gradient in gradients[1:]):
        return [None] * len(leaves)
    angles = model.bending.angles(unknowns, values)
    plastic, accumulated = values["plastic_angles"], values["accumulated"]
    if model.plastic:
        plastic, accumulated = yielded(angles, values, model.bending.order)
    pairs = [
        (output, gradient)
        for output, gradient in zip((angles, plastic, accumulated), gradients[1:], strict=True)
        if gradient is not None and output.requires_grad
    ]
    if not pairs:
        return [None] * len(leaves)
    outputs, seeds = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outputs, leaves, seeds, allow_unused=True))
