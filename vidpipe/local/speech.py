"""Spoken words for the made clips, by the eSpeak NG library of the espeakng-loader wheel."""

from __future__ import annotations

import ctypes
import functools
import tempfile
from pathlib import Path

import espeakng_loader
import numpy as np

from vidpipe.errors import UsageError

SAMPLE_RATE_HZ = 22_050

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


# The library carries state over from word to word: only what it says first is always the same.
@functools.cache
def speak(words: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Speaks each word by itself in American English; not for several threads at once.

    Returns:
        For each word its samples: int16 at `SAMPLE_RATE_HZ`, mono, without the silence around it.

    Raises:
        UsageError: The library does not start.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    pieces: list[np.ndarray] = []

    @_SYNTH_CALLBACK
    def collect(samples, count, _events):
        if samples:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    with tempfile.TemporaryDirectory() as folder:
        # eSpeak cuts the path of its data at 160 characters; a deep environment exceeds that.
        data = Path(folder) / "espeak-ng-data"
        data.symlink_to(espeakng_loader.get_data_path())
        rate_hz = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, str(folder).encode(), 0)
        if rate_hz != SAMPLE_RATE_HZ or library.espeak_SetVoiceByName(b"en-us") != 0:
            raise UsageError("The speech library of the espeakng-loader wheel does not start.")
        library.espeak_SetSynthCallback(collect)
        spoken = {}
        for word in words:
            pieces.clear()
            text = word.encode() + b"\0"
            library.espeak_Synth(
                text, ctypes.c_size_t(len(text)), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
            )
            library.espeak_Synchronize()
            spoken[word] = _trim(np.concatenate(pieces))
        library.espeak_Terminate()
    return spoken


def _trim(samples: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 100)
    return samples[loud[0] : loud[-1] + 1]
