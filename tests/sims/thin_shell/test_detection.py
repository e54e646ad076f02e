"""Detection finds what a search through all pairs finds, in the same order, however it moved."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.contact.pairs import (
    EDGE_EDGE,
    VERTEX_EDGE,
    VERTEX_FACE,
    VERTEX_PLANE,
    Pairs,
    Surface,
)

CLOTH, OTHER, SPHERE, ROD, FLOOR = range(5)
RADII = (4e-3, 2e-2, 0.25, 5e-2, 0.0)  # [m] of the components, beside cells of 0.1 m


def sheet(side, cell):
    """Vertices (side^2, 3) and faces of a flat grid."""
    number = torch.arange(side * side).reshape(side, side)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, b, c), (a, c, d))])
    along = cell * torch.arange(side, dtype=torch.float64)
    x, y = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3), faces


def scene(device="cpu"):
    """Two sheets that cross each other's way, a sphere, a round rod and a floor, crumpled."""
    generator = torch.Generator().manual_seed(3)
    first, faces = sheet(7, 0.1)
    second, more = sheet(5, 0.13)
    count = len(first) + len(second)
    body = torch.tensor(
        [
            [0.3, 0.3, -0.3],
            *([-0.2, 0.35, 0.1], [0.8, 0.3, 0.12]),
            *([0.0, 0.0, -0.05], [1.0, 0.0, -0.05], [0.0, 1.0, -0.1]),
        ],
        dtype=torch.float64,
    )
    rest = torch.cat([first, second, body])
    faces = torch.cat([faces, more + len(first)])
    sides = torch.cat([faces[:, [0, 1]], faces[:, [2, 1]], faces[:, [2, 0]]])
    lone = torch.tensor([[count + 1, count + 2]])
    component = torch.cat(
        [
            torch.full((len(first),), CLOTH),
            torch.full((len(second),), OTHER),
            torch.tensor([SPHERE, ROD, ROD, FLOOR, FLOOR, FLOOR]),
        ]
    )
    held = torch.arange(len(rest)) >= count
    held[: len(first) : 7] = True
    collides = torch.ones(5, 5, dtype=torch.bool)
    collides[OTHER, ROD] = collides[ROD, OTHER] = False
    surface = Surface(
        points=torch.arange(count + 3).flip(0),
        edges=torch.cat([torch.unique(sides.sort(1).values, dim=0).flip(0), lone]),
        faces=faces.flip(0),
        planes=torch.tensor([[count + 3, count + 4, count + 5]]),
        lone_edges=lone,
        component=component,
        held=held,
        collides=collides,
        rest=rest,
    )
    bumps = 0.05 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    positions = rest.clone()
    positions[:count] += bumps
    positions[len(first) : count, 2] += 0.08
    surface = replace(surface, **{k: v.to(device) for k, v in vars(surface).items()})
    return surface, positions.to(device), torch.tensor(RADII, dtype=torch.float64, device=device)


def all_pairs(surface):
    """Every pair that the rules allow, by kind, then vertices."""
    held, component = surface.held.tolist(), surface.component.tolist()
    points = surface.points.tolist()
    faces, planes = surface.faces.tolist(), surface.planes.tolist()
    found = [(VERTEX_FACE, v, *f) for v in points for f in faces if v not in f]
    edges = sorted(surface.edges.tolist())
    found += [(EDGE_EDGE, *e, *g) for e, g in combinations(edges, 2) if not {*e} & {*g}]
    found += [(VERTEX_PLANE, v, *p) for v in points for p in planes if v not in p]
    for v in points:
        found += [(VERTEX_EDGE, v, a, b, b) for a, b in surface.lone_edges.tolist() if v != a != b]
    found = [
        row
        for row in found
        if not all(held[v] for v in row[1:])
        and surface.collides[component[row[1]], component[row[3 if row[0] == EDGE_EDGE else 2]]]
        and not (row[0] == VERTEX_EDGE and row[1] in row[2:])
    ]
    rows = torch.tensor(sorted(found), device=surface.points.device)
    return Pairs(rows[:, 0], rows[:, 1:])


def rows_of(pairs):
    return torch.cat([pairs.kind[:, None], pairs.vertices], 1)


@pytest.fixture(scope="module")
def brute():
    return all_pairs(scene()[0])


def expected(detection, every, positions, radius, reach):
    gaps = detection.gaps(positions, every, radius)
    near = gaps < reach
    return torch.cat([every.kind[near, None], every.vertices[near]], 1)


@pytest.mark.parametrize("reach", [1e-3, 0.02, 0.3, 5.0])
def test_all_near_pairs_are_found_in_order(brute, reach):
    surface, positions, radius = scene()
    detection = Detection(surface)
    found = rows_of(detection.near(positions, radius, reach))
    assert torch.equal(found, expected(detection, brute, positions, radius, reach))


def test_the_list_serves_while_vertices_move(brute):
    surface, positions, radius = scene()
    detection = Detection(surface)
    generator = torch.Generator().manual_seed(0)
    reach = 0.02
    for step in range(30):
        size = 10 ** -(1 + step % 4 / 2)
        push = size * torch.randn(positions.shape, generator=generator, dtype=torch.float64)
        share, _ = detection.share(positions, push, radius) if step % 3 else (1.0, None)
        positions = positions + max(share, 0.5) * push
        found = rows_of(detection.near(positions, radius, reach))
        assert torch.equal(found, expected(detection, brute, positions, radius, reach))
