"""Which of the tracks of a container are read, as FFmpeg's command line chooses them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import av
import av.logging
from av.stream import Disposition

from vidpipe.errors import MediaError
from vidpipe.media.crop import NO_CROP, Crop
from vidpipe.media.options import ExtractOptions

# As in FFmpeg's command line: a default track beats one of more pixels or channels, within reason.
DEFAULT_SCORE = 5_000_000
# No video by themselves: covers, thumbnails, and parts of a picture or layers of another track.
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
# Audio for some: a commentary, a description of the picture, a clearer mix.
_ASIDE = Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired
# So many packets tell a cover, of one picture, from a video. More are not looked at.
PICTURES_OF_VIDEO, PACKETS_LOOKED_AT = 2, 1000
# ISO 639-2 has two codes for some languages: one of English names, and one of their own.
_TERMINOLOGY = {
    **{"alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces"},
    **{"dut": "nld", "fre": "fra", "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl"},
    **{"mac": "mkd", "mao": "mri", "may": "msa", "per": "fas", "rum": "ron", "slo": "slk"},
    **{"tib": "bod", "wel": "cym"},
}
_STREAM = re.compile(r" +Stream #0:(\d+)")
_PROGRAM = re.compile(r"  (?:No Program|Program (\d+))")
_CROP = re.compile(r" +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)")


@dataclass(frozen=True)
class Tracks:
    """The tracks that are read.

    Attributes:
        video: A stream, as PyAV opens it.
        audio: The same; None where there is none.
        video_track: Number of the video among the video tracks, from 1.
        video_tracks: How many these are; covers are none.
        audio_track: Number of the audio among the audio tracks, from 1; None where there is none.
        audio_tracks: How many these are.
        crop: What the container cuts off the pictures of the video.
    """

    video: Any
    audio: Any
    video_track: int
    video_tracks: int
    audio_track: int | None
    audio_tracks: int
    crop: Crop


def choose_tracks(container: Any, options: ExtractOptions, reopen: Callable[[], Any]) -> Tracks:
    """Chooses a video track and an audio track.

    What the options name is taken. Else it is what FFmpeg's command line takes: the track of the
    highest resolution or of the most channels, a default one first; of audio, one that belongs to
    the same program and is no commentary comes before all others.

    Args:
        container: As PyAV opens it.
        options: They may name a track or a language.
        reopen: Opens the container once more, to look at its packets.

    Raises:
        MediaError: There is no video, no decoder for it, or no such track.
    """
    videos = [s for s in container.streams.video if not s.disposition & _NO_VIDEO]
    if not videos:
        raise MediaError("no_video", "There is no video stream in it.")
    described = _Description(container)
    video = _numbered(videos, options.video_track, "video") or _best_video(videos, reopen)
    if video.codec_context is None:
        raise MediaError("unsupported_codec", "There is no decoder for its video stream.")
    audios = list(container.streams.audio)
    audio = _numbered(audios, options.audio_track, "audio") or _best_audio(
        audios, options.audio_language, described.programs.get(video.index, set()), described
    )
    return Tracks(
        video=video,
        audio=audio,
        video_track=videos.index(video) + 1,
        video_tracks=len(videos),
        audio_track=None if audio is None else audios.index(audio) + 1,
        audio_tracks=len(audios),
        crop=described.crops.get(video.index, NO_CROP),
    )


def _numbered(streams: Sequence[Any], number: int, kind: str) -> Any:
    """The track with a number; None where none is asked for."""
    if not number:
        return None
    if number > len(streams):
        raise MediaError(
            "no_track", f"It has {len(streams)} {kind} tracks; {kind}_track asks for {number}."
        )
    return streams[number - 1]


def _best_video(videos: Sequence[Any], reopen: Callable[[], Any]) -> Any:
    moving = _moving(reopen) if len(videos) > 1 else set()

    def score(stream: Any) -> tuple[bool, bool, int]:
        context = stream.codec_context
        pixels = context.width * context.height if context else 0
        return context is not None, stream.index in moving, pixels + _default_score(stream)

    return max(videos, key=score)  # the first of equals


def _moving(reopen: Callable[[], Any]) -> set[int]:
    """Indices of the streams that have more than one packet near the start."""
    counts: dict[int, int] = {}
    with reopen() as container, contextlib.suppress(av.error.FFmpegError, IndexError):
        for number, packet in enumerate(container.demux(container.streams.video)):
            if packet.size:
                counts[packet.stream_index] = counts.get(packet.stream_index, 0) + 1
            if number > PACKETS_LOOKED_AT:
                break
    return {index for index, count in counts.items() if count >= PICTURES_OF_VIDEO}


def _best_audio(
    audios: Sequence[Any], language: str, programs: set[int], described: _Description
) -> Any:
    decodable = [s for s in audios if s.codec_context is not None]

    def score(stream: Any) -> tuple[bool, bool, bool, int]:
        return (
            bool(language) and _same_language(stream.language or "", language),
            not programs or bool(programs & described.programs.get(stream.index, set())),
            not stream.disposition & _ASIDE,
            stream.codec_context.layout.nb_channels + _default_score(stream),
        )

    return max(decodable, key=score, default=None)


def _default_score(stream: Any) -> int:
    return DEFAULT_SCORE if stream.disposition & Disposition.default else 0


def _same_language(one: str, other: str) -> bool:
    return _TERMINOLOGY.get(one, one) == _TERMINOLOGY.get(other, other)


class _Description:
    """What PyAV does not give of the streams: read from the listing that libavformat makes of them.

    Attributes:
        crops: By the index of a stream.
        programs: The numbers of the programs that a stream belongs to, by its index.
    """

    def __init__(self, container: Any):
        self.crops: dict[int, Crop] = {}
        self.programs: dict[int, set[int]] = {}
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            lines = container.dumps_format().splitlines()
        finally:
            av.logging.set_level(level)
        program = stream = None
        for line in lines:
            if found := _PROGRAM.match(line):
                program = int(found[1]) if found[1] else None
            elif found := _STREAM.match(line):
                stream = int(found[1])
                if program is not None:
                    self.programs.setdefault(stream, set()).add(program)
            elif stream is not None and (found := _CROP.match(line)):
                self.crops[stream] = Crop(*map(int, found.groups()))
