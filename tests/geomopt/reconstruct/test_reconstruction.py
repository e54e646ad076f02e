"""The loss of a reconstruction, and small fits from end to end."""

from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry import DenseGrid, Mesh, extract_surface, sdf
from geomopt.reconstruct import Reconstruction, ReconstructionProblem, render_views, write_views
from optimizers import minimize

CPU = torch.device("cpu")
ROUND_OFF = 1e-5  # of a loss near 1 over a step of 1e-7 in float64, with room for curvature


def saved(path, solid, resolution=48):
    grid = DenseGrid(resolution)
    extract_surface(solid(grid.points), grid, mode="test").mesh().save(path)
    return path


@pytest.fixture(scope="module")
def torus(tmp_path_factory):
    return saved(
        tmp_path_factory.mktemp("solid") / "torus.ply", lambda points: sdf.torus(points, 0.6, 0.25)
    )


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return saved(
        tmp_path_factory.mktemp("solid") / "box.ply",
        lambda points: sdf.box(points, (0.61, 0.41, 0.31)),
    )


def fitted(**settings):
    task = Reconstruction(
        **{"views": 6, "image_size": 64, "resolution": 20, "steps": 60, **settings}
    )
    problem = task.start(CPU, seed=0)
    return problem, minimize(problem, task.method(), budget=task.budget(), seed=0)


@pytest.mark.parametrize(("solid", "genus"), [("torus", 1), ("box", 0)])
def test_masks_and_depths_give_the_solid_back(solid, genus, request):
    mesh = request.getfixturevalue(solid)
    problem, result = fitted(data=mesh)
    found = problem.metrics(result.parameters)
    assert found["genus"] == genus
    assert (
        found["boundary_edges"] == found["nonmanifold_edges"] == found["nonmanifold_vertices"] == 0
    )
    assert found["distance_in_cells"] < 0.1
    plain_problem, plain = fitted(data=mesh, extraction="surface-nets")
    assert found["normals_over_5"] < plain_problem.metrics(plain.parameters)["normals_over_5"]


def test_the_result_lies_in_the_coordinates_of_the_input_at_any_scale(torus, tmp_path):
    original = Mesh.load(torus, dtype=torch.float64)
    shift = torch.tensor([400.0, -250.0, 90.0], dtype=torch.float64)
    original.transformed(50.0, shift).save(tmp_path / "large.ply")
    problem, result = fitted(data=tmp_path / "large.ply", steps=30)
    assert problem.metrics(result.parameters)["distance_in_cells"] < 0.15
    torch.testing.assert_close(
        problem.mesh(result.parameters).bounds, 50.0 * original.bounds + shift, rtol=0, atol=2.0
    )


def test_colours_are_fitted_where_images_have_them(torus, tmp_path):
    mesh = Mesh.load(torus)
    green = replace(mesh, colors=torch.tensor([[0.1, 0.9, 0.2]]).expand(len(mesh.vertices), 3))
    views = replace(render_views(green, 8, (64, 64), seed=0), depth=None, normal=None)
    write_views(views, tmp_path)
    problem, result = fitted(data=tmp_path)
    colors = problem.mesh(result.parameters).colors
    assert colors is not None
    red, strong, blue = colors.median(dim=0).values.tolist()
    assert strong > 2 * max(red, blue)
    terms = problem.terms(result.parameters, 0)
    assert set(terms) == {"mask", "color", "deviation", "sign_change", "penalty"}


def test_normals_are_fitted_when_asked_for(torus):
    problem, _ = fitted(data=torus, normal_weight=0.1, steps=1)
    assert "normal" in problem.terms(problem.parameters_of(problem.start), 0)


def test_an_epoch_goes_once_through_all_views(torus):
    problem, _ = fitted(data=torus, views=7, batch=2, steps=1)
    batches = [problem._batch(iteration).tolist() for iteration in range(3)]
    assert (
        len({view for batch in batches for view in batch}) == 6
    )  # the seventh waits for another epoch
    assert batches == [problem._batch(iteration).tolist() for iteration in range(3)]
    assert batches != [problem._batch(iteration).tolist() for iteration in range(3, 6)]


