"""Whether a picture can be rendered without a window. Asking costs the process its life if the
library is missing, so a child asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

from geomopt.errors import BackendUnavailable

_WINDOW = "VTK_DEFAULT_OPENGL_WINDOW"
_PROBE = (
    "import pyvista; p = pyvista.Plotter(off_screen=True, window_size=(32, 32)); "
    "p.add_mesh(pyvista.Sphere(), color='red'); "
    "assert p.screenshot(None, return_img=True)[16, 16, 0] > 60"
)
_TIMEOUT = 120  # seconds; the first import of VTK on a cold disk is slow


@cache
def require_rendering() -> str:
    """Set this process up to render off-screen and return how; raises BackendUnavailable naming the
    package to install.

    Must run before VTK makes its first window.
    """
    tried = [os.environ.get(_WINDOW)] if _WINDOW in os.environ else []
    tried += [None] if sys.platform != "linux" or os.environ.get("DISPLAY") else []
    tried += ["vtkEGLRenderWindow", "vtkOSOpenGLRenderWindow"] if sys.platform == "linux" else []
    for window in tried:
        environment = {key: value for key, value in os.environ.items() if key != _WINDOW}
        if window:
            environment[_WINDOW] = window
        if _renders(environment):
            if window:
                os.environ[_WINDOW] = window
            return window or "the display"
    raise BackendUnavailable(
        "off-screen rendering needs an OpenGL library: install libegl1 and libgl1-mesa-dri, "
        "or libosmesa6 (Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri)"
    )


def _renders(environment: dict[str, str]) -> bool:
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0
