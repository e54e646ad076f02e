"""The elastic moduli of each face of a scene, in the face's own material axes."""

from __future__ import annotations

import torch
from torch import Tensor

from geomopt.geometry.mesh import corner_positions
from sims.thin_shell.membrane_constants import orthotropic, plane_stress, rest_axes
from sims.thin_shell.scene import Scene


def face_moduli(scene: Scene) -> tuple[Tensor, Tensor]:
    """Plane stress moduli (F, 3, 3) [Pa], and a factor on their bending (F,).

    The factor is one but where `Material.bending` prescribes the rigidity: then it is that value
    over C_11 t^3 / 12.
    """
    like = scene.rest_vertices
    moduli, factors = [like.new_zeros(0, 3, 3)], [like.new_zeros(0)]
    for sheet, part in scene.face_parts:
        count, device = part.stop - part.start, sheet.faces.device
        quantity = sheet.material.of_faces
        young, poisson = quantity("young", count, device), quantity("poisson", count, device)
        if sheet.material.young_weft is None:
            found = plane_stress(young, poisson)
        else:
            weft = quantity("young_weft", count, device)
            shear = quantity("shear_modulus", count, device)
            found = orthotropic(young, weft, poisson, shear)
        factor = torch.ones_like(young)
        if sheet.material.bending is not None:
            thickness = quantity("thickness", count, device)
            factor = quantity("bending", count, device) * 12 / (found[:, 0, 0] * thickness**3)
        moduli.append(found)
        factors.append(factor)
    return torch.cat(moduli), torch.cat(factors)


def material_axes(scene: Scene) -> Tensor:
    """Unit vectors (F, 2, 3) of the material axes in each rest face, see `Sheet.warp`.

    An isotropic material has no axes; its faces take their first edge.
    """
    corners = corner_positions(scene.rest_vertices, scene.faces)
    axes = [corners.new_zeros(0, 2, 3)]
    for sheet, part in scene.face_parts:
        isotropic = sheet.material.young_weft is None
        warp = None if isotropic else torch.as_tensor(sheet.warp).to(corners)
        axes.append(rest_axes(corners[part], warp))
    return torch.cat(axes)
