"""Mapped hexahedra: the laws of their mass and stiffness, derivatives, and places in them."""

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.acoustics.air import SPEED_OF_SOUND
from sims.acoustics.elements.element_numbering import Numbering, wall_faces
from sims.acoustics.elements.hexahedra import Hexahedra
from sims.acoustics.elements.lattice import Lattice
from sims.acoustics.elements.mapped_operator import MappedOperator
from sims.acoustics.elements.trilinear import scaled_jacobians, volumes_and_metric

EXACT = 1e-12  # float64 rounding of a few hundred operations
ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-12}


def brick_mesh(counts, size=(1.0, 1.0, 1.0)) -> tuple[Tensor, Tensor]:
    """A box of equal bricks."""
    axes = [
        torch.linspace(0, side, count + 1, dtype=torch.float64)
        for side, count in zip(size, counts, strict=True)
    ]
    index = torch.arange((counts[0] + 1) * (counts[1] + 1) * (counts[2] + 1))
    cells = index.reshape(*(count + 1 for count in counts))
    corners = [
        cells[i : counts[0] + i, j : counts[1] + j, k : counts[2] + k].flatten()
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    ]
    return torch.cartesian_prod(*axes), torch.stack(corners, dim=1)


def shaken(vertices: Tensor, amount: float, *, inner: bool = True) -> Tensor:
    """Vertices moved at random, those on the surface of the box only if not `inner`."""
    noise = torch.rand(
        vertices.shape, generator=torch.Generator().manual_seed(1), dtype=vertices.dtype
    )
    low, high = vertices.aminmax(dim=0)
    free = ((vertices > low + 1e-9) & (vertices < high - 1e-9)).all(dim=1, keepdim=True)
    return vertices + amount * (2 * noise - 1) * (free if inner else 1.0)


def turned(hexahedra: Tensor) -> Tensor:
    """The same elements, each seen from another of the 24 orientations of a cube."""
    cube = torch.arange(8).reshape(2, 2, 2)
    ways = []
    for axes in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]:
        for flips in [(), (0, 1), (1, 2), (0, 2)]:
            ways.append(cube.permute(axes).flip(flips).flatten())
    for axes in [(1, 0, 2), (0, 2, 1), (2, 1, 0)]:
        for flips in [(0,), (1,), (2,), (0, 1, 2)]:
            ways.append(cube.permute(axes).flip(flips).flatten())
    order = torch.stack(ways)[torch.arange(len(hexahedra)) % len(ways)]
    return hexahedra.gather(1, order)


def stiffness(space: Hexahedra, field: Tensor) -> Tensor:
    """K times a field."""
    out = torch.empty_like(field)
    space.accelerate(field, out)
    return -out * space.mass.detach().to(field) / SPEED_OF_SOUND**2


def field_of(space: Hexahedra, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(space.points), generator=generator, dtype=torch.float64)


def metric_product(space: Hexahedra, left: Tensor, right: Tensor) -> Tensor:
    """left^T K right from the metric, differentiable in the vertices."""
    sums = space.metric_sums(torch.float64)
    space.metric_gradient(left, right, sums)
    return (space.metric * space.of_metric(sums)).sum()


@pytest.fixture(params=[1, 2, 4])
def order(request) -> int:
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mesh_of_bricks_is_the_lattice(order, dtype):
    low, high = (0.0, 0.0, 0.0), (1.2, 0.8, 0.9)
    room = torch.tensor([[low, high]], dtype=torch.float64)
    lattice = Lattice(room, room[:0], 0.3, order, dtype, torch.device("cpu"))
    vertices, hexahedra = brick_mesh((4, 3, 3), high)
    space = Hexahedra(vertices, turned(hexahedra), order)
    place = torch.cdist(space.points, lattice.points).argmin(dim=1)
    assert torch.allclose(space.points, lattice.points[place], atol=EXACT)
    assert torch.allclose(space.mass, lattice.mass[place], rtol=1e-10)
    pressure = torch.randn(len(lattice.points), generator=torch.Generator().manual_seed(0)).to(
        dtype
    )
    pressure = pressure * (lattice.mass > 0).to(dtype)
    expected = torch.zeros_like(pressure)
    lattice.accelerate(pressure, expected)
    found = torch.empty(len(place), dtype=dtype)
    space.accelerate(pressure[place], found)
    scale = float(expected.abs().max())
    assert torch.allclose(found, expected[place], atol=ROUNDING[dtype] * scale, rtol=0)


