"""The grid takes its box in any form and refuses what is none."""

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry import DenseGrid


@pytest.mark.parametrize("kind", [tuple, list, np.array, torch.tensor])
def test_corners_are_sequences_arrays_or_tensors(kind):
    grid = DenseGrid(kind([2, 3, 4]), kind([0.0, -1.0, 0.5]), kind([1.0, 1.0, 1.5]))
    assert grid == DenseGrid((2, 3, 4), (0.0, -1.0, 0.5), (1.0, 1.0, 1.5))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"resolution": None}, "resolution"),
        ({"resolution": "abc"}, "resolution"),
        ({"resolution": 2.5}, "resolution"),
        ({"resolution": (2, 3)}, "resolution"),
        ({"resolution": 0}, "resolution"),
        ({"resolution": 2, "lower": "abc"}, "lower"),
        ({"resolution": 2, "lower": torch.zeros(2)}, "lower"),
        ({"resolution": 2, "upper": [None, 1.0, 1.0]}, "upper"),
        ({"resolution": 2, "lower": float("nan")}, "lower"),
        ({"resolution": 2, "dtype": torch.float16}, "dtype"),
    ],
)
def test_what_is_no_box_of_cells_is_refused_by_name(given, name):
    with pytest.raises(InputError, match=f"^{name} must be"):
        DenseGrid(**given)
