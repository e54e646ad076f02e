"""Spectral steppers: time beside their transforms, orders, and how far cheap settings track.

    python benchmarks/pde_steppers.py            # all tables
    python benchmarks/pde_steppers.py --quick    # smaller batches, no tracking

Times are CPU time, the least of many repetitions, taken in turns, on one thread. "transforms": the
real transforms of one ETDRK4 step and nothing else, eight of one axis for Kuramoto-Sivashinsky,
sixteen of two for Navier-Stokes. "textbook": the formulas of Cox and Matthews written down one by
one in torch.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it loads

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sims.pde import KuramotoSivashinsky, NavierStokes2D, correlation_time, rollout
from sims.pde.spectral.etdrk import coefficients
from sims.pde.spectral.grid import dealiasing_mask, wavenumbers
from sims.pde.spectral.initial import filtered_noise, random_waves

ADVANCED = 4  # steps of an `advance` that is timed


def least(jobs: dict[str, Callable[[], object]], seconds: float = 2.0) -> dict[str, float]:
    """The least CPU time of each job [ms], all of them taken in turns."""
    best = dict.fromkeys(jobs, math.inf)
    for job in jobs.values():
        job()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, job in jobs.items():
            start = time.process_time_ns()
            job()
            best[name] = min(best[name], (time.process_time_ns() - start) * 1e-6)
    return best


def textbook(
    length: float, points: int, h: float, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """A Kuramoto-Sivashinsky step as the papers write it."""
    waves = wavenumbers(torch.tensor([[length]], dtype=torch.float64), (points,))
    rate = h * (waves.squared - waves.squared**2)
    mask = dealiasing_mask((points,), 2, torch.device("cpu"))
    one = torch.ones_like(rate)
    c = coefficients(rate, torch.tensor(h), one[0, 0], None, torch.float64)
    e, e2, q, f1, f2, f3 = (
        value[..., 0].to(dtype)
        for value in (1.0 + c.growth, c.half, c.stage, c.weights[0], c.weights[1] / 2, c.weights[2])
    )
    multiplier = (-0.5j * waves.odd[0] * mask).to(dtype.to_complex())

    def step(u: Tensor) -> Tensor:
        def n(v: Tensor) -> Tensor:
            return multiplier * torch.fft.rfft(torch.fft.irfft(v, n=points) ** 2)

        v = torch.fft.rfft(u)
        n_v = n(v)
        a = e2 * v + q * n_v
        n_a = n(a)
        b = e2 * v + q * n_a
        n_b = n(b)
        n_c = n(e2 * a + q * (2 * n_b - n_v))
        return torch.fft.irfft(e * v + f1 * n_v + 2 * f2 * (n_a + n_b) + f3 * n_c, n=points)

    return step


def transforms(u: Tensor, count: int) -> Callable[[], None]:
    """`count` real transforms of the fields, half of them each way."""
    axes = tuple(range(2, u.ndim))
    modes = torch.fft.rfftn(u, dim=axes)

    def run() -> None:
        for _ in range(count // 2):
            torch.fft.rfftn(u, dim=axes)
            torch.fft.irfftn(modes, s=u.shape[2:], dim=axes)

    return run


def kuramoto_sivashinsky_times(quick: bool) -> None:
    print("| N | batch | dtype | transforms, ms | step | advance, a step | textbook |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    generator = torch.Generator().manual_seed(0)
    for points in (128, 256, 512):
        for batch in (16, 256) if quick else (16, 256, 1024):
            for dtype in (torch.float64, torch.float32):
                stepper = KuramotoSivashinsky(64.0, points, 0.1)
                u = stepper.advance(random_waves(stepper, batch, generator, dtype=dtype), 200)
                plain = textbook(64.0, points, 0.1, dtype)
                found = least(
                    {
                        "transforms": transforms(u, 8),
                        "step": lambda s=stepper, u=u: s.step(u),
                        "advance": lambda s=stepper, u=u: s.advance(u, ADVANCED),
                        "textbook": lambda p=plain, u=u: p(u),
                    }
                )
                found["advance"] /= ADVANCED
                floor = found.pop("transforms")
                cells = " | ".join(f"{ms:.2f} ({ms / floor:.1f}x)" for ms in found.values())
                name = str(dtype).removeprefix("torch.")
                print(f"| {points} | {batch} | {name} | {floor:.3f} | {cells} |", flush=True)


def navier_stokes_times(quick: bool) -> None:
    print("\n| N x N | batch | dtype | transforms, ms | step | advance, a step |")
    print("| --- | --- | --- | --- | --- | --- |")
    for points in (64, 128) if quick else (64, 128, 256):
        for batch in (1, 16):
            for dtype in (torch.float64, torch.float32):
                stepper = NavierStokes2D(points=points, time_step=0.002)
                generator = torch.Generator().manual_seed(0)
                u = filtered_noise(stepper, batch, generator, deviation=4.0, dtype=dtype)
                found = least(
                    {
                        "transforms": transforms(u, 16),
                        "step": lambda s=stepper, u=u: s.step(u),
                        "advance": lambda s=stepper, u=u: s.advance(u, ADVANCED),
                    }
                )
                found["advance"] /= ADVANCED
                floor = found.pop("transforms")
                cells = " | ".join(f"{ms:.2f} ({ms / floor:.1f}x)" for ms in found.values())
                name = str(dtype).removeprefix("torch.")
                print(f"| {points} | {batch} | {name} | {floor:.2f} | {cells} |", flush=True)


def orders() -> None:
    generator = torch.Generator().manual_seed(1)
    start = KuramotoSivashinsky(64.0, 256, 0.1)
    u = start.advance(random_waves(start, 4, generator), 1500)
    print("\nKuramoto-Sivashinsky, L = 64, N = 256, error after 4 s against h = 0.00625")
    print_orders(u, lambda h: KuramotoSivashinsky(64.0, 256, h), 4.0, 0.4, 6, 0.00625)
    flow = NavierStokes2D(points=128, drag=0.1)
    w = filtered_noise(flow, 1, generator, waves=4.0, deviation=5.0)
    print("\nNavier-Stokes, viscosity 1e-3, drag 0.1, N = 128, after 0.48 s against h = 0.000625")
    print_orders(
        w, lambda h: NavierStokes2D(points=128, time_step=h, drag=0.1), 0.48, 0.01, 4, 0.000625
    )


def print_orders(
    u: Tensor, make: Callable, duration: float, largest: float, count: int, finest: float
) -> None:
    reference = make(finest).advance(u, round(duration / finest))
    print("\n| h, s | relative error | order |\n| --- | --- | --- |")
    before = None
    for halving in range(count):
        h = largest / 2**halving
        after = make(h).advance(u, round(duration / h))
        error = float((after - reference).norm() / reference.norm())
        order = "" if before is None else f"{math.log2(before / error):.2f}"
        print(f"| {h:g} | {error:.1e} | {order} |", flush=True)
        before = error


def tracking(trajectories: int = 64) -> None:
    """How long cheap settings stay with N = 128, h = 0.1 (L = 64)."""
    fine = KuramotoSivashinsky(64.0, 128, 0.1)
    u = fine.advance(random_waves(fine, trajectories, torch.Generator().manual_seed(2)), 1500)
    truth = rollout(fine, u, 2000, every=8)
    print("\n| setting | time of mean correlation 0.8, s | mean of times, s | ms a 0.8 s step |")
    print("| --- | --- | --- | --- |")
    for label, points, h, dtype in (
        ("h = 0.4", 128, 0.4, torch.float64),
        ("h = 0.2", 128, 0.2, torch.float64),
        ("h = 0.05", 128, 0.05, torch.float64),
        ("float32", 128, 0.1, torch.float32),
        ("N = 96", 96, 0.1, torch.float64),
        ("N = 64", 64, 0.1, torch.float64),
    ):
        stepper = KuramotoSivashinsky(64.0, points, h)
        every = round(0.8 / h)
        coarse = resampled(u, points).to(dtype)
        states = rollout(stepper, coarse, 250 * every, every)
        found = correlation_time(resampled(states.double(), 128), truth, 0.8, 0.8)
        ms = least({"steps": lambda s=stepper, c=coarse, n=every: s.advance(c, n)}, 0.5)["steps"]
        print(
            f"| {label} | {found.of_mean:.0f} | {found.mean_of:.0f} | {ms / trajectories:.4f} |",
            flush=True,
        )


def resampled(u: Tensor, points: int) -> Tensor:
    """The field with the same low modes on another count of points."""
    modes = torch.fft.rfft(u) * (points / u.shape[-1])
    return torch.fft.irfft(modes[..., : min(points, u.shape[-1]) // 2], n=points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller batches, no tracking")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    kuramoto_sivashinsky_times(quick)
    navier_stokes_times(quick)
    orders()
    if not quick:
        tracking()


if __name__ == "__main__":
    main()
