"""Derivatives of the extraction against finite differences, and its behaviour on extreme input."""

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry.flexicubes import extract_surface, used_deformation, used_weights
from geomopt.geometry.flexicubes.connectivity import connect
from geomopt.geometry.flexicubes.layout import lay_out
from geomopt.geometry.grid import DenseGrid
from geomopt.geometry.regularizers import sign_change_loss

BACKENDS = ("warp", "torch")
NAMES = ("sdf", "corner_weights", "edge_weights", "split_weights", "deformation", "features")


def problem(seed=0, resolution=(3, 4, 3)):
    """Noise of magnitude 0.2 to 1.2 on a grid of spacing 1, with flipped pairs, and random
    parameters.
    """
    upper = tuple(float(count) for count in resolution)
    grid = DenseGrid(resolution, lower=0.0, upper=upper, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape, low=0.5, high=1.5):
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    cells, points = grid.cell_count, grid.point_count
    signs = torch.where(uniform(points, low=0, high=1) < 0.5, -1.0, 1.0)
    given = {
        "sdf": signs * uniform(points, low=0.2, high=1.2),
        "corner_weights": uniform(cells, 8),
        "edge_weights": uniform(cells, 12),
        "split_weights": uniform(cells, low=0.2, high=0.8),
        "deformation": uniform(points, 3, low=-0.3, high=0.3),
        "features": uniform(points, 2, low=-1, high=1),
    }
    return grid, given


def flipped_pairs(grid, sdf):
    cells = connect(sdf, lay_out(grid))
    inside = (sdf < 0).reshape(grid.shape)
    size = grid.resolution
    corners = [
        inside[k & 1 :, k >> 1 & 1 :, k >> 2 :][: size[0], : size[1], : size[2]].long() << k
        for k in range(8)
    ]
    return int((sum(corners).reshape(-1)[cells.cells.long()] != cells.loop_cases).sum()) // 2


def outputs(grid, given, backend, close_boundary=False, mode="train"):
    surface = extract_surface(
        grid=grid, backend=backend, close_boundary=close_boundary, mode=mode, **given
    )
    return surface.vertices, surface.features, surface.deviation_loss()


