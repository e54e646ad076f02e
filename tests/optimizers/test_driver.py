"""The driver: limits, records, checkpoints, and clear errors before any work is done."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys

import pytest
import torch

import optimizers
from optimizers import (
    METHODS,
    Adam,
    Box,
    Budget,
    Cma,
    Evaluation,
    Lbfgs,
    Problem,
    iterate,
    last_iterate,
    minimize,
)
from optimizers.testing import boxed, noisy, rosenbrock, rotated, sphere


def bowl(**options) -> Problem:
    return boxed(sphere, 3, -1.0, 1.0, [0.5, -0.5, 0.9], **options)


def test_target_ends_the_run():
    result = minimize(bowl(), "cma", budget=Budget(evaluations=5000, target=1e-3))
    assert result.reason == "target"
    assert result.value <= 1e-3
    assert result.history["best_value"][-2] > 1e-3


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(iterations=7), "iterations"),
        (Budget(gradients=7), "gradients"),
        (Budget(evaluations=21), "evaluations"),
        (Budget(seconds=1e-9, iterations=7), "seconds"),
    ],
)
def test_each_limit_ends_the_run(budget, reason):
    result = minimize(bowl(), "adam", budget=budget)
    assert result.reason == reason
    if reason != "seconds":
        assert (result.iterations, result.gradients, result.evaluations) == (7, 7, 21)


def test_gradients_cost_what_the_problem_says():
    result = minimize(bowl(gradient_cost=5), Adam(starts=4), budget=Budget(evaluations=50))
    assert result.evaluations == 50  # 20 + 20 and a last batch cut to 2 points
    assert result.gradients == 10


def test_result_has_named_parameters_and_a_monotone_history():
    problem = Problem(
        {"a": Box(2, -1.0, 1.0), "b": Box((), 0.0, 4.0)},
        lambda p: p["a"].square().sum() + (p["b"] - 1) ** 2,
        differentiable=True,
    )
    result = minimize(problem, "lbfgs", budget=Budget(evaluations=300))
    assert result.parameters["b"].item() == pytest.approx(1.0, abs=1e-6)
    assert result.parameters["a"].abs().max() < 1e-6
    best = result.history["best_value"]
    assert bool((best.diff() <= 0).all())
    assert best[-1] == result.value
    assert result.history["evaluations"][-1] == result.evaluations


def test_records_can_be_left_at_any_time():
    for record in iterate(bowl(), "adam"):
        if record.best_value < 0.5:
            break
    assert record.reason is None
    assert record.iteration > 0


class Moving(Problem):
    """A value whose target moves with the iteration."""

    current = True

    def evaluate(self, x, order=0, *, fidelity=None, iteration=0):
        difference = x - 0.01 * iteration
        value = difference.square().sum(1) + iteration
        return Evaluation(value, gradient=2 * difference, terms={"shift": value * 0 + iteration})


@pytest.mark.parametrize("method", ["adam", "cma"])
def test_newest_iterate_is_the_result_where_values_are_current(method):
    problem = Moving({"x": Box(2, -1.0, 1.0)}, differentiable=True)
    records = list(iterate(problem, method, budget=Budget(iterations=20)))
    for record in records:
        assert torch.equal(record.x, record.best_x)
        assert record.terms == {"shift": float(record.iteration)}
    assert records[-1].best_value >= 19


def test_answers_in_another_precision_are_converted():
    problem = Moving({"x": Box(2, -1.0, 1.0)}, differentiable=True)
    evaluate = problem.evaluate
    problem.evaluate = lambda x, order=0, **options: evaluate(x.float(), order, **options)
    assert minimize(problem, "adam", budget=Budget(iterations=3)).x.dtype == torch.float64


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("lbgfs", ValueError, "did you mean 'lbfgs'"),
        ("CMA", ValueError, "did you mean 'cma'"),
        (Adam, TypeError, r"settings such as Adam\(step_size=0.1\), got the class Adam"),
        (7, TypeError, "method must be a name or settings"),
    ],
)
def test_unusable_methods_are_named(method, error, message):
    with pytest.raises(error, match=message):
        iterate(bowl(), method)


def test_unusable_arguments_are_named():
    with pytest.raises(TypeError, match=r"problem must be an optimizers.Problem, got function"):
        iterate(lambda x: x, "cma")
    with pytest.raises(TypeError, match=r"budget must be an optimizers.Budget, got int"):
        iterate(bowl(), "cma", budget=100)
    with pytest.raises(TypeError, match=r"budget must be an optimizers.Budget, got dict"):
        minimize(bowl(), "cma", budget={})
    with pytest.raises(TypeError, match=r"checkpoint must be a path or None, got int"):
        iterate(bowl(), "cma", checkpoint=3)
    with pytest.raises(ValueError, match="checkpoint_seconds must be >= 0"):
        iterate(bowl(), "cma", checkpoint_seconds=-1)
    with pytest.raises(ValueError, match="seed must lie between"):
        iterate(bowl(), "cma", seed=2**70)
    with pytest.raises(ValueError, match="target must be a number or None, got NaN"):
        Budget(target=math.nan)
    with pytest.raises(TypeError, match="seed must be an integer"):
        iterate(bowl(), "cma", seed=0.5)
    with pytest.raises(ValueError, match="evaluations must be positive"):
        Budget(evaluations=0)
    with pytest.raises(TypeError, match="seconds must be a number"):
        Budget(seconds="1")
    with pytest.raises(ValueError, match=r"needs gradients .* choose one of: cma"):
        iterate(bowl(differentiable=False), "adam")


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        (Adam, {"step_size": 0.0}),
        (Adam, {"betas": (0.9, 1.0)}),
        (Adam, {"decay": 1.5}),
        (Adam, {"starts": 0}),
        (Lbfgs, {"memory": 0}),
        (Cma, {"population": 2}),
        (Cma, {"covariance": "banded"}),
        (Cma, {"deviation": math.nan}),
        (Cma, {"restarts": -1}),
    ],
)
def test_unusable_settings_are_named(settings, values):
    with pytest.raises(ValueError, match=next(iter(values))):
        settings(**values)


def test_wrong_answers_of_a_problem_are_named():
    problem = bowl()
    problem.evaluate = lambda x, order=0, **_: x.sum(1)
    with pytest.raises(TypeError, match="must return an Evaluation, got Tensor"):
        minimize(problem, "cma")
    problem.evaluate = lambda x, order=0, **_: Evaluation(x.sum(1)[:1])
    with pytest.raises(ValueError, match="rows, got 1"):
        minimize(problem, "cma")
    problem.evaluate = lambda x, order=0, **_: Evaluation(x.sum(1))
    with pytest.raises(ValueError, match="must have a gradient"):
        minimize(problem, "adam")


def test_finished_run_yields_its_result_without_an_evaluation(tmp_path):
    options = {"budget": Budget(evaluations=60), "checkpoint": tmp_path / "run.pt"}
    first = minimize(bowl(), "cma", **options)
    problem = bowl()
    problem.evaluate = None
    again = minimize(problem, "cma", **options)
    assert torch.equal(first.x, again.x)
    assert (first.value, first.reason, first.evaluations) == (
        again.value,
        again.reason,
        again.evaluations,
    )
    assert torch.equal(first.history["value"], again.history["value"])
    assert first.seconds == again.seconds
    (record,) = iterate(problem, "cma", **options)
    assert record.reason == "evaluations"


def test_larger_budget_continues_a_finished_run(tmp_path):
    file = tmp_path / "run.pt"
    first = minimize(bowl(), "adam", budget=Budget(iterations=10), checkpoint=file)
    more = minimize(bowl(), "adam", budget=Budget(iterations=25), checkpoint=file)
    whole = minimize(bowl(), "adam", budget=Budget(iterations=25))
    assert more.iterations == 25
    assert torch.equal(more.x, whole.x)
    assert more.seconds > first.seconds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "cma"}, "method is 'adam' in the file and 'cma' now"),
        ({"method": Adam(step_size=0.5)}, "settings is .*step_size=0.01.*step_size=0.5"),
        ({"seed": 5}, "seed is 0 in the file and 5 now"),
        ({"problem": boxed(sphere, 2)}, "dimension is 3 in the file and 2 now"),
        ({"problem": bowl(dtype=torch.float32)}, r"precision is 'torch.float64'"),
        (
            {"problem": Problem({"a": Box(3)}, sum, differentiable=True)},
            r"parameters is 'x \(3,\)'",
        ),
        ({"problem": boxed(sphere, 3, 2.0, 3.0)}, "best point lies outside the box"),
    ],
)
def test_checkpoint_of_another_run_is_refused(change, message, tmp_path):
    file = tmp_path / "run.pt"
    minimize(bowl(), "adam", budget=Budget(iterations=2), checkpoint=file)
    arguments = {"problem": bowl(), "method": "adam", "checkpoint": file} | change
    with pytest.raises(ValueError, match=message):
        iterate(**arguments)


def test_checkpoint_has_the_permissions_of_an_ordinary_file(tmp_path):
    minimize(bowl(), "cma", budget=Budget(iterations=2), checkpoint=tmp_path / "run.pt")
    (tmp_path / "plain").touch()
    assert (tmp_path / "run.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_file_of_something_else_is_refused(tmp_path):
    for content in ({"identity": 3}, [1], {}):
        torch.save(content, tmp_path / "run.pt")
        with pytest.raises(ValueError, match=r"run\.pt is damaged or not a checkpoint"):
            iterate(bowl(), "cma", checkpoint=tmp_path / "run.pt")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_switched_them_off(mode):
    with mode():
        assert minimize(bowl(), "lbfgs", budget=Budget(evaluations=60)).value < 1e-12


def test_damaged_checkpoint_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    minimize(bowl(), "cma", budget=Budget(iterations=2), checkpoint=file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"run\.pt is damaged"):
        iterate(bowl(), "cma", checkpoint=file)


def test_checkpoint_that_cannot_be_written_is_refused_before_the_first_evaluation(
    tmp_path, monkeypatch
):
    problem = bowl()
    problem.evaluate = None
    with pytest.raises(FileNotFoundError, match="existing folder"):
        iterate(problem, "cma", checkpoint=tmp_path / "missing" / "run.pt")
    with pytest.raises(IsADirectoryError, match="must be a file"):
        iterate(problem, "cma", checkpoint=tmp_path)

    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("optimizers.checkpoint._create", refused)
    with pytest.raises(PermissionError, match=r"cannot write checkpoint .*run.pt"):
        iterate(problem, "cma", checkpoint=tmp_path / "run.pt")


def test_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    minimize(bowl(), "adam", budget=Budget(iterations=3), checkpoint=file)
    old = file.read_bytes()

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"cannot write checkpoint .*run.pt: No space left"):
            minimize(bowl(), "adam", budget=Budget(iterations=9), checkpoint=file)
    assert file.read_bytes() == old
    assert os.listdir(tmp_path) == ["run.pt"]


def test_checkpoint_is_written_as_often_as_asked(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        "optimizers.checkpoint.save",
        lambda path, state: written.append(state["spent"]["iterations"]),
    )
    minimize(
        bowl(), "adam", budget=Budget(iterations=10), checkpoint=tmp_path / "a", checkpoint_every=4
    )
    assert written == [4, 8, 10]


def test_interrupt_inside_the_method_keeps_the_last_whole_state(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    minimize(bowl(), "adam", budget=Budget(iterations=3), checkpoint=file)
    old = file.read_bytes()
    run = iterate(bowl(), "adam", checkpoint=file)
    monkeypatch.setattr("optimizers.gradient.adam.RunningAdam.tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert file.read_bytes() == old


def interrupted(*_args):
    raise KeyboardInterrupt


PLAIN = [name for name in METHODS if name != "target-surrogate"]  # of F(Phi(x)) only


@pytest.mark.parametrize("method", PLAIN)
def test_loop_by_hand_equals_the_driver(method):
    problem, box = bowl(), Problem.box([-1.0] * 3, [1.0] * 3, [0.5, -0.5, 0.9])
    optimizer = METHODS[method]().start(box, seed=3)
    for record in iterate(problem, method, seed=3, budget=Budget(iterations=15)):
        query = optimizer.ask()
        gradient = 2 * query.points if query.order else None
        optimizer.tell(query, Evaluation(sphere(query.points), gradient=gradient))
        assert optimizer.best.value == record.best_value
        if optimizer.done is not None:
            break
    assert torch.equal(optimizer.best.x, record.best_x)


# the peers are as they are, and a model of 4000 values takes minutes
@pytest.mark.parametrize(
    "method", [name for name in PLAIN if name not in ("bayes", "nomad") and "scipy" not in name]
)
def test_noise_is_survived(method):
    problem = boxed(noisy(sphere, 1e-3), 5, start=[3.0] * 5)
    result = minimize(problem, method, budget=Budget(evaluations=4000, target=1e-4))
    assert result.reason == "target"


def test_turned_coordinates_do_not_stop_anyone():
    for method, tolerance in (("lbfgs", 1e-8), ("cma", 1e-8)):
        turned = boxed(rotated(lambda x: rosenbrock(x + 1), 4), 4, start=[-1.0] * 4)
        result = minimize(turned, method, budget=Budget(evaluations=6000, target=tolerance))
        assert result.reason == "target", method


def test_import_is_light():
    heavy = {"scipy", "cma", "matplotlib", "geomopt"}
    code = f"import sys, optimizers; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_documented():
    for name in optimizers.__all__:
        member = getattr(optimizers, name)
        assert not callable(member) or member.__doc__, name


def test_the_last_record_of_a_checkpoint_can_be_read(tmp_path):
    file = tmp_path / "run.pt"
    problem = Problem.from_callable(lambda x: (x**2).sum(), [-1.0] * 2, [1.0] * 2)
    records = list(iterate(problem, "cma", budget=Budget(iterations=3), checkpoint=file))
    last = last_iterate(file)
    assert last.iteration == 2
    assert torch.equal(last.x, records[-1].x)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"run\.pt is damaged"):
        last_iterate(file)
