"""A pattern with the elements of more blocks beside the pattern of all blocks at once."""

from __future__ import annotations

import pytest
import torch

from geomopt.errors import InputError
from geomopt.linear import SparsePattern

ARRAYS = ("unknowns", "starts", "columns", "diagonal", "mirror")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def elements(count, width, size, seed):
    draws = generator(seed)
    return torch.stack([torch.randperm(size, generator=draws)[:width] for _ in range(count)])


def scene(seed, size=60, held=0.3):
    """Two blocks, and a mask that holds some unknowns."""
    blocks = [elements(20, 6, size - 1, seed), elements(15, 3, size - 1, seed + 1)]
    return blocks, size, torch.rand(size, generator=generator(seed + 2)) >= held


def assert_same(found, expected):
    for name in ARRAYS:
        one, two = getattr(found, name), getattr(expected, name)
        assert one.dtype == two.dtype, name
        assert torch.equal(one, two), name
    for one, two in zip(found.blocks, expected.blocks, strict=True):
        assert torch.equal(one, two)
    for name in ("matrix_sums", "vector_sums"):
        for one, two in zip(getattr(found, name), getattr(expected, name), strict=True):
            for part in ("targets", "starts", "sources"):
                assert getattr(one, part).dtype == getattr(two, part).dtype
                assert torch.equal(getattr(one, part), getattr(two, part)), (name, part)
    assert found.size == expected.size


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("held", [0.0, 0.3, 1.0])
def test_a_join_is_the_pattern_of_all_blocks(seed, held, device):
    blocks, size, free = scene(seed, held=held)
    more = [elements(12, 12, size, seed + 7), elements(1 + seed, 4, size, seed + 8)]
    blocks, more = ([block.to(device) for block in part] for part in (blocks, more))
    base = SparsePattern.of(blocks, size, free.to(device))
    assert_same(base.joined(more), SparsePattern.of(blocks + more, size, free.to(device)))
    # the base is left as it was and serves again, and a join may be joined
    assert_same(base, SparsePattern.of(blocks, size, free.to(device)))
    assert_same(base.joined(more[1:]), SparsePattern.of(blocks + more[1:], size, free.to(device)))
    assert_same(base.joined(more[:1]).joined(more[1:]), base.joined(more))


def test_a_join_sums_like_the_pattern_of_all_blocks(device):
    blocks, size, free = scene(1)
    more = [elements(12, 12, size, 3)]
    together = [block.to(device) for block in blocks + more]
    base = SparsePattern.of(together[:2], size, free.to(device))
    found, expected = base.joined(together[2:]), SparsePattern.of(together, size, free.to(device))
    given = [torch.rand(*b.shape, b.shape[1], generator=generator(4)).double() for b in together]
    given = [(entries + entries.mT).to(device) for entries in given]
    vector = torch.rand(size, generator=generator(5)).double().to(device)
    assert torch.equal(found.assemble(given, vector), expected.assemble(given, vector))
    assert torch.equal(found.full_product(given, vector), expected.full_product(given, vector))
    rows = [entries[:, 0] for entries in given]
    assert torch.equal(found.assemble_vector(rows), expected.assemble_vector(rows))


def test_without_new_nonzeros_the_arrays_are_shared():
    blocks, size, free = scene(2)
    base = SparsePattern.of(blocks, size, free)
    again = base.joined([blocks[0][:5], blocks[1][3:4, :2], torch.empty(0, 12, dtype=torch.int64)])
    for name in ARRAYS:
        assert getattr(again, name) is getattr(base, name)
    assert len(again.blocks) == 5
    # new elements between held unknowns alone have no nonzeros either
    fixed = torch.nonzero(~free)[:, 0][None, :4]
    assert base.joined([fixed]).columns is base.columns
    assert_same(base.joined([fixed]), SparsePattern.of([*blocks, fixed], size, free))


def test_sums_of_the_base_are_shared():
    blocks, size, free = scene(3)
    base = SparsePattern.of(blocks, size, free)
    joined = base.joined([elements(12, 12, size, 4)])
    for old, new in zip(base.matrix_sums, joined.matrix_sums, strict=False):
        assert new.starts is old.starts
        assert new.sources is old.sources
    assert joined.vector_sums[:2] == base.vector_sums


def test_nothing_is_joined_to_something_and_something_to_nothing():
    blocks, size, free = scene(4)
    base = SparsePattern.of(blocks, size, free)
    assert base.joined([]) is base
    empty = SparsePattern.of([], size, free)
    assert_same(empty.joined(blocks), base)
    nothing = SparsePattern.of([], 0)
    none = torch.empty(0, 3, dtype=torch.int64)
    assert_same(nothing.joined([none]), SparsePattern.of([none], 0))


def test_an_element_that_names_an_unknown_twice_is_joined():
    block, more = torch.tensor([[0, 1]]), torch.tensor([[0, 3, 3], [2, 2, 2], [1, 0, 1]])
    assert_same(SparsePattern.of([block], 5).joined([more]), SparsePattern.of([block, more], 5))


def test_unknowns_out_of_range_are_named():
    base = SparsePattern.of([torch.tensor([[0, 1]])], 2)
    with pytest.raises(InputError, match=r"blocks\[1\] must index"):
        base.joined([torch.tensor([[0, 1]]), torch.tensor([[0, 2]])])
