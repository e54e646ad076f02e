"""Launches of Warp kernels on torch tensors."""

from concurrent.futures import ThreadPoolExecutor

import torch
import warp as wp
from torch import Tensor

from geomopt.launch import Vectors, launch, recorded


@wp.kernel(enable_backward=False)
def weigh(  # pyright: ignore[reportUntypedFunctionDecorator]
    first: int,
    points: wp.array(dtype=wp.vec3d),  # pyright: ignore[reportInvalidTypeForm]
    rows: wp.array2d(dtype=wp.float64),  # pyright: ignore[reportInvalidTypeForm]
    factor: wp.float64,
    place: int,
    result: wp.array(dtype=wp.float64),  # pyright: ignore[reportInvalidTypeForm]
):
    k = first + wp.tid()  # pyright: ignore[reportOperatorIssue]
    result[k] = factor * points[k][place] + rows[k, place]


def weighed(points: Tensor, rows: Tensor, factor: float, place: int) -> Tensor:
    result = torch.full((len(points),), torch.nan, dtype=torch.float64)
    launch(weigh, len(points), [Vectors(points), rows, factor, place], [result])
    return result


def test_each_launch_has_its_own_arguments() -> None:
    # a kernel is recorded at its first launch, and what follows differs in all that can differ
    generator = torch.Generator().manual_seed(0)

    def right(count: int) -> bool:
        points = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        rows = torch.randn(3, count, generator=generator, dtype=torch.float64).mT
        factor, place = 1.0 + count, count % 3
        expected = factor * points[:, place] + rows[:, place]
        found = weighed(points, rows, factor, place)
        spread = torch.stack([points, points], 1)[:, 0]
        again = weighed(spread, rows.contiguous(), factor, place)
        return torch.allclose(found, expected) and torch.equal(found, again)

    assert all(right(count) for count in (5, 5, 2, 700, 1, 5))


def test_threads_launch_one_kernel_at_once() -> None:
    def right(seed: int) -> bool:
        points = torch.full((1000 + seed, 3), float(seed), dtype=torch.float64)
        return bool((weighed(points, points, 2.0, 1) == 3.0 * seed).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(200)))


def test_recorded_launches_are_made_again_on_what_their_tensors_hold_by_then() -> None:
    points = torch.randn(600, 3, dtype=torch.float64)
    rows, result = torch.zeros_like(points), torch.zeros(600, dtype=torch.float64)
    with recorded() as commands:
        launch(weigh, 600, [Vectors(points), rows, 2.0, 1], [result], split=True, grain=100)
        launch(weigh, 600, [Vectors(points), result[:, None].expand(-1, 3), 0.0, 0], [rows[:, 1]])
    assert torch.equal(result, 2 * points[:, 1])
    points.mul_(3)
    launch(weigh, 600, [Vectors(points), rows, 5.0, 2], [torch.zeros_like(result)])  # in between
    before = rows[:, 1].clone()
    commands.run()
    assert torch.allclose(result, 2 * points[:, 1] + before)
