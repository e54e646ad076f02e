import math

import pytest
import torch

from geomopt.errors import InputError
from geomopt.render.losses import color_loss, depth_loss, mask_loss, multi_scale, normal_loss

F64 = torch.float64
SHAPE = (2, 8, 12)


def images(channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(*SHAPE, channels, dtype=F64, generator=generator) for _ in range(2)]


@pytest.fixture
def mask():
    return torch.rand(*SHAPE, 1, generator=torch.Generator().manual_seed(7)) > 0.4


def test_equal_images_cost_nothing(mask):
    one, _ = images(3)
    assert mask_loss(one, one) == 0
    assert color_loss(one, one, tone_mapped=True) == 0
    assert depth_loss(one[..., :1], one[..., :1], mask, scale=0.1) == 0
    assert abs(float(normal_loss(one, one, mask))) < 1e-15
    assert multi_scale(mask_loss, one, one) == 0


def test_values(mask):
    one = torch.ones(*SHAPE, 1, dtype=F64)
    assert float(mask_loss(0.25 * one, one)) == pytest.approx(0.75)
    wrong = torch.where(mask, 3 * one, 100 * one)
    assert float(depth_loss(wrong, one, mask)) == pytest.approx(2.0)
    assert float(depth_loss(wrong, one, mask, scale=1.5)) == pytest.approx(1.0)  # 2.5 - 1.5
    x, y = (torch.eye(3, dtype=F64)[i].expand(*SHAPE, 3) for i in range(2))
    assert float(normal_loss(2 * x, x + y, mask)) == pytest.approx(1 - math.sqrt(0.5))
    assert float(color_loss(one, 0 * one, tone_mapped=True)) == pytest.approx(math.log(2))


def test_an_empty_mask_costs_nothing():
    one, two = images(1)
    one.requires_grad_()
    depth_loss(one, two, torch.zeros(*SHAPE, 1, dtype=torch.bool)).backward()
    assert (one.grad == 0).all()


def test_pyramid_sees_what_single_pixels_do_not():
    """Two dots a pixel apart are as far as any two dots, until both fall into one coarse pixel."""
    dot, beside, away = (torch.zeros(1, 8, 8, 1) for _ in range(3))
    dot[0, 4, 4] = beside[0, 4, 5] = away[0, 0, 0] = 1
    assert mask_loss(dot, beside) == mask_loss(dot, away)
    assert multi_scale(mask_loss, dot, beside, 2) < multi_scale(mask_loss, dot, away, 2)
    assert multi_scale(mask_loss, dot, away, 1) == mask_loss(dot, away)


def test_gradients_agree_with_finite_differences(mask):
    one, two = images(3, seed=2)
    one.requires_grad_()
    for loss in (
        lambda a: mask_loss(a, two),
        lambda a: color_loss(a, two, tone_mapped=True),
        lambda a: depth_loss(a[..., :1], two[..., :1], mask),
        lambda a: depth_loss(a[..., :1], two[..., :1], mask, scale=0.2),
        lambda a: normal_loss(a, two, mask),
        lambda a: multi_scale(mask_loss, a, two, 3),
    ):
        assert torch.autograd.gradcheck(loss, (one,))


def test_bad_input_is_named(mask):
    one, two = images(1)
    broken = two.clone()
    broken[0, 0, 0] = math.nan
    cases = [
        (lambda: mask_loss(one, broken), "target must be finite"),
        (lambda: mask_loss(broken, one), "prediction must be finite"),
        (lambda: mask_loss(one, two[:1]), "target must have shape"),
        (lambda: mask_loss(one[0], two[0]), "prediction must have shape"),
        (lambda: depth_loss(one, two, mask[..., 0]), "mask must be a tensor of shape"),
        (lambda: depth_loss(one, two, mask, scale=0.0), "scale must be positive"),
        (lambda: multi_scale(mask_loss, one, two, 9), "levels"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
