"""No pair passes through within the share that it is given, and the share is not needlessly small.

Judged by dense sampling, and by exact arithmetic: points that are in one plane at a root of a cubic
in rational numbers, counted by Sturm's theorem, can only touch there.
"""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from geomopt.launch import Vectors, launch
from sims.thin_shell.contact.closest import closest, separation
from sims.thin_shell.contact.detection import Detection
from sims.thin_shell.contact.detection_kernels import share_kernel
from sims.thin_shell.contact.intersections import intersections
from sims.thin_shell.contact.pairs import (
    EDGE_EDGE,
    VERTEX_EDGE,
    VERTEX_FACE,
    VERTEX_PLANE,
    Surface,
)

KINDS = {
    "vertex-face": VERTEX_FACE,
    "edge-edge": EDGE_EDGE,
    "vertex-plane": VERTEX_PLANE,
    "vertex-edge": VERTEX_EDGE,
}
LEFT = 0.1  # of the gap at the start
ROUNDING = 1e-9  # of a gap, beside distances of up to 1e3 gaps in double precision


def shares_of(kind, points, move, offset):
    """What each of n pairs (n, 4, 3) with offsets (n,) allows of its move."""
    n = len(points)
    count = torch.arange(4 * n).reshape(n, 4)
    # two components a pair, the first of which has the whole offset around it
    component = torch.arange(2 * n, dtype=torch.int32).repeat_interleave(2)
    if kind != EDGE_EDGE:
        component.reshape(n, 4)[:, 1] += 1
    radius = torch.stack([offset, torch.zeros_like(offset)], 1).flatten()
    shares = torch.empty(n, dtype=torch.float64)
    launch(
        share_kernel(),
        n,
        [
            torch.full((n,), kind),
            count,
            torch.full((n,), -torch.inf, dtype=torch.float64),
            torch.full((n,), torch.inf, dtype=torch.float64),
            component,
            radius,
            Vectors(points.reshape(-1, 3).contiguous()),
            Vectors(torch.zeros(4 * n, 3, dtype=torch.float64)),
            Vectors(move.reshape(-1, 3).contiguous()),
        ],
        [shares],
    )
    return shares


def gaps_of(kind, points, offset):
    kinds = torch.full((len(points),), kind)
    return separation(points, closest(points, kinds)).norm(dim=1) - offset


def draw(kind, n, seed):
    """Pairs of all sizes and gaps, among them flat, parallel and thick ones, with fast moves."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    points, move = normal(n, 4, 3), normal(n, 4, 3) * 10 ** normal(n, 1, 1)
    several = torch.arange(n)
    thin = several % 3 == 1  # all but in one plane, as neighbours in a sheet are
    points[thin, :, 2] *= 1e-3
    parallel = several % 4 == 1
    points[parallel, 3] = points[parallel, 2] + (points[parallel, 1] - points[parallel, 0])
    points[parallel, 3] += 1e-6 * normal(int(parallel.sum()), 3)
    together = several % 5 == 1  # fast, but all together
    move[together] = 10 * normal(int(together.sum()), 1, 3) + 0.1 * move[together]
    turning = several % 5 == 2
    axis = normal(int(turning.sum()), 1, 3)
    move[turning] = torch.linalg.cross(axis, points[turning]) * 2
    if kind == VERTEX_EDGE:
        points[:, 3], move[:, 3] = points[:, 2], move[:, 2]
    distance = gaps_of(kind, points, 0.0)
    share = torch.rand(n, generator=generator, dtype=torch.float64)
    offset = torch.where(several % 2 == 0, 0.0, distance * (1 - 10 ** (-4 * share)))
    return points, move, offset


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_no_sample_within_the_share_is_too_near(kind):
    points, move, offset = draw(kind, 1500, seed=kind)
    shares = shares_of(kind, points, move, offset)
    before = gaps_of(kind, points, offset)
    after = gaps_of(kind, points + shares[:, None, None] * move, offset)
    assert bool((after >= LEFT * before * (1 - ROUNDING)).all())
    assert 0.05 < float((shares < 1).double().mean()) < 0.95
    for part in torch.linspace(0, 1, 401, dtype=torch.float64):
        there = points + part * shares[:, None, None] * move
        assert bool((gaps_of(kind, there, offset) > 0).all())


def _fractions(tensor):
    return [[Fraction(value) for value in row] for row in tensor.tolist()]


def _minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def _determinant(a, b, c):
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


def _volume(points, move):
    """Coefficients of the volume of four moving points, a cubic in the share, lowest first."""
    base = [_minus(points[k], points[0]) for k in (1, 2, 3)]
    rate = [_minus(move[k], move[0]) for k in (1, 2, 3)]
    coefficients = [Fraction(0)] * 4
    for mask in range(8):
        rows = [rate[k] if mask >> k & 1 else base[k] for k in range(3)]
        coefficients[mask.bit_count()] += _determinant(*rows)
    return coefficients


def _at(polynomial, t):
    value = Fraction(0)
    for coefficient in reversed(polynomial):
        value = value * t + coefficient
    return value


def _remainder(a, b):
    a = list(a)
    while len(a) >= len(b):
        factor = a[-1] / b[-1]
        shift = len(a) - len(b)
        for k, coefficient in enumerate(b):
            a[shift + k] -= factor * coefficient
        a.pop()
    return _trimmed(a)


def _trimmed(polynomial):
    while polynomial and polynomial[-1] == 0:
        polynomial = polynomial[:-1]
    return polynomial


def _chain(polynomial):
    """Sturm's chain of a polynomial."""
    chain = [polynomial, _trimmed([k * c for k, c in enumerate(polynomial)][1:])]
    while len(chain[-1]) > 1:
        rest = [-c for c in _remainder(chain[-2], chain[-1])]
        if not rest:
            break
        chain.append(rest)
    return [p for p in chain if p]


