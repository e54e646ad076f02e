"""Looking at runs.

A problem returns a `Scene` (scene.py): named meshes, points, lines, fields and images, plain data.
A run keeps some; `Timeline` (timeline.py) reads them back, also while the run grows. A stage
(plotter.py) holds the PyVista actors, made once and updated in place, with the images on a sheet
(mosaic.py) beside them. `view` (desktop.py) puts a timeline into a window with a slider, `record`
(record.py) into a PNG, GIF or MP4 without one; offscreen.py finds out whether that works here.
"""

from geomopt.viewer.desktop import view
from geomopt.viewer.record import record, record_scenes
from geomopt.viewer.scene import Scene
from geomopt.viewer.timeline import Timeline

__all__ = ["Scene", "Timeline", "record", "record_scenes", "view"]
