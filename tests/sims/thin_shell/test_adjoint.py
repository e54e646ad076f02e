"""Derivatives of steps, rollouts and equilibria against central differences of the whole."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from geomopt.errors import InputError
from sims.thin_shell import (
    Control,
    Material,
    NearBuckling,
    Scene,
    Sheet,
    Simulator,
    equilibrium,
    sensitivities,
)
from sims.thin_shell.directors import canonical_directors

TIGHT = 1e-12  # m/s, so that what Newton leaves cannot be seen in a difference
DIFFERENCE = 1e-5  # relative, of the best central difference; most agree to 1e-8
# Shares of an input's range: weak influences are seen best by large ones, and creases about to
# yield, where second derivatives jump, by small ones.
STEPS = (1e-5, 1e-4, 1e-6, 1e-7)
EXACT = 1e-8  # forward against reverse mode: solves with one matrix, and sums that cancel

Inputs = dict[str, Tensor]
Outputs = list[Tensor]
FLAT = Sheet.rectangle(0.04, 0.02, (4, 2), Material(1e8, 0.3, 3e-4, 800.0))


def drawn(*shape: int, source: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def inputs_with_ranges(plastic: bool, moments: bool) -> dict[str, tuple[Tensor, float]]:
    """Each differentiable input of a small sheet, and how far it is moved in differences."""
    source = torch.Generator().manual_seed(1)
    v, f, e = len(FLAT.vertices), len(FLAT.faces), len(FLAT.edges)

    def near(value: float, share: float, *shape: int) -> Tensor:
        return value * (1 + share * drawn(*shape, source=source))

    def around(size: float, *shape: int) -> Tensor:
        return size * drawn(*shape, source=source)

    rest = FLAT.vertices + around(3e-6, v, 3)
    drive = torch.tensor([1e-5, 2e-5, 3e-5, 5e-3, -2e-2, 5e-3], dtype=torch.float64)
    found = {
        "young": (near(1e8, 0.1, f), 1e7),
        "poisson": (near(0.3, 0.05, f), 0.05),
        "thickness": (near(3e-4, 0.05, f), 3e-5),
        "density": (near(800.0, 0.05, f), 50.0),
        "damping": (near(2e-3, 0.1, f), 2e-4),
        "gravity": (torch.tensor([0.5, 1.0, -9.81], dtype=torch.float64), 1.0),
        "rest": (rest, 1e-5),
        "vertices": (rest + around(1e-6, v, 3), 1e-6),
        "velocities": (around(1e-3, v, 3), 1e-3),
        "forces": (around(1e-5, v, 3), 1e-5),
        "drive": (drive, 1e-2),
        "creases": (around(5e-3, e), 5e-2),
    }
    if moments:
        found["moments"] = (around(1e-7, e), 1e-8)
    if plastic:
        found["yield_curvature"] = (near(0.5, 0.05, f), 0.05)
        found["hardening"] = (near(0.2, 0.1, f), 0.05)
        found["damage"] = (near(0.3, 0.1, f), 0.05)
    return found


def turn(vector: Tensor) -> Tensor:
    """The rotation matrix of a rotation vector (3,)."""
    x, y, z = vector
    rows = torch.stack([0 * x, -z, y, z, 0 * x, -x, -y, x, 0 * x])
    return torch.linalg.matrix_exp(rows.reshape(3, 3))


def simulate(
    given: Inputs, membrane: str, bending: str, integrator: str, steps: int | None
) -> Outputs:
    """All of the state after some steps, or in an equilibrium, of a sheet with a moving wall."""
    optional = ("yield_curvature", "hardening", "damage")
    material = Material(
        **{name: given[name] for name in ("young", "poisson", "thickness", "density", "damping")},
        **{name: given[name] for name in optional if name in given},
        softness=0.3,
        membrane=membrane,  # pyright: ignore[reportArgumentType]
    )
    vertices = given["vertices"]
    sheet = Sheet(vertices, FLAT.faces, material, given["rest"], given["creases"])
    clamped = FLAT.vertices[:, 0] < 1e-9
    scene = Scene([sheet], clamped=clamped, gravity=given["gravity"])
    simulator = Simulator(
        scene,
        integrator=integrator,  # pyright: ignore[reportArgumentType]
        bending=bending,  # pyright: ignore[reportArgumentType]
        tolerance=TIGHT,
    )
    walls = canonical_directors(vertices, scene.topology)

    def control(share: float) -> Control:
        rotation = turn(share * given["drive"][3:])
        return Control(
            positions=vertices @ rotation.T + share * given["drive"][:3],
            directors=walls @ rotation.T,
            forces=given["forces"],
            moments=given.get("moments"),
        )

    if steps is None:
        last = control(1.0)
        state = simulator.equilibrium(
            last.forces,
            last.moments,
            positions=last.positions,
            directors=last.directors,
            increments=3,
        )
        return [state.positions, state.angles, state.plastic_angles, state.accumulated]
    start = simulator.initial_state(velocities=given["velocities"])
    ways = [control((step + 1) / steps) for step in range(steps)]
    found = simulator.rollout(start, ways)
    last = found.final
    return [
        found.positions, found.velocities, last.angles, last.plastic_angles, last.accumulated
    ]  # fmt: skip


# membrane, bending, integrator, steps (None: an equilibrium), whether it yields, moments
CASES = {
    "mid-edge": ("stvk", "mid-edge", "implicit-euler", 2, True, True),
    "newmark": ("stvk", "mid-edge", "newmark", 2, False, True),
    "tension-field": ("tension-field", "mid-edge", "bdf2", 3, False, False),
    "hinge": ("neo-hookean", "hinge", "bdf2", 3, True, False),
    "equilibrium": ("stvk", "mid-edge", "implicit-euler", None, True, True),
    "hinge-equilibrium": ("neo-hookean", "hinge", "newmark", None, True, False),
}


class Case:
    """A way to simulate, a loss on all of its outputs, and a direction for each input."""

    def __init__(self, membrane, bending, integrator, steps, plastic, moments):
        ranges = inputs_with_ranges(plastic, moments)
        if steps is None:
            del ranges["velocities"], ranges["damping"]
        source = torch.Generator().manual_seed(2)
        self.inputs = {name: value for name, (value, _) in ranges.items()}
        self.ways = {
            name: size * drawn(*value.shape, source=source)
            for name, (value, size) in ranges.items()
        }
        self.fixed = {"damping": torch.zeros(())} if steps is None else {}
        self.options = membrane, bending, integrator, steps
        self.plastic = plastic
        outputs = self.outputs(self.inputs)
        # positions and velocities weigh as much as angles; plastic curvature counts in 1/m
        sizes = [1e3, 1e1, 1.0, 1.0, 1e-2] if steps else [1e3, 1.0, 1.0, 1e-2]
        self.weights = [
            s * drawn(*o.shape, source=source) for s, o in zip(sizes, outputs, strict=True)
        ]
        self.yields = bool((outputs[-1] > 0).any())

    def outputs(self, inputs: Inputs) -> Outputs:
        return simulate(self.fixed | inputs, *self.options)

    def loss(self, inputs: Inputs) -> Tensor:
        outputs = self.outputs(inputs)
        return torch.stack(
            [(o * w).sum() for o, w in zip(outputs, self.weights, strict=True)]
        ).sum()

    def gradient(self) -> Inputs:
        leaves = {name: value.clone().requires_grad_() for name, value in self.inputs.items()}
        parts = torch.autograd.grad(self.loss(leaves), list(leaves.values()), allow_unused=True)
        return {
            n: g if g is not None else 0 * leaves[n] for n, g in zip(leaves, parts, strict=True)
        }


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equilibrium, "STATIC_TOLERANCE", TIGHT)
        yield Case(*CASES[request.param])


def test_gradients_are_derivatives(case: Case):
    assert case.yields == case.plastic
    gradient = case.gradient()
    for name, value in case.inputs.items():
        way = case.ways[name]
        found, seen = float((gradient[name] * way).sum()), []
        for step in STEPS:
            sides = [case.loss(case.inputs | {name: value + s * step * way}) for s in (1, -1)]
            seen.append(float(sides[0] - sides[1]) / (2 * step))
            if abs(seen[-1] - found) <= DIFFERENCE * abs(found):
                break
        else:
            pytest.fail(f"{name}: {found} beside differences of {seen}")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_forward_mode_agrees_with_reverse_mode(case: Case):
    def along(shares: Tensor) -> Tensor:
        moved = {n: v + shares[0] * case.ways[n] for n, v in case.inputs.items()}
        return case.loss(moved)

    value, derivative = sensitivities(along, torch.zeros(1))
    gradient = case.gradient()
    wanted = sum(float((gradient[name] * way).sum()) for name, way in case.ways.items())
    assert float(value) == pytest.approx(float(case.loss(case.inputs)), rel=1e-12)
    assert derivative.shape == (1,)
    assert float(derivative) == pytest.approx(wanted, rel=EXACT)


def pulled_sheet(yield_curvature: float = math.inf) -> tuple[Simulator, Tensor, Tensor]:
    """A clamped sheet, its Young's modulus as a leaf, and forces on its free corner."""
    young = torch.tensor(1e9, dtype=torch.float64, requires_grad=True)
    material = Material(young, 0.3, 2e-4, 900.0, yield_curvature=yield_curvature, hardening=0.2)
    sheet = Sheet.rectangle(0.04, 0.04, (5, 5), material)
    scene = Scene([sheet], clamped=sheet.vertices[:, 0] < 1e-9, gravity=(0.0, 0.0, -9.81))
    forces = torch.zeros_like(sheet.vertices)
    forces[-1, 2] = 5e-2
    return Simulator(scene), young, forces.requires_grad_()