@pytest.mark.parametrize("close_boundary", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_match_finite_differences(backend, close_boundary):
    grid, given = problem(seed=1, resolution=(2, 2, 2) if close_boundary else (3, 4, 3))
    assert close_boundary or flipped_pairs(grid, given["sdf"]) > 0
    leaves = [given[name].clone().requires_grad_() for name in NAMES]

    def function(*values):
        found = outputs(grid, dict(zip(NAMES, values, strict=True)), backend, close_boundary)
        return tuple(out for out in found if out.numel())

    # central differences with a step of 1e-6 leave an error of about 1e-9; no value changes its
    # sign
    assert torch.autograd.gradcheck(function, leaves, eps=1e-6, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_directional_derivative_is_exact_to_six_digits(backend):
    grid, given = problem(seed=2, resolution=(6, 6, 6))
    assert flipped_pairs(grid, given["sdf"]) > 0
    generator = torch.Generator().manual_seed(3)
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    seeds = None

    def loss(values):
        nonlocal seeds
        found = outputs(grid, values, backend)
        if seeds is None:
            seeds = [
                torch.randn(out.shape, generator=generator, dtype=torch.float64) for out in found
            ]
        return sum((out * seed).sum() for out, seed in zip(found, seeds, strict=True))

    gradients = dict(
        zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True)
    )
    for name in NAMES:
        direction = torch.randn(given[name].shape, generator=generator, dtype=torch.float64)
        step = 1e-6
        ends = [loss({**given, name: given[name] + sign * step * direction}) for sign in (1, -1)]
        measured = (ends[0] - ends[1]) / (2 * step)
        assert (gradients[name] * direction).sum().item() == pytest.approx(
            measured.item(), rel=1e-6
        )


def test_second_derivatives_are_refused_by_kernels_and_given_by_torch():
    grid, given = problem()
    for backend in BACKENDS:
        sdf = given["sdf"].clone().requires_grad_()
        vertices = extract_surface(sdf, grid, backend=backend).vertices
        if backend == "warp":
            with pytest.raises(NotImplementedError, match="second derivative"):
                torch.autograd.grad(vertices.square().sum(), sdf, create_graph=True)
        else:
            (first,) = torch.autograd.grad(vertices.square().sum(), sdf, create_graph=True)
            assert torch.autograd.grad(first.square().sum(), sdf)[0].isfinite().all()


def test_backward_twice_gives_the_same_bits():
    grid, given = problem(resolution=(8, 8, 8))
    made = []
    for _ in range(2):
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        sum(out.square().sum() for out in outputs(grid, leaves, "warp")).backward()
        made.append([leaf.grad for leaf in leaves.values()])
    for first, second in zip(*made, strict=True):
        assert torch.equal(first, second)


def test_weights_of_any_strides_are_read():
    grid, given = problem()
    names = ("corner_weights", "edge_weights", "split_weights")
    packed = torch.cat([given[name].reshape(grid.cell_count, -1) for name in names], dim=1)
    views = [packed[:, :8], packed[:, 8:20], packed[:, 20]]
    expected = extract_surface(given["sdf"], grid, *(given[name] for name in names)).vertices
    assert torch.equal(extract_surface(given["sdf"], grid, *views).vertices, expected)
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    shared = one.expand(grid.cell_count, 12)
    extract_surface(given["sdf"], grid, edge_weights=shared).vertices.sum().backward()
    # a factor common to all edge weights moves nothing
    assert one.grad.item() == pytest.approx(0, abs=1e-10)


def test_used_weights_gradient():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 21, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(used_weights, raw, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", range(3))
def test_used_weights_gradient_of_one_entry_is_in_its_column(which, dtype):
    """A cell with a single non-zero gradient is found, whatever its place."""
    for column in range((8, 12, 1)[which]):
        raw = torch.full((5, 21), 0.3, dtype=dtype, requires_grad=True)
        used_weights(raw)[which].reshape(5, -1)[3, column].backward()
        found = raw.grad.nonzero().tolist()
        assert found == [[3, (0, 8, 20)[which] + column]]
        slope = 0.99 * (1 - raw[0, 0].tanh() ** 2)
        if which == 2:
            slope = 0.99 * torch.sigmoid(raw[0, 0]) * (1 - torch.sigmoid(raw[0, 0]))
        torch.testing.assert_close(raw.grad.sum(), slope)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("close_boundary", [False, True])
@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_no_sign_change_is_an_empty_surface_with_zero_gradients(
    value, mode, close_boundary, backend
):
    grid, given = problem()
    given["sdf"] = torch.full_like(given["sdf"], value)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    surface = extract_surface(
        grid=grid, mode=mode, close_boundary=close_boundary, backend=backend, **leaves
    )
    empty = value >= 0 or not close_boundary
    assert (len(surface.vertices) == 0) is empty
    assert surface.vertices.shape[1:] == surface.faces.shape[1:] == (3,)
    assert surface.features.shape[1:] == (2,)
    (surface.vertices.sum() + surface.features.sum() + surface.deviation_loss()).backward()
    for leaf in leaves.values():
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        if empty:
            assert (leaf.grad == 0).all()
    if empty:
        assert surface.deviation_loss() == 0
        assert len(surface.mesh().faces) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_split_weights_get_a_zero_gradient_in_test_mode(backend):
    grid, given = problem()
    split = given["split_weights"].requires_grad_()
    surface = extract_surface(given["sdf"], grid, split_weights=split, mode="test", backend=backend)
    surface.vertices.sum().backward()
    assert (split.grad == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["zeros", "ratio", "tiny", "huge", "denormal", "mixed"])
def test_extreme_values_stay_finite_and_in_the_box(kind, dtype, backend):
    grid, given = problem(resolution=(4, 4, 4))
    leaves = {name: value.to(dtype) for name, value in given.items()}
    s = leaves["sdf"]
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    inside = s < 0
    low, high = {
        "zeros": (s, 0 * s),
        "ratio": (torch.full_like(s, -1e-20), torch.ones_like(s)),
        "tiny": (torch.full_like(s, -smallest), 0 * s),
        "huge": (torch.full_like(s, -largest), torch.full_like(s, largest)),
        "denormal": (torch.full_like(s, -smallest * 1e-5), torch.full_like(s, smallest * 1e-5)),
        "mixed": (s * torch.logspace(-30, 30, len(s), dtype=dtype),) * 2,
    }[kind]
    leaves["sdf"] = torch.where(inside, low, high)
    leaves = {name: value.requires_grad_() for name, value in leaves.items()}
    surface = extract_surface(grid=grid, backend=backend, **leaves)
    assert len(surface.faces) > 0
    assert surface.vertices.isfinite().all()
    # points move by 0.3 of a cell at most
    assert surface.vertices.min() >= -0.31
    assert surface.vertices.max() <= 4.31
    (surface.vertices.sum() + surface.features.sum() + surface.deviation_loss()).backward()
    for leaf in leaves.values():
        assert leaf.grad.isfinite().all()


def test_a_single_cell_has_no_quads():
    grid = DenseGrid(1, dtype=torch.float64)
    sdf = torch.ones(8, dtype=torch.float64)
    sdf[0] = -1
    surface = extract_surface(sdf, grid)
    # the mean of the midpoints of the three edges at the corner (-1, -1, -1)
    torch.testing.assert_close(surface.vertices, torch.full((1, 3), -2 / 3, dtype=torch.float64))
    assert surface.faces.shape == (0, 3)
    closed = extract_surface(sdf, grid, close_boundary=True)
    assert len(closed.faces) == 4 * 6  # one inside point: a quad around each of its six edges


def test_features_alone_or_vertices_alone_may_be_used():
    grid, given = problem()
    for which in ("vertices", "features"):
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        surface = extract_surface(grid=grid, **leaves)
        getattr(surface, which).square().sum().backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves.values())


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (name, fault)
        for name in NAMES
        for fault in ("nan", "inf", "shape", "dtype", "device", "type")
        if (name, fault) != ("sdf", "device")  # the field decides the device
    ],
)
def test_bad_tensors_are_named(name, fault):
    grid, given = problem()
    value = given[name].clone()
    if fault in ("nan", "inf"):
        value.view(-1)[3] = float(fault)
    given[name] = {
        "shape": value[1:],
        "dtype": value.float() if name != "sdf" else value.half(),
        "device": value.to("meta"),
        "type": value.tolist(),
    }.get(fault, value)
    with pytest.raises(InputError, match=name):
        extract_surface(grid=grid, **given)


