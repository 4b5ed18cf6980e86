"""Files that name other files: lists, scripts, and videos that refer to what lies elsewhere."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path


def _hls(target: str) -> str:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-VERSION:3\n"
    return f"{head}#EXTINF:1.0,\n{target}\n#EXT-X-ENDLIST\n"


def _hls_with_key(target: str) -> str:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-VERSION:6\n"
    keys = f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXT-X-MAP:URI="{target}"\n'
    return f"{head}{keys}#EXTINF:1.0,\n#EXT-X-BYTERANGE:188@0\n{target}\n#EXT-X-ENDLIST\n"


def _hls_of_lists(target: str) -> str:
    media = f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="{target}"\n'
    return f'#EXTM3U\n{media}#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\n{target}\n'


def _concat(target: str) -> str:
    return f"ffconcat version 1.0\nfile '{target}'\n"


def _dash(target: str) -> str:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"'
        ' mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:full:2011"><Period>'
        '<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )


def _smooth_streaming(target: str) -> str:
    return (
        '<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2" MinorVersion="1"'
        f' Duration="10000000"><StreamIndex Type="video" Url="{target}"/></SmoothStreamingMedia>'
    )


def _sdp(target: str) -> str:
    return f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={target}\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 33\n"


def _smil(target: str) -> str:
    return f'<smil><body><seq><video src="{target}"/></seq></body></smil>'


def _asx(target: str) -> str:
    return f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'


def _svg(target: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}" width="9"/></svg>'


def _xspf(target: str) -> str:
    tracks = f"<trackList><track><location>{target}</location></track></trackList>"
    return f'<?xml version="1.0"?><playlist version="1">{tracks}</playlist>'


def _imf(target: str) -> str:
    return (
        '<?xml version="1.0"?><AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM">'
        f"<AssetList><Asset><ChunkList><Chunk><Path>{target}</Path></Chunk></ChunkList></Asset>"
        "</AssetList></AssetMap>"
    )


# By the ending that people give them: what makes such a file of what it is to name.
LISTS: dict[str, Callable[[str], str]] = {
    "m3u8": _hls,
    "key.m3u8": _hls_with_key,
    "master.m3u8": _hls_of_lists,
    "ffconcat": _concat,
    "mpd": _dash,
    "ism": _smooth_streaming,
    "sdp": _sdp,
    "smil": _smil,
    "asx": _asx,
    "svg": _svg,
    "xspf": _xspf,
    "assetmap.xml": _imf,
    "m3u": "{}\n".format,
    "ram": "{}\n".format,
    "pls": "[playlist]\nNumberOfEntries=1\nFile1={}\n".format,
    "asf": "[Reference]\nRef1={}\n".format,
    "qtl": '<?quicktime type="application/x-quicktime-media-link"?><embed src="{}"/>'.format,
    "rtsptext.mov": "rtsptext\r\n{}\r\n".format,
    "idx": "# VobSub index file, v7\nid: en, index: 0\n# {}\n".format,
    "edl": "# mpv EDL v0\n{},0,1\n".format,
    "avs": 'AviSource("{}")\n'.format,
    "filter": "movie={}\n".format,
    "cue": 'FILE "{}" BINARY\n  TRACK 01 MODE2/2352\n'.format,
    "html": '<video src="{}"></video>'.format,
    "strm": "{}".format,
    "url": "[InternetShortcut]\nURL={}\n".format,
}


def _boxed(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return struct.pack(">I4s", 8 + len(joined), kind) + joined


def alias_entry(other: Path) -> bytes:
    """A Macintosh alias record, as QuickTime File Format, "Data Reference Atoms", has it."""
    name = str(other).encode()
    name += b"\0" * (len(name) % 2)
    record = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + bytes(4) + bytes(16)
    record += struct.pack(">HH", 2, len(name)) + name + struct.pack(">HH", 0xFFFF, 0)
    return _boxed(b"alis", bytes(4), record)


def url_entry(target: str) -> bytes:
    """The same of a URL: ISO/IEC 14496-12, 8.7.2."""
    return _boxed(b"url ", bytes(4), target.encode(), b"\0")


def refer_elsewhere(movie: bytes, entry: bytes) -> bytes:
    """A movie, its index at its end, whose samples are said to lie in another file."""
    old = struct.pack(">I4sI", 12, b"url ", 1)
    at = movie.index(old)
    content = bytearray(movie[:at] + entry + movie[at + len(old) :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = content.rindex(box, 0, at) - 4
        size = int.from_bytes(content[start : start + 4], "big")
        content[start : start + 4] = struct.pack(">I", size + len(entry) - len(old))
    return bytes(content)


def reference_movie(target: str) -> bytes:
    """A QuickTime movie of nothing but the place of another."""
    place = target.encode() + b"\0"
    reference = _boxed(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(place)), place)
    descriptor = _boxed(b"rmda", reference)
    return _boxed(b"ftyp", b"qt  ", bytes(4), b"qt  ") + _boxed(
        b"moov", _boxed(b"rmra", descriptor)
    )


def redirect_asf(video: bytes, target: str) -> bytes:
    """An ASF video with a command to go to another place: ASF Specification, 3.6."""
    kind, where = "URL".encode("utf-16-le"), target.encode("utf-16-le")
    command = bytes.fromhex("e3cb1a4b0b10d011a39b00a0c90348f6") + struct.pack("<HH", 1, 1)
    command += struct.pack("<H", len(kind) // 2) + kind
    command += struct.pack("<IHH", 0, 0, len(where) // 2) + where
    whole = bytes.fromhex("301afb1e620bd011a39b00a0c90348f6")
    whole += struct.pack("<Q", 24 + len(command)) + command
    size, objects = struct.unpack_from("<QI", video, 16)
    head = video[:16] + struct.pack("<QI", size + len(whole), objects + 1) + video[28:30]
    return head + whole + video[30:]


def _element(number: str, content: bytes) -> bytes:
    return bytes.fromhex(number) + (len(content) | 1 << 28).to_bytes(4, "big") + content


def link_matroska(video: bytes, target: str) -> bytes:
    """A Matroska video of no told size that names the next, and takes a chapter from that one."""
    # The name takes the place of that of the program that wrote it, for all else to stay in place.
    at = video.index(bytes.fromhex("5741"))
    size = video[at + 2] & 0x7F
    name = target.encode()[: size - 1].ljust(size - 1, b"\0")
    video = (
        video[:at]
        + bytes.fromhex("3e83bb")
        + bytes([0x80 | size - 1])
        + name
        + video[at + 3 + size :]
    )
    atom = _element("73c4", b"\1") + _element("91", b"\0") + _element("92", b"\x3b\x9a\xca\0")
    atom += _element("6e67", bytes(range(16)))  # which is not in this file
    edition = _element("45db", b"\1") + _element("45dd", b"\1") + _element("b6", atom)
    chapters = _element("1043a770", _element("45b9", edition))
    at = video.index(bytes.fromhex("1f43b675"))  # the first cluster
    return video[:at] + chapters + video[at:]
