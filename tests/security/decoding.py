"""What comes of a file that attacks its decoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidpipe.errors import MediaError
from vidpipe.media import Decoder, ExtractOptions, Frame

EVERY_FRAME = ExtractOptions(sampling="all", short_side=0, jpeg_quality=100)


def frames_of(decoder: Decoder, path: Path) -> list[Frame]:
    """Returns the frames that a decoder makes of a file."""
    return [part for part in decoder.decode(path, EVERY_FRAME) if isinstance(part, Frame)]


def reason_of(decoder: Decoder, path: Path) -> str:
    """Returns why a file is refused."""
    with pytest.raises(MediaError) as caught:
        frames_of(decoder, path)
    return caught.value.reason
