"""Changes the boxes of MP4 files, to make headers that are rare or wrong."""

from __future__ import annotations

import struct

# Where a sample entry of video begins (ISO/IEC 14496-12, 8.5.2), and the boxes around it.
_AROUND_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
_ENTRY_BYTES = 78


def box(kind: bytes, content: bytes) -> bytes:
    """A box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def zero_durations(movie: bytes) -> bytes:
    """A movie whose headers tell durations of 0."""
    content = bytearray(movie)
    for kind, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        at = content.find(kind)
        while at >= 0:
            content[at + 4 + offset : at + 8 + offset] = bytes(4)
            at = content.find(kind, at + 4)
    return bytes(content)


def crop_by_container(movie: bytes, width: int, height: int, right: int, down: int) -> bytes:
    """A movie of H.264, its index at its end, with a clean aperture (8.5.2.3, 12.1.4).

    Args:
        movie: The movie.
        width: Of what is shown.
        height: Of what is shown.
        right: By how much its centre is right of the picture's.
        down: By how much it is below.
    """
    clean = box(b"clap", struct.pack(">8i", width, 1, height, 1, right, 1, down, 1))
    content = bytearray(movie)
    at = content.index(b"avc1", content.index(b"stsd")) + 4 + _ENTRY_BYTES
    content[at:at] = clean
    for kind in _AROUND_ENTRY:
        start = content.rindex(kind, 0, at) - 4
        size = int.from_bytes(content[start : start + 4], "big")
        content[start : start + 4] = struct.pack(">I", size + len(clean))
    return bytes(content)


def edit_once(movie: bytes, media_time: int) -> bytes:
    """A movie with one edit, which starts at a time of its media, in place of two."""
    content = bytearray(movie)
    at = content.index(b"elst") - 4
    version, count, *_, duration, _, _ = struct.unpack_from(">II3I3I", content, at + 8)
    assert (version, count) == (0, 2)
    one = box(b"elst", struct.pack(">IIIiI", 0, 1, duration, media_time, 1 << 16))
    content[at : at + 40] = one + box(b"free", bytes(4))
    return bytes(content)


def repeat_sample(movie: bytes, count: int, seconds: int) -> bytes:
    """A movie of one frame, its index at its end, that shows it again and again for so long.

    Each of its samples lies where the first does.
    """
    content = bytearray(movie)
    scales = (movie[(at := movie.index(kind)) + 16 : at + 20] for kind in (b"mvhd", b"mdhd"))
    of_movie, of_media = map(int.from_bytes, scales)
    durations = ((b"mvhd", 20, of_movie), (b"tkhd", 24, of_movie), (b"mdhd", 20, of_media))
    for kind, offset, per_s in durations:
        struct.pack_into(">I", content, movie.index(kind) + offset, seconds * per_s)
    where = movie[(at := movie.index(b"stco")) + 12 : at + 16]
    size = int.from_bytes(movie[(at := movie.index(b"mdat")) - 4 : at], "big") - 8
    tables = {
        b"stts": struct.pack(">4I", 0, 1, count, of_media * seconds // count),
        b"stsz": struct.pack(">3I", 0, size, count),
        b"stsc": struct.pack(">5I", 0, 1, 1, 1, 1),
        b"stco": struct.pack(">2I", 0, count) + where * count,
    }
    # Its edit list would end it earlier.
    return _with_tables(bytes(content).replace(b"edts", b"free"), tables)


def _with_tables(content: bytes, tables: dict[bytes, bytes]) -> bytes:
    made, at = b"", 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        inside = content[at + 8 : at + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            inside = _with_tables(inside, tables)
        made += box(kind, tables.get(kind, inside))
        at += size
    return made
