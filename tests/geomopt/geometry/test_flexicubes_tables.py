"""The derived case tables obey the known counts and laws of dual marching cubes."""

import numpy as np
import torch

from geomopt.geometry.flexicubes.tables import EDGE_CORNERS, LONGEST_LOOP, tables

TABLES = tables(torch.device("cpu"))
LOOPS = TABLES.loop_of_edge.numpy()
COUNT = TABLES.loop_count.numpy()
PROBLEM = TABLES.problem_face.numpy()


def inside(case):
    return (case >> np.arange(8)) & 1 == 1


def test_loop_counts():
    counts, cases = np.unique(COUNT, return_counts=True)
    assert dict(zip(counts.tolist(), cases.tolist(), strict=True)) == {
        0: 2,
        1: 162,
        2: 82,
        3: 8,
        4: 2,
    }


def test_each_crossing_edge_is_in_one_loop():
    for case in range(256):
        start, end = inside(case)[EDGE_CORNERS].T
        np.testing.assert_array_equal(LOOPS[case] >= 0, start != end)
        assert LOOPS[case].max() + 1 == COUNT[case]


def test_loops_have_three_to_seven_edges():
    lengths = [(LOOPS[case] == loop).sum() for case in range(256) for loop in range(COUNT[case])]
    assert min(lengths) == 3
    assert max(lengths) == LONGEST_LOOP == 7


def test_lists_hold_the_same_loops():
    crossings, starts = TABLES.loop_crossings.numpy(), TABLES.loop_starts.numpy()
    for case in range(256):
        for loop in range(COUNT[case]):
            listed = crossings[case, starts[case, loop] : starts[case, loop + 1]]
            edges = np.flatnonzero(LOOPS[case] == loop)
            np.testing.assert_array_equal(listed & 15, edges)
            ends = np.stack([listed >> 4 & 7, listed >> 7], axis=1)
            np.testing.assert_array_equal(ends, TABLES.edge_corners.numpy()[edges])
        assert (crossings[case, starts[case, 4] :] == -1).all()


def test_problem_cases():
    cases = np.flatnonzero(PROBLEM >= 0)
    longest = [max((LOOPS[c] == loop).sum() for loop in range(COUNT[c])) for c in cases]
    assert len(cases) == 36
    assert longest.count(7) == 24  # C16
    assert longest.count(6) == 12  # C19
    # six cases for each direction, as the group of the cube permutes the faces
    assert np.bincount(PROBLEM[cases], minlength=6).tolist() == [6] * 6


def test_complement_of_a_problem_case_splits_its_face():
    for case in np.flatnonzero(PROBLEM >= 0):
        other = 255 - case
        np.testing.assert_array_equal(LOOPS[case] >= 0, LOOPS[other] >= 0)
        assert COUNT[case] == 1
        assert COUNT[other] == 2
        axis, side = divmod(int(PROBLEM[case]), 2)
        on_face = ((EDGE_CORNERS >> axis) & 1 == side).all(axis=1)
        assert on_face.sum() == 4
        assert len(set(LOOPS[case][on_face])) == 1
        assert len(set(LOOPS[other][on_face])) == 2


def test_ring_edges_run_around_the_grid_edge():
    """Seen from the positive end, the four cells stand counter-clockwise and share the edge."""
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        places = []
        for edge in TABLES.ring_edges[axis].tolist():
            start, end = EDGE_CORNERS[edge].astype(int)
            assert end - start == 1 << axis
            places.append(((start >> b) & 1, (start >> c) & 1))
        # a start corner at offset 1 means that the cell lies on the negative side of the edge
        assert places == [(0, 0), (1, 0), (1, 1), (0, 1)]