def _changes(chain, t):
    signs = [value > 0 for value in (_at(p, t) for p in chain) if value != 0]
    return sum(a != b for a, b in pairwise(signs))


def coplanar_at(points, move, end):
    """Intervals of length 2^-40 of shares in (0, end] in which four points come into one plane."""
    polynomial = _trimmed(_volume(points, move))
    if len(polynomial) < 2:
        return []
    chain = _chain(polynomial)
    waiting, found = [(Fraction(0), end)], []
    while waiting:
        low, high = waiting.pop()
        if _changes(chain, low) == _changes(chain, high):
            continue
        if high - low < Fraction(1, 2**40):
            found.append((float(low), float(high)))
            continue
        middle = (low + high) / 2
        waiting += [(low, middle), (middle, high)]
    return found


@pytest.mark.parametrize("kind", [VERTEX_FACE, EDGE_EDGE], ids=["vertex-face", "edge-edge"])
def test_what_comes_into_one_plane_does_not_touch(kind):
    points, move, offset = draw(kind, 240, seed=10 + kind)
    shares = shares_of(kind, points, move, 0 * offset)
    roots = 0
    for x, p, share in zip(points, move, shares, strict=True):
        for low, high in coplanar_at(_fractions(x), _fractions(p), Fraction(float(share))):
            roots += 1
            gap = float(gaps_of(kind, (x + low * p)[None], 0.0))
            # nothing moves by more than this while the interval lasts
            assert gap > 2 * (high - low) * float(p.norm(dim=1).max())
    assert roots > 10


