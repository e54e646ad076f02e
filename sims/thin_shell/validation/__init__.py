"""Problems with published or closed solutions, solved and compared.

One file a family of problems. Each problem is a plain function of its mesh that gives `Findings`:
rows of a table, curves, deformed shapes. A family's `CASES` name the ones of a study, at coarse
meshes ("quick") or at those of the tolerances ("full"); `study.py` runs all of them.
"""

from sims.thin_shell.validation.rows import Case, Curve, Findings, Row, Scale, Shape, joined

__all__ = ["Case", "Curve", "Findings", "Row", "Scale", "Shape", "joined"]
