"""What this machine has, what it lacks and how to get it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One line of the check-up. needed: whether geomopt does not work without it."""

    name: str
    found: str
    ok: bool = True
    advice: str = ""
    needed: bool = False


# import name to what it is for and how to get it; the parts that use the later ones are to come
_OPTIONAL = {
    "cma": ("the method pycma, and comparisons with it", "pip install 'geomopt[cma]'"),
    "botorch": ("the method bayes", "pip install 'geomopt[bayes]'"),
    "PyNomad": ("the method nomad", "pip install 'geomopt[nomad]'"),
    "nvdiffrast": ("later: a rasterizer on CUDA", "see github.com/NVlabs/nvdiffrast"),
    "kaolin": ("later: exchange of meshes", "see github.com/NVIDIAGameWorks/kaolin"),
    "ray": ("solvers that stream data from a cluster", "pip install 'geomopt[cluster]'"),
    "h5py": ("trajectories in HDF5", "pip install 'geomopt[data]'"),
    "zarr": ("trajectories in Zarr", "pip install 'geomopt[data]'"),
    "trame": ("later: a browser viewer", "pip install trame trame-pyvista trame-vuetify"),
    "anny": ("later: the body of motion capture", "pip install anny"),
    "pypardiso": ("later: faster factorisations", "pip install pypardiso"),
}


def examine(root: str | Path = "runs") -> list[Finding]:
    """All findings, in the order in which a reader wants them. root: folder of runs that should be
    writable.
    """
    checks: list[Callable[[], list[Finding]]] = [
        _python, _torch, _warp, _names, lambda: _folder(Path(root)), _rendering, _display, _optional
    ]  # fmt: skip
    found = []
    for check in checks:
        try:
            found += check()
        except Exception as error:
            found.append(
                Finding(
                    check.__name__.strip("_<>"),
                    f"{type(error).__name__}: {error}",
                    False,
                    "see the message",
                    True,
                )
            )
    return found


def _python() -> list[Finding]:
    version = platform.python_version()
    fine = tuple(map(int, platform.python_version_tuple()[:2])) >= (3, 11)
    cores = os.cpu_count() or 1
    return [
        Finding(
            "Python",
            f"{version} on {platform.system()} {platform.machine()}",
            fine,
            "geomopt needs 3.11 or newer",
            True,
        ),
        Finding("processor", f"{_processor()}, {cores} cores"),
    ]


def _torch() -> list[Finding]:
    import torch

    found = [
        Finding(
            "torch",
            f"{torch.__version__}, {torch.get_num_threads()} threads (a run uses one)",
            needed=True,
        )
    ]
    if torch.cuda.is_available():
        found += [
            Finding(f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {_memory(index)}")
            for index in range(torch.cuda.device_count())
        ]
    else:
        built = torch.version.cuda
        why = (
            "no driver or no device"
            if built
            else "this torch is a CPU build; install a CUDA build to use a GPU"
        )
        found.append(Finding("CUDA", "none; everything runs on the CPU", False, why))
    return found


def _warp() -> list[Finding]:
    import warp

    from geomopt.launch import initialize

    initialize()
    devices = ", ".join(str(device) for device in warp.get_devices())
    cache = Path(str(warp.config.kernel_cache_dir))
    writable = os.access(cache, os.W_OK)
    advice = "" if writable else "set WARP_CACHE_PATH to a folder that can be written"
    return [
        Finding("warp", f"{warp.__version__}, devices {devices}", needed=True),
        Finding("kernel cache", f"{cache}", writable, advice, True),
    ]


def _names() -> list[Finding]:
    """`sims` and `optimizers` are also names of unrelated distributions, which would hide ours."""
    found = []
    here = Path(__file__).resolve().parent.parent
    for name in ("optimizers", "sims"):
        spec = importlib.util.find_spec(name)
        place = Path(spec.origin).resolve().parent if spec and spec.origin else None
        ours = place == here / name
        advice = (
            ""
            if ours
            else f"another {name!r} hides it: pip uninstall {name}, then reinstall geomopt"
        )
        found.append(Finding(f"package {name}", str(place or "not found"), ours, advice, True))
        others = sorted(set(metadata.packages_distributions().get(name, [])) - {"geomopt"})
        if others:
            found.append(
                Finding(
                    f"package {name}",
                    f"also in: {', '.join(others)}",
                    False,
                    f"pip uninstall {others[0]}",
                )
            )
    return found


def _folder(root: Path) -> list[Finding]:
    there = root
    while not there.exists() and there != there.parent:
        there = there.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free / 2**30
        return [
            Finding(
                "run folder",
                f"{root.absolute()}, {free:.0f} GB free",
                free > 0.5,
                "the disk is nearly full",
            )
        ]
    except OSError as error:
        return [
            Finding(
                "run folder",
                f"{root.absolute()}: {error.strerror}",
                False,
                "choose another with --root",
                True,
            )
        ]


def _rendering() -> list[Finding]:
    from geomopt.errors import BackendUnavailable
    from geomopt.viewer.offscreen import require_rendering

    try:
        return [Finding("rendering to files", f"works, through {require_rendering()}")]
    except BackendUnavailable as error:
        return [Finding("rendering to files", "does not work", False, str(error))]


def _display() -> list[Finding]:
    from geomopt.errors import BackendUnavailable
    from geomopt.viewer.plotter import require_display

    try:
        require_display()
        return [
            Finding(
                "display",
                os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "there is one",
            )
        ]
    except BackendUnavailable as error:
        return [Finding("display", "none", False, str(error))]


def _optional() -> list[Finding]:
    found = []
    for name, (purpose, how) in _OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            found.append(Finding(name, "not installed", False, f"{purpose}: {how}"))
        else:
            distributions = metadata.packages_distributions().get(name, [name])
            found.append(Finding(name, f"{metadata.version(distributions[0])}, {purpose}"))
    return found


def _processor() -> str:
    from geomopt.runs.environment import processor

    return processor()


def _memory(index: int) -> str:
    import torch

    return f"{torch.cuda.get_device_properties(index).total_memory / 2**30:.0f} GB"
