"""Detection of contact: what an iteration of Newton's method pays for it.

    python benchmarks/contact.py [--quick]

"near" and "share" are the two calls of an iteration while the list of candidates serves, "list"
makes it anew, for a general move of three ranges. Beside them a floor, the distances of the
candidates and nothing else, by `contact.closest`; and for the smallest scene the search through
all pairs of primitives, each with its distance. "exact" is the exact test for intersecting faces.
CPU milliseconds on one thread, the least of some repetitions.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read as the libraries load

import argparse
import math
import time

import torch

from sims.thin_shell.contact.closest import closest, separation
from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.contact.intersections import intersections
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_FACE, Surface

torch.set_num_threads(1)

NEAR = 3  # ranges, within which a simulator lists pairs


def milliseconds(call, repeats):
    def once():
        begin = time.process_time()
        call()
        return 1e3 * (time.process_time() - begin)

    return min(once() for _ in range(repeats + 1))


def sheet(rows, columns, cell):
    """Vertices and faces of a flat grid of rows x columns cells."""
    number = torch.arange((rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, b, c), (a, c, d))])
    along, across = (cell * torch.arange(n + 1).double() for n in (rows, columns))
    x, y = torch.meshgrid(along, across, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3), faces


def surface_of(parts, held):
    """A surface of meshes (vertices, faces), of which some are held."""
    vertices = torch.cat([part[0] for part in parts])
    component = torch.cat([torch.full((len(x),), k) for k, (x, _) in enumerate(parts)])
    starts = [0, *torch.tensor([len(x) for x, _ in parts]).cumsum(0).tolist()]
    faces = torch.cat([f + start for (_, f), start in zip(parts, starts, strict=False)])
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    none = torch.zeros(0, 3, dtype=torch.int64)
    return Surface(
        points=torch.arange(len(vertices)),
        edges=torch.unique(sides.sort(1).values, dim=0),
        faces=faces,
        planes=none,
        lone_edges=none[:, :2],
        component=component,
        held=torch.isin(component, torch.tensor(held, dtype=torch.int64)),
        collides=torch.ones(len(parts), len(parts), dtype=torch.bool),
        rest=vertices,
    )


def strip():
    """16 x 4 cells of 6 mm under a dome of 15 mm, on a table of two faces of 9 x 9 points."""
    paper = sheet(16, 4, 6.25e-3)
    cap, faces = sheet(14, 14, 2.0 / 14)
    flat = cap[:, :2] - 1.0
    disk = flat * (flat.abs().amax(1) / flat.norm(dim=1).clamp(min=1e-9))[:, None]
    height = 0.5 * (1 - (1 - disk.square().sum(1).clamp(max=1)).sqrt())
    dome = 7.5e-3 * torch.cat([disk, height[:, None]], 1)
    dome += torch.tensor([0.03, 0.0125, 2e-4])
    top, table = sheet(8, 8, 0.02)
    top = top + torch.tensor([-0.03, -0.07, -2e-4])
    under = top - torch.tensor([0.0, 0.0, 0.01])
    surface = surface_of([paper, (dome, faces), (top, table), (under, table)], [2, 3])
    return surface, surface.rest, [5e-5, 0.0, 0.0, 0.0], 1e-4


def cloth(cells, folded):
    """A square metre of a millimetre, in general position or in three layers 2 mm apart."""
    vertices, faces = sheet(cells, cells, 1.0 / cells)
    surface = surface_of([(vertices, faces)], [])
    positions = vertices.clone()
    if folded:
        third = vertices[:, 0] * 3
        positions[:, 0] = (1 - (1 - third % 2).abs()) / 3
        positions[:, 2] = 2e-3 * third.clamp(max=2.999).floor()
    else:
        positions[:, 2] = 0.05 * torch.sin(vertices[:, 0] * 9) * torch.cos(vertices[:, 1] * 7)
    return surface, positions, [5e-4], 1e-3


def brute(surface, positions):
    """The distances of all pairs of a point and a face, and of two edges."""
    v, f = len(surface.points), len(surface.faces)
    e = len(surface.edges)
    first, second = torch.triu_indices(e, e, 1)
    grid = torch.cartesian_prod(surface.points, torch.arange(f))
    vertices = torch.cat(
        [
            torch.cat([grid[:, :1], surface.faces[grid[:, 1]]], 1),
            torch.cat([surface.edges[first], surface.edges[second]], 1),
        ]
    )
    kind = torch.full((len(vertices),), EDGE_EDGE)
    kind[: v * f] = VERTEX_FACE
    return distances(positions, vertices, kind)


def distances(positions, vertices, kind):
    local = positions[vertices]
    return separation(local, closest(local, kind)).norm(dim=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small scenes, few repetitions")
    quick = parser.parse_args().quick
    repeats = 3 if quick else 15
    scenes = {"strip, dome, table": strip(), "cloth 40 x 40": cloth(40, False)}
    scenes["cloth 40 x 40, 3 layers"] = cloth(40, True)
    if not quick:
        scenes["cloth 100 x 100"] = cloth(100, False)
        scenes["cloth 100 x 100, 3 layers"] = cloth(100, True)
    print(
        f"{'scene':<27}{'vertices':>9}{'listed':>9}{'near':>8}{'near ms':>9}"
        f"{'share ms':>10}{'list ms':>9}{'floor ms':>10}{'x floor':>9}{'exact ms':>10}"
    )
    for name, (surface, positions, radii, reach) in scenes.items():
        radius = torch.tensor(radii, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        move = (
            NEAR * reach / math.sqrt(3) * torch.randn(positions.shape, generator=generator).double()
        )
        move[surface.held] = 0
        detection = Detection(surface)
        detection.near(positions, radius, NEAR * reach)
        renew = milliseconds(
            lambda d=detection, x=positions, m=move, r=radius: d._renew(x, m, r), repeats
        )
        detection = Detection(surface)
        found = detection.near(positions, radius, NEAR * reach)
        little = 1e-3 * move
        near = milliseconds(
            lambda d=detection, x=positions, r=radius, s=reach: d.near(x, r, NEAR * s), repeats
        )
        share = milliseconds(
            lambda d=detection, x=positions, m=little, r=radius: d.share(x, m, r), repeats
        )
        kind, vertices = detection._list.pairs
        floor = milliseconds(lambda x=positions, v=vertices, k=kind: distances(x, v, k), repeats)
        ratio = f"{(near + share) / floor:.2f}" if len(kind) else "-"
        exact = milliseconds(lambda x=positions, f=surface.faces: intersections(x, f), repeats)
        print(
            f"{name:<27}{len(positions):>9}{len(kind):>9}{len(found.kind):>8}{near:>9.2f}"
            f"{share:>10.2f}{renew:>9.1f}{floor:>10.2f}{ratio:>9}{exact:>10.1f}"
        )
        if name.startswith("strip"):
            every = milliseconds(lambda s=surface, x=positions: brute(s, x), 3)
            print(f"{'  all pairs':<27}{every:>62.1f} ms, {every / (near + share):.0f} times both")


if __name__ == "__main__":
    main()
