"""A furnished room from end to end: solved, learned, checked and listened to, `geomopt run room`.

`study.py` has the settings and the cases, `views.py` the frames of the viewer, `plots.py` the
pictures of the report.
"""

from sims.acoustics.furnished.study import FurnishedRoom, furnished_room

__all__ = ["FurnishedRoom", "furnished_room"]
