"""Partial differential equations on periodic boxes: solved, learned, judged, designed through."""
