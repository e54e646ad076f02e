"""Contact: which primitives are near, how far a step may go, barrier and friction terms.

1. `settings.py` is what a user says; `surfaces.py` makes primitives (`pairs.py`) and constants of a
   scene, and `start.py` refuses one whose parts intersect, by the exact test of `intersections.py`
   (`exact.py`).
2. `detection.py` keeps a list of pairs that may come near, from trees of boxes (`trees.py`), and
   tells which are (`near`) and how much of a move is free of collisions (`share`, `ccd_kernels.py`,
   additive continuous collision detection).
3. `near.py` keeps the pairs that Newton's matrix has room for, `touching.py` makes their terms: the
   barrier (`energies/barrier.py`) with the distances of `closest.py`, and friction
   (`energies/friction.py`, `creep_friction.py`) between pairs that touched at the start.
4. `friction.py` takes normal forces from the start of the step and carries the slip of anchored
   pairs to its end, as they turn (`turns.py`) and pass from pair to pair.
5. `wrenches.py` is what drives the bodies, `forces.py` what acts between any two parts.
"""
