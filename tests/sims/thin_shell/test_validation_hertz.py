"""A sphere in a soft pad beside Hertz, on a mesh that takes seconds."""

import torch

from sims.thin_shell.validation import hertz

COARSE = 0.3  # error of 16 layers, that 34 have below a tenth


def test_a_sphere_is_pressed_into_a_pad_by_the_force_of_hertz():
    found = hertz.hertz(16, COARSE)
    judged = [row for row in found.rows if row.tolerance is not None]
    assert len(judged) >= 4
    # linear tetrahedra are too stiff, never too soft
    assert all(0 < row.error < COARSE for row in judged)


def test_the_pad_is_a_quarter_of_half_a_ball():
    pad = hertz.quarter(6)
    assert (pad.local[:, :2] >= 0).all()
    assert (pad.local[:, 2] <= 0).all()
    torch.testing.assert_close(
        pad.local[pad.driven].norm(dim=1), torch.full_like(pad.local[pad.driven][:, 0], hertz.PAD)
    )
