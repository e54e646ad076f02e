"""Calls in other processes: values, derivatives, failures that cost one call alone."""

import os

import pytest
import torch

from geomopt.errors import InputError
from geomopt.workers import Workers


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as pool:
        yield pool


def test_values_and_derivatives_are_those_of_calls_made_here(workers):
    source = torch.Generator().manual_seed(1)
    matrices = torch.randn(5, 3, 3, generator=source, dtype=torch.float64, requires_grad=True)
    right = torch.randn(3, generator=source, dtype=torch.float64, requires_grad=True)
    there = [o.value for o in workers.map(torch.linalg.solve, [(m, right) for m in matrices])]
    here = [torch.linalg.solve(m, right) for m in matrices]
    for found, wanted in zip(there, here, strict=True):
        assert torch.equal(found, wanted)
    parts = [
        torch.autograd.grad(torch.stack(values).square().sum(), (matrices, right))
        for values in (there, here)
    ]
    for found, wanted in zip(*parts, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)


def test_backward_can_be_repeated_and_only_part_of_it_be_asked_for(workers):
    x = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    first, second = (outcome.value for outcome in workers.map(torch.sin, [(x,), (2 * x,)]))
    for _ in range(2):
        (found,) = torch.autograd.grad(second.sum(), x, retain_graph=True)
        torch.testing.assert_close(found, 2 * torch.cos(2 * x).detach())
    (found,) = torch.autograd.grad(first[0], x)
    torch.testing.assert_close(found, torch.stack([x[0].detach().cos(), x.new_zeros(())]))


def test_without_gradients_nothing_is_kept(workers):
    x = torch.tensor([0.3], requires_grad=True)
    with torch.no_grad():
        (outcome,) = workers.map(torch.sin, [(x,)])
    assert not outcome.value.requires_grad


def test_a_call_that_raises_costs_itself_alone(workers):
    good, singular = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    outcomes = workers.map(torch.linalg.inv, [(good,), (singular,), (2 * good,)])
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert "LinAlgError" in outcomes[1].error
    assert torch.equal(outcomes[2].value, good / 2)


def test_a_process_that_ends_costs_its_call_and_is_replaced(workers):
    (ended,) = workers.map(os._exit, [(3,)])
    assert not ended.ok
    assert "code 3" in ended.error
    outcomes = workers.map(torch.sin, [(torch.zeros(1),)] * 4)
    assert all(outcome.ok for outcome in outcomes)


def test_what_cannot_be_imported_is_an_error_of_the_call(workers):
    def local(x):
        return x

    with pytest.raises(InputError, match="function must be importable"):
        workers.map(local, [(torch.zeros(1),)])


@pytest.mark.parametrize("processes", [0, -1, 1.5, True])
def test_numbers_of_processes(processes):
    with pytest.raises(InputError, match="processes must be a positive whole number"):
        Workers(processes)
