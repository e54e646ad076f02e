"""The linear algebra of the quadratic models beside NumPy's, and where constraints have slack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optimizers import DirectSearch, Evaluation
from optimizers.direct_search.barrier import Outcome
from optimizers.direct_search.covering import LARGEST
from optimizers.direct_search.small_systems import eigen, solved
from optimizers.testing import boxed, sphere


def definite(size: int) -> np.ndarray:
    half = np.random.default_rng(size).normal(size=(size, size))
    return half @ half.T + np.eye(size)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_solutions_are_those_of_numpy_and_arguments_stay_as_they_were(size):
    matrix, right = definite(size), np.random.default_rng(1).normal(size=(size, 3))
    kept = matrix.copy(), right.copy()
    assert np.allclose(solved(matrix, right), np.linalg.solve(matrix, right), rtol=1e-9)
    assert np.array_equal(matrix, kept[0])
    assert np.array_equal(right, kept[1])


def test_matrix_that_is_not_definite_has_no_solution():
    matrix = np.diag([1.0, -1.0])
    assert np.isnan(solved(matrix, np.ones((2, 1)))).all()


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_eigenvectors_diagonalise(size):
    matrix = definite(size)
    kept = matrix.copy()
    values, vectors = eigen(matrix)
    assert np.allclose(vectors * values @ vectors.T, matrix)
    assert np.allclose(values, np.linalg.eigvalsh(matrix))
    assert np.array_equal(matrix, kept)


@pytest.mark.parametrize("dimension", [LARGEST, LARGEST + 1])
def test_constraints_have_slack_only_where_models_run(dimension):
    """Within the slack a lower value wins over a smaller excess."""
    problem = boxed(lambda x: (sphere(x), x[:, :1] - 1), dimension)
    running = DirectSearch().start(problem)
    running.radius = 0.5

    def learn(value: float, constraint: float) -> Outcome:
        answer = Evaluation(torch.tensor([value]).double(), torch.tensor([[constraint]]).double())
        return running.learn(problem.start[None] + 0.01 * value, answer)

    learn(2.0, 1e-3)
    lower = learn(1.0, 2e-3)
    assert lower == (Outcome.DOMINATING if dimension <= LARGEST else Outcome.FAILURE)
