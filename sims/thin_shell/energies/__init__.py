"""The energies of a shell, one file each: membrane, bending, creases.

Each module defines one `Energy` (energy.py): the formula, its kernels and its torch twin.
"""
