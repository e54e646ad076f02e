"""Which faces intersect, against rational arithmetic on all pairs, and what a start must not be."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import pytest
import torch

from geomopt.errors import InputError
from sims.thin_shell.contact.exact import integers
from sims.thin_shell.contact.intersections import intersections
from sims.thin_shell.contact.pairs import Surface
from sims.thin_shell.contact.start import check_start


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def cross(a, b):
    return [a[k - 2] * b[k - 1] - a[k - 1] * b[k - 2] for k in range(3)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def meet(first, second):
    """Whether two convex pieces of a plane have a common point: unless an axis parts them.

    The facets of the set of their differences, in which the origin would lie, are normal to a plane
    of one, to an edge of each, or, all in one plane, to an edge in that plane.
    """
    edges = [[minus(b, a) for a, b in combinations(piece, 2)] for piece in (first, second)]
    normals = [cross(*piece[:2]) for piece in edges if len(piece) > 1]
    axes = normals + [cross(e, f) for e in edges[0] for f in edges[1]]
    axes += [cross(n, e) for n in normals for piece in edges for e in piece]
    for axis in axes:
        here, there = ([dot(axis, point) for point in piece] for piece in (first, second))
        if max(here) < min(there) or max(there) < min(here):
            return False
    return True


def meet_beyond(first, second, shared):
    """Whether two triangles, the first `shared` corners of which are the same, meet beyond these.

    About a common corner, triangles are cones, so that the far edge of one meets the other grown.
    """
    first, second = ([[Fraction(x) for x in p] for p in piece] for piece in (first, second))
    if shared == 0:
        return meet(first, second)
    corner = second[0]
    grown = [[c + 10**6 * (x - c) for c, x in zip(corner, p, strict=True)] for p in second]
    return meet(first[1:], grown)


def all_intersections(positions, faces):
    found = []
    for (i, f), (j, g) in combinations(enumerate(faces.tolist()), 2):
        common = [v for v in f if v in g]
        if len(common) == 3:
            found.append([i, j])
            continue
        if len(common) == 2:
            continue  # tested by hand below
        f = common + [v for v in f if v not in common]
        g = common + [v for v in g if v not in common]
        if meet_beyond(positions[f].tolist(), positions[g].tolist(), len(common)):
            found.append([i, j])
    return found


@pytest.mark.parametrize("lattice", [0.0, 0.25, 0.5, 1.0])
def test_soups_of_triangles(lattice):
    """In general position, and on a lattice, where all sorts of touching and overlap occur."""
    generator = torch.Generator().manual_seed(1)
    positions = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    if lattice:
        positions = (positions / lattice).round() * lattice
    faces = torch.stack([torch.randperm(24, generator=generator)[:3] for _ in range(45)])
    a, b, c = positions[faces].unbind(1)
    # exact on the lattice: no triangles without area
    faces = faces[torch.linalg.cross(b - a, c - a).abs().sum(1) > 0]
    expected = all_intersections(positions, faces)
    found = [
        pair
        for pair in intersections(positions, faces).tolist()
        if len({*faces[pair[0]].tolist()} & {*faces[pair[1]].tolist()}) != 2
    ]
    assert found == expected
    assert len(expected) > 10


def turned(positions, seed=0):
    """Turned into a general direction, so that what was in one plane is nearly so."""
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return positions @ torch.linalg.qr(matrix).Q


def sheet(side, cell=1.0):
    number = torch.arange(side * side).reshape(side, side)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, b, c), (a, c, d))])
    along = cell * torch.arange(side, dtype=torch.float64)
    x, y = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3), faces


def test_flat_and_curved_sheets_do_not_intersect_themselves():
    positions, faces = sheet(20)
    assert len(intersections(positions, faces)) == 0
    assert len(intersections(turned(positions), faces)) == 0
    curved = positions.clone()
    curved[:, 2] = 3 * torch.sin(positions[:, 0] / 2)
    assert len(intersections(turned(curved, 1), faces)) == 0


def test_a_fold_flat_upon_itself_is_found():
    """Neighbours on the same side of their edge, in one plane; and a whisker off it."""
    positions = torch.tensor(
        [[0, 0, 0], [0, 1, 0], [1, 0.4, 0], [0.7, 0.5, 0]], dtype=torch.float64
    )
    faces = torch.tensor([[0, 1, 2], [1, 0, 3]])
    assert intersections(positions, faces).tolist() == [[0, 1]]
    positions[3, 2] = 1e-300
    assert len(intersections(positions, faces)) == 0
    positions[3] = torch.tensor([-0.7, 0.5, 0.0])
    assert len(intersections(positions, faces)) == 0


def test_what_floats_cannot_tell_is_told():
    """A corner above, on and below a face by one unit of the last place of its height."""
    face = torch.tensor([[0.1, 0.1, 0.1], [1.1, 0.3, 0.7], [0.2, 1.3, 0.9]], dtype=torch.float64)
    middle = (face[0] + face[1] + face[2]) / 3
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    normal = torch.linalg.cross(face[1] - face[0], face[2] - face[0])
    up = torch.tensor([[0.3, 0.1, 2.0], [-0.2, 0.3, 2.0]], dtype=torch.float64)
    answers = []
    for steps in range(-3, 4):
        tip = middle.clone()
        for _ in range(abs(steps)):
            tip[2] = torch.nextafter(tip[2], torch.tensor(torch.inf * steps))
        positions = torch.cat([face, tip[None], tip + up])
        exact = [[Fraction(x) for x in row] for row in positions.tolist()]
        rows = [[x - y for x, y in zip(exact[k], exact[0], strict=True)] for k in (1, 2, 3)]
        (a, b, c) = rows
        height = sum(
            a[i] * (b[(i + 1) % 3] * c[(i + 2) % 3] - b[(i + 2) % 3] * c[(i + 1) % 3])
            for i in range(3)
        )
        answers.append(len(intersections(positions, faces)) == 1)
        assert answers[-1] == (height <= 0)
    assert normal[2] > 0
    assert True in answers
    assert False in answers


def test_integers_keep_ratios():
    rows = [[0.1, -3e-300, 0.0], [7e12, 2.0**-1070, -1.0]]
    scaled = integers(rows)
    unit = Fraction(scaled[1][2], -1)
    assert all(
        Fraction(x) * unit == y
        for row, points in zip(rows, scaled, strict=True)
        for x, y in zip(row, points, strict=True)
    )


def test_a_crossing_is_found_on_each_device(device):
    positions, faces = sheet(8)
    other = turned(positions - positions.mean(0)) + positions.mean(0)
    both = torch.cat([positions, other])
    faces = torch.cat([faces, faces + len(positions)])
    found = intersections(both.to(device), faces.to(device)).cpu()
    assert len(found) > 8
    assert bool(((found[:, 0] < 98) & (found[:, 1] >= 98)).all())
    assert torch.equal(found, intersections(both, faces))


def scene(height, second=0.0):
    """A sheet (component 0) over a held one (1), beside a floor (2) and a rod (3)."""
    positions, faces = sheet(4, 0.1)
    lower = positions + torch.tensor([0.01, 0.02, -0.1])
    body = torch.tensor(
        [[0, 0, -0.5], [1, 0, -0.5], [0, 1, -0.5], [-1, 0.15, -0.3], [1, 0.15, -0.3]],
        dtype=torch.float64,
    )
    upper = positions + torch.tensor([0.0, 0.0, height])
    upper[5, 2] += second
    everything = torch.cat([upper, lower, body])
    faces = torch.cat([faces, faces + 16])
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    component = torch.tensor([0] * 16 + [1] * 16 + [2] * 3 + [3] * 2)
    lone = torch.tensor([[35, 36]])
    surface = Surface(
        points=torch.tensor([*range(32), 35, 36]),
        edges=torch.cat([torch.unique(sides.sort(1).values, dim=0), lone]),
        faces=faces,
        planes=torch.tensor([[32, 33, 34]]),
        lone_edges=lone,
        component=component,
        held=component > 0,
        collides=torch.ones(4, 4, dtype=torch.bool),
        rest=everything,
    )
    return surface, everything, torch.tensor([0.002, 0.003, 0.0, 0.05], dtype=torch.float64)


def test_a_good_start_passes():
    check_start(*scene(0.0))
    check_start(*scene(-0.0949))


def test_a_start_that_intersects_is_listed_by_face():
    with pytest.raises(InputError, match=r"12 pairs of faces .* face \d+ of sheet and face \d+ of"):
        check_start(*scene(0.0, -0.13), names=["sheet", "table", "floor", "rod"])
    surface, positions, radius = scene(-0.1 - 1e-12, 1e-3)
    with pytest.raises(InputError, match=r"intersect .* and \d+ more"):
        check_start(surface, positions, radius)
    apart = torch.ones(4, 4, dtype=torch.bool)
    apart[0, 1] = apart[1, 0] = False
    check_start(replace(surface, collides=apart), positions, radius)


def test_a_start_thinner_than_its_parts_says_how_far_to_move():
    with pytest.raises(InputError, match=r"component 0 .* component 1 must move apart by .* 0.001"):
        check_start(*scene(-0.096))


def test_a_start_under_a_plane_or_in_a_rod_is_refused():
    with pytest.raises(InputError, match=r"above component 2 .* 16 vertices .* 0.102 m; and 11"):
        check_start(*scene(-0.6))
    with pytest.raises(InputError, match=r"vertex 5 of component 0 must rise by more than 0.052 m"):
        check_start(*scene(-0.45, -0.1))
    with pytest.raises(InputError, match=r"axis of component 3"):
        check_start(*scene(-0.25, -0.2))
    with pytest.raises(InputError, match=r"component 0 and edge \(0, 1\) of component 3"):
        check_start(*scene(-0.26))
