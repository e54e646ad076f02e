"""The slip of friction as pairs come and go: it stays with a pair, or goes on to a neighbour."""

import torch

from sims.thin_shell.contact.friction import transported
from sims.thin_shell.contact.pairs import EDGE_EDGE, VERTEX_EDGE, VERTEX_FACE, Pairs


def rows(*pairs: tuple[int, ...]) -> Pairs:
    table = torch.tensor(pairs)
    return Pairs(table[:, 0], table[:, 1:])


COMPONENT = torch.tensor([0] * 6 + [1] * 6 + [2] * 4)


def test_slip_stays_with_a_pair():
    old = rows((VERTEX_FACE, 0, 6, 7, 8), (EDGE_EDGE, 0, 6, 7, 8), (VERTEX_EDGE, 1, 9, 10, 10))
    slip = torch.arange(9, dtype=torch.float64).reshape(3, 3).requires_grad_()
    order = torch.tensor([2, 0, 1])
    new = Pairs(old.kind[order], old.vertices[order])
    found = transported(old, slip, new, COMPONENT)
    torch.testing.assert_close(found, slip[order])
    weights = torch.arange(9, dtype=torch.float64).reshape(3, 3) + 1
    (rate,) = torch.autograd.grad((weights * found).sum(), slip)
    torch.testing.assert_close(rate[order], weights)


def test_slip_goes_on_to_a_neighbour():
    """To the next face, the longer the more; not to another body, vertex or kind of primitive."""
    old = rows(
        (VERTEX_FACE, 0, 6, 7, 8),
        (VERTEX_FACE, 0, 7, 8, 9),
        (VERTEX_FACE, 1, 6, 7, 8),
        (EDGE_EDGE, 0, 1, 6, 7),
    )
    slip = torch.tensor([1.0, 0, 0, -3, 0, 0, 2, 0, 0, 0, 5, 0]).double().reshape(4, 3)
    new = rows(
        (VERTEX_FACE, 0, 8, 9, 10),
        (VERTEX_EDGE, 0, 9, 10, 10),
        (VERTEX_FACE, 0, 12, 13, 14),
        (VERTEX_FACE, 1, 9, 10, 11),
        (VERTEX_FACE, 2, 6, 7, 8),
        (EDGE_EDGE, 0, 1, 9, 10),
        (EDGE_EDGE, 0, 2, 9, 10),
        (VERTEX_FACE, 0, 6, 7, 8),
    )
    found = transported(old, slip, new, COMPONENT)
    wanted = slip[[1, 1, 0, 2, 0, 3, 0, 0]].clone()
    wanted[:2] = torch.tensor([-2.6, 0, 0]).double()  # (1 - 27) / (1 + 9)
    wanted[[2, 4, 6]] = 0
    torch.testing.assert_close(found, wanted)


def test_slip_of_nothing():
    none = Pairs(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.int64))
    some = rows((VERTEX_FACE, 0, 6, 7, 8))
    slip = torch.ones(1, 3, dtype=torch.float64)
    assert transported(some, slip, none, COMPONENT).shape == (0, 3)
    assert float(transported(none, slip[:0], some, COMPONENT).abs().max()) == 0
    assert float(transported(None, None, some, COMPONENT).abs().max()) == 0
