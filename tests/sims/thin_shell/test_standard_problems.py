"""Standard plates, shells and membranes through the public classes, on meshes that take seconds.

Plate bending is as soft as that of Morley's triangle, which has the same curvatures: deflections
come down to the exact ones with the square of the cell size, so tolerances follow the mesh.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, root

from geomopt.errors import InputError
from sims.thin_shell import Material, Scene, Sheet, Simulator
from sims.thin_shell.patterns import Pattern

PATTERNS = ("alternating", "diagonal", "crossed", "delaunay")
NEAR = 1e-9
STEEL = 7e10  # Pa
SHELL = 0.03  # of a linear shell on 16 cells a side


def mapped(shape, cells, size, material, pattern: Pattern = "alternating"):
    """A sheet whose rectangle is mapped by `shape` (a, b) -> (x, y, z), and a and b."""
    flat = Sheet.rectangle(*size, cells=cells, material=material, pattern=pattern)
    a, b = flat.vertices[:, 0], flat.vertices[:, 1]
    return Sheet(torch.stack(shape(a, b), dim=1), flat.faces, material), a, b


def disc(rings, material):
    """A disc of radius 1 with 6 k vertices on ring k, and the mask of its rim."""
    points, faces, first = [(0.0, 0.0, 0.0)], [], [0]
    for ring in range(1, rings + 1):
        first.append(len(points))
        outer, inner = 6 * ring, max(6 * (ring - 1), 1)
        for place in range(outer):
            angle, radius = 2 * math.pi * place / outer, ring / rings
            points.append((radius * math.cos(angle), radius * math.sin(angle), 0.0))
            sector, step = divmod(place, ring)
            start, below = first[ring], first[ring - 1]
            a, b = start + place, start + (place + 1) % outer
            c = below + (sector * (ring - 1) + step) % inner
            faces.append((a, b, c))
            if step < ring - 1:
                faces.append((c, b, below + (sector * (ring - 1) + step + 1) % inner))
    sheet = Sheet(torch.tensor(points, dtype=torch.float64), torch.tensor(faces), material)
    return sheet, sheet.vertices.norm(dim=1) > 1 - NEAR


def rigidity(material):
    return float(material.young * material.thickness**3 / 12 / (1 - material.poisson**2))


def rim(sheet, width, height):
    x, y = sheet.vertices[:, 0], sheet.vertices[:, 1]
    return (x < NEAR) | (x > width - NEAR) | (y < NEAR) | (y > height - NEAR)


def nearest(sheet, *point):
    return int((sheet.vertices - torch.tensor(point)).norm(dim=1).argmin())


def point_force(sheet, vertex, force):
    loads = torch.zeros_like(sheet.vertices)
    loads[vertex] = torch.tensor(force).to(loads)
    return loads


def pressure(scene, load):
    """Dead forces of `load` [N/m2] along z on the sheet of a scene."""
    loads = torch.zeros_like(scene.vertices)
    surface = scene.of_faces("density")[0] * scene.of_faces("thickness")[0]
    loads[:, 2] = load * scene.masses() / surface
    return loads


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_plate_of_constant_curvature_is_exact_on_every_mesh(pattern):
    # A force P up at a free corner, the others pinned: w = P x y / (2 D (1 - nu)). Moments M on two
    # sides: kx = M / (D (1 - nu^2)), ky = -nu kx (Timoshenko and Woinowsky-Krieger 1959, ch. 2).
    material = Material(young=STEEL, poisson=0.3, thickness=0.005, density=2700.0)
    sheet = Sheet.rectangle(1.0, 0.6, cells=(10, 6), material=material, pattern=pattern)
    x, y = sheet.vertices[:, 0], sheet.vertices[:, 1]
    fixed = torch.zeros(len(x), 3, dtype=torch.bool)
    fixed[nearest(sheet, 0.0, 0.0, 0.0)] = True
    fixed[nearest(sheet, 1.0, 0.0, 0.0), 1:] = True
    fixed[nearest(sheet, 0.0, 0.6, 0.0), 2] = True
    scene = Scene([sheet], fixed=fixed)
    simulator, stiff = Simulator(scene), rigidity(material)

    force = 5e-6 * 2 * stiff * 0.7 / 0.6
    loads = point_force(sheet, nearest(sheet, 1.0, 0.6, 0.0), (0.0, 0.0, force))
    twisted = simulator.equilibrium(loads=loads).positions[:, 2]
    exact = force * x * y / (2 * stiff * 0.7)
    # deflections of a thousandth of the thickness: their squares are left
    assert (twisted - exact).abs().max() < 1e-5 * exact.abs().max()

    moment = 5e-6 * stiff
    moments = scene.edge_moments(x > 1 - NEAR, (0.0, -0.6 * moment, 0.0))
    moments = moments + scene.edge_moments(x < NEAR, (0.0, 0.6 * moment, 0.0))
    bent = simulator.equilibrium(moments=moments).positions[:, 2]
    curvature = moment / stiff / (1 - 0.3**2)
    exact = curvature * (x * (x - 1.0) - 0.3 * y * (y - 0.6)) / 2
    assert (bent - exact).abs().max() < 1e-5 * exact.abs().max()


def test_a_square_plate_under_edge_moments():
    # all sides simply supported: w = 0.0737 M a^2 / D (Timoshenko and Woinowsky-Krieger 1959)
    material = Material(young=STEEL, poisson=0.3, thickness=0.01, density=2700.0)
    sheet = Sheet.rectangle(1.0, 1.0, cells=(16, 16), material=material, pattern="crossed")
    scene = Scene([sheet], pinned=rim(sheet, 1.0, 1.0))
    x, y = sheet.vertices[:, 0], sheet.vertices[:, 1]
    moment = 1e-5 * rigidity(material) / 0.0737
    moments = scene.edge_moments(x > 1 - NEAR, (0.0, -moment, 0.0))
    moments = moments + scene.edge_moments(x < NEAR, (0.0, moment, 0.0))
    moments = moments + scene.edge_moments(y > 1 - NEAR, (moment, 0.0, 0.0))
    moments = moments + scene.edge_moments(y < NEAR, (-moment, 0.0, 0.0))
    bent = Simulator(scene).equilibrium(moments=moments).positions
    middle = float(bent[nearest(sheet, 0.5, 0.5, 0.0), 2])
    assert middle == pytest.approx(-1e-5, rel=0.01)  # three digits are printed


@pytest.mark.parametrize("pattern", ["alternating", "diagonal", "crossed"])
def test_a_clamped_plate_comes_down_with_the_square_of_the_cell(pattern):
    # w = 0.00126532 q a^4 / D in the middle of a square plate (Taylor and Govindjee 2004)
    material = Material(young=STEEL, poisson=0.3, thickness=0.01, density=2700.0)
    load = 1e-5 * rigidity(material) / 0.00126532
    errors = []
    for cells in (16, 32):
        sheet = Sheet.rectangle(1.0, 1.0, (cells, cells), material, pattern)
        scene = Scene([sheet], clamped=rim(sheet, 1.0, 1.0))
        state = Simulator(scene).equilibrium(loads=pressure(scene, load))
        errors.append(float(state.positions[nearest(sheet, 0.5, 0.5, 0.0), 2]) / 1e-5 - 1)
    assert 0.04 < errors[0] < 0.09
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize("across", [False, True])
def test_an_orthotropic_plate_sags_as_naviers_series(across):
    # Timoshenko and Woinowsky-Krieger 1959, plates of anisotropic material: H = nu21 D1 + 2 Dk
    strong, weak, poisson, shear, thickness = 1e10, 1e9, 0.25, 6e8, 0.005
    unit = thickness**3 / 12 / (1 - poisson**2 * weak / strong)
    along_x, along_y = strong * unit, weak * unit
    if across:
        along_x, along_y = along_y, along_x
    mixed = poisson * weak * unit + 2 * shear * thickness**3 / 12
    terms = [
        math.sin(m * math.pi / 2)
        * math.sin(n * math.pi / 2)
        / (m * n)
        / (along_x * m**4 + 2 * mixed * (m * n / 0.8) ** 2 + along_y * (n / 0.8) ** 4)
        for m in range(1, 40, 2)
        for n in range(1, 40, 2)
    ]
    load = 1e-5 / (16 / math.pi**6 * sum(terms))
    material = Material(
        young=strong, poisson=poisson, thickness=thickness, density=1000.0, young_weft=weak,
        shear_modulus=shear,
    )  # fmt: skip
    flat = Sheet.rectangle(1.0, 0.8, cells=(20, 16), material=material)
    warp = (0.0, 1.0, 0.0) if across else (1.0, 0.0, 0.0)
    sheet = Sheet(flat.vertices, flat.faces, material, warp=warp)
    scene = Scene([sheet], pinned=rim(sheet, 1.0, 0.8))
    state = Simulator(scene).equilibrium(loads=pressure(scene, load))
    middle = float(state.positions[nearest(sheet, 0.5, 0.4, 0.0), 2])
    # 3.1 % at worst on this mesh, a quarter of it on one twice as fine
    assert middle == pytest.approx(1e-5, rel=0.04)


def test_frequencies_of_round_plates():
    # w R^2 sqrt(m / D), Leissa 1969 (Vibration of plates); nu = 0.33 for the free one
    clamped, free = (10.216, 21.26, 21.26, 34.88, 34.88), (5.253, 5.253, 9.084, 12.23, 12.23)
    for reference, rigid, tolerance in ((clamped, 0, 0.05), (free, 6, 0.02)):
        material = Material(young=STEEL, poisson=0.33, thickness=0.005, density=2700.0)
        sheet, edge = disc(12, material)
        scene = Scene([sheet], clamped=None if rigid else edge)
        scale = math.sqrt(2700.0 * 0.005 / rigidity(material))
        found = Simulator(scene).modes(rigid + 5).angular_frequencies * scale
        assert found[rigid:].tolist() == pytest.approx(reference, rel=tolerance)
        assert found[:rigid].abs().max() < 1e-3 if rigid else True


def test_a_heated_plate_buckles_at_the_critical_strain():
    # w1^2 falls linearly with the strain, to zero at 2 pi^2 t^2 / (12 (1 + nu) a^2): N = E t e /
    # (1 - nu) on every side is then 2 pi^2 D / a^2
    material = Material(young=STEEL, poisson=0.3, thickness=0.005, density=2700.0)
    flat = Sheet.rectangle(1.0, 1.0, cells=(16, 16), material=material)
    critical = 2 * math.pi**2 * 0.005**2 / 12 / 1.3
    squared = []
    for strain in (0.0, critical / 2):
        rest = flat.vertices * (1 + strain)
        sheet = Sheet(flat.vertices, flat.faces, material, rest_vertices=rest)
        simulator = Simulator(Scene([sheet], pinned=rim(sheet, 1.0, 1.0)))
        squared.append(float(simulator.modes(1, simulator.equilibrium()).squared[0]))
    found = critical / 2 * squared[0] / (squared[0] - squared[1])
    assert found == pytest.approx(critical, rel=0.025)  # 3.0 % on 12 cells, 0.8 % on 24


def test_a_roof_under_its_weight():
    # Scordelis and Lo 1964: 0.3024 down at the middle of the free side (the deep shell value)
    angle, half = math.radians(40), 25.0
    material = Material(young=4.32e8, poisson=0.0, thickness=0.25, density=360.0)
    sheet, a, b = mapped(
        lambda a, b: (25 * a.sin(), b, 25 * a.cos()), (16, 16), (angle, half), material, "crossed"
    )
    fixed = torch.zeros(len(a), 3, dtype=torch.bool)
    fixed[b < NEAR] = torch.tensor([True, False, True])
    # so little weight that the roof stays linear
    scene = Scene([sheet], fixed=fixed, symmetry={0: a < NEAR, 1: b > half - NEAR},
                  gravity=(0.0, 0.0, -1e-4))  # fmt: skip
    sag = scene.vertices - Simulator(scene).equilibrium().positions
    corner = int((a + b).argmax())
    assert float(sag[corner, 2]) * 1e4 == pytest.approx(0.3024, rel=SHELL)


@pytest.mark.parametrize(("axis", "reference"), [(2, 5256.0), (1, 1294.0)])
def test_a_strip_twisted_by_a_right_angle(axis, reference):
    # t = 0.0032 of Belytschko, Wong and Stolarski 1989 after MacNeal and Harder 1985: 0.005256 in
    # the plane of the tip and 0.001294 across it under 1e-6
    material = Material(young=29e6, poisson=0.22, thickness=0.0032, density=1.0)

    def shape(a, b):
        turn = math.pi / 24 * a
        return a, (b - 0.55) * turn.cos(), (b - 0.55) * turn.sin()

    sheet, a, b = mapped(shape, (24, 4), (12.0, 1.1), material)
    scene = Scene([sheet], clamped=a < NEAR)
    force = [0.0, 0.0, 0.0]
    force[axis] = 1e-6
    loads = scene.line_load(a > 12 - NEAR, force)
    moved = Simulator(scene).equilibrium(loads=loads).positions - sheet.vertices
    tip = (a > 12 - NEAR) & ((b - 0.55).abs() < NEAR)
    assert float(moved[tip, axis]) * 1e6 == pytest.approx(reference, rel=0.01)


def test_a_slit_ring_lifted_at_its_end():
    # Sze, Liu and Lo 2004: W_A = 13.891 at the inner and W_B = 17.528 at the outer
    # radius under 0.8 per length; linear triangles that must bend across themselves are 5 % stiff
    material = Material(young=21e6, poisson=0.0, thickness=0.03, density=1.0)
    turn = 2 * math.pi
    sheet, a, b = mapped(
        lambda a, b: ((6 + b) * a.cos(), (6 + b) * a.sin(), 0 * a), (40, 6), (turn, 4.0), material
    )
    scene = Scene([sheet], clamped=a > turn - NEAR)
    loads = scene.line_load(a < NEAR, (0.0, 0.0, 3.2))
    lifted = Simulator(scene).equilibrium(loads=loads, increments=20).positions[:, 2]
    inner, outer = lifted[(a < NEAR) & (b < NEAR)], lifted[(a < NEAR) & (b > 4 - NEAR)]
    assert float(inner) == pytest.approx(13.891, rel=0.05)
    assert float(outer) == pytest.approx(17.528, rel=0.05)


def test_a_round_membrane_blows_up_as_henckys():
    # Hencky 1915: w = 0.653 R (q R / (E t))^(1/3) for nu = 0.3. Integrated here for the tension N:
    # (r^3 N')' / r = -E t w'^2 / 2, w' = -q r / (2 N), and r N' + (1 - nu) N = 0 at the held rim
    stretch, load = STEEL * 1e-4, 100.0

    def shoot(tension):
        def slopes(r, state):
            slope = -load * r / 2 / state[0]
            return [state[1], (-stretch / 2 * slope**2 - 3 * r * state[1]) / r**2, slope]

        start = [tension, -stretch * (load / tension) ** 2 / 32 * 1e-6, 0.0]
        end = solve_ivp(slopes, [1e-6, 1.0], start, rtol=1e-9, atol=1e-12).y[:, -1]
        return end[1] + 0.7 * end[0], -end[2]

    height = shoot(brentq(lambda tension: shoot(tension)[0], 3e2, 1e5))[1]
    assert height == pytest.approx(0.6534 * (load / stretch) ** (1 / 3), rel=1e-3)
    material = Material(young=STEEL, poisson=0.3, thickness=1e-4, density=1.0, bending=1e-10)
    sheet, edge = disc(8, material)
    scene = Scene([sheet], pinned=edge)
    state = Simulator(scene).equilibrium(loads=pressure(scene, load))
    assert float(state.positions[0, 2]) == pytest.approx(height, rel=0.005)


@pytest.mark.parametrize("stress", [0.2, 1.0, 3.0])
def test_a_rubber_strip_is_pulled_to_many_times_its_length(stress):
    # the law by principal stretches: s_i = mu (l_i - 1 / l_i) + lam ln(l_1 l_2) / l_i, s_2 = 0
    young, poisson = 1.5e6, 0.49
    lam, mu = young * poisson / (1 - poisson**2), young / 2 / (1 + poisson)

    def law(logs):
        long, wide = math.exp(logs[0]), math.exp(logs[1])
        volume = lam * (logs[0] + logs[1])
        first = mu * (long - 1 / long) + volume / long - stress * young
        return [first / young, (mu * (wide - 1 / wide) + volume / wide) / young]

    long, wide = np.exp(root(law, [math.log(1 + stress), -0.3]).x)
    material = Material(young, poisson, 1e-3, 1000.0, membrane="neo-hookean")
    sheet = Sheet.rectangle(0.1, 0.04, cells=(10, 4), material=material, pattern="delaunay")
    x = sheet.vertices[:, 0]
    fixed = torch.zeros(len(x), 3, dtype=torch.bool)
    fixed[:, 2] = True
    fixed[x < NEAR, 0] = True
    fixed[nearest(sheet, 0.0, 0.0, 0.0), 1] = True
    scene = Scene([sheet], fixed=fixed)
    loads = scene.line_load(x > 0.1 - NEAR, (stress * young * 4e-5, 0.0, 0.0))
    positions = Simulator(scene).equilibrium(loads=loads).positions
    size = positions.amax(dim=0) - positions.amin(dim=0)
    assert size[:2].tolist() == pytest.approx([0.1 * long, 0.04 * wide], rel=1e-8)


HANGING = Material(young=1e10, poisson=0.3, thickness=2e-3, density=1000.0)


def hanging(pinned, gravity=(0.0, 0.0, -9.81), flat=False):
    """A sheet 0.2 wide and 0.3 high that hangs down from z = 0, or lies flat at y >= 0."""
    shape = (lambda a, b: (a, b, 0 * a)) if flat else (lambda a, b: (a, 0 * a, -b))
    sheet, a, b = mapped(shape, (4, 6), (0.2, 0.3), HANGING)
    return Scene([sheet], pinned=pinned(a, b), gravity=gravity), b > 0.3 - NEAR


def corners(a, b):
    return (b < NEAR) & ((a < NEAR) | (a > 0.2 - NEAR))


@pytest.mark.parametrize("pinned", [lambda a, b: b < NEAR, corners])
def test_a_hinged_sheet_hangs_and_is_pushed_aside(pinned):
    # a stiff pendulum with its weight W at half length and F at its end: tan(angle) = 2 F / W
    scene, tip = hanging(pinned)
    simulator = Simulator(scene)
    rest = simulator.equilibrium()
    assert (rest.positions - scene.vertices).abs().max() < 1e-5
    weight = 9.81 * float(scene.masses().sum())
    loads = scene.line_load(tip, (0.0, 0.5 * weight, 0.0))
    pushed = simulator.equilibrium(loads=loads, start=rest, increments=4).positions[tip].mean(dim=0)
    angle = math.atan2(float(pushed[1]), -float(pushed[2]))
    assert angle == pytest.approx(math.pi / 4, abs=0.01)  # it bends by some thousandths


@pytest.mark.parametrize(
    "scene",
    [
        hanging(corners, gravity=(0.0, 0.0, 0.0)),  # nothing turns it back
        hanging(corners, gravity=(0.0, 0.0, 9.81)),  # standing on its corners: it tips over
        hanging(corners, gravity=(9.81, 0.0, 0.0)),  # turns about the direction of its weight
        hanging(corners, flat=True),  # swings down by a right angle
        hanging(lambda a, b: (a < NEAR) & (b < NEAR)),  # may spin about the vertical
    ],
    ids=["weightless", "standing", "sideways", "flat", "one corner"],
)
def test_a_sheet_that_its_weight_does_not_hold_is_refused(scene):
    with pytest.raises(InputError, match="move freely"):
        Simulator(scene[0]).equilibrium()
