"""The surfaces of a scene, and the constants of contact between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomopt.errors import InputError, as_tensor
from sims.thin_shell.bending import Values
from sims.thin_shell.bodies import Body
from sims.thin_shell.contact.pairs import Surface
from sims.thin_shell.contact.settings import Contact
from sims.thin_shell.material import Material
from sims.thin_shell.moduli import face_moduli
from sims.thin_shell.scene import Scene
from sims.thin_shell.sheet import Sheet
from sims.thin_shell.soft_body import SoftBody

EACH = ("contact_range", "contact_stiffness", "contact_softness", "contact_radius")
SHARE = 1e-3  # of the size of a scene: the default range
STRETCHED = 1e-4  # of E t: a sheet that is drawn over an edge presses with its tension
BORNE = 10.0  # times the weight of a vertex that a contact bears within half of its range


def surface_of(scene: Scene) -> Surface:
    """All that can touch in a scene; its components are the sheets, then the bodies."""
    device = scene.vertices.device
    component = torch.zeros(len(scene.vertices), dtype=torch.int64, device=device)
    faces, lone, planes = [scene.faces.long()], [], []
    for number, part in enumerate(scene.vertex_parts):
        component[part] = number
    for body, part in zip(scene.bodies, scene.body_parts, strict=True):
        faces.append(body.faces.long() + part.start)
        lone.append(body.lone_edges + part.start)
        planes.append(body.planes + part.start)
    triangles, none = torch.cat(faces), component.new_zeros(0, 2)
    sides = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    sides = torch.unique(sides.sort(dim=1).values, dim=0)
    lone_edges = torch.cat([none, *lone])
    unbounded = torch.cat([component.new_zeros(0, 3), *planes])
    touches = torch.ones(len(component), dtype=torch.bool, device=device)
    touches[unbounded] = False
    touches[triangles] = True
    # a vertex inside a soft body touches nothing
    for body, part in zip(scene.bodies, scene.body_parts, strict=True):
        if isinstance(body, SoftBody):
            skin = torch.zeros(len(body.vertices), dtype=torch.bool, device=device)
            skin[body.faces.long()] = True
            touches[part] = skin
    return Surface(
        points=torch.nonzero(touches).flatten(),
        edges=torch.cat([sides, lone_edges]),
        faces=triangles,
        planes=unbounded,
        lone_edges=lone_edges,
        component=component,
        held=scene.held.all(dim=1),
        collides=_collides(scene),
        rest=scene.rest_vertices,
    )


def contact_values(scene: Scene, time_step: float) -> Values:
    """The tensors that contact depends on, differentiable, for each of the C components:
    contact_range [m], contact_stiffness [N/m], contact_softness, contact_radius [m] (C,), friction
    (C, C); and contact_rest (V, 3) [m]. Both components of a pair have one range and stiffness."""
    if scene.worlds:
        return _together(scene, [contact_values(world, time_step) for world in scene.worlds])
    settings = scene.contact
    if settings is None:
        return {}
    like, count = scene.vertices, len(scene.vertex_parts)

    def each(value: Any) -> Tensor:
        return torch.as_tensor(value).to(like).reshape(()).expand(count)

    reach = _size(scene) * SHARE if settings.range is None else settings.range
    stiffness = settings.stiffness
    if stiffness is None:
        stiffness = _stiffness(scene, time_step, torch.as_tensor(reach))
    return {
        "contact_range": each(reach),
        "contact_stiffness": each(stiffness),
        "contact_softness": each(settings.softness),
        "contact_radius": _radii(scene, settings),
        "friction": _friction(scene, settings.friction),
        "contact_rest": scene.rest_vertices,
    }


def _together(scene: Scene, worlds: list[Values]) -> Values:
    """The values of worlds that do not feel each other as those of all their components."""
    members = scene.components_of_worlds
    order = torch.argsort(torch.cat(members))
    values = {name: torch.cat([world[name] for world in worlds])[order] for name in EACH}
    table = torch.block_diag(*(world["friction"] for world in worlds))
    return values | {"friction": table[order][:, order], "contact_rest": scene.rest_vertices}


def _deformable(scene: Scene) -> Tensor:
    """(V,) bool, vertices of sheets and soft bodies."""
    moves = torch.ones(len(scene.vertices), dtype=torch.bool, device=scene.vertices.device)
    for body, part in zip(scene.bodies, scene.body_parts, strict=True):
        moves[part] = isinstance(body, SoftBody)
    return moves


def _size(scene: Scene) -> Tensor:
    places = scene.vertices[_deformable(scene)]
    return (places.amax(0) - places.amin(0)).amax()


def _stiffness(scene: Scene, time_step: float, reach: Tensor) -> Tensor:
    """Of inertia, weight, bending, tension and soft bodies together [N/m]; a mean over each."""
    masses = scene.masses()[_deformable(scene)]
    total = masses.mean() * (
        1 / time_step**2 + BORNE * torch.as_tensor(scene.gravity).norm() / reach
    )
    if scene.sheets:
        moduli, rigidity = face_moduli(scene)
        bending = moduli[:, 0, 0] * scene.of_faces("thickness") ** 3 / 12 * rigidity
        ends = scene.rest_vertices[scene.edges.long()]
        total = total + bending.mean() / (ends[:, 1] - ends[:, 0]).square().sum(1).mean()
        stretching = moduli[:, 0, 0] * scene.of_faces("thickness")
        total = total + STRETCHED * stretching.mean()
    soft = [body for body in scene.bodies if isinstance(body, SoftBody)]
    for body in soft:
        corners = body.rest_vertices[body.faces.long()]
        length = (corners[:, 1] - corners[:, 0]).norm(dim=1).mean()
        total = total + torch.as_tensor(body.young).to(total).mean() * length / len(soft)
    return total


def _radii(scene: Scene, settings: Contact) -> Tensor:
    like, count = scene.vertices, len(scene.vertex_parts)
    if settings.offset is not None:
        numbers = {"dtype": like.dtype, "device": like.device}
        wanted = f"{count} lengths [m]"
        given = as_tensor("offset", settings.offset, wanted, **numbers)
        if given.shape != (count,) or not bool((given.detach() >= 0).all()):
            raise InputError(
                f"offset must be {count} lengths [m] of at least 0, one for each sheet and body, "
                f"got {settings.offset!r}"
            )
        return given
    halves = [torch.as_tensor(sheet.material.thickness).mean() / 2 for sheet in scene.sheets]
    radii = [torch.as_tensor(body.radius).reshape(()) for body in scene.bodies]
    return torch.stack([value.to(like) for value in (*halves, *radii)])


def _members(scene: Scene, name: str, wanted: object) -> Tensor:
    """(C,) bool, the sheets and bodies that `wanted` names: a material, a sheet or a body."""
    found = [
        part is wanted or getattr(part, "material", None) is wanted
        for part in (*scene.sheets, *scene.bodies)
    ]
    if not any(found):
        known = isinstance(wanted, Sheet | Body | SoftBody | Material)
        given = f"another {type(wanted).__name__}" if known else repr(wanted)
        raise InputError(f"{name} must name materials, sheets or bodies of the scene, got {given}")
    return torch.tensor(found, device=scene.vertices.device)


def _friction(scene: Scene, named: Mapping[tuple[object, object], Any]) -> Tensor:
    like = scene.vertices
    own = [sheet.material.friction for sheet in scene.sheets]
    own += [body.friction for body in scene.bodies]
    each = torch.stack([torch.as_tensor(value).to(like).mean() for value in own])
    products = each[:, None] * each
    some = products > 0
    # the root has no derivative at zero
    table = torch.where(some, torch.where(some, products, 1.0).sqrt(), 0.0)
    for (first, second), coefficient in named.items():
        a, b = (_members(scene, "friction", wanted) for wanted in (first, second))
        both = (a[:, None] & b) | (b[:, None] & a)
        table = torch.where(both, torch.as_tensor(coefficient).to(like).reshape(()), table)
    return table


def _collides(scene: Scene) -> Tensor:
    if scene.worlds:
        order = torch.argsort(torch.cat(scene.components_of_worlds))
        return torch.block_diag(*(_collides(world) for world in scene.worlds))[order][:, order]
    count = len(scene.sheets) + len(scene.bodies)
    allowed = torch.ones(count, count, dtype=torch.bool, device=scene.vertices.device)
    if scene.contact is not None:
        for first, second in scene.contact.passing:
            a, b = (_members(scene, "passing", wanted) for wanted in (first, second))
            allowed &= ~((a[:, None] & b) | (b[:, None] & a))
    return allowed