def test_head_on_moves_are_used_to_nine_tenths():
    """The true share at which the gap is gone is 1 / speed, for gaps of all sizes."""
    for gap in (1.0, 1e-3, 1e-6):
        for thick in (0.0, 0.1):
            height = gap + thick
            face = torch.tensor(
                [[0.2, 0.2, height], [0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.float64
            )
            edge = torch.tensor(
                [[0.3, -1, height], [0.3, 1, height], [-1, 0, 0], [1, 0, 0]], dtype=torch.float64
            )
            lone = face[[0, 1, 2, 2]].clone()
            lone[0, 1] = 0.0
            for kind, points in (
                (VERTEX_FACE, face),
                (EDGE_EDGE, edge),
                (VERTEX_PLANE, face),
                (VERTEX_EDGE, lone),
            ):
                for speed in (1.2, 3.0, 1e3):
                    move = torch.zeros(4, 3, dtype=torch.float64)
                    move[: 2 if kind == EDGE_EDGE else 1, 2] = -speed * gap
                    move += torch.tensor([0.4, -0.3, 5.0])
                    offset = torch.full((1,), thick, dtype=torch.float64)
                    share = shares_of(kind, points[None], move[None], offset)
                    assert 0.85 / speed < float(share) < 0.9 / speed


def test_sliding_by_is_free():
    """A thick sphere close over a face, whose closest point travels far along it."""
    points = torch.tensor(
        [[-0.3, 0, 0.1001], [-9, -9, 0], [9, -9, 0], [0, 9, 0]], dtype=torch.float64
    )
    move = torch.zeros(4, 3, dtype=torch.float64)
    move[0, 0] = 0.6
    offset = torch.tensor([0.1], dtype=torch.float64)
    assert float(shares_of(VERTEX_FACE, points[None], move[None], offset)) == 1.0


def test_rigid_motion_is_free():
    """A turn by a tenth of a radian about a far axis, of a pair that is near itself."""
    points, _, _ = draw(EDGE_EDGE, 100, seed=5)
    axis = torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)
    far = points + torch.tensor([1e3, 0.0, 0.0])
    move = torch.linalg.cross(axis.expand_as(far), far)
    assert bool((shares_of(EDGE_EDGE, points, move, torch.zeros(100).double()) == 1).all())


def test_a_turning_plane_is_not_passed_by_far_points():
    """A plane that turns about the y axis sweeps points that are far from its three points."""
    distance = 10.0 ** torch.arange(0, 4, dtype=torch.float64)
    points = torch.zeros(4, 4, 3, dtype=torch.float64)
    points[:, 0, 0], points[:, 0, 2] = distance, 0.01 * distance
    points[:, 1:] = torch.tensor([[-1, -1, 0], [1, -1, 0], [0, 1, 0]])
    move = torch.zeros_like(points)
    move[:, 1:, 2] = 0.02 * points[:, 1:, 0]
    shares = shares_of(VERTEX_PLANE, points, move, torch.zeros(4).double())
    after = points + shares[:, None, None] * move
    height = after[:, 0, 2] - distance * 0.02 * shares
    assert bool((height > 0).all())
    assert bool((shares > 0.4).all())  # the plane is there at 0.5


def test_without_a_gap_there_is_no_share():
    points, move, _ = draw(VERTEX_FACE, 20, seed=1)
    offset = gaps_of(VERTEX_FACE, points, 0.0) * 1.01
    assert not bool(shares_of(VERTEX_FACE, points, move, offset).any())


def test_moves_cut_to_their_share_never_let_surfaces_intersect():
    """A folded sheet in general motion, fast and slow, judged exactly after each move."""
    side = 9
    number = torch.arange(side * side).reshape(side, side)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, b, c), (a, c, d))])
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    x, y = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64)], indexing="ij")
    rest = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    none = torch.zeros(0, 3, dtype=torch.int64)
    surface = Surface(
        points=number.flatten(),
        edges=torch.unique(sides.sort(1).values, dim=0),
        faces=faces,
        planes=none,
        lone_edges=none[:, :2],
        component=torch.zeros(side * side, dtype=torch.int64),
        held=torch.zeros(side * side, dtype=torch.bool),
        collides=torch.ones(1, 1, dtype=torch.bool),
        rest=rest,
    )
    turn = torch.linspace(0, 3.0, side, dtype=torch.float64)[x.long().flatten()]
    positions = rest.clone()
    positions[:, 0], positions[:, 2] = 2 * torch.sin(turn), 2 - 2 * torch.cos(turn)
    detection = Detection(surface)
    generator = torch.Generator().manual_seed(2)
    radius = torch.tensor([0.05], dtype=torch.float64)
    cut = 0
    for step in range(60):
        # to the middle, where all layers meet, or anywhere
        move = 10 ** (-step % 3 - 1.0) * torch.randn(
            rest.shape, generator=generator, dtype=torch.float64
        )
        if step % 2:
            move -= 0.2 * (positions - positions.mean(0))
        share, _ = detection.share(positions, move, radius)
        cut += share < 1
        positions = positions + share * move
        assert len(intersections(positions, faces)) == 0
    assert cut > 20
