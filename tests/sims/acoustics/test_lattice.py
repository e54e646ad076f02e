"""Brick rooms as lattices, against assembled elements, polynomials and cosines."""

import math

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.lattice import FURNITURE, Lattice
from sims.acoustics.elements.spectral import element
from sims.acoustics.elements.spectrum import MARGIN, largest_eigenvalue, stiffest_node

EXACT = 1e-11  # float64, relative, sums of a few hundred terms
SINGLE = 1e-6  # float32, relative to the largest value
BOX = [((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))]
# an L with a step in its ceiling and furniture on the floor, elements of several sizes
ROOM = [((0.0, 0.0, 0.0), (1.0, 1.2, 1.0)), ((1.0, 0.0, 0.0), (1.7, 0.5, 1.3))]
FURNISHED = [((0.2, 0.3, 0.0), (0.6, 0.7, 0.4)), ((0.9, -1.0, 0.5), (1.2, 0.2, 0.8))]


def boxes(given: list) -> Tensor:
    return torch.tensor(given, dtype=torch.float64).reshape(-1, 2, 3)


def lattice(
    bricks: list, longest: float, order: int = 4, *, furniture: list | None = None, **options
) -> Lattice:
    options.setdefault("dtype", torch.float64)
    return Lattice(boxes(bricks), boxes(furniture or []), longest, order, **options)


def applied(room: Lattice, fields: Tensor) -> Tensor:
    """A of fields (N, n) by the matrices of the elements, one at a time."""
    reference = element(room.order)
    mass, stiffness = torch.diag(reference.weights), reference.stiffness
    along = [
        torch.kron(torch.kron(a, b), c)
        for a, b, c in ((stiffness, mass, mass), (mass, stiffness, mass), (mass, mass, stiffness))
    ]
    total = torch.zeros_like(fields)
    corners = room.vertices[room.hexahedra]
    for nodes, corner in zip(room.element_nodes.cpu(), corners.cpu(), strict=True):
        x, y, z = ((corner[7] - corner[0]) / 2).tolist()
        matrix = y * z / x * along[0] + x * z / y * along[1] + x * y / z * along[2]
        total[nodes] += matrix @ fields[nodes]
    inverse = torch.where(room.mass > 0, 1 / room.mass, 0.0).cpu()
    return SPEED_OF_SOUND**2 * inverse[:, None] * total


def noise(room: Lattice, seed: int = 0) -> Tensor:
    values = torch.randn(len(room.points), generator=torch.Generator().manual_seed(seed))
    return values.to(room.device, room.dtype) * (room.mass > 0)


def acceleration(room: Lattice, pressure: Tensor) -> Tensor:
    out = torch.full_like(pressure, math.nan)
    room.accelerate(pressure, out)
    return out


