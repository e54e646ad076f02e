"""The Kuramoto-Sivashinsky equation as a test bed: its exponents, and horizons by error.

    python benchmarks/pde_chaos.py               # all tables, about two minutes
    python benchmarks/pde_chaos.py --maps        # the horizons alone

ETDRK4 with steps of 0.1 s in float64. Exponents: Benettin's method after a transient of a quarter
of the duration, 2000 s of each trajectory; beside them those of a single trajectory of 7.95e4 s (L
= 22) and 2.4e4 s (L = 64). Horizons: the solver with white noise added after every 0.8 s, 256
trajectories; beside them those of 16 trajectories, which scatter by 7 per cent. One thread.

At L = 64 the chaos is not for ever: about once in 1e5 s a trajectory settles in eight still cells
of wavelength 8, which are stable (exponents 0, -0.0083, -0.0089, ...). It then keeps its reference,
hence some that are "never" below, and a single one of 16 lowers all exponents by 0.002.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it loads

import argparse
import time

import torch

from sims.pde.metrics import horizon_map, kaplan_yorke, lyapunov_spectrum
from sims.pde.metrics.horizon import NOISE
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

F64 = torch.float64
SMALL = (0.0478, 0.0, 0.0, -0.0031, -0.1903, -0.2563, -0.2909, -0.3102)
LARGE = (0.0878, 0.0686, 0.0552, 0.0419, 0.0280, 0.0158, 0.001, 0.0, 0.0, -0.0162, -0.0384)
TABLE = {
    0.8: (11, 22, 31, 50, 62, 78, 87, 109, 137),
    0.9: (8, 18, 26, 44, 54, 70, 76, 102, 134),
}


def main() -> None:
    torch.set_num_threads(1)
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--maps", action="store_true", help="the horizons alone")
    arguments.add_argument("--trajectories", type=int, default=256, help="of the horizons")
    chosen = arguments.parse_args()
    if not chosen.maps:
        exponents(length=22.0, points=64, batch=1, known=SMALL, count=8, dimension=4.24)
        exponents(length=64.0, points=128, batch=16, known=LARGE, count=16, dimension=13.4)
    horizons(chosen.trajectories)


def drawn(batch: int, points: int, seed: int) -> torch.Tensor:
    field = torch.randn(
        (batch, 1, points), generator=torch.Generator().manual_seed(seed), dtype=F64
    )
    return field - field.mean(-1, keepdim=True)


def exponents(
    length: float, points: int, batch: int, known: tuple[float, ...], count: int, dimension: float
) -> None:
    stepper = KuramotoSivashinsky(length=length, points=points, time_step=0.1)
    begin = time.process_time()
    found = lyapunov_spectrum(stepper, drawn(batch, points, 3), exponents=count, progress=True)
    seconds = time.process_time() - begin
    print(f"\nLyapunov exponents, L = {length:g}, N = {points}, {batch} fields: {seconds:.1f} s")
    print("  found  " + " ".join(f"{one:8.4f}" for one in found.tolist()))
    print("  known  " + " ".join(f"{one:8.4f}" for one in known))
    growth = float(found.clamp(min=0).sum())
    print(f"  Kaplan-Yorke dimension {kaplan_yorke(found):.2f} (known {dimension:g})", end=", ")
    print(f"sum of the positive ones {growth:.3f}")


def horizons(trajectories: int) -> None:
    stepper = KuramotoSivashinsky(length=64.0, points=128, time_step=0.1)
    u = stepper.advance(drawn(trajectories, 128, 1), 2000)
    for threshold, known in TABLE.items():
        generator = torch.Generator().manual_seed(2)
        begin = time.process_time()
        found = horizon_map(
            stepper, u, NOISE, generator=generator, threshold=threshold, progress=True
        )
        seconds = time.process_time() - begin
        print(f"\nhorizons, mean correlation below {threshold}, {trajectories} fields", end=": ")
        print(f"{seconds:.1f} s, growth of errors {found.rate():.3f} / s")
        print("  noise   of mean  known   ratio   mean of   never")
        rows = zip(found.noise, found.of_mean, known, found.mean_of, found.censored, strict=True)
        for noise, of_mean, other, mean_of, censored in rows:
            ratio = float(of_mean) / other
            print(
                f"  {float(noise):5.0e} {float(of_mean):8.1f} {other:7d} {ratio:7.2f}"
                f" {float(mean_of):9.1f} {float(censored):7.1%}"
            )


if __name__ == "__main__":
    main()
