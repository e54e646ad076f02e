"""What a careless user does to thin shells: an error by name or a right result, never NaN."""

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from geomopt.errors import InputError
from geomopt.linear import SparsePattern, open_solver
from sims.thin_shell import Control, Material, NotConverged, Scene, Sheet, Simulator

FILM = {"young": 1e7, "poisson": 0.3, "thickness": 1e-3, "density": 1000.0}
WEAVE = {"young_weft": 1e6, "shear_modulus": 1e6}


def strip(material=None, cells=(4, 2), **options) -> Simulator:
    sheet = Sheet.rectangle(0.1, 0.02, cells=cells, material=material or Material(**FILM))
    held = options.pop("clamped", sheet.vertices[:, 0] <= 0.0)
    return Simulator(Scene([sheet], clamped=held, gravity=(0.0, 0.0, -9.81)), **options)


def triangle(**held) -> Scene:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])
    sheet = Sheet(vertices, torch.tensor([[0, 1, 2]]), Material(**FILM))
    return Scene([sheet], gravity=(0.0, 0.0, -9.81), **held)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"young": torch.tensor(True)}, "young must be a number or a float tensor, got torch.bool"),
        ({"density": torch.tensor(1 + 0j)}, "density must be a number or a float tensor"),
        ({"damping": torch.tensor(0.1, device="meta")}, "damping must be on a device"),
        ({"thickness": [1e-3]}, "thickness must be a number or a tensor, got list"),
        ({"thickness": 0.0}, "thickness must be positive and finite, got 0"),
        ({"poisson": 0.5}, r"poisson must be in \(-1, 0.5\)"),
        ({"poisson": torch.tensor([0.3, math.nan])}, r"poisson must be in .*got nan"),
        ({**WEAVE, "poisson": "0.3"}, "poisson must be a number or a tensor, got str"),
        ({**WEAVE, "poisson": math.nan}, "poisson must be finite, got nan"),
        (
            {**WEAVE, "poisson": torch.full((3,), 0.1), "young": torch.full((2,), 1e7)},
            "poisson and young must have as many values",
        ),
    ],
)
def test_wrong_materials_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        Material(**{**FILM, **changes})


@pytest.mark.parametrize("warp", [(math.nan, 0, 0), (0, 1), "x", None])
def test_a_warp_is_a_direction(warp):
    with pytest.raises(InputError, match="warp must be three finite numbers"):
        replace(strip().scene.sheets[0], warp=warp)


@pytest.mark.parametrize(
    ("polyline", "angle", "message"),
    [
        (None, 0.1, "polyline must be at least two vertex indices"),
        ("ab", 0.1, "polyline must be at least two vertex indices"),
        ([0.0, 1.7], 0.1, "polyline must be int32 or int64"),
        ([0, 1], "a", "angle must be a finite number or one for each of the 1 edges, got 'a'"),
        ([0, 1], math.nan, "angle must be a finite number"),
        ([0, 1], 90.0, "rest_angles must be in radians and at most a full turn, got 90"),
    ],
)
def test_wrong_creases_are_named(polyline, angle, message):
    with pytest.raises(InputError, match=message):
        strip().scene.sheets[0].creased(polyline, angle)


@pytest.mark.parametrize("creases", [3, None])
def test_creases_of_a_rectangle_are_a_list(creases):
    with pytest.raises(InputError, match="creases must be a list of lines"):
        Sheet.rectangle(1.0, 1.0, cells=(2, 2), material=Material(**FILM), creases=creases)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clamped": "left"}, "clamped must be a mask of the 15 vertices or their indices"),
        ({"clamped": {0, 1}}, "clamped must be a mask of the 15 vertices or their indices"),
        ({"clamped": torch.ones(15, dtype=torch.bool, device="meta")}, "clamped must be a mask"),
        ({"fixed": "all"}, r"fixed must be a bool tensor of shape \(15, 3\)"),
        ({"symmetry": [0]}, "symmetry must be a mapping of axes to vertices, got list"),
        ({"symmetry": {True: [0]}}, "symmetry must have axes 0, 1 or 2 as keys, got True"),
        ({"symmetry": {0.0: [0]}}, "symmetry must have axes 0, 1 or 2 as keys, got 0.0"),
        ({"gravity": None}, "gravity must be three finite numbers, got None"),
        ({"gravity": (0, 0, "g")}, "gravity must be three finite numbers"),
        ({"sheets": None}, "sheets must be a list of at least one Sheet, got NoneType"),
    ],
)
def test_what_is_no_tensor_is_named_in_scenes(options, message):
    sheet = strip().scene.sheets[0]
    with pytest.raises(InputError, match=message):
        Scene(**{"sheets": [sheet], **options})


