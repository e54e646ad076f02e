"""Kernels that find the surface cells, their loops and their quads. None of them has a derivative.

Cells and points are numbered as in `DenseGrid`. `inside` has one bit for each point, see
`pack_signs`; `crossed` has one for each cell of a row along z, in whole words for each row, set
where the surface crosses it. A surface cell has a *slot*, its place in the list of surface cells:
`starts` of its row plus the crossed cells before it in the row.
"""

import warp as wp


@wp.func
def window(inside: wp.array(dtype=wp.int64), point: int):
    """Bits of the 64 points from `point` on."""
    word = point >> 6
    shift = point & 63
    bits = wp.uint64(inside[word]) >> wp.uint64(shift)
    if shift > 0:
        bits |= wp.uint64(inside[word + 1]) << wp.uint64(64 - shift)
    return bits


@wp.func
def lowest(count: int):
    """A word whose lowest `count` bits are set, count < 64."""
    return (wp.uint64(1) << wp.uint64(count)) - wp.uint64(1)


@wp.func
def first_point(row: int, cells_y: int, cells_z: int):
    """The point at the lowest corner of a row of cells."""
    return (row // cells_y * (cells_y + 1) + row % cells_y) * (cells_z + 1)


@wp.func
def levels(inside: wp.array(dtype=wp.int64), point: int, cells_y: int, cells_z: int):
    """Whether one of the four points around a row lies inside, and whether all do: 64 levels."""
    step_x = (cells_y + 1) * (cells_z + 1)
    step_y = cells_z + 1
    a = window(inside, point)
    b = window(inside, point + step_x)
    c = window(inside, point + step_y)
    d = window(inside, point + step_x + step_y)
    return a | b | c | d, a & b & c & d


@wp.kernel(enable_backward=False)
def mark_surface_cells(
    first: int,
    inside: wp.array(dtype=wp.int64),
    cells_y: int,
    cells_z: int,
    crossed: wp.array2d(dtype=wp.int64),
    counts: wp.array(dtype=wp.int32),
):
    """Find the surface cells of each row of cells along z, 64 at a time, and count them."""
    row = first + wp.tid()
    point = first_point(row, cells_y, cells_z)
    count = wp.int32(0)
    some, every = levels(inside, point, cells_y, cells_z)
    for word in range((cells_z + 63) // 64):
        next_some, next_every = levels(inside, point + 64 * (word + 1), cells_y, cells_z)
        some |= some >> wp.uint64(1) | next_some << wp.uint64(63)
        every &= every >> wp.uint64(1) | next_every << wp.uint64(63)
        mixed = some & ~every
        if cells_z - 64 * word < 64:
            mixed &= lowest(cells_z - 64 * word)
        crossed[row, word] = wp.int64(mixed)
        count += int(wp.bit_count(mixed))
        some = next_some
        every = next_every
    counts[row] = count


@wp.func
def case_at(inside: wp.array(dtype=wp.int64), place: wp.vec3i, cells_y: int, cells_z: int):
    """The case of a cell: the sum of 2^k over its inside corners k."""
    point = (place[0] * (cells_y + 1) + place[1]) * (cells_z + 1) + place[2]
    case = wp.int32(0)
    for column in range(4):
        over = point + ((column & 1) * (cells_y + 1) + (column >> 1)) * (cells_z + 1)
        pair = int(window(inside, over) & wp.uint64(3))
        case |= (pair & 1 | (pair & 2) << 3) << column
    return case


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
def list_surface_cells(
    first: int,
    inside: wp.array(dtype=wp.int64),
    crossed: wp.array2d(dtype=wp.int64),
    starts: wp.array(dtype=wp.int32),
    cells: wp.vec3i,
    problem_face: wp.array(dtype=wp.int8),
    loop_count: wp.array(dtype=wp.int8),
    surface_cells: wp.array(dtype=wp.int32),
    cases: wp.array(dtype=wp.uint8),
    loop_cases: wp.array(dtype=wp.uint8),
    counts: wp.array2d(dtype=wp.int32),
):
    """List the surface cells of each row: number, case, case whose loops it uses, and how many
    vertices and quads it has.

    Two problem cells across their ambiguous face both take the complementary case. A problem case
    has one such face, so the outcome does not depend on an order.
    """
    row = first + wp.tid()
    slot = starts[row]
    if slot == starts[row + 1]:
        return
    place = wp.vec3i(row // cells[1], row % cells[1], 0)
    for word in range((cells[2] + 63) // 64):
        left = wp.uint64(crossed[row, word])
        while left != wp.uint64(0):
            below = (left - wp.uint64(1)) & ~left  # the zeros under the lowest bit
            place[2] = 64 * word + int(wp.bit_count(below))
            left &= left - wp.uint64(1)
            case = case_at(inside, place, cells[1], cells[2])
            used = case
            face = int(problem_face[case])
            if face >= 0:
                axis = face >> 1
                beside = place
                beside[axis] = place[axis] + 2 * (face & 1) - 1
                other = wp.int32(0)  # no problem beyond the box
                if beside[axis] >= 0 and beside[axis] < cells[axis]:
                    other = case_at(inside, beside, cells[1], cells[2])
                if problem_face[other] >= wp.int8(0):
                    used = 255 - case
            quads = wp.int32(0)
            for axis in range(3):
                if owns_quad(case, place, axis):
                    quads += 1
            surface_cells[slot] = row * cells[2] + place[2]
            cases[slot] = wp.uint8(case)
            loop_cases[slot] = wp.uint8(used)
            counts[0, slot] = int(loop_count[used])
            counts[1, slot] = quads
            slot += 1


@wp.func
def slot_at(
    crossed: wp.array2d(dtype=wp.int64),
    starts: wp.array(dtype=wp.int32),
    place: wp.vec3i,
    cells_y: int,
):
    """Slot of the surface cell at a place."""
    row = place[0] * cells_y + place[1]
    slot = starts[row]
    last = place[2] >> 6
    for word in range(last):
        slot += int(wp.bit_count(wp.uint64(crossed[row, word])))
    before = wp.uint64(crossed[row, last]) & lowest(place[2] & 63)
    return slot + int(wp.bit_count(before))


@wp.kernel(enable_backward=False)
def list_quads(
    first: int,
    surface_cells: wp.array(dtype=wp.int32),
    cases: wp.array(dtype=wp.uint8),
    loop_cases: wp.array(dtype=wp.uint8),
    crossed: wp.array2d(dtype=wp.int64),
    starts: wp.array(dtype=wp.int32),
    cells: wp.vec3i,
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
    case = int(cases[slot])
    place = along(surface_cells[slot], cells[1], cells[2])
    for axis in range(3):
        if owns_quad(case, place, axis):
            b = wp.vec3i()
            c = wp.vec3i()
            b[(axis + 1) % 3] = 1
            c[(axis + 2) % 3] = 1
            around = wp.vec4i(
                slot,
                slot_at(crossed, starts, place - b, cells[1]),
                slot_at(crossed, starts, place - b - c, cells[1]),
                slot_at(crossed, starts, place - c, cells[1]),
            )
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