# rows of 6 to 21 nodes, of 4, 8 and 16 lanes
@pytest.mark.parametrize(("order", "longest"), [(1, 0.5), (1, 0.15), (2, 0.5), (3, 0.35), (4, 0.5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_operator_is_the_assembled_one(order, longest, dtype, device):
    room = lattice(ROOM, longest, order, furniture=FURNISHED, dtype=dtype, device=device)
    pressure = noise(room)
    wanted = -applied(room, pressure.double().cpu()[:, None])[:, 0]
    found = acceleration(room, pressure).double().cpu()
    error = float((found - wanted).abs().max() / wanted.abs().max())
    assert error < (EXACT if dtype == torch.float64 else SINGLE)


@pytest.mark.parametrize("order", [1, 2])
def test_flat_rooms_have_rows_too_short_for_lanes(order):
    room = lattice(
        [((0.0, 0.0, 0.0), (2.0, 1.0, 0.2)), ((0.0, 1.0, 0.0), (1.0, 2.0, 0.2))], 0.5, order
    )
    assert room.shape[2] < 4
    pressure, previous, step = noise(room), noise(room, 1), 2e-5
    curve = acceleration(room, pressure)
    wanted = -applied(room, pressure[:, None])[:, 0]
    assert float((curve - wanted).abs().max() / wanted.abs().max()) < EXACT
    wanted = 2 * pressure - previous + step**2 * curve
    wanted -= step**4 / 12 * applied(room, curve[:, None])[:, 0]
    room.advance(pressure, previous, curve, step)
    assert float((previous - wanted).abs().max() / wanted.abs().max()) < EXACT


@pytest.mark.parametrize("longest", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_advance_is_two_applications(longest, dtype, device):
    room = lattice(ROOM, longest, 2, furniture=FURNISHED, dtype=dtype, device=device)
    pressure, previous, step = noise(room), noise(room, 1), 2e-5
    curve = acceleration(room, pressure)
    second = acceleration(room, curve)
    wanted = 2 * pressure - previous + step**2 * curve + step**4 / 12 * second
    room.advance(pressure, previous, curve, step)
    rounding = EXACT if dtype == torch.float64 else SINGLE
    assert float((previous - wanted).abs().max()) < rounding * float(wanted.abs().max())
    assert float(previous[room.mass == 0].abs().sum()) == 0.0


@pytest.mark.parametrize("order", range(1, 7))
def test_operator_is_symmetric_in_the_mass(order):
    room = lattice(ROOM, 0.6, order, furniture=FURNISHED)
    first, second = noise(room), noise(room, 1)
    one = float((second * room.mass) @ acceleration(room, first))
    other = float((first * room.mass) @ acceleration(room, second))
    scale = float((second * room.mass).abs() @ acceleration(room, first).abs())
    assert abs(one - other) < EXACT * scale


@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_constants_stay_exactly(order, dtype, device):
    room = lattice(ROOM, 0.6, order, furniture=FURNISHED, dtype=dtype, device=device)
    constant = torch.full_like(noise(room), 0.1) * (room.mass > 0)
    curve = acceleration(room, constant)
    # shares of nodes at walls are zero, but their neighbours outside hold another value
    assert float(curve.abs().max()) == 0.0
    previous = constant.clone()
    room.advance(constant, previous, curve, 1e-4)
    assert torch.equal(previous, constant)


def test_order_one_is_the_seven_point_scheme():
    room = lattice(BOX, 0.2, 1)
    pressure = noise(room)
    grid = pressure.reshape(room.shape)
    # a rigid wall through the nodes mirrors the field
    padded = torch.nn.functional.pad(grid[None, None], (1,) * 6, mode="replicate")[0, 0]
    for axis in range(3):
        lines, inner = padded.movedim(axis, 0), grid.movedim(axis, 0)
        lines[0, 1:-1, 1:-1], lines[-1, 1:-1, 1:-1] = inner[1], inner[-2]
    shifted = [padded.roll(shift, axis) for axis in range(3) for shift in (1, -1)]
    wanted = torch.stack(shifted).sum(0)[1:-1, 1:-1, 1:-1] - 6 * grid
    wanted = wanted * (SPEED_OF_SOUND / 0.2) ** 2
    found = acceleration(room, pressure).reshape(room.shape)
    assert float((found - wanted).abs().max() / wanted.abs().max()) < EXACT


def test_cosines_converge_with_the_order():
    errors = []
    for order in range(1, 7):
        room = lattice(BOX, 0.5, order)
        x, y, z = (math.pi / 2 * place for place in room.points.T)
        mode = torch.cos(2 * x) * torch.cos(y) * torch.cos(z)
        square = SPEED_OF_SOUND**2 * (math.pi / 2) ** 2 * 6
        # the eigenvalue by the Rayleigh quotient
        found = -float((room.mass * mode) @ acceleration(room, mode))
        errors.append(abs(found / float(room.mass @ mode.square()) / square - 1))
    # each order gains two powers of about k h / 2 = 0.8 over a growing factor
    for order, error in enumerate(errors[1:], 2):
        assert error < 0.25 * errors[order - 2]
    assert errors[-1] < 1e-9


def test_mass_and_walls_measure_the_room():
    room = lattice(ROOM, 0.3, 3, furniture=FURNISHED)
    taken = 0.4 * 0.4 * 0.4 + 0.3 * 0.2 * 0.3
    assert float(room.mass.sum()) == pytest.approx(1.2 + 0.7 * 0.5 * 1.3 - taken, rel=EXACT)
    areas = room.faces.areas.sum(1)
    by_surface = torch.zeros(7, dtype=torch.float64).index_add_(0, room.faces.surface, areas)
    # left, right, front, back, floor, ceiling, furniture; the second box stands in the front wall
    front = 1.0 + 0.7 * 1.3 - 0.3 * 0.3
    wanted = [
        1.2 + 0.5 * 0.3,
        1.2 - 0.5 + 0.5 * 1.3,
        front,
        1.0 + 0.7 * 1.3,
        1.2 + 0.35 - 0.16,
        1.2 + 0.35,
        4 * 0.16 + 0.16 + 2 * 0.3 * 0.2 + 2 * 0.2 * 0.3 + 0.3 * 0.3,
    ]
    assert by_surface.tolist() == pytest.approx(wanted, rel=EXACT)
    size = (room.faces.high - room.faces.low).sort(1).values
    assert float(size[:, 0].abs().max()) == 0.0
    assert (size[:, 1] * size[:, 2]).tolist() == pytest.approx(areas.tolist(), rel=EXACT)
    places = room.points[room.faces.nodes]
    assert bool((places >= room.faces.low[:, None] - EXACT).all())
    assert bool((places <= room.faces.high[:, None] + EXACT).all())
    assert bool((room.mass[room.faces.nodes] > 0).all())
    assert int(room.faces.surface.max()) == FURNITURE


def test_hexahedra_have_the_nodes_of_the_lattice():
    room = lattice(ROOM, 0.5, 2, furniture=FURNISHED)
    corners = room.vertices[room.hexahedra].reshape(-1, 2, 2, 2, 3)
    nodes = room.points[room.element_nodes].reshape(-1, 3, 3, 3, 3)
    assert torch.allclose(nodes[:, ::2, ::2, ::2], corners, rtol=0, atol=EXACT)
    middle = corners.flatten(1, 3).mean(1)
    assert torch.allclose(nodes[:, 1, 1, 1], middle, rtol=0, atol=EXACT)


def test_interpolation_reproduces_polynomials_and_their_slopes():
    room = lattice(ROOM, 0.5, 3, furniture=FURNISHED)

    def field(place: Tensor) -> Tensor:
        x, y, z = place.T
        return x**3 * y - 2 * y**2 * z**3 + x * z

    given = [(0.05, 1.1, 0.9), (1.5, 0.4, 1.25), (0.7, 0.5, 0.2), (0.31, 0.29, 0.41)]
    positions = torch.tensor(given, dtype=torch.float64, requires_grad=True)
    nodes, weights = room.interpolation("receivers", positions)
    found = (weights * field(room.points)[nodes]).sum(1)
    assert found.tolist() == pytest.approx(field(positions).tolist(), abs=EXACT)
    (slope,) = torch.autograd.grad(found.sum(), positions)
    (wanted,) = torch.autograd.grad(field(positions).sum(), positions)
    assert slope.flatten().tolist() == pytest.approx(wanted.flatten().tolist(), abs=EXACT)
    assert torch.autograd.gradcheck(lambda x: room.interpolation("x", x)[1], positions)


def test_positions_on_walls_and_edges_are_in_the_air():
    room = lattice(ROOM, 0.5, 2, furniture=FURNISHED)
    given = [(0.0, 0.0, 0.0), (1.7, 0.5, 1.3), (1.0, 1.2, 1.0), (0.6, 0.7, 0.4), (1.0, 0.5, 1.0)]
    nodes, weights = room.interpolation("receivers", torch.tensor(given, dtype=torch.float64))
    for place, row, shares in zip(given, nodes, weights, strict=True):
        assert (shares[:, None] * room.points[row]).sum(0).tolist() == pytest.approx(
            place, abs=EXACT
        )
        assert bool((room.mass[row] > 0).all())


@pytest.mark.parametrize(
    "place", [(1.3, 0.9, 0.5), (0.4, 0.5, 0.2), (1.0, 0.1, 0.6), (-0.1, 0.5, 0.5), (0.5, 0.5, 1.2)]
)
def test_positions_outside_of_the_air_are_named(place):
    room = lattice(ROOM, 0.5, 2, furniture=FURNISHED)
    positions = torch.tensor([(0.1, 0.1, 0.1), place], dtype=torch.float64)
    with pytest.raises(InputError, match=r"receivers\[1\] at .* is outside of the air of the room"):
        room.interpolation("receivers", positions)


def test_rounded_corners_are_one_line():
    third = [((0.0, 0.0, 0.0), (0.1 + 0.2, 1.0, 1.0)), ((0.3, 0.0, 0.0), (1.0, 1.0, 1.0 + 1e-9))]
    room = lattice(third, 1.0, 1)
    assert room.shape == (3, 2, 2)


def test_elements_are_no_longer_than_asked():
    room = lattice(ROOM, 0.17, 2, furniture=FURNISHED)
    for edge in room.grid.edges():
        assert float(edge.max()) <= 0.17 * (1 + 1e-9)
        assert float(edge.min()) > 0.0


@pytest.mark.parametrize(
    ("bricks", "furniture", "words"),
    [
        ([*BOX, ((3.0, 0.0, 0.0), (4.0, 1.0, 1.0))], [], "falls into 2 parts"),
        ([*BOX, ((2.0, 2.0, 0.0), (3.0, 3.0, 2.0))], [], "falls into 2 parts"),
        (BOX, [((0.9, -1.0, -1.0), (1.1, 3.0, 3.0))], "falls into 2 parts"),
        (BOX, [((-1.0, -1.0, -1.0), (3.0, 3.0, 3.0))], "furniture takes all of the room"),
        (BOX, [((2.0, 0.0, 0.0), (3.0, 1.0, 1.0))], r"furniture\[0\] .* lies outside"),
        (BOX, [((1.0, 0.0, 0.0), (1.0 + 1e-7, 1.0, 1.0))], r"furniture\[0\] .* is thinner than"),
        ([*BOX, ((2.0, 0.0, 0.0), (2.0 + 1e-7, 1.0, 1.0))], [], r"bricks\[1\] .* is thinner than"),
        (
            BOX,
            [((0.5, 0.5, 0.0), (1.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (1.5, 1.5, 1.0))],
            r"touches air only along the edge at \(1, 1, 0\), parallel to z",
        ),
    ],
)
def test_what_is_not_one_room_is_refused(bricks, furniture, words):
    with pytest.raises(InputError, match=words):
        lattice(bricks, 0.5, 1, furniture=furniture)


def test_rooms_too_fine_to_hold_are_refused():
    with pytest.raises(InputError, match="lower fmax or nodes_per_wavelength"):
        lattice(BOX, 1e-3, 4)
    with pytest.raises(InputError, match="lower fmax or nodes_per_wavelength"):
        lattice(BOX, 1e-300, 4)


def test_one_element_is_a_room():
    room = lattice(BOX, 5.0, 1)
    assert room.shape == (2, 2, 2)
    # the stiffest mode changes its sign along every edge
    wanted = 3 * SPEED_OF_SOUND**2
    assert wanted <= largest_eigenvalue(room, room.dtype) <= MARGIN * (1 + EXACT) * wanted


@pytest.mark.parametrize("order", range(1, 7))
def test_largest_eigenvalue_of_even_elements(order):
    room = lattice(BOX, 0.5, order, dtype=torch.float32)
    reference = element(order)
    root = reference.weights.rsqrt()
    # mirrored from element to element, the stiffest mode of one solves the whole lattice
    most = torch.linalg.eigvalsh(root[:, None] * reference.stiffness * root)[-1]
    wanted = 3 * float(most) * (2 * SPEED_OF_SOUND / 0.5) ** 2
    found = largest_eigenvalue(room, room.dtype)
    assert wanted <= found <= MARGIN * (1 + SINGLE) * wanted


def test_largest_eigenvalue_and_the_element_that_sets_it():
    room = lattice(ROOM, 0.5, 2, furniture=[((0.2, 0.3, 0.0), (0.6, 0.34, 0.4))])
    matrix = applied(room, torch.eye(len(room.points), dtype=torch.float64))
    wanted = float(torch.linalg.eigvals(matrix).real.max())
    found, node = largest_eigenvalue(room, room.dtype), stiffest_node(room, room.dtype)
    assert wanted <= found <= MARGIN * (1 + EXACT) * wanted
    # the elements beside the thin plate are as thin as this
    assert "x 0.04 x" in room.element_of_node(node)


def test_nodes_outside_have_no_element():
    room = lattice(ROOM, 0.5, 2, furniture=FURNISHED)
    outside = int((room.mass == 0).nonzero()[0])
    with pytest.raises(InputError, match=f"node {outside} lies outside of the air"):
        room.element_of_node(outside)