@pytest.mark.parametrize("moment", [None, "a", (0.0, 0.0), (0.0, math.nan, 0.0)])
def test_a_couple_is_three_numbers(moment):
    with pytest.raises(InputError, match="moment must be three finite numbers"):
        strip().scene.edge_moments([0, 1], moment)


def test_a_simulator_takes_a_scene():
    with pytest.raises(InputError, match="scene must be a Scene, got Sheet"):
        Simulator(strip().scene.sheets[0])
    with pytest.raises(InputError, match="bending must be one of"):
        Simulator(strip().scene, bending=["hinge"])


def every_use(simulator: Simulator, state: Any):
    """The calls that take a state."""
    return [
        lambda: simulator.step(state),
        lambda: simulator.rollout(state, 0),
        lambda: simulator.equilibrium(start=state),
        lambda: simulator.modes(1, state),
    ]


@pytest.mark.parametrize("use", range(4))
def test_states_of_other_scenes_are_named(use):
    simulator = strip()
    state = simulator.initial_state()
    smaller, hinged = strip(cells=(2, 2)), strip(bending="hinge")
    for wrong, message in [
        (3.0, "must be a State, got float"),
        (smaller.initial_state(), r"positions must have shape \(15, 3\), got \(9, 3\)"),
        (hinged.initial_state(), r"angles must have shape \(16, 3\)"),
        (replace(state, positions=state.positions * math.nan), "positions must be finite"),
        (replace(state, velocities=np.zeros((15, 3))), "velocities must be a torch tensor"),
        (replace(state, accumulated=state.accumulated[:1]), r"accumulated must have shape \(16\)"),
        (replace(state, previous_positions=state.positions), "must be given together"),
        (replace(state, balanced=state.positions), "balanced must be a Control or None"),
    ]:
        with pytest.raises(InputError, match=message):
            every_use(simulator, wrong)[use]()


def test_states_of_single_precision_and_of_other_integrators_go_on():
    simulator = strip(integrator="bdf2")
    other = strip(integrator="newmark")
    state = other.step(other.initial_state())
    state = replace(state, positions=state.positions.float())
    then = simulator.rollout(simulator.step(state), 2).positions
    assert then.dtype == torch.float64
    assert then.isfinite().all()


@pytest.mark.parametrize("controls", [-1, True, 2.0, None, torch.tensor(3)])
def test_steps_are_controls_or_a_number(controls):
    simulator = strip()
    with pytest.raises(InputError, match="controls must be a list of Controls, one Control or"):
        simulator.rollout(simulator.initial_state(), controls)


def test_controls_of_all_steps_have_an_axis_of_steps():
    simulator = strip()
    state = simulator.initial_state()
    for forces in (torch.tensor(1.0), 3.0, np.zeros((2, 15, 3))):
        with pytest.raises(InputError, match=r"controls\.forces must"):
            simulator.rollout(state, Control(forces=forces))
    assert simulator.rollout(state, 0).positions.shape == (1, 15, 3)


def test_a_wall_without_a_direction_is_named():
    simulator = strip()
    directors = torch.zeros(len(simulator.scene.edges), 3)
    with pytest.raises(InputError, match=r"control\.directors must have a direction at every"):
        simulator.step(simulator.initial_state(), Control(directors=directors))
    # rows of edges that are not clamped are not read
    directors[simulator.scene.clamped_edges] = torch.tensor([0.0, 0.0, 2.0])
    state = simulator.step(simulator.initial_state(), Control(directors=directors))
    expected = simulator.step(simulator.initial_state())
    torch.testing.assert_close(state.positions, expected.positions, rtol=0, atol=1e-12)


def test_a_state_without_area_is_named():
    simulator = strip()
    with pytest.raises(InputError, match="positions must give every face an area"):
        simulator.initial_state(positions=torch.zeros(15, 3))


def test_a_state_that_is_written_into_leaves_the_scene():
    simulator = strip()
    before = simulator.scene.vertices.clone()
    simulator.initial_state().positions.add_(1.0)
    assert torch.equal(simulator.scene.vertices, before)


