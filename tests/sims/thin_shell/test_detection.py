"""Detection finds what a search through all pairs finds, in the same order, however it moved."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from geomopt.launch import Vectors, launch
from sims.thin_shell.contact.constants import reach_of_pairs, sides
from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.contact.detection_kernels import share_kernel
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


def least_share(detection, every, positions, move, radius):
    """The least share of all pairs, without a list."""
    far = torch.full((len(every.kind),), -torch.inf, dtype=torch.float64)
    shares = torch.empty_like(far)
    thick, surface = torch.full_like(radius, 1e9), detection.surface
    at_rest = 2 * reach_of_pairs(every, surface, thick, thick, surface.rest)[0]
    launch(
        share_kernel(),
        len(far),
        [
            *every,
            far,
            at_rest,
            detection.surface.component.int(),
            radius,
            Vectors(positions),
            Vectors(torch.zeros_like(positions)),
            Vectors(move),
        ],
        [shares],
    )
    return float(shares.min())


def test_the_list_serves_while_vertices_move(brute):
    """Small and large moves in turn, free ones, and steps that went where nobody asked."""
    surface, positions, radius = scene()
    detection = Detection(surface)
    # from where there is room, so that moves are not cut to nothing
    positions = surface.rest.clone()
    positions[surface.component == OTHER, 2] += 0.1
    positions[surface.component == SPHERE, 2] -= 0.1
    positions[surface.component == FLOOR, 2] -= 1.0
    generator = torch.Generator().manual_seed(0)
    reach, cut = 0.02, 0
    for step in range(40):
        size = 10 ** -(1 + step % 5 / 2)
        push = size * torch.randn(positions.shape, generator=generator, dtype=torch.float64)
        push[surface.held] *= step % 2
        push += torch.randn(3, generator=generator, dtype=torch.float64)
        share, limit = detection.share(positions, push, radius)
        assert share == least_share(detection, brute, positions, push, radius)
        assert (share < 1) == (limit is not None)
        if limit is not None:
            cut += 1
            before = detection.gaps(positions, limit, radius)
            after = detection.gaps(positions + share * push, limit, radius)
            assert 0.1 * float(before) <= float(after) < 0.9 * float(before)
        positions = positions + share * (1 if step % 7 else 0.5) * push
        found = rows_of(detection.near(positions, radius, reach))
        assert torch.equal(found, expected(detection, brute, positions, radius, reach))
    assert 5 < cut < 35


def test_radii_may_change(brute):
    surface, positions, radius = scene()
    detection = Detection(surface)
    for factor in (1.0, 2.0, 0.5):
        found = rows_of(detection.near(positions, factor * radius, 0.02))
        assert torch.equal(found, expected(detection, brute, positions, factor * radius, 0.02))


def test_neighbours_of_a_fine_mesh_are_left_alone_at_rest():
    """Cells of a tenth of the thickness, and a range beyond that."""
    surface, _, _ = scene()
    radius = torch.full((5,), 0.5, dtype=torch.float64)
    detection = Detection(surface)
    pairs = detection.near(surface.rest, radius, 10.0)
    first, second = sides(pairs, surface)
    own = Pairs(pairs.kind[first == second], pairs.vertices[first == second])
    gaps = detection.gaps(surface.rest, own, radius)
    assert len(gaps) > 1000
    _, ranges = reach_of_pairs(own, surface, radius, torch.ones_like(radius), surface.rest)
    assert bool((ranges < gaps).all())


def test_offsets_and_ranges_have_derivatives():
    """In radii and in places at rest, where no two candidates for the least are equal."""
    surface, _, radius = scene()
    rest = surface.rest.clone()
    rest += 1e-2 * torch.randn(rest.shape, generator=torch.Generator().manual_seed(1)).double()
    pairs = Detection(surface).near(rest, radius, 0.05)
    pairs = Pairs(pairs.kind[::23], pairs.vertices[::23])

    def measure(rest, radius, reach):
        return reach_of_pairs(pairs, surface, radius, reach.expand(len(radius)), rest)

    reach = torch.tensor(0.03, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        measure, (rest.requires_grad_(), (10 * radius).requires_grad_(), reach)
    )


def test_surfaces_without_faces_or_edges():
    """Points over a floor alone, and a surface of nothing."""
    none = torch.zeros(0, 3, dtype=torch.int64)
    positions = torch.tensor(
        [[0, 0, 0.1], [5, 0, 0.3], [0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64
    )
    surface = Surface(
        points=torch.tensor([0, 1]),
        edges=none[:, :2],
        faces=none,
        planes=torch.tensor([[2, 3, 4]]),
        lone_edges=none[:, :2],
        component=torch.tensor([0, 0, 1, 1, 1]),
        held=torch.tensor([False, False, True, True, True]),
        collides=torch.ones(2, 2, dtype=torch.bool),
        rest=positions,
    )
    radius = torch.tensor([0.05, 0.0], dtype=torch.float64)
    move = torch.zeros_like(positions)
    move[:2, 2] = -0.1
    detection = Detection(surface)
    share, limit = detection.share(positions, move, radius)
    assert 0.44 < share < 0.45
    assert limit is not None
    assert limit.vertices.tolist() == [[0, 2, 3, 4]]
    assert detection.near(positions, radius, 0.2).vertices.tolist() == [[0, 2, 3, 4]]
    detection = Detection(replace(surface, points=none[:, 0], planes=none))
    assert detection.share(positions, move, radius) == (1.0, None)
    assert len(detection.near(positions, radius, 0.2).kind) == 0


def test_devices_agree(brute, device):
    surface, positions, radius = scene(device)
    detection = Detection(surface)
    found = rows_of(detection.near(positions, radius, 0.02)).cpu()
    host = Detection(scene()[0])
    assert torch.equal(found, rows_of(host.near(positions.cpu(), radius.cpu(), 0.02)))
    push = torch.zeros_like(positions)
    push[0, 2] = -0.1
    share, _ = detection.share(positions, push, radius)
    assert share == pytest.approx(host.share(positions.cpu(), push.cpu(), radius.cpu())[0])


def test_a_move_far_beyond_the_mesh_is_cut_before_all_pairs_are_looked_at():
    """Half of the vertices leave by kilometres: ten edges of it are made, without a pair."""
    surface, _, radius = scene()
    detection = Detection(surface)
    positions = surface.rest.clone()
    positions[surface.component == OTHER, 2] += 10.0
    move = torch.zeros_like(positions)
    move[surface.component == OTHER, 2] = 1e4
    share, limit = detection.share(positions, move, radius)
    assert limit is None
    assert 1e-5 < share < 1e-3
    assert detection.share(positions, 1e-5 * move, radius) == (1.0, None)
