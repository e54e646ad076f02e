"""Kernels that find the surface cells, their loops and their quads. None of them has a derivative.

Cells and points are numbered as in `DenseGrid`. A surface cell has a *slot*, its place in the list
of surface cells; `slots` maps a cell to its slot and is only defined, and only read, at surface
cells.
"""

import warp as wp

ALL_INSIDE = wp.constant(wp.int64(0x0F0F0F0F0F0F0F0F))


@wp.func
def columns(signs: wp.array2d(dtype=wp.int64), row: int, cells_y: int, word: int):
    """Inside bits of the four points around a row of cells, one byte for each of eight levels.

    A byte of `signs` is 1 where its point lies inside, so shifted bits stay in their byte. The bits
    are in the order of the corners, and bytes above the last level are 0.
    """
    p = row // cells_y * (cells_y + 1) + row % cells_y
    low = signs[p, word] | signs[p + cells_y + 1, word] << wp.int64(1)
    high = signs[p + 1, word] | signs[p + cells_y + 2, word] << wp.int64(1)
    return low | high << wp.int64(2)


@wp.func
def uniform(levels: wp.int64, below: wp.int64):
    """Whether eight levels, and the level below them, lie all inside or all outside."""
    shifted = levels << wp.int64(8) | below
    return levels | shifted == wp.int64(0) or levels & shifted == ALL_INSIDE


