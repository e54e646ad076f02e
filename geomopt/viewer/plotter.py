"""A scene as PyVista actors. The only file that touches them.

Actors are made once by name. Afterwards a frame replaces positions in place; a change of topology
replaces the input of a mapper, never the actor, so the camera, the lighting and the window stay as
the user left them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from geomopt.errors import BackendUnavailable
from geomopt.geometry.mesh import Mesh
from geomopt.render.normals import corner_normals
from geomopt.viewer.mosaic import mosaic
from geomopt.viewer.scene import Scene

BACKGROUND = "#f4f5f7"
INK = "#1f2933"
_SHEET = (244, 245, 247)  # BACKGROUND as bytes: the sheet of pictures has no visible edge
_COLORS = ("#a3bcdb", "#d9a679", "#9cbf95", "#c39bc4", "#c9c27c")
_POINT_COLOR, _LINE_COLOR = "#c2452d", "#30475e"
CREASE = 40.0  # degrees between two faces from which on their edge is drawn sharp
_MATERIAL = {"ambient": 0.3, "diffuse": 0.75, "specular": 0.15, "interpolation": "phong"}
_SCALAR_BAR = {
    "color": INK,
    "vertical": True,
    "position_x": 0.04,
    "position_y": 0.55,
    "width": 0.05,
    "height": 0.36,
    "n_labels": 3,
    "fmt": "%.3g",
    "label_font_size": 13,
    "title_font_size": 14,
}


def make_plotter(scene: Scene, size: tuple[int, int] = (960, 600), off_screen: bool = True) -> Any:
    """A PyVista plotter (width, height): a panel for meshes and, if there are images, one more."""
    import pyvista

    if scene.images:
        plotter = pyvista.Plotter(
            shape=(1, 2), off_screen=off_screen, window_size=list(size), border=False
        )
    else:
        plotter = pyvista.Plotter(off_screen=off_screen, window_size=list(size))
    for renderer in plotter.renderers:
        renderer.set_background(BACKGROUND)
    return plotter


class Stage:
    """The actors of one plotter; `draw` shows a scene with them.

    A plotter of one panel shows meshes, points and lines; the second panel of one with two shows
    the images. ranges: mesh name to the range of numbers that its colours cover, of those that are
    shown where not given. color_map: for fields, a name of matplotlib's.
    """

    def __init__(
        self,
        plotter: Any,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        color_map: str = "viridis",
    ) -> None:
        self.plotter = plotter
        self._color_map = color_map
        self._ranges = ranges or {}
        self._actors: dict[str, Any] = {}
        self._data: dict[str, Any] = {}  # an actor does not keep its own alive
        self._caption: Any = None
        self._sheet: Any = None
        self._has_images = len(plotter.renderers) > 1
        plotter.subplot(0, 0)
        plotter.enable_anti_aliasing("msaa", multi_samples=4)

    def draw(self, scene: Scene, caption: str = "") -> None:
        """Show a scene in place of the last one."""
        self.plotter.subplot(0, 0)
        shown = set()
        for place, (name, mesh) in enumerate(scene.meshes.items()):
            shown.add(f"mesh {name}")
            self._draw_mesh(name, mesh, scene.fields.get(name, {}), _COLORS[place % len(_COLORS)])
        for name, positions in scene.points.items():
            shown.add(f"points {name}")
            cloud = _points(positions)
            style = {"color": _POINT_COLOR, "point_size": 7, "render_points_as_spheres": True}
            self._draw_data(f"points {name}", cloud, style)
        for name, segments in scene.lines.items():
            shown.add(f"lines {name}")
            self._draw_data(
                f"lines {name}", _segments(segments), {"color": _LINE_COLOR, "line_width": 2}
            )
        for name, actor in self._actors.items():
            actor.visibility = name in shown and self._data[name].n_points > 0
        if self._caption is None:
            self._caption = self.plotter.add_text(
                caption or " ", position=(14, 12), font_size=9, color=INK
            )
        self._caption.SetInput(caption or " ")
        if self._has_images:
            self._draw_images(scene)
        self.plotter.subplot(0, 0)

    def look_at(self, bounds: np.ndarray) -> None:
        """Place the camera so that the box (2, 3) fills the view, seen obliquely from above with z
        up.
        """
        self.plotter.subplot(0, 0)
        self.plotter.camera_position = [(1.0, -1.6, 0.9), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)]
        self.plotter.reset_camera(bounds=list(bounds.T.ravel()))

    def orbit(self, degrees: float) -> None:
        """Turn the camera about the vertical axis through its focus."""
        camera = self.plotter.renderers[0].camera
        camera.Azimuth(degrees)
        self.plotter.renderers[0].ResetCameraClippingRange()

    def mesh_positions(self, name: str) -> np.ndarray:
        """Positions (3 F, 3) of the corners of the faces that are displayed for a mesh."""
        return np.asarray(self._data[f"mesh {name}"].points)

    def _draw_mesh(self, name: str, mesh: Mesh, fields: Mapping[str, Tensor], color: str) -> None:
        key, data = f"mesh {name}", _polydata(mesh, fields)
        look: dict[str, Any] = {**_MATERIAL, "color": color}
        if fields:
            bar = {**_SCALAR_BAR, "title": next(iter(fields))}
            look = {
                **_MATERIAL,
                "scalars": "field",
                "cmap": self._color_map,
                "scalar_bar_args": bar,
            }
        elif mesh.colors is not None:
            look = {**_MATERIAL, "scalars": "colors", "rgb": True}
        self._draw_data(key, data, look)
        if fields and len(mesh.vertices):
            values = _array(next(iter(fields.values())))
            finite = values[np.isfinite(values)]
            if name in self._ranges:
                self._actors[key].mapper.scalar_range = self._ranges[name]
            elif len(finite):
                self._actors[key].mapper.scalar_range = (float(finite.min()), float(finite.max()))

    def _draw_data(self, key: str, data: Any, look: dict[str, Any]) -> None:
        actor = self._actors.get(key)
        if actor is None:
            if data.n_points:  # PyVista refuses an empty mesh
                self._data[key] = data
                self._actors[key] = self.plotter.add_mesh(
                    data, name=key, reset_camera=False, **look
                )
            return
        shown = self._data[key]
        if _same_topology(shown, data):
            shown.points[:] = data.points
            for name in data.point_data:
                shown.point_data[name][:] = data.point_data[name]
            shown.Modified()
        else:
            self._data[key] = actor.mapper.dataset = data

    def _draw_images(self, scene: Scene) -> None:
        import pyvista

        renderer = self.plotter.renderers[1]
        width, height = (int(part) for part in renderer.GetSize())
        if min(width, height) < 2:  # a window that has not been shown has no size yet
            width, height = self.plotter.window_size[0] // 2, self.plotter.window_size[1]
        sheet = mosaic(scene.images, (height, width), background=_SHEET)
        # VTK counts rows from below
        pixels = np.ascontiguousarray(sheet[::-1]).reshape(-1, 3)
        image = pyvista.ImageData(dimensions=(width, height, 1))
        image.point_data["colors"] = pixels
        if self._sheet is not None and self._sheet.GetInput().GetDimensions() == (width, height, 1):
            shown = self._sheet.GetInput()
            pyvista.wrap(shown).point_data["colors"][:] = pixels
            shown.GetPointData().GetScalars().Modified()
            shown.Modified()
            return
        self.plotter.subplot(0, 1)
        if self._sheet is not None:
            self._sheet.SetInputData(image)
        else:
            from vtkmodules.vtkRenderingCore import vtkImageActor

            image.set_active_scalars("colors")
            self._sheet = vtkImageActor()
            self._sheet.SetInputData(image)
            self._sheet.SetInterpolate(False)
            self.plotter.add_actor(self._sheet, name="images", reset_camera=False, pickable=False)
        renderer.enable_parallel_projection()
        camera = renderer.camera
        camera.position = ((width - 1) / 2, (height - 1) / 2, 1000.0)
        camera.focal_point = ((width - 1) / 2, (height - 1) / 2, 0.0)
        camera.up = (0.0, 1.0, 0.0)
        camera.parallel_scale = height / 2
        renderer.SetInteractive(False)


def require_display() -> None:
    """Raise BackendUnavailable if no window can be opened here."""
    import os
    import sys

    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise BackendUnavailable(
            "there is no display to open a window on; write a file instead: "
            "geomopt view RUN --save run.mp4 (or .gif, .png)"
        )


def _polydata(mesh: Mesh, fields: Mapping[str, Tensor]) -> Any:
    import pyvista

    data = pyvista.PolyData()
    count = len(mesh.faces)
    if not count:
        return data
    # three points of its own for each face, so that normals may differ across a sharp edge
    corners = _array(mesh.faces).ravel()
    data.points = _array(mesh.vertices)[corners].astype(np.float32)
    ends = np.arange(3 * count).reshape(count, 3)
    data.faces = np.concatenate([np.full((count, 1), 3), ends], axis=1).ravel()
    normals = corner_normals(mesh.vertices.detach(), mesh.faces, CREASE)
    data.point_data.active_normals = _array(normals).reshape(-1, 3).astype(np.float32)
    if fields:
        data.point_data["field"] = _array(next(iter(fields.values())))[corners].astype(np.float32)
    elif mesh.colors is not None:
        shades = (np.clip(_array(mesh.colors), 0, 1) * 255).round().astype(np.uint8)
        data.point_data["colors"] = shades[corners]
    return data


def _points(positions: Tensor) -> Any:
    import pyvista

    return (
        pyvista.PolyData(np.array(_array(positions), dtype=np.float32))
        if len(positions)
        else pyvista.PolyData()
    )


def _segments(segments: Tensor) -> Any:
    import pyvista

    data = pyvista.PolyData()
    count = len(segments)
    if count:
        data.points = np.array(_array(segments).reshape(-1, 3), dtype=np.float32)
        ends = np.arange(2 * count).reshape(count, 2)
        data.lines = np.concatenate([np.full((count, 1), 2), ends], axis=1).ravel()
    return data


def _same_topology(a: Any, b: Any) -> bool:
    return (
        a.n_points == b.n_points
        and a.point_data.keys() == b.point_data.keys()
        and np.array_equal(a.faces, b.faces)
        and np.array_equal(a.lines, b.lines)
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
