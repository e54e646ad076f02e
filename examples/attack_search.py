"""A car's suspension, designed through a trained network and certified by the simulator.

The design: the curves of damper and spring, 18 slopes. The simulator (a quarter car over a kerb in
plain NumPy, with a tyre that may lift off) has no gradients. A network learns it from 200 runs;
attack-search takes steps from the network's gradients and believes only the simulator. Takes about
10 seconds on one core.
"""

import time

import numpy as np
import torch

from optimizers import Budget, Model, Problem, iterate, minimize

SPEEDS = np.array([0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6])  # m/s; beyond the last, force is constant
TRAVELS = np.array([0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.2])  # m
DAMPING, SPRING = (200.0, 8000.0), (5e3, 100e3)  # slopes of the curves, N s/m and N/m
BODY, WHEEL, TYRE, STEP, INSTANTS = 300.0, 40.0, 180e3, 0.002, 60  # kg, kg, N/m, s
LOWER, UPPER = ([a] * 12 + [b] * 6 for a, b in zip(DAMPING, SPRING, strict=True))
runs = 0


def curve(slopes, edges, x):
    """Force (B,) at x (B,), piecewise linear with slopes (B, K) between the edges (K + 1,)."""
    return np.sign(x) * (slopes * np.clip(np.abs(x)[:, None] - edges[:-1], 0, np.diff(edges))).sum(
        1
    )


def simulate(designs):
    """Designs (B, 18) to outputs (B, 3 * 60): body acceleration, travel, tyre force over time."""
    global runs
    runs += len(designs)
    inward, outward, spring = np.split(designs.numpy(), 3, axis=1)
    body = body_speed = wheel = wheel_speed = np.zeros(len(designs))
    outputs = []
    for step in range(10 * INSTANTS):
        phase = np.clip((step * STEP - 0.05) / 0.06, 0, 1)
        road = 0.06 * phase**2 * (3 - 2 * phase)  # a kerb of 6 cm
        travel, speed = wheel - body, wheel_speed - body_speed
        damping = np.where(speed[:, None] > 0, inward, outward)
        force = curve(damping, SPEEDS, speed) + curve(spring, TRAVELS, travel)
        contact = np.maximum(TYRE * (road - wheel) + (BODY + WHEEL) * 9.81, 0)
        body_speed = body_speed + STEP * force / BODY
        wheel_speed = wheel_speed + STEP * (contact - (BODY + WHEEL) * 9.81 - force) / WHEEL
        body, wheel = body + STEP * body_speed, wheel + STEP * wheel_speed
        if step % 10 == 9:
            outputs.append((force / BODY, travel, contact / 1e3))
    return torch.tensor(np.array(outputs)).permute(2, 1, 0).flatten(1)


def comfort(outputs):
    """Root mean square acceleration, m/s^2; travel within 5 cm, at least 0.5 kN on the road."""
    acceleration, travel, contact = outputs.unflatten(-1, (3, INSTANTS)).unbind(-2)
    limits = (travel.abs().amax(-1) / 0.05 - 1, 0.5 - contact.amin(-1))
    return acceleration.square().mean(-1).sqrt(), torch.stack(limits, -1)


def learn(designs, outputs, steps=1500):
    """A network from designs to outputs, both standardised."""
    torch.manual_seed(0)
    lower, width = torch.tensor(LOWER), torch.tensor(UPPER) - torch.tensor(LOWER)
    mean, spread = outputs.mean(0), outputs.std(0) + 1e-6
    layers = torch.nn.Sequential(
        torch.nn.Linear(18, 96), torch.nn.SiLU(), torch.nn.Linear(96, 96), torch.nn.SiLU(),
        torch.nn.Linear(96, outputs.shape[1]),
    ).double()  # fmt: skip
    adam = torch.optim.Adam(layers.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        loss = (layers(2 * (designs - lower) / width - 1) - (outputs - mean) / spread).square()
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
        decay.step()
        if step % 500 == 499:
            print(f"  training step {step + 1:5}, loss {loss.mean().item():.5f}")
    layers.requires_grad_(False)
    return lambda designs: mean + spread * layers(2 * (designs - lower) / width - 1)


clock = time.perf_counter()
unit = torch.rand(200, 18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
designs = torch.tensor(LOWER) + unit * (torch.tensor(UPPER) - torch.tensor(LOWER))
print("200 runs of the simulator at random designs, and a network that learns them")
outputs = simulate(designs)
network = learn(designs, outputs)
values, limits = comfort(outputs)
allowed = (limits <= 0).all(-1)
start = designs[values.where(allowed, torch.inf).argmin()]

shared = {"start": start, "batched": True, "outer": comfort, "constraints": 2}
alone = Problem.from_callable(network, LOWER, UPPER, differentiable=True, **shared)
models = {0.0: Model(network, cost=0.01, differentiable=True)}
problem = Problem.from_callable(simulate, LOWER, UPPER, models=models, **shared)

rows = [("best of the 200", values[allowed].min(), 0.0, runs)]
believed = minimize(alone, "lbfgs", budget=Budget(evaluations=2000))
true = problem.evaluate(believed.x[None])
rows.append(("the network's best, certified", true.value[0], true.violation[0], runs))
for method in ("direct-search", "attack-search"):
    runs, said = 200, time.perf_counter()
    for it in iterate(problem, method, budget=Budget(evaluations=60)):
        if time.perf_counter() - said > 2:
            said = time.perf_counter()
            print(f"  {method}: {it.evaluations:5.0f} evaluations, best {it.best_value:.4f}")
    rows.append((method, it.best_value, it.best_violation, runs))

print(f"\n{'':32}{'m/s^2':>8}{'violation':>12}{'true runs':>12}")
for name, value, violation, used in rows:
    print(f"{name:32}{float(value):8.3f}{float(violation):12.1e}{used:12}")
print(
    f"\nThe network promised {believed.value:.3f}. The certified design, slopes in kN s/m and kN/m:"
)
for name, slopes in zip(("inward", "outward", "spring"), it.best_x.split(6), strict=True):
    print(f"  {name:8}" + "".join(f"{slope / 1e3:8.2f}" for slope in slopes.tolist()))
print(f"{time.perf_counter() - clock:.0f} seconds")
