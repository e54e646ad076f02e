"""What masks and depths say before any fit."""

from dataclasses import replace

import pytest
import torch

from geomopt.errors import InputError
from geomopt.geometry import DenseGrid, extract_surface, sdf, signed_distance
from geomopt.reconstruct import render_views
from geomopt.reconstruct.carving import bounding_box, carve, cut_off, pixel_rays


@pytest.fixture(scope="module")
def torus():
    grid = DenseGrid(32)
    return extract_surface(sdf.torus(grid.points, 0.6, 0.25), grid, mode="test").mesh()


@pytest.fixture(scope="module")
def views(torus):
    return render_views(torus, 12, (96, 96), seed=0)


PIXEL = 0.03  # metres that a pixel spans at the torus, and so the error of a carved distance's sign


def test_rays_pass_through_the_pixels_they_are_named_after(views):
    camera = views.cameras[0]
    columns, rows = torch.tensor([10.5, 70.25]), torch.tensor([33.0, 80.5])
    origins, directions = pixel_rays(camera, columns, rows)
    clip = camera.project((origins + 2.0 * directions).float())[0]
    torch.testing.assert_close(
        (clip[:, 0] / clip[:, 3] + 1) / 2 * 96, columns, rtol=1e-4, atol=1e-3
    )
    torch.testing.assert_close((1 - clip[:, 1] / clip[:, 3]) / 2 * 96, rows, rtol=1e-4, atol=1e-3)


def test_depth_tells_inside_from_outside(views, torus):
    points = DenseGrid(24).points
    true = signed_distance(points, torus)
    carved = carve(views, points)
    clear = true.abs() > 1.5 * PIXEL
    assert bool(((carved < 0) == (true < 0))[clear].all())


def test_masks_alone_give_the_visual_hull(views, torus):
    points = DenseGrid(24).points
    true = signed_distance(points, torus)
    carved = carve(replace(views, depth=None), points)
    # nothing of the object is carved away, and the hole, which the masks show, is
    assert bool((carved[true < -1.5 * PIXEL] < 0).all())
    assert float(carve(replace(views, depth=None), torch.zeros(1, 3))) > 0


def test_the_box_holds_the_object_and_little_else(views, torus):
    for given in (views, replace(views, depth=None)):
        lower, upper = bounding_box(given)
        true_lower, true_upper = torus.bounds.double()
        assert bool((lower < true_lower + PIXEL).all())
        assert bool((upper > true_upper - PIXEL).all())
        assert bool((upper - lower < 1.15 * (true_upper - true_lower) + 3 * PIXEL).all())


def test_a_view_that_cuts_the_object_off_says_nothing_beyond_its_border(torus):
    views = render_views(torus, 12, (96, 96), seed=0)
    # a telephoto first view: its frame shows the middle of the torus only
    projection = views.cameras.projection.clone()
    projection[0, :2, :2] *= 3
    zoomed = replace(views, cameras=replace(views.cameras, projection=projection), depth=None)
    mask = zoomed.mask.clone()
    mask[0] = 1.0
    points = DenseGrid(24).points
    inside = signed_distance(points, torus) < -1.5 * PIXEL
    assert bool((carve(replace(zoomed, mask=mask), points)[inside] < 0).all())


def test_empty_masks_and_poses_that_contradict_each_other_are_refused(views):
    mask = views.mask.clone()
    mask[3] = 0
    with pytest.raises(InputError, match="the mask of view view_003 is empty"):
        bounding_box(replace(views, mask=mask))
    # every second camera looks away from where it stands, as with a wrong axis convention
    pose = views.cameras.world_to_camera.clone()
    pose[::2, 0:3:2] *= -1
    turned = replace(views, cameras=replace(views.cameras, world_to_camera=pose), depth=None)
    with pytest.raises(InputError, match=r"do not fit each other.*camera-to-world|do not surround"):
        bounding_box(turned)


def test_views_that_cut_the_object_off_are_counted(views):
    assert cut_off(views) == 0
    mask = views.mask.clone()
    mask[2, 0, 40] = 1.0
    mask[5, 50, -1] = 1.0
    assert cut_off(replace(views, mask=mask)) == 2
