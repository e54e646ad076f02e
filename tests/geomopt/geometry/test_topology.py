"""Edges and neighbours against plain loops, and the counts of surfaces of known kind."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_shapes import cube, icosphere, joined, mesh, square, tetrahedron, torus

from geomopt.errors import InputError
from geomopt.geometry.mesh import Mesh
from geomopt.geometry.topology import Topology

TRIAL_TABLE = {  # vertices, faces, genus, share of edges above 30 degrees
    "spot.obj": (2930, 5856, 0, 0.032),
    "bob_tri.obj": (5344, 10688, 1, 0.000),
    "blub_low.obj": (945, 1886, 0, 0.076),
    "wingnut.obj": (3047, 6090, 0, 0.047),
    "goathead.obj": (2763, 5522, 0, 0.080),
    "featuretype.stl": (1722, 3476, 9, 0.330),
}


def edges_by_loop(faces: torch.Tensor) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Faces and opposite vertices of each edge, the slow way."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, corners in enumerate(faces.tolist()):
        for k in range(3):
            a, b, third = (corners[(k + shift) % 3] for shift in range(3))
            found.setdefault((min(a, b), max(a, b)), []).append((index, third))
    return found


def random_faces(seed: int, vertices: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(vertices, generator=generator)[:3] for _ in range(count)]
    return torch.stack(rows).int()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 9), st.integers(1, 30))
def test_edges_agree_with_a_loop_over_random_faces(seed, vertices, count):
    faces = random_faces(seed, vertices, count)
    topology = Topology.of(faces, vertices)
    expected = edges_by_loop(faces)
    assert [tuple(edge) for edge in topology.edges.tolist()] == sorted(expected)
    for index, edge in enumerate(sorted(expected)):
        uses = expected[edge]
        padded = ([*uses, (-1, -1)])[:2]
        assert topology.edge_faces[index].tolist() == [face for face, _ in padded]
        assert topology.opposite_vertices[index].tolist() == [vertex for _, vertex in padded]
        assert int(topology.edge_uses[index]) == len(uses)
    for face, corners in enumerate(faces.tolist()):
        for k in range(3):
            ends = topology.edges[int(topology.face_edges[face, k])].tolist()
            assert ends == sorted([corners[k], corners[(k + 1) % 3]])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 9), st.integers(1, 30))
def test_neighbours_agree_with_sets(seed, vertices, count):
    faces = random_faces(seed, vertices, count)
    topology = Topology.of(faces, vertices)
    offsets, owned = topology.vertex_faces()
    starts, joined_to = topology.vertex_neighbors()
    for vertex in range(vertices):
        holding = {face for face, corners in enumerate(faces.tolist()) if vertex in corners}
        assert set(owned[offsets[vertex] : offsets[vertex + 1]].tolist()) == holding
        ends = {v for edge in edges_by_loop(faces) if vertex in edge for v in edge} - {vertex}
        assert set(joined_to[starts[vertex] : starts[vertex + 1]].tolist()) == ends


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 9), st.integers(1, 20))
def test_fans_agree_with_a_search_around_each_vertex(seed, vertices, count):
    faces = random_faces(seed, vertices, count)
    expected = []
    for vertex in range(vertices):
        left = {face for face, corners in enumerate(faces.tolist()) if vertex in corners}
        fans = 0
        while left:
            fans, front = fans + 1, [left.pop()]
            while front:
                around = set(faces[front.pop()].tolist()) - {vertex}
                near = {face for face in left if around & set(faces[face].tolist())}
                left -= near
                front += near
        if fans > 1:
            expected.append(vertex)
    assert Topology.of(faces, vertices).nonmanifold_vertices().tolist() == expected


@pytest.mark.parametrize(
    ("shape", "genus", "components"),
    [
        (tetrahedron(), 0, 1),
        (cube(), 0, 1),
        (icosphere(), 0, 1),
        (torus(), 1, 1),
        (joined(torus(), icosphere(), torus()), 2, 3),
    ],
    ids=["tetrahedron", "cube", "sphere", "torus", "three pieces"],
)
def test_closed_surfaces_have_their_genus(shape: Mesh, genus, components):
    topology = shape.topology()
    assert topology.is_closed
    assert topology.is_manifold
    assert topology.is_wound_consistently
    assert topology.components == components
    assert topology.genus == genus
    assert topology.euler_characteristic == 2 * components - 2 * genus
    assert (topology.face_neighbors() >= 0).all()


def test_an_open_square_has_its_boundary():
    topology = square(cells=3).topology()
    assert len(topology.boundary_edges()) == 12
    assert topology.is_manifold
    assert not topology.is_closed
    assert topology.genus is None
    assert topology.euler_characteristic == 1
    outside = topology.face_neighbors() == -1
    assert int(outside.sum()) == 12


def test_two_solids_that_touch_in_a_vertex_make_two_fans():
    bow_tie = joined(tetrahedron(), tetrahedron())
    faces = torch.where(bow_tie.faces == 4, 0, bow_tie.faces)
    topology = Topology.of(faces, 8)
    assert topology.nonmanifold_vertices().tolist() == [0]
    assert len(topology.nonmanifold_edges()) == 0
    assert not topology.is_manifold
    assert topology.is_closed
    assert topology.genus is None


def test_three_faces_at_an_edge():
    topology = Topology.of(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]]), 5)
    edge = topology.nonmanifold_edges()
    assert topology.edges[edge.long()].tolist() == [[0, 1]]
    assert int(topology.edge_uses[edge.long()]) == 3
    assert len(topology.boundary_edges()) == 6
    assert len(topology.nonmanifold_vertices()) == 0
    assert topology.miswound_edges().tolist() == edge.tolist()


def test_a_flipped_face_breaks_the_winding_of_its_three_edges():
    faces = tetrahedron().faces.clone()
    faces[0] = faces[0].flip(0)
    topology = Topology.of(faces, 4)
    assert len(topology.miswound_edges()) == 3
    assert not topology.is_wound_consistently
    assert topology.is_manifold
    assert topology.genus is None


def test_no_faces_is_an_empty_topology():
    topology = Topology.of(torch.zeros(0, 3, dtype=torch.int32), 0)
    assert topology.edges.shape == (0, 2)
    assert topology.components == 0
    assert topology.euler_characteristic == 0
    assert len(topology.nonmanifold_vertices()) == 0
    assert topology.face_neighbors().shape == (0, 3)
    assert topology.vertex_faces()[0].tolist() == [0]


def test_everything_is_int32_for_either_index_dtype():
    faces = torus().faces
    first, second = Topology.of(faces, 1024), Topology.of(faces.long(), 1024)
    names = ["faces", "edges", "edge_faces", "opposite_vertices", "face_edges", "edge_uses"]
    for name in names:
        assert getattr(first, name).dtype == torch.int32
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        (torch.tensor([[0, 1, 5]]), r"faces must index into \[0, 3\)"),
        (torch.tensor([[0, 1, 1]]), "1 that repeat one"),
        (torch.tensor([[0, 1, 2, 0]]), r"shape \(any, 3\), got \(1, 4\)"),
        (torch.tensor([[0.0, 1.0, 2.0]]), "int32 or int64"),
    ],
)
def test_bad_faces_are_refused(faces, message):
    with pytest.raises(InputError, match=message):
        Topology.of(faces, 3)


@pytest.mark.data
@pytest.mark.parametrize("name", TRIAL_TABLE)
def test_trial_meshes_are_what_their_table_says(trial_mesh, name):
    vertices, faces, genus, sharp = TRIAL_TABLE[name]
    loaded = Mesh.load(trial_mesh(name), dtype=torch.float64)
    topology = loaded.topology()
    assert (len(loaded.vertices), len(loaded.faces)) == (vertices, faces)
    assert topology.genus == genus
    assert topology.components == 1
    one, two = loaded.face_normals[topology.edge_faces.long()].unbind(dim=1)
    cosine = (one * two).sum(dim=1)
    share = float((cosine < math.cos(math.radians(30))).double().mean())
    assert share == pytest.approx(sharp, abs=5e-4)  # the table has three decimals


def test_a_mesh_passes_its_sizes_on():
    shape = mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]], [[0, 1, 2]])
    topology = shape.topology()
    assert topology.vertex_count == 4
    assert topology.euler_characteristic == 1  # the vertex without a face does not count
