"""The colours of frames: what their video says of them, and HDR made into what JPEG files hold.

The operator: light is taken relative to the reference white of ITU-R BT.2408, 203 cd/m2, turned
from the primaries of BT.2020 to those of BT.709, and coded for a display of BT.1886. Up to `KNEE`
of the signal nothing changes; from there to the light of `PEAK_NITS` it rolls off. So what is not
brighter than the reference white, as all of SDR, looks as it does in SDR, and highlights lose their
contrast before they lose their shape. The system gamma of HLG is applied to each colour by itself,
as FFmpeg's zscale does. It is a table of colours, made once for a video and looked up after
scaling, so that it costs little.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc

REFERENCE_WHITE_NITS, PEAK_NITS = 203.0, 1000.0
KNEE = 0.95
GAMMA = 2.4
UNSPECIFIED = 2  # ITU-T H.273, of transfer, primaries and matrix alike
# Of the table: its image has LEVEL ** 3 pixels a side, and LEVEL ** 2 steps of each colour.
LEVEL = 7
# ITU-R BT.2087: from BT.2020.
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)


class Colour(NamedTuple):
    """What a frame says of its colours, in the numbers of ITU-T H.273.

    Attributes:
        transfer: Transfer characteristics.
        primaries: Colour primaries.
    """

    transfer: int
    primaries: int

    @classmethod
    def of(cls, frame: Any) -> Colour:
        """The colour of a decoded frame."""
        return cls(int(frame.color_trc), int(frame.color_primaries))

    @property
    def transfer_name(self) -> str | None:
        """As FFmpeg names it; None where nothing tells."""
        # FFmpeg has hyphens where PyAV cannot, in the names of transfers alone.
        name = _name(ColorTrc, self.transfer)
        return name and name.replace("_", "-")

    @property
    def primaries_name(self) -> str | None:
        """As FFmpeg names them; None where nothing tells."""
        return _name(ColorPrimaries, self.primaries)

    @property
    def is_hdr(self) -> bool:
        """Whether its transfer is that of BT.2100: PQ or HLG."""
        return self.transfer in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)

    @property
    def is_wide(self) -> bool:
        """Whether its primaries are those of BT.2020: HDR has them where nothing tells."""
        unknown = self.primaries == UNSPECIFIED
        return self.primaries == ColorPrimaries.BT2020 or (self.is_hdr and unknown)


UNKNOWN_COLOUR = Colour(UNSPECIFIED, UNSPECIFIED)


def _name(kind: type, value: int) -> str | None:
    if value == UNSPECIFIED:
        return None
    try:
        return kind(value).name.lower()
    except ValueError:
        return str(value)


def sdr_table(colour: Colour) -> np.ndarray | None:
    """The colours of BT.709 for those of a video; None where these are taken as they are.

    Returns:
        A Hald image, `(LEVEL ** 3, LEVEL ** 3, 3)` of 16 bits, for the filter `haldclut`.
    """
    if not (colour.is_hdr or colour.is_wide):
        return None
    steps = np.linspace(0.0, 1.0, LEVEL**2)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    light = _light(np.stack([red, green, blue], axis=-1).reshape(-1, 3), colour.transfer)
    if colour.is_wide:
        light = light @ _TO_BT709.T
    signal = np.maximum(light, 0.0) ** (1 / GAMMA)
    if colour.is_hdr:
        signal = _roll_off(signal)
    side = LEVEL**3
    return np.rint(np.clip(signal, 0.0, 1.0) * 65535).astype(np.uint16).reshape(side, side, 3)


def _light(signal: np.ndarray, transfer: int) -> np.ndarray:
    """The light of a display, relative to the reference white; `(…, 3)` of red, green, blue."""
    match transfer:
        case ColorTrc.SMPTE2084:
            return _pq_nits(signal) / REFERENCE_WHITE_NITS
        case ColorTrc.ARIB_STD_B67:
            # BT.2100: the system gamma of a display of 1000 cd/m2.
            return PEAK_NITS * _hlg_scene(signal) ** 1.2 / REFERENCE_WHITE_NITS
    return signal**GAMMA


def _pq_nits(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, the EOTF."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = signal ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg_scene(signal: np.ndarray) -> np.ndarray:
    """ARIB STD-B67, the inverse of the OETF."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _roll_off(signal: np.ndarray) -> np.ndarray:
    """A smooth shoulder: as it is up to the knee, and 1 at the peak."""
    peak = (PEAK_NITS / REFERENCE_WHITE_NITS) ** (1 / GAMMA)
    share = np.clip((signal - KNEE) / (peak - KNEE), 0.0, 1.0)
    slope = (peak - KNEE) / (1 - KNEE)  # so that it begins as steep as what is below
    shoulder = KNEE + (1 - KNEE) * slope * share / (1 + (slope - 1) * share)
    return np.where(signal <= KNEE, signal, shoulder)
