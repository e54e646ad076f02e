"""Assembly and factorisation for a sheet beside SciPy's solver with its defaults.

    python benchmarks/linear.py [--sides 22 32 64] [--repeats 21]

A square sheet of n x n vertices with three numbers a vertex and one an edge; each triangle couples
its three vertices and three edges (12 numbers, bending) and its three vertices (9, membrane), with
random positive definite matrices. Medians of CPU milliseconds on one thread.

Then the sheet is folded: each vertex of one half touches a triangle of the other. These elements
are joined to the pattern, solvers are renewed on it, and "beside the library" is what an assembly,
a factorisation and a solve take besides the library's own two calls.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch, SciPy's BLAS and MKL when they load

import argparse
import importlib.util
import time
from statistics import median
from types import SimpleNamespace
from unittest.mock import patch

import torch
from scipy.sparse.linalg import splu

from geomopt.geometry.topology import Topology
from geomopt.linear import (
    DirectSolver,
    SparsePattern,
    block_jacobi,
    conjugate_gradient,
    pardiso,
)

torch.set_num_threads(1)


def milliseconds(call, repeats):
    def once():
        begin = time.process_time()
        call()
        return 1e3 * (time.process_time() - begin)

    once()
    return median(once() for _ in range(repeats))


def sheet(side):
    """Unknowns of the bending and of the membrane elements, and the number of all unknowns."""
    index = torch.arange(side * side).reshape(side, side)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    odd = (index[:-1, :-1] // side + index[:-1, :-1] % side) % 2 == 1
    first = torch.where(odd[..., None], torch.stack([a, b, d], -1), torch.stack([a, b, c], -1))
    second = torch.where(odd[..., None], torch.stack([b, c, d], -1), torch.stack([a, c, d], -1))
    faces = torch.cat([first.reshape(-1, 3), second.reshape(-1, 3)])
    topology = Topology.of(faces, side * side)
    positions = (3 * faces[:, :, None] + torch.arange(3)).reshape(-1, 9)
    edges = 3 * side * side + topology.face_edges.long()
    return torch.cat([positions, edges], 1), positions, 3 * side * side + len(topology.edges)


def contacts(side):
    """Unknowns of the contacts (n, 12) of a sheet that is folded in the middle."""
    index = torch.arange(side * side).reshape(side, side)
    half = side // 2
    above = index[: half - 1, :-1]
    below = index.flip(0)
    corners = (below[: half - 1, :-1], below[1:half, :-1], below[: half - 1, 1:])
    vertices = torch.stack([above, *corners], dim=-1).reshape(-1, 4)
    return (3 * vertices[:, :, None] + torch.arange(3)).reshape(-1, 12)


def definite(block, generator):
    root = torch.randn(*block.shape, block.shape[1], generator=generator, dtype=torch.float64)
    return root @ root.mT


def installed():
    pardiso = importlib.util.find_spec("pypardiso") is not None
    return ("superlu", "pardiso") if pardiso else ("superlu",)


def beside_library(name, call, repeats):
    """Milliseconds of a call that are not spent in `splu`, its solves and Pardiso's phases."""
    spent = [0.0]

    def timed(function):
        def run(*given, **options):
            begin = time.process_time()
            try:
                return function(*given, **options)
            finally:
                spent[0] += 1e3 * (time.process_time() - begin)

        return run

    def factor(matrix, **options):
        return SimpleNamespace(solve=timed(timed(splu)(matrix, **options).solve))

    def once():
        spent[0] = 0.0
        begin = time.process_time()
        call()
        return 1e3 * (time.process_time() - begin) - spent[0]

    place, stand_in = {
        "pardiso": ("geomopt.linear.pardiso._call", timed(pardiso._call)),
        "superlu": ("geomopt.linear.superlu.splu", factor),
    }[name]
    with patch(place, stand_in):
        once()
        return median(once() for _ in range(repeats))


def measure(side, repeats):
    generator = torch.Generator().manual_seed(0)
    bending, membrane, size = sheet(side)
    blocks = [bending, membrane]
    pattern = SparsePattern.of(blocks, size)
    given = [definite(block, generator) for block in blocks]
    values = pattern.assemble(given)
    right = torch.randn(size, generator=generator, dtype=torch.float64)
    shifted = values.clone()
    shifted[pattern.diagonal] -= 3.0
    print(f"\n{side * side} vertices, {size} unknowns, {pattern.nonzeros} nonzeros")

    few = max(repeats // 4, 3)
    rows = [
        ("pattern", milliseconds(lambda: SparsePattern.of(blocks, size), few)),
        ("assembly", milliseconds(lambda: pattern.assemble(given), repeats)),
    ]
    matrix = pattern.matrix(values)
    factor = splu(matrix)
    rows.append(("SciPy's splu as it is, factor", milliseconds(lambda: splu(matrix), few)))
    rows.append(("solve", milliseconds(lambda: factor.solve(right.numpy()), repeats)))
    for name in installed():
        solver = DirectSolver(pattern, name)
        made = solver.factorise(values)

        held = []  # a Newton loop has its last factor while the next is made

        def again(solver=solver, held=held):
            held[:] = [solver.factorise(values)]

        def indefinite(solver=solver):
            return solver.factorise(shifted).negative_pivots

        def first(name=name):
            DirectSolver(pattern, name).factorise(values)

        def solve(made=made):
            made.solve(right)

        rows.append((f"{name}, analysis and factor", milliseconds(first, few)))
        rows.append(("factor", milliseconds(again, repeats)))
        rows.append(("solve", milliseconds(solve, repeats)))
        rows.append(("indefinite: factor, count", milliseconds(indefinite, repeats)))

    more = contacts(side)
    joined = pattern.joined([more])
    rows += [
        (
            f"pattern with {len(more)} contacts, found anew",
            milliseconds(lambda: SparsePattern.of([*blocks, more], size), few),
        ),
        ("joined", milliseconds(lambda: pattern.joined([more]), few)),
        ("joined again, nothing new", milliseconds(lambda: joined.joined([more]), few)),
    ]
    given.append(definite(more, generator))
    values_joined = joined.assemble(given)
    for name in installed():
        solver = DirectSolver(pattern, name)

        def renew(solver=solver):
            solver.renewed(joined).factorise(values_joined)

        renewed = solver.renewed(joined)

        def step(renewed=renewed):
            renewed.factorise(joined.assemble(given)).solve(right)

        rows.append((f"{name}, renewed and factor", milliseconds(renew, few)))
        rows.append(("assembly, factor and solve", milliseconds(step, repeats)))
        rows.append(("of which beside the library", beside_library(name, step, repeats)))

    def iterate():
        return conjugate_gradient(
            lambda x: pattern.product(values, x), right, block_jacobi(pattern, values)
        )

    rows.append((f"block-Jacobi CG, {iterate().iterations} iterations", milliseconds(iterate, few)))
    for label, value in rows:
        print(f"| {label} | {value:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[22, 32, 64])
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    for side in options.sides:
        measure(side, options.repeats)


if __name__ == "__main__":
    main()
