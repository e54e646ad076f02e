"""The study that trains two surrogates side by side, at sizes that take seconds."""

from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from geomopt.runs.execute import execute
from geomopt.runs.spec import load
from geomopt.viewer.scene import Scene
from sims.pde.refining import scenario as scenarios
from sims.pde.refining.study import PdeRefiner
from sims.pde.refining.views import plane_scene
from sims.pde.training import TrainingSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"equation": "heat"}, "equation must be one of kolmogorov-flow, kuramoto-sivashinsky"),
        ({"scale": "huge"}, "scale must be one of demo, paper, got 'huge'"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"sampled": 65}, "sampled must be at most trajectories=64, got 65"),
        ({"snapshots": 0}, "snapshots must be at least 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        PdeRefiner(**settings)


@pytest.mark.parametrize("key", scenarios.SCENARIOS)
def test_a_refiner_has_no_more_parameters_than_the_one_step_model_it_is_judged_beside(key):
    chosen = scenarios.scenario(*key)
    plain, refiner = chosen.one_step(), chosen.refiner()
    assert 0.9 * plain.parameter_count() <= refiner.parameter_count() <= plain.parameter_count()


def test_the_kuramoto_study_judges_both_models_and_solvers_and_says_when_to_trust(
    tmp_path, monkeypatch
):
    small = replace(scenarios.kuramoto_sivashinsky(), trajectories=16, warm_up=50.0, horizon=40.0)
    key = ("kuramoto-sivashinsky", "demo")
    monkeypatch.setitem(scenarios.SCENARIOS, key, lambda: small)
    settings = ["steps=3", "trajectories=4", "sampled=2", "samples=2"]
    run = execute(load("pde-refiner", settings), tmp_path, progress=False)
    records = {case["case"]: case for case in run.cases}
    assert {case["status"] for case in records.values()} == {"ok"}
    assert list(records) == ["data", "one-step", "refiner", "forecast", "trust"]
    assert records["one-step"]["metrics"]["steps"] == records["refiner"]["metrics"]["steps"] == 3
    rows = {row["model"]: row for row in records["forecast"]["rows"]}
    assert set(rows) > {"one-step", "PDE-Refiner"}
    # two steps of the solver for 0.8 s follow the truth far beyond networks of three steps
    of_mean = "corr_time_of_mean 0.8 [s]"
    assert rows["solver, 128 points, 2 steps"][of_mean] > 30 > rows["one-step"][of_mean]
    assert "R² without a fit" in records["trust"]["metrics"]
    pictures = {file.name for file in run.artifacts if file.suffix == ".png"}
    assert {"forecast.png", "correlation.png", "spectrum.png", "trust.png"} <= pictures
    assert not list(run.folder.glob("*.pt"))  # what a killed training goes on from
    assert "PDE-Refiner" in (run.folder / "report.html").read_text()


def test_boxes_and_time_steps_that_differ_are_told_to_networks_and_to_solvers_beside_them(
    tmp_path, monkeypatch
):
    small = replace(
        scenarios.kuramoto_sivashinsky(), vary=0.1, trajectories=16, warm_up=50.0, horizon=16.0
    )
    key = ("kuramoto-sivashinsky", "demo")
    monkeypatch.setitem(scenarios.SCENARIOS, key, lambda: small)
    settings = ["steps=2", "trajectories=4", "sampled=2", "samples=2"]
    run = execute(load("pde-refiner", settings), tmp_path, progress=False)
    failed = {case["case"]: case.get("error") for case in run.cases if case["status"] != "ok"}
    assert not failed
    rows = {row["model"]: row for row in run.cases[3]["rows"]}
    # the truth's own boxes and steps, or it would be lost at once
    solver = rows["solver, 128 points, 4 steps"]
    assert float(solver["nRMSE, one step"]) < 1e-3
    assert solver["never below"] == "100%"
    # sixteen trajectories do not reach the ends of what was drawn for the tests
    assert "time_step" in rows["one-step"]["outside of its training"]


def test_the_flow_study_leaves_frames_for_the_viewer(tmp_path, monkeypatch):
    small = replace(
        scenarios.kolmogorov_flow(),
        points=32,
        kept=16,
        trajectories=4,
        frames=4,
        warm_up=0.4,
        horizon=1.2,
        coarse=((10, 16),),
        training=TrainingSettings(steps=2, batch=4),
    )
    monkeypatch.setitem(scenarios.SCENARIOS, ("kolmogorov-flow", "demo"), lambda: small)
    settings = ["equation=kolmogorov-flow", "trajectories=2", "sampled=2", "samples=2"]
    run = execute(load("pde-refiner", [*settings, "snapshots=3"]), tmp_path, progress=False)
    assert {case["status"] for case in run.cases} == {"ok"}
    assert len(run.frames) == 3
    scene = Scene.load(run.frames[2])
    assert set(scene.meshes) == {"solver", "one-step", "PDE-Refiner"}
    assert scene.title == "1.20 s: solver, one-step, PDE-Refiner"
    assert torch.isfinite(scene.fields["solver"]["vorticity"]).all()


def test_a_plane_closes_over_the_seam_and_keeps_its_range_of_colours():
    field = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    scene = plane_scene({"w": field}, 2.0, 1.5, "now", "vorticity")
    values = scene.fields["w"]["vorticity"]
    assert (values.min(), values.max()) == (-1.5, 1.5)
    grid = values[:49].view(7, 7)
    assert torch.equal(grid[-1], grid[0])
    assert torch.equal(grid[:, -1], grid[:, 0])
    corners = scene.meshes["w"].vertices[:49, :2].view(7, 7, 2)
    assert torch.equal(corners[-1, 0], torch.tensor([2.0, 0.0]))  # the first axis runs along x
