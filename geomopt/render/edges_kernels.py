"""Kernels of the edge table: a hash table of linked lists, one for each pair of end points."""

# ruff: noqa: UP018, RUF046 - int() makes a variable of a kernel

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def edge_bucket(faces: wp.array(dtype=int), corner: int, mask: int):
    start = corner - corner % 3
    a = faces[start + (corner + 1) % 3]
    b = faces[start + (corner + 2) % 3]
    hashed = wp.min(a, b) * 73856093 ^ wp.max(a, b) * 19349663
    return (hashed ^ (hashed >> 15)) & mask


@wp.kernel
def enter_edges(
    first: int,
    faces: wp.array(dtype=int),
    mask: int,
    heads: wp.array(dtype=int),
    following: wp.array(dtype=int),
):
    """Put the edge facing each corner into the linked list of its bucket."""
    corner = first + wp.tid()
    following[corner] = wp.atomic_exch(heads, edge_bucket(faces, corner, mask), corner)


@wp.kernel
def match_edges(
    first: int,
    faces: wp.array(dtype=int),
    mask: int,
    heads: wp.array(dtype=int),
    following: wp.array(dtype=int),
    out: wp.array(dtype=int),
):
    """The other corner that faces the same edge; -1 if there is none, -2 if there are several."""
    corner = first + wp.tid()
    start = corner - corner % 3
    a = faces[start + (corner + 1) % 3]
    b = faces[start + (corner + 2) % 3]
    found = int(-1)
    other = heads[edge_bucket(faces, corner, mask)]
    while other >= 0:
        if other != corner:
            begin = other - other % 3
            c = faces[begin + (other + 1) % 3]
            d = faces[begin + (other + 2) % 3]
            if (a == c and b == d) or (a == d and b == c):
                if found == -1:
                    found = other
                else:
                    found = -2
        other = following[other]
    out[corner] = found
