"""Problems of room acoustics with exact solutions and laws, solved and compared.

One file a family of problems. A family's `CASES` name the ones of a study, of coarse and short runs
("quick") or of those of the tolerances ("full"); `study.py` runs all of them.
"""

from sims.acoustics.validation.rows import Case, Findings, Line, Panel, Picture, Row, Scale

__all__ = ["Case", "Findings", "Line", "Panel", "Picture", "Row", "Scale"]