def test_elements_in_any_orientation_share_their_nodes(order):
    vertices, hexahedra = brick_mesh((3, 2, 4))
    space = Hexahedra(shaken(vertices, 0.05), turned(hexahedra), order)
    assert len(space.points) == (3 * order + 1) * (2 * order + 1) * (4 * order + 1)
    straight = Hexahedra(shaken(vertices, 0.05), hexahedra, order)
    place = torch.cdist(space.points, straight.points).argmin(dim=1)
    assert torch.allclose(space.points, straight.points[place], atol=EXACT)
    assert len(place.unique()) == len(place)
    field = field_of(straight)
    turned_product = stiffness(space, field[place])
    assert torch.allclose(turned_product, stiffness(straight, field)[place], atol=1e-10)


def test_moved_vertices_keep_volume_area_and_constants(order):
    vertices, hexahedra = brick_mesh((3, 3, 3), (1.0, 2.0, 1.5))
    space = Hexahedra(shaken(vertices, 0.08), turned(hexahedra), order)
    # det J is of degree 2 along each axis, too much for the two nodes of order 1
    if order > 1:
        assert float(space.mass.sum()) == pytest.approx(3.0, rel=EXACT)
    assert float(space.faces.areas.sum()) == pytest.approx(2 * (2 + 1.5 + 3), rel=EXACT)
    constant = torch.full_like(space.mass, 3.7)
    assert float(stiffness(space, constant).abs().max()) == 0.0
    assert float(stiffness(space, field_of(space)).sum()) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_is_symmetric_and_positive(order, dtype):
    vertices, hexahedra = brick_mesh((3, 3, 3))
    space = Hexahedra(shaken(vertices, 0.06), turned(hexahedra), order)
    u, v = field_of(space, 1), field_of(space, 2)
    one = (v * stiffness(space, u.to(dtype)).double()).sum()
    two = (u * stiffness(space, v.to(dtype)).double()).sum()
    size = (u * stiffness(space, u)).sum()
    assert float(size) > 0
    assert float(one - two) == pytest.approx(0.0, abs=ROUNDING[dtype] * float(size))


def test_linear_fields_have_their_energy_on_distorted_elements(order):
    # trilinear maps hold linear functions, and order 2 integrates the polynomial of their energy
    vertices, hexahedra = brick_mesh((3, 3, 3))
    space = Hexahedra(shaken(vertices, 0.06), turned(hexahedra), order)
    slope = torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)
    field = space.points @ slope
    energy = float((field * stiffness(space, field)).sum())
    if order > 1:
        assert energy == pytest.approx(float(slope @ slope), rel=1e-10)
    # inside the room the field is in balance: K p vanishes away from the walls
    inner = torch.ones(len(field), dtype=torch.bool)
    inner[space.faces.nodes.flatten()] = False
    if order > 1:
        assert float(stiffness(space, field)[inner].abs().max()) < 1e-12


