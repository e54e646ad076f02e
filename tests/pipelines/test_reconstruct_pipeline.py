"""Images to a mesh as a user does it: the command line, a kill in the middle, the script."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from geomopt.geometry import DenseGrid, Mesh, extract_surface, sdf

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["image_size=48", "resolution=16", "steps=40", "views=6", "frames=4", "checkpoint_every=5"]


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "geomopt.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def reconstruct(data, root, *settings):
    chosen = [
        part for setting in [f"data={data}", *SMALL, *settings] for part in ("--set", setting)
    ]
    return command("run", "reconstruct", *chosen, "--root", root)


def finished(process, code=0):
    out, error = process.communicate(timeout=300)
    assert process.returncode == code, error
    return out + error


def run_in(root):
    (folder,) = root.iterdir()
    return folder


@pytest.fixture(scope="module")
def torus(tmp_path_factory):
    path = tmp_path_factory.mktemp("solid") / "torus.ply"
    grid = DenseGrid(32)
    extract_surface(sdf.torus(grid.points, 0.6, 0.25), grid, mode="test").mesh().save(path)
    return path


def test_render_run_and_report_from_a_mesh_to_images_and_back(torus, tmp_path):
    finished(command("render", torus, "--views", 8, "--resolution", 64, "--out", tmp_path / "set"))
    document = json.loads((tmp_path / "set" / "transforms.json").read_text())
    assert len(document["frames"]) == 8
    with Image.open(tmp_path / "set" / document["frames"][0]["file_path"]) as image:
        assert image.mode == "RGBA"

    finished(reconstruct(tmp_path / "set", tmp_path / "runs"))
    folder = run_in(tmp_path / "runs")
    assert json.loads((folder / "outcome.json").read_text())["status"] == "ok"
    names = {path.name for path in (folder / "artifacts").iterdir()}
    assert names >= {"mesh.ply", "mesh.obj", "comparison.png", "turntable.gif", "frames"}
    page = (folder / "report.html").read_text()
    assert "data:image/gif" in page
    assert 'src="http' not in page
    assert "<link" not in page

    result, solid = (
        Mesh.load(path, dtype=torch.float64) for path in (folder / "artifacts" / "mesh.ply", torus)
    )
    assert result.topology().genus == 1
    cell = 2 * 0.85 / 12  # of 16 along the longest side, four are margin
    torch.testing.assert_close(result.bounds, solid.bounds, rtol=0, atol=0.5 * cell)
    before = (folder / "outcome.json").read_bytes()
    assert "done" in finished(reconstruct(tmp_path / "set", tmp_path / "runs"))
    assert (folder / "outcome.json").read_bytes() == before


def test_a_killed_run_continues_to_the_same_mesh(torus, tmp_path):
    finished(reconstruct(torus, tmp_path / "whole"))
    broken = reconstruct(torus, tmp_path / "broken")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("broken/*/checkpoint.pt")) and broken.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(broken.pid, signal.SIGKILL)
    broken.communicate()
    assert not (run_in(tmp_path / "broken") / "outcome.json").exists()
    finished(reconstruct(torus, tmp_path / "broken"))
    whole, continued = (run_in(tmp_path / name) / "artifacts" for name in ("whole", "broken"))
    for name in ("mesh.ply", "mesh.obj", "comparison.png"):
        assert (continued / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data=/nowhere/at/all", "/nowhere/at/all, which does not exist"),
        ("resolutoin=16", "did you mean 'resolution'"),
        ("method.name=adm", "did you mean 'adam'"),
        ("steps=0", "steps must be at least 1, got 0"),
    ],
)
def test_bad_input_is_told_in_one_line_before_anything_is_written(
    torus, tmp_path, setting, message
):
    told = finished(reconstruct(torus, tmp_path / "runs", setting), code=2)
    assert message in " ".join(told.split())
    assert "Traceback" not in told
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_the_example_writes_a_mesh_close_to_its_target(tmp_path):
    script = ROOT / "examples" / "reconstruct.py"
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, timeout=300)
    assert Mesh.load(tmp_path / "reconstructed.ply").topology().is_closed
