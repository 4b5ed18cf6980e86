"""What a packet tells before it is decoded: whether others need it, and whether it needs others."""

from __future__ import annotations

from typing import NamedTuple

# A parameter set or a message may stand before the picture; more than this is no ordinary video.
_HEAD_BYTES = 4096
_VP8_SHOWN = 0x10  # RFC 6386, 9.1


class PacketKind(NamedTuple):
    """What is known of the picture in a packet.

    Attributes:
        reference: Whether later pictures may need it; None where that is not known.
        restart: Whether nothing after it, in the order of decoding, needs anything before it.
    """

    reference: bool | None
    restart: bool


_UNKNOWN = PacketKind(None, False)


class PacketKinds:
    """Tells the kind of the packets of a stream.

    Args:
        stream: A video stream, as PyAV opens it.
    """

    def __init__(self, stream):
        context = stream.codec_context
        self._codec: str = context.codec.canonical_name
        self._intra_only: bool = context.codec.intra_only
        extradata = context.extradata or b""
        # ISO/IEC 14496-15: the configuration record begins with 1, and tells how many bytes the
        # size of a NAL unit takes. Without one, units are set apart by start codes (Annex B).
        self._size_bytes = 0
        if extradata[:1] == b"\1":
            if self._codec == "h264" and len(extradata) > 4:
                self._size_bytes = (extradata[4] & 3) + 1
            elif self._codec == "hevc" and len(extradata) > 21:
                self._size_bytes = (extradata[21] & 3) + 1

    def of(self, packet) -> PacketKind:
        """The kind of a packet; what is not known for sure is told as not known."""
        if self._intra_only:
            return PacketKind(True, True)
        if self._codec in ("vp8", "vp9"):
            return PacketKind(None, bool(packet.is_keyframe))
        if self._codec in ("h264", "hevc"):
            read = _h264 if self._codec == "h264" else _hevc
            for first_bytes in self._units(memoryview(packet)):
                kind = read(first_bytes)
                if kind is not None:
                    return kind
        return _UNKNOWN

    def is_shown(self, packet) -> bool:
        """Whether a packet holds a frame to be shown: VP8 has some that others only refer to."""
        return self._codec != "vp8" or bool(memoryview(packet)[0] & _VP8_SHOWN)

    def _units(self, content: memoryview):
        """Yields the first byte of each NAL unit."""
        if self._size_bytes:
            start = 0
            while start + self._size_bytes < len(content):
                size = int.from_bytes(content[start : start + self._size_bytes], "big")
                yield content[start + self._size_bytes]
                start += self._size_bytes + size
            return
        head = bytes(content[:_HEAD_BYTES])
        start = head.find(b"\0\0\1")
        while start >= 0 and start + 3 < len(head):
            yield head[start + 3]
            start = head.find(b"\0\0\1", start + 3)


def _h264(first_byte: int) -> PacketKind | None:
    """ITU-T H.264, 7.4.1: type 5 is a slice of an IDR picture, 1 and 2 are of others."""
    unit_type = first_byte & 31
    if unit_type not in (1, 2, 5):
        return None
    return PacketKind(bool(first_byte & 0x60), unit_type == 5)


def _hevc(first_byte: int) -> PacketKind | None:
    """ITU-T H.265, 7.4.2.2: 19 and 20 are of IDR pictures; even ones below 16 nobody refers to."""
    unit_type = first_byte >> 1 & 63
    if unit_type > 31:
        return None
    return PacketKind(unit_type >= 16 or unit_type % 2 == 1, unit_type in (19, 20))