@wp.kernel(enable_backward=False)
def count_surface_cells(
    first: int,
    signs: wp.array2d(dtype=wp.int64),
    cells_y: int,
    cells_z: int,
    counts: wp.array(dtype=wp.int32),
):
    """Surface cells in each row of cells along z, eight levels of points at a time."""
    row = first + wp.tid()
    count = wp.int32(0)
    below = columns(signs, row, cells_y, 0) & wp.int64(15)
    for word in range(cells_z // 8 + 1):
        levels = columns(signs, row, cells_y, word)
        if not uniform(levels, below):
            # the lowest level of a row has none below it
            for level in range(wp.where(word == 0, 1, 0), wp.min(8, cells_z + 1 - 8 * word)):
                above = levels >> wp.int64(8 * level) & wp.int64(15)
                case = below | above << wp.int64(4)
                count += wp.where(case == wp.int64(0) or case == wp.int64(255), 0, 1)
                below = above
    counts[row] = count


@wp.kernel(enable_backward=False)
def list_surface_cells(
    first: int,
    signs: wp.array2d(dtype=wp.int64),
    cells_y: int,
    cells_z: int,
    ends: wp.array(dtype=wp.int32),
    cells: wp.array(dtype=wp.int32),
    cases: wp.array(dtype=wp.uint8),
    slots: wp.array(dtype=wp.int32),
):
    """Number the surface cells of each row; `ends` is the running sum of the counts."""
    row = first + wp.tid()
    slot = wp.int32(0)
    if row > 0:
        slot = ends[row - 1]
    if slot == ends[row]:
        return
    below = columns(signs, row, cells_y, 0) & wp.int64(15)
    for word in range(cells_z // 8 + 1):
        levels = columns(signs, row, cells_y, word)
        if not uniform(levels, below):
            # the lowest level of a row has none below it
            for level in range(wp.where(word == 0, 1, 0), wp.min(8, cells_z + 1 - 8 * word)):
                above = levels >> wp.int64(8 * level) & wp.int64(15)
                case = below | above << wp.int64(4)
                if case != wp.int64(0) and case != wp.int64(255):
                    cell = row * cells_z + 8 * word + level - 1
                    cells[slot] = cell
                    cases[slot] = wp.uint8(case)
                    slots[cell] = slot
                    slot += 1
                below = above


@wp.func
def along(cell: int, cells_y: int, cells_z: int):
    """Position (i, j, k) of a cell."""
    row = cell // cells_z
    return wp.vec3i(row // cells_y, row % cells_y, cell % cells_z)


@wp.func
def owns_quad(case: int, place: wp.vec3i, axis: int):
    """Whether the edge at the lowest corner along `axis` crosses and has four cells around it."""
    crosses = (case >> (1 << axis)) & 1 != case & 1
    return crosses and place[(axis + 1) % 3] > 0 and place[(axis + 2) % 3] > 0


@wp.kernel(enable_backward=False)
def resolve_loops(
    first: int,
    cells: wp.array(dtype=wp.int32),
    cases: wp.array(dtype=wp.uint8),
    slots: wp.array(dtype=wp.int32),
    cells_x: int,
    cells_y: int,
    cells_z: int,
    problem_face: wp.array(dtype=wp.int8),
    loop_count: wp.array(dtype=wp.int8),
    loop_cases: wp.array(dtype=wp.uint8),
    counts: wp.array2d(dtype=wp.int32),
):
    """Case whose loops each surface cell uses, and its number of vertices and of quads.

    Two problem cells across their ambiguous face both take the complementary case. A problem case
    has one such face, so the outcome does not depend on an order.
    """
    slot = first + wp.tid()
    cell = cells[slot]
    case = int(cases[slot])
    place = along(cell, cells_y, cells_z)
    used = case
    face = int(problem_face[case])
    if face >= 0:
        axis = face >> 1
        step = 2 * (face & 1) - 1
        size = wp.vec3i(cells_x, cells_y, cells_z)
        stride = wp.vec3i(cells_y * cells_z, cells_z, 1)
        beside = place[axis] + step
        other = slot
        if beside >= 0 and beside < size[axis]:
            # the neighbour shares a face with both signs, so it is a surface cell
            other = slots[cell + step * stride[axis]]
        if other != slot and problem_face[int(cases[other])] >= wp.int8(0):
            used = 255 - case
    loop_cases[slot] = wp.uint8(used)
    counts[0, slot] = int(loop_count[used])
    quads = wp.int32(0)
    for axis in range(3):
        if owns_quad(case, place, axis):
            quads += 1
    counts[1, slot] = quads


@wp.kernel(enable_backward=False)
def list_quads(
    first: int,
    cells: wp.array(dtype=wp.int32),
    cases: wp.array(dtype=wp.uint8),
    loop_cases: wp.array(dtype=wp.uint8),
    slots: wp.array(dtype=wp.int32),
    cells_y: int,
    cells_z: int,
    loop_of_edge: wp.array2d(dtype=wp.int8),
    ring_edges: wp.array2d(dtype=wp.int8),
    ends: wp.array2d(dtype=wp.int32),
    counts: wp.array2d(dtype=wp.int32),
    quads: wp.array(dtype=wp.vec4i),
    quad_slots: wp.array(dtype=wp.vec4i),
):
    """The quads whose grid edge starts at the lowest corner of a cell: their vertices and the slots
    of their cells.

    A quad starts in this cell and goes counter-clockwise seen from the side where the field is
    positive.
    """
    slot = first + wp.tid()
    quad = ends[1, slot] - counts[1, slot]
    if quad == ends[1, slot]:
        return
    cell = cells[slot]
    case = int(cases[slot])
    place = along(cell, cells_y, cells_z)
    stride = wp.vec3i(cells_y * cells_z, cells_z, 1)
    for axis in range(3):
        if owns_quad(case, place, axis):
            b = stride[(axis + 1) % 3]
            c = stride[(axis + 2) % 3]
            around = wp.vec4i(slot, slots[cell - b], slots[cell - b - c], slots[cell - c])
            corner = wp.vec4i()
            for p in range(4):
                s = around[p]
                loop = int(loop_of_edge[int(loop_cases[s]), int(ring_edges[axis, p])])
                corner[p] = ends[0, s] - counts[0, s] + loop
            if case & 1 == 1:
                quads[quad] = corner
                quad_slots[quad] = around
            else:
                quads[quad] = wp.vec4i(corner[0], corner[3], corner[2], corner[1])
                quad_slots[quad] = wp.vec4i(around[0], around[3], around[2], around[1])
            quad += 1