@pytest.mark.parametrize(
    "part", ["sdf", "deformation", "corner_weights", "edge_weights", "split_weights"]
)
def test_the_gradient_of_the_whole_loss_is_that_of_finite_differences(torus, part):
    """In float64 and with a step so small that no pixel changes its triangle."""
    task = Reconstruction(
        data=torus, views=2, image_size=48, resolution=12, normal_weight=0.1, steps=1
    )
    views = render_views(Mesh.load(torus), 2, (48, 48), seed=0)
    problem = ReconstructionProblem(task, views, CPU, seed=0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    named = problem.parameters_of(problem.start)
    # off the kinks that the start sits on: weights of exactly 1 have a penalty without derivative
    start = {
        name: value + 0.02 * problem.cell * torch.randn(value.shape, generator=generator)
        for name, value in named.items()
    }
    x = problem.flatten(start)[None]
    along = {
        name: torch.randn(value.shape, generator=generator) * (name == part)
        for name, value in named.items()
    }
    direction = problem.flatten(along)[None]
    slope = float((problem.evaluate(x, 1).gradient * direction).sum())
    step = 1e-7
    ahead, behind = (float(problem.evaluate(x + side * step * direction).value) for side in (1, -1))
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=ROUND_OFF, abs=ROUND_OFF)


def test_any_seed_that_a_spec_takes_orders_the_views(torus):
    task = Reconstruction(data=torus, views=4, batch=2, image_size=16, resolution=8, steps=1)
    views = render_views(Mesh.load(torus), 4, (16, 16), seed=0)
    for seed in (0, 2**63 - 1):
        problem = ReconstructionProblem(task, views, CPU, seed=seed)
        assert sorted(problem._batch(0).tolist() + problem._batch(1).tolist()) == [0, 1, 2, 3]


def test_a_fit_that_lost_its_surface_says_so(torus, tmp_path):
    problem, result = fitted(data=torus, steps=1)
    gone = {**result.parameters, "sdf": result.parameters["sdf"].abs() + 1}
    with pytest.raises(RuntimeError, match="ended without a surface"):
        problem.write_artifacts(gone, tmp_path)
    assert not list(tmp_path.iterdir())


def test_pictures_and_meshes_are_written(torus, tmp_path):
    problem, result = fitted(data=torus, steps=5)
    problem.write_artifacts(result.parameters, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mesh.ply", "mesh.obj", "comparison.png", "turntable.gif"}
    torch.testing.assert_close(
        Mesh.load(tmp_path / "mesh.ply", merge=False, dtype=torch.float64).vertices,
        problem.mesh(result.parameters).vertices,
    )
    scene = problem.scene(result.parameters)
    assert scene.images["target"].shape == scene.images["result"].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": 0}, "views must be at least 1, got 0"),
        ({"resolution": 3}, "resolution must be at least 8, got 3"),
        ({"depth_weight": -1.0}, "depth_weight must be finite and not negative, got -1.0"),
        ({"mask_weight": float("nan")}, "mask_weight must be finite"),
        ({"deformation_limit": 0.7}, r"deformation_limit must lie in \(0, 0.5\] cells, got 0.7"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Reconstruction(**settings)


@pytest.mark.parametrize("name", ["spot.obj", "bob_tri.obj", "blub_low.obj", "wingnut.obj"])
@pytest.mark.slow
def test_trial_meshes_come_back_within_a_quarter_of_a_cell(trial_mesh, name):
    problem, result = fitted(
        data=trial_mesh(name), views=8, image_size=128, resolution=32, steps=100
    )
    found = problem.metrics(result.parameters)
    assert found["distance_in_cells"] < 0.25
    assert found["genus"] == found["reference_genus"]
    assert found["boundary_edges"] == found["nonmanifold_edges"] == 0
