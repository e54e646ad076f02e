"""Live solvers in processes of Ray: streamed, killed and replaced."""

import sys
import time

import pytest
import torch

from geomopt.errors import BackendUnavailable, InputError
from sims.pde.data import Campaign, Stream
from sims.pde.spectral.initial import random_waves
from sims.pde.spectral.kuramoto_sivashinsky import KuramotoSivashinsky

PATIENCE = 60.0  # seconds, of a busy machine that starts a process


def campaign(initial=random_waves):
    return Campaign(KuramotoSivashinsky(22.0, 16, 0.2), initial, 0.4, 2.0, dtype=torch.float32)


def stream(law, **options):
    sizes = {"frames": 2, "capacity": 64, "watermark": 8, "batch": 8, "windows": 3}
    return Stream(law, **{**sizes, "workers": 1, **options})


@pytest.fixture(scope="module")
def cluster():
    """Ray with one processor, which the streams find running."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def until(source, generator, done):
    """Draw until something holds."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        source.draw(16, 2, 1, generator)
        time.sleep(0.02)


def test_a_worker_streams_solutions_and_is_replaced_when_it_dies(cluster):
    generator = torch.Generator().manual_seed(0)
    with stream(campaign()) as source:
        until(source, generator, lambda: source.reservoir.received >= 100)
        batch = source.draw(32, 2, 1, generator)
        following = source.campaign.stepper.advance(batch.states[:, 0].double(), 2)
        assert float((following - batch.states[:, 1]).abs().max()) < 1e-5  # of float32 fields
        assert source.workers.lost == 0
        cluster.kill(next(iter(source.workers.actors.values())))
        received = source.reservoir.received
        until(source, generator, lambda: source.workers.lost > 0)
        until(source, generator, lambda: source.reservoir.received >= received + 50)
        assert source.workers.lost == 8
        assert source.workers.begun == 2
        kept = source.state()
    with stream(campaign(), seed=0) as other:
        other.restore(kept)
        assert other.workers.begun == 3  # numbers that were not used before
        assert other.workers.lost == 8
        assert torch.equal(other.reservoir.held_states, source.reservoir.held_states)
        assert other.draw(4, 2, 1, generator).states.shape == (4, 2, 1, 16)
    assert cluster.is_initialized()  # which the streams did not start and do not end


def test_what_a_solver_has_to_say_comes_through(cluster):
    def bad(stepper, count, generator):
        return torch.full((count, 1, 16), 1e30)

    with stream(campaign(bad)) as source, pytest.raises(InputError, match="8 of 8 trajectories"):
        source.draw(4, 2, 1, torch.Generator())


def test_without_ray_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'geomopt\[cluster\]'"):
        stream(campaign())
