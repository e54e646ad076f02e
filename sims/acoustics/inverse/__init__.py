"""Rooms from sound, and rooms for sound: what walls and sources are, and what to change.

The solver's reverse sweep gives exact slopes, cheap models propose, and every design that is
accepted is solved again on a finer mesh, whose figures stand beside those of the search.
"""
