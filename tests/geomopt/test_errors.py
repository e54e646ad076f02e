"""The checks that all arguments pass."""

import pytest
import torch

from geomopt.errors import InputError, check_indices, check_tensor


def test_tensors_without_values_are_refused_by_name():
    with pytest.raises(InputError, match="field must be on a device that holds values, got meta"):
        check_tensor("field", torch.zeros(3, device="meta"))
    faces = torch.zeros(2, 3, dtype=torch.int32, device="meta")
    with pytest.raises(InputError, match="faces must be on a device that holds values, got meta"):
        check_indices("faces", faces, (None, 3), 5)