@pytest.mark.parametrize("bending", ["mid-edge", "hinge"])
@pytest.mark.parametrize("held", [{}, {"clamped": [0, 1]}, {"pinned": [0, 1, 2]}])
def test_one_triangle_is_a_sheet(bending, held):
    scene = triangle(**held)
    simulator = Simulator(scene, bending=bending)
    fallen = simulator.rollout(simulator.initial_state(), 2).positions[-1]
    assert fallen.isfinite().all()
    assert torch.equal(fallen[scene.held], scene.vertices[scene.held])
    if not held:  # implicit Euler: g h^2 (1 + 2)
        expected = scene.vertices[:, 2] - 3 * 9.81 * 5e-3**2
        torch.testing.assert_close(fallen[:, 2], expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("bending", ["mid-edge", "hinge"])
def test_very_slender_triangles_converge(bending):
    # sides 5000 times their height, whose strains round more than those of good triangles
    sheet = Sheet.rectangle(1.0, 0.01, cells=(1, 50), material=Material(**FILM))
    scene = Scene([sheet], clamped=sheet.vertices[:, 0] <= 0, gravity=(0.0, 0.0, -9.81))
    simulator = Simulator(scene, bending=bending)
    trajectory = simulator.rollout(simulator.initial_state(), 3)
    assert all(solution.step <= 5e-11 for solution in trajectory.solutions)
    assert (trajectory.positions[-1, sheet.vertices[:, 0] > 0.5, 2] < 0).all()


@pytest.mark.parametrize("bending", ["mid-edge", "hinge"])
def test_all_held_and_nothing_loaded_stays(bending):
    simulator = strip(clamped=range(15), bending=bending)
    vertices = simulator.scene.vertices
    assert torch.equal(simulator.rollout(simulator.initial_state(), 2).positions[-1], vertices)
    assert torch.equal(simulator.equilibrium().positions, vertices)
    with pytest.raises(InputError, match="count must be"):
        simulator.modes(1)


@pytest.mark.parametrize("integrator", ["implicit-euler", "bdf2", "newmark"])
@pytest.mark.parametrize("time_step", [1e-6, 10.0])
def test_any_time_step_gives_numbers(integrator, time_step):
    simulator = strip(integrator=integrator, time_step=time_step)
    trajectory = simulator.rollout(simulator.initial_state(), 3)
    assert trajectory.positions.isfinite().all()
    assert trajectory.positions.abs().max() <= 0.1001  # m, the strip's length, barely stretched


def test_a_drive_that_jumps_carries_the_sheet_along():
    simulator = strip()
    goal = simulator.scene.vertices + torch.tensor([0.0, 0.0, 1.0])
    state = simulator.step(simulator.initial_state(), Control(positions=goal))
    held = simulator.scene.held
    assert torch.equal(state.positions[held], goal[held])
    assert state.positions.isfinite().all()


def test_backward_goes_past_a_step_that_failed():
    slopes = []
    for fail in (False, True):
        young = torch.tensor(1e7, dtype=torch.float64, requires_grad=True)
        simulator = strip(Material(**{**FILM, "young": young}))
        state = simulator.step(simulator.initial_state())
        if fail:
            forces = torch.full((15, 3), 1e200, dtype=torch.float64)
            with pytest.raises(NotConverged):
                simulator.step(state, Control(forces=forces))
        simulator.step(state).positions[:, 2].sum().backward()
        slopes.append(float(young.grad))
    assert slopes[0] == slopes[1] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_default_dtype_changes_nothing(dtype):
    expected = strip().equilibrium().positions
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = strip().equilibrium().positions
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found, expected)


def test_it_runs_without_gradients():
    expected = strip().equilibrium().positions
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(strip().equilibrium().positions, expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda given: pickle.loads(pickle.dumps(given))])
def test_copies_are_as_good(copied):
    simulator = strip()
    state = simulator.step(simulator.initial_state())
    expected = simulator.step(state).positions
    again = Simulator(copied(simulator.scene))
    assert torch.equal(again.step(copied(state)).positions, expected)
    assert torch.equal(copied(simulator).step(state).positions, expected)


def test_simulators_do_not_disturb_each_other():
    first, second = strip(), strip(cells=(3, 2))
    states = [first.initial_state(), second.initial_state()]
    for _ in range(2):
        states = [s.step(state) for s, state in zip((first, second), states, strict=True)]
    for cells, state in (((4, 2), states[0]), ((3, 2), states[1])):
        alone = strip(cells=cells)
        assert torch.equal(alone.rollout(alone.initial_state(), 2).positions[-1], state.positions)


def test_conjugate_gradients_take_what_direct_solvers_take():
    pattern = SparsePattern.of([torch.tensor([[0, 1], [1, 2]])], 3)
    blocks = torch.tensor([[2.0, -1.0], [-1.0, 2.0]], dtype=torch.float64).expand(2, 2, 2)
    values = pattern.assemble([blocks])
    right = torch.ones(3)
    expected = open_solver(pattern, "superlu").factorise(values).solve(right)
    for given in (values, values.float()):
        factor = open_solver(pattern, "cg").factorise(given)
        torch.testing.assert_close(factor.solve(right), expected)
        with pytest.raises(InputError, match=r"right must have shape \(3\), got \(2,\)"):
            factor.solve(right[:2])


@pytest.mark.parametrize(
    ("size", "free", "message"),
    [
        (2.5, None, "size must be a whole number, got 2.5"),
        (3, [True] * 3, "free must be a bool tensor, got list"),
    ],
)
def test_wrong_patterns_are_named(size, free, message):
    with pytest.raises(InputError, match=message):
        SparsePattern.of([torch.tensor([[0, 1], [1, 2]])], size, free)
