"""Rooms to listen to: from the pressure of a wave solver or a surrogate to a WAV file.

    pressure = solver.simulate(source, path, duration=1.0)          # heard from K points of a path
    responses = hybrid_response(pressure, solver.time_step, solver.fmax, distances)
    heard = auralize(dry_signal("speech", 48000), responses, times=passing_times)
    write_wav("walk.wav", heard, 48000, "pcm16")

1. `deconvolution.py` divides the pulse out and goes over to 48 kHz: `impulse_response`.
2. What lies above the solver's band is noise that decays as measured or as given (`tail.py`) or, in
   a shoebox, the sound of images (`images.py`), on the same scale: free field is an impulse 1/r.
3. `crossover.py` puts both together with a flat sum.
4. `path.py` convolves a dry signal (`dry.py`, or a WAV) along a path.

Exchanging source and receiver changes no response, so one simulation gives those of all points of
a path, from a listener that stands still to a source that moves, or the other way round.
"""

from sims.acoustics.auralize.crossover import crossover
from sims.acoustics.auralize.deconvolution import RATE, impulse_response
from sims.acoustics.auralize.dry import SIGNALS, dry_signal
from sims.acoustics.auralize.hybrid import auralize, hybrid_response, spectrogram
from sims.acoustics.auralize.images import image_source_response
from sims.acoustics.auralize.path import render_path
from sims.acoustics.auralize.tail import noise_tail

__all__ = [
    "RATE",
    "SIGNALS",
    "auralize",
    "crossover",
    "dry_signal",
    "hybrid_response",
    "image_source_response",
    "impulse_response",
    "noise_tail",
    "render_path",
    "spectrogram",
]