def test_advance_is_the_step_of_accelerate(order):
    vertices, hexahedra = brick_mesh((2, 3, 2))
    space = Hexahedra(shaken(vertices, 0.05), hexahedra, order)
    pressure, previous = field_of(space, 1), field_of(space, 2)
    acceleration, second = torch.empty_like(pressure), torch.empty_like(pressure)
    space.accelerate(pressure, acceleration)
    space.accelerate(acceleration, second)
    step = 1e-5
    expected = 2 * pressure - previous + step**2 * acceleration + step**4 / 12 * second
    space.advance(pressure, previous, acceleration, step)
    assert torch.allclose(previous, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_over_nodes_agree_with_those_over_blocks(order, dtype):
    vertices, hexahedra = brick_mesh((3, 2, 3))
    space = Hexahedra(shaken(vertices, 0.06), turned(hexahedra), order)
    held = space.numbering, space.metric, SPEED_OF_SOUND**2 / space.mass, dtype
    blocks, nodes = (MappedOperator.of(order, *held, by_node) for by_node in (False, True))
    one, two = field_of(space, 1).to(dtype), field_of(space, 2).to(dtype)
    found = []
    for operator in (blocks, nodes):
        out, previous = torch.empty_like(one), two.clone()
        operator.accelerate(one, out)
        operator.advance(one, previous, out, 1e-6)
        sums = torch.zeros_like(operator.metric)
        operator.metric_gradient(one, out, sums)
        found.append((out, previous, space.of_metric(sums)))
    for expected, got in zip(*found, strict=True):
        size = float(expected.abs().max())
        assert torch.allclose(got, expected, rtol=0, atol=ROUNDING[dtype] * size)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cuda_agrees_with_the_cpu(order, dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    vertices, hexahedra = brick_mesh((3, 4, 5))
    vertices = shaken(vertices, 0.04)
    here, there = (Hexahedra(vertices.to(d), hexahedra.to(d), order) for d in ("cpu", "cuda"))
    one, two = field_of(here, 1).to(dtype), field_of(here, 2).to(dtype)
    step = 1e-6
    found = {}
    for name, space in (("cpu", here), ("cuda", there)):
        pressure, previous = one.to(name), two.to(name, copy=True)
        out = torch.empty_like(pressure)
        space.accelerate(pressure, out)
        space.advance(pressure, previous, out, step)
        sums = space.metric_sums(dtype)
        space.metric_gradient(pressure, out, sums)
        found[name] = out.cpu(), previous.cpu(), space.of_metric(sums).cpu()
    for expected, got in zip(found["cpu"], found["cuda"], strict=True):
        size = float(expected.abs().max())
        assert torch.allclose(got, expected, rtol=0, atol=ROUNDING[dtype] * size)


def test_the_metric_gradient_is_the_derivative_of_the_product(order):
    vertices, hexahedra = brick_mesh((2, 2, 3))
    space = Hexahedra(shaken(vertices, 0.06), turned(hexahedra), order)
    left, right = field_of(space, 1), field_of(space, 2)
    product = float((left * stiffness(space, right)).sum())
    # the product is linear in the metric
    assert float(metric_product(space, left, right)) == pytest.approx(product, rel=1e-11)
    sums = space.metric_sums(torch.float64)
    space.metric_gradient(left, right, sums)
    space.metric_gradient(left, right, sums)
    once = space.metric_sums(torch.float64)
    space.metric_gradient(right, left, once)
    assert torch.allclose(sums, 2 * once, rtol=1e-12, atol=1e-12)


def test_shape_gradients_agree_with_differences(order):
    vertices, hexahedra = brick_mesh((2, 2, 2))
    vertices = shaken(vertices, 0.06, inner=False)
    hexahedra = turned(hexahedra)
    room = Hexahedra(vertices, hexahedra, order)
    left, right = field_of(room, 1), field_of(room, 2)
    shares = torch.rand(room.faces.areas.shape, dtype=torch.float64)

    def value(moved: Tensor) -> Tensor:
        space = room.moved(moved)
        return (
            metric_product(space, left, right)
            + (space.mass * left).sum() * 50
            + (space.faces.areas * shares).sum()
        )

    free = vertices.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(free), free)
    direction = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(5)).double()
    step = 1e-5
    difference = (
        (value(vertices + step * direction) - value(vertices - step * direction)) / 2 / step
    )
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-7)


def test_the_six_numbers_are_those_of_the_inverse_map():
    jacobian = torch.randn(7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    volume, metric = volumes_and_metric(jacobian)
    inverse = torch.linalg.inv(jacobian)
    full = torch.linalg.det(jacobian)[:, None, None] * inverse @ inverse.transpose(1, 2)
    assert torch.allclose(volume, torch.linalg.det(jacobian))
    assert torch.allclose(metric, full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]])


def test_interpolation_holds_polynomials_and_finds_nodes():
    vertices, hexahedra = brick_mesh((3, 2, 3))
    space = Hexahedra(shaken(vertices, 0.06), turned(hexahedra), 4)
    positions = torch.rand(50, 3, generator=torch.Generator().manual_seed(3)).double()
    positions = torch.cat([positions, vertices[:3], space.points[100:103]])
    nodes, weights = space.interpolation("receivers", positions)

    def smooth(x: Tensor) -> Tensor:  # trilinear maps at order 4 hold polynomials of degree 4/3
        return 1 + x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    found = (weights * smooth(space.points)[nodes]).sum(dim=1)
    assert torch.allclose(found, smooth(positions), atol=1e-11)
    assert torch.allclose(weights[-1].max(), torch.ones((), dtype=torch.float64), atol=1e-9)


