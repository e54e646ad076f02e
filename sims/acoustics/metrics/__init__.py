"""What a response tells about its room: ISO 3382-1 and -2, and IEC 60268-16.

    octaves = band_filter(response, rate)                # (..., T) -> (..., 6, T), 125 to 4000 Hz
    floor = noise_floor(octaves, rate)
    reverberation_time(octaves, rate, T30, floor)        # (..., 6) s
    room_parameters(response, rate).table()              # all of them, and why one is missing

Ratios of energy (`clarity`, `definition`, `centre_time`, `strength`) and `soft_reverberation_time`
are differentiable in the response, and `band_filter` is too.
"""

from sims.acoustics.metrics.bands import (
    OCTAVES,
    ROOM_BANDS,
    THIRD_OCTAVES,
    band_edges,
    band_filter,
    bands_below,
)
from sims.acoustics.metrics.decay import (
    EARLY_DECAY,
    T20,
    T30,
    Decay,
    decay_line,
    decay_range,
    early_decay_time,
    onset,
    remaining_energy,
    reverberation_time,
    schroeder_curve,
)
from sims.acoustics.metrics.energy import (
    C50,
    C80,
    centre_time,
    clarity,
    definition,
    early_and_late,
    strength,
)
from sims.acoustics.metrics.noise import NoiseFloor, noise_floor, recorded_samples
from sims.acoustics.metrics.parameters import (
    NOTICEABLE_CENTRE_TIME,
    NOTICEABLE_CLARITY,
    NOTICEABLE_DEFINITION,
    NOTICEABLE_SPEECH,
    NOTICEABLE_STRENGTH,
    NOTICEABLE_TIME,
    RoomParameters,
    noticeable_differences,
    room_parameters,
)
from sims.acoustics.metrics.soft import soft_reverberation_time
from sims.acoustics.metrics.speech import (
    MODULATIONS,
    SPEECH_BANDS,
    index_of_transfer,
    modulation_transfer,
    speech_transmission_index,
)

__all__ = [
    "C50",
    "C80",
    "EARLY_DECAY",
    "MODULATIONS",
    "NOTICEABLE_CENTRE_TIME",
    "NOTICEABLE_CLARITY",
    "NOTICEABLE_DEFINITION",
    "NOTICEABLE_SPEECH",
    "NOTICEABLE_STRENGTH",
    "NOTICEABLE_TIME",
    "OCTAVES",
    "ROOM_BANDS",
    "SPEECH_BANDS",
    "T20",
    "T30",
    "THIRD_OCTAVES",
    "Decay",
    "NoiseFloor",
    "RoomParameters",
    "band_edges",
    "band_filter",
    "bands_below",
    "centre_time",
    "clarity",
    "decay_line",
    "decay_range",
    "definition",
    "early_and_late",
    "early_decay_time",
    "index_of_transfer",
    "modulation_transfer",
    "noise_floor",
    "noticeable_differences",
    "onset",
    "recorded_samples",
    "remaining_energy",
    "reverberation_time",
    "room_parameters",
    "schroeder_curve",
    "soft_reverberation_time",
    "speech_transmission_index",
    "strength",
]