@pytest.mark.parametrize("yield_curvature", [math.inf, 2.0])
def test_checkpoints_change_nothing(yield_curvature: float):
    """Not a bit of the trajectory and of its gradient, whether or not the last part is full."""
    found = []
    for checkpoint in (None, None, 3, 20):
        simulator, young, forces = pulled_sheet(yield_curvature)
        controls = [Control(forces=forces)] * 5
        way = simulator.rollout(simulator.initial_state(), controls, checkpoint=checkpoint)
        loss = way.positions.square().sum() + way.velocities[-1].square().sum()
        gradient = torch.autograd.grad(loss, [young, forces])
        found.append([way.positions, way.velocities, way.times, way.final.angles, *gradient])
        assert len(way.solutions) == 5
        assert (way.plastic_angles is None) == math.isinf(yield_curvature)
        if way.plastic_angles is not None:
            assert way.plastic_angles.shape[0] == 6
            assert (way.final.accumulated > 0).any()
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("checkpoint", [0, -1, 2.5])
def test_checkpoint_must_be_a_number_of_steps(checkpoint):
    simulator, _, _ = pulled_sheet()
    with pytest.raises(InputError, match="checkpoint"):
        simulator.rollout(simulator.initial_state(), 2, checkpoint=checkpoint)


@pytest.mark.parametrize("yield_curvature", [math.inf, 2.0])
def test_a_step_keeps_its_unknowns_and_creases(yield_curvature: float):
    def kept(steps: int) -> int:
        simulator, _, forces = pulled_sheet(yield_curvature)
        start = simulator.initial_state()
        sizes: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            simulator.rollout(start, [Control(forces=forces)] * steps)
        return sum(tensor.untyped_storage().nbytes() for tensor in sizes.values())

    simulator, _, _ = pulled_sheet()
    scene = simulator.scene
    creases = 0 if math.isinf(yield_curvature) else 4 * len(scene.faces)
    wanted = 8 * (3 * len(scene.vertices) + len(scene.edges) + creases)
    assert kept(6) - kept(4) <= 2 * wanted


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_sensitivities_are_columns_of_the_jacobian():
    def tip(logarithms: Tensor) -> Tensor:
        young, thickness = (torch.tensor([1e9, 2e-4]) * logarithms.exp()).unbind()
        sheet = Sheet.rectangle(0.04, 0.02, (4, 2), Material(young, 0.3, thickness, 900.0))
        scene = Scene([sheet], clamped=sheet.vertices[:, 0] < 1e-9, gravity=(0.0, 0.0, -9.81))
        return Simulator(scene).equilibrium().positions[-1]

    point = torch.zeros(2, dtype=torch.float64)
    value, found = sensitivities(tip, point)
    wanted = torch.autograd.functional.jacobian(tip, point)
    assert isinstance(wanted, Tensor)
    assert value.shape == (3,)
    torch.testing.assert_close(found, wanted, rtol=EXACT, atol=1e-14)
    with pytest.raises(InputError, match="parameters"):
        sensitivities(tip, torch.zeros(0))


