"""One thread, and a Warp cache of its own for each parallel worker."""

import os
from pathlib import Path

worker = os.environ.get("PYTEST_XDIST_WORKER")
if worker:
    # assigned, not defaulted: a value inherited from the parent would be shared by the workers
    os.environ["WARP_CACHE_PATH"] = str(Path.home() / ".cache" / "geomopt-tests" / worker)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402 - the variables above must stand before torch and warp are imported
import torch  # noqa: E402

torch.set_num_threads(1)

TRIAL_MESHES = Path(__file__).resolve().parents[2] / "shared" / "data" / "meshes"


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn; CUDA is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def trial_mesh():
    """Path of a trial mesh by file name; skips where the trial data is not there."""

    def path(name: str) -> Path:
        file = TRIAL_MESHES / name
        if not file.exists():
            pytest.skip(f"trial mesh {name} is not here")
        return file

    return path