@pytest.mark.parametrize("name", ["corner_weights", "edge_weights", "split_weights"])
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_must_be_positive(name, value, dtype):
    grid, given = problem()
    given = {key: tensor.to(dtype) for key, tensor in given.items()}
    given[name].view(-1)[-1] = value
    with pytest.raises(InputError, match=f"{name} must be positive"):
        extract_surface(grid=grid, **given)


def test_bad_options_say_what_is_allowed():
    grid, given = problem()
    with pytest.raises(InputError, match="train, test"):
        extract_surface(given["sdf"], grid, mode="training")
    with pytest.raises(InputError, match="warp, torch"):
        extract_surface(given["sdf"], grid, backend="cuda")
    with pytest.raises(InputError, match="grid must be a DenseGrid"):
        extract_surface(given["sdf"], 32)
    with pytest.raises(InputError, match="raw must have shape"):
        used_weights(torch.zeros(4, 20))
    with pytest.raises(InputError, match="limit"):
        used_deformation(torch.zeros(grid.point_count, 3), grid, limit=0.7)


def test_large_finite_values_pass_the_check():
    grid, given = problem()
    sdf = given["sdf"].float() * 1e38  # its sum overflows, its terms do not
    assert len(extract_surface(sdf, grid).faces) > 0


def test_sign_change_loss_matches_its_definition():
    grid, given = problem(resolution=(3, 5, 4))
    sdf = given["sdf"].clone()
    sdf[7] = 0.0
    volume, total, count = sdf.reshape(grid.shape), 0.0, 0
    for axis in range(3):
        a = volume.narrow(axis, 0, volume.shape[axis] - 1)
        b = volume.narrow(axis, 1, volume.shape[axis] - 1)
        changes = (a < 0) != (b < 0)
        a, b = a[changes], b[changes]
        for first, second in ((a, b), (b, a)):
            target = (second >= 0).double()
            total += torch.nn.functional.binary_cross_entropy_with_logits(
                first, target, reduction="sum"
            )
        count += len(a)
    torch.testing.assert_close(sign_change_loss(sdf, grid), total / count)


def test_sign_change_loss_gradient():
    grid, given = problem(resolution=(3, 5, 4))
    sdf = given["sdf"].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: sign_change_loss(s, grid), sdf, atol=1e-9)
    large = (given["sdf"].float() * 1e30).requires_grad_()
    sign_change_loss(large, grid).backward()
    assert large.grad.isfinite().all()


def test_sign_change_loss_without_changes_is_zero():
    grid, given = problem()
    sdf = given["sdf"].abs().requires_grad_()
    loss = sign_change_loss(sdf, grid)
    loss.backward()
    assert loss == 0
    assert (sdf.grad == 0).all()


def test_sign_change_loss_checks_its_input():
    grid, given = problem()
    with pytest.raises(InputError, match="sdf must have shape"):
        sign_change_loss(given["sdf"][1:], grid)
    with pytest.raises(InputError, match="sdf must be finite"):
        sign_change_loss(given["sdf"] * float("nan"), grid)
    with pytest.raises(InputError, match="grid must be a DenseGrid"):
        sign_change_loss(given["sdf"], 3)