def column(share: float) -> Tensor:
    """Tip of a flat column under a share of its critical load, differentiable in the load."""
    length, width, rigidity = 0.1, 0.02, 2.5e9 * 1e-4**3 / 12
    sheet = Sheet.rectangle(length, width, (16, 3), Material(2.5e9, 0.0, 1e-4, 800.0))
    x = sheet.vertices[:, 0]
    simulator = Simulator(Scene([sheet], clamped=x < 1e-9))
    load = torch.tensor(share * math.pi**2 / 4 * rigidity * width / length**2, requires_grad=True)
    ends = (x > length - 1e-9).double()
    along = torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64)
    loads = load * (ends / ends.sum())[:, None] * along
    state = simulator.equilibrium(loads=loads)
    (slope,) = torch.autograd.grad(state.positions[-1].sum(), load)
    return slope


def test_a_gradient_at_a_buckling_point_is_flagged():
    """Euler's column, clamped and free: pi^2 EI / (4 L^2); nothing is said well below it."""
    for share in (0.0, 0.5, 0.9):
        assert column(share).isfinite()
    with pytest.warns(NearBuckling, match="smallest pivot"):
        assert column(1.0).isfinite()


@pytest.mark.parametrize("bending", ["mid-edge", "hinge"])
def test_damping_of_zero_has_a_derivative(bending):
    """On some faces and on all, as one starts to look for it from there."""

    def height(damping: Tensor) -> Tensor:
        material = Material(1e8, 0.3, 3e-4, 800.0, damping=damping, yield_curvature=5.0)
        sheet = Sheet.rectangle(0.04, 0.02, (4, 2), material)
        clamped = sheet.vertices[:, 0] < 1e-9
        scene = Scene([sheet], clamped=clamped, gravity=(0.0, 0.0, -9.81))
        simulator = Simulator(scene, bending=bending, tolerance=TIGHT)
        return simulator.rollout(simulator.initial_state(), 3).positions[-1, :, 2].sum()

    for damped in (0.0, 1e-3):
        damping = torch.zeros(16, dtype=torch.float64)
        damping[8:] = damped
        damping.requires_grad_()
        (found,) = torch.autograd.grad(height(damping), damping)
        step = 1e-6  # a negative damping is refused, so the difference is one-sided, second order
        with torch.no_grad():
            near = [float(height(damping + share * step)) for share in (0, 1, 2)]
        difference = (-3 * near[0] + 4 * near[1] - near[2]) / (2 * step)
        assert float(found.sum()) == pytest.approx(difference, rel=1e-5)