def test_interpolation_is_differentiable_in_places_and_vertices():
    vertices, hexahedra = brick_mesh((2, 2, 2))
    vertices = shaken(vertices, 0.05)
    room = Hexahedra(vertices, hexahedra, 3)
    field = torch.randn(len(room.points), dtype=torch.float64)
    positions = torch.tensor([[0.21, 0.33, 0.41], [0.73, 0.64, 0.11]], dtype=torch.float64)

    def value(moved: Tensor, places: Tensor) -> Tensor:
        nodes, weights = room.moved(moved).interpolation("receivers", places)
        return (weights * field[nodes]).sum(dim=1)

    inputs = vertices.clone().requires_grad_(), positions.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-7)


def test_wall_faces_know_their_side():
    vertices, hexahedra = brick_mesh((2, 2, 2))
    space = Hexahedra(vertices, turned(hexahedra), 2)
    middle = space.points[space.faces.nodes].mean(dim=1)
    for side in range(6):
        found = middle[space.faces.surface == side][:, side // 2]
        assert len(found) == 4
        assert torch.allclose(found, torch.full_like(found, float(side % 2)))
    corners = wall_faces(turned(hexahedra))
    assert torch.allclose(vertices[corners].mean(dim=1), middle)
    named = Hexahedra(vertices, hexahedra, 2, torch.arange(24)).moved(vertices + 0.1)
    assert named.faces.surface.tolist() == list(range(24))


def test_numbers_follow_topology_not_places():
    vertices, hexahedra = brick_mesh((2, 1, 1))
    split = torch.cat([vertices, vertices])
    apart = torch.cat([hexahedra[:1], hexahedra[1:] + len(vertices)])
    assert Numbering.of(apart, 3).count == 2 * 4**3
    assert len(Hexahedra(split, apart, 3).faces.nodes) == 12


def test_bad_meshes_are_refused_by_name():
    vertices, hexahedra = brick_mesh((2, 2, 2))
    folded = vertices.clone()
    folded[13] = torch.tensor([0.95, 1.2, 0.9])
    with pytest.raises(InputError, match=r"hexahedra must have a scaled Jacobian.*element \d"):
        Hexahedra(folded, hexahedra, 2)
    with pytest.raises(InputError, match="scaled Jacobian"):
        Hexahedra(vertices, hexahedra, 2).moved(folded)
    mirrored = hexahedra[:, [4, 5, 6, 7, 0, 1, 2, 3]]
    with pytest.raises(InputError, match="left-handed"):
        Hexahedra(vertices, mirrored, 2)
    with pytest.raises(InputError, match="eight different vertices"):
        Hexahedra(vertices, hexahedra.clone().index_fill_(0, torch.tensor([0]), 3), 2)
    with pytest.raises(InputError, match="share a face by two"):
        Hexahedra(vertices, torch.cat([hexahedra, hexahedra[:1]]), 2)
    with pytest.raises(InputError, match="order must be"):
        Hexahedra(vertices, hexahedra, 7)
    with pytest.raises(InputError, match="at least one element"):
        Hexahedra(vertices, hexahedra[:0], 2)
    space = Hexahedra(vertices, hexahedra, 2)
    with pytest.raises(InputError, match=r"receivers must lie.*\(0.5, 0.5, 1.5\) in row 1"):
        space.interpolation("receivers", torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 1.5]]))


def test_the_narrowest_element_of_a_node_is_named():
    vertices, hexahedra = brick_mesh((3, 1, 1))
    vertices = vertices.clone()
    vertices[vertices[:, 0] == vertices[4, 0], 0] = 0.1
    space = Hexahedra(vertices, hexahedra, 2)
    node = int(torch.cdist(space.points, torch.tensor([[0.1, 0.0, 0.0]]).double()).argmin())
    assert "element 0 around (0.05, 0.5, 0.5) m, 0.1 m at its narrowest" in space.element_of_node(
        node
    )
    assert float(scaled_jacobians(vertices[hexahedra]).min()) == pytest.approx(1.0)
