"""Reads a video once: frames and sound come as they are decoded, and a summary at the end.

Frames carry their own presentation time, which counts from the start of the container, as a
player's clock does; and so does the sound. A damaged video decodes as far as it can; what is
missing is told frame by frame, and made up for as the options say.

Runs in a process of its own (`vidpipe.media.worker`), in one thread, in memory that does not depend
on the length of the video.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.logging

from vidpipe.errors import MediaError
from vidpipe.media.bitstream import PacketKinds
from vidpipe.media.clock import Clock, FrameTimes, is_uncut, may_jump
from vidpipe.media.colour import UNKNOWN_COLOUR, Colour
from vidpipe.media.limits import memory_left_bytes
from vidpipe.media.measuring import Measured, Measurement
from vidpipe.media.missing import Expected, Imputer, Kept
from vidpipe.media.options import ExtractOptions
from vidpipe.media.parts import Frame, Part, Progress, Summary, VideoInfo
from vidpipe.media.pictures import UPRIGHT, Pictures, Turn
from vidpipe.media.probing import (
    describe,
    header_durations_s,
    open_container,
    tells_end,
    told_end_s,
)
from vidpipe.media.sampling import (
    ROUNDING_S,
    All,
    Decoded,
    Grid,
    Keyframes,
    Sampler,
)
from vidpipe.media.sound import Sound
from vidpipe.media.tracks import Tracks, choose_tracks

WORDS_KEPT = 5
WORD_CHARS = 200
# Sound that comes before the first frame waits for it; so much, and no more.
PARTS_HELD = 10
# A video that ends so much before the end that it tells of was cut; less is a matter of rounding.
EARLY_S, EARLY_SHARE = 0.3, 0.05
# Where packets were lost, so much time without any is told as a gap; the first few are.
GAP_S, GAPS_TOLD = 0.3, 3
# How far is looked for the frame that is shown first.
LED_PACKETS, LED_BYTES = 256, 32 << 20
# How often those who wait are told how much was read, in seconds of video.
PROGRESS_S = 10.0
_CUT = re.compile(r"partial file|File ended prematurely")
_NO_MEMORY = "Cannot allocate memory"


def read(path: str, options: ExtractOptions) -> Iterator[Part]:
    """Yields what a video is, then its frames and its sound, then a summary.

    Args:
        path: A local file.
        options: What to keep.

    Raises:
        MediaError: It cannot be used; what came before is then not to be used either.
    """
    words = _Words()
    with open_container(path) as container:
        words.demuxer = f"libav.{container.format.name}"
        tracks = choose_tracks(container, options, lambda: open_container(path))
        yield from _Reader(container, tracks, options, words).parts()


class _Words(logging.Handler):
    """What the libraries say is wrong: the first of it tells why, the rest what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self._words: dict[str, None] = {}
        self.demuxer: str | None = None
        self.cut: str | None = None
        self.lost = False  # whether the demuxer stumbled, so that packets may be missing
        self.out_of_memory = False
        av.logging.set_level(av.logging.ERROR)
        logger = logging.getLogger("libav")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Hears a line."""
        said = " ".join(record.getMessage().split())[:WORD_CHARS]
        if self.cut is None and _CUT.search(said):
            self.cut = said
        self.out_of_memory = self.out_of_memory or _NO_MEMORY in said
        self.lost = self.lost or record.name == self.demuxer
        if len(self._words) < WORDS_KEPT:
            self._words[said] = None

    def note(self, said: str) -> None:
        """Adds words of our own."""
        self._words[said] = None

    @property
    def told(self) -> str | None:
        """The first words, or None."""
        return "; ".join(self._words) or None


class _Reader:
    """The state of one reading."""

    def __init__(self, container: Any, tracks: Tracks, options: ExtractOptions, words: _Words):
        self._container = container
        self._options = options
        self._words = words
        self._tracks = tracks
        self._video, self._audio = tracks.video, tracks.audio
        for stream in filter(None, (self._video, self._audio)):
            stream.codec_context.thread_count = 1
        self._refuse_if_too_much()
        self._base: Fraction = self._video.time_base
        # As whole numbers, with which a time is as exact and many times as fast.
        self._ticks, self._ticks_per = self._base.numerator, self._base.denominator
        self._clock = Clock(container, self._video, self._audio)
        self._kinds = PacketKinds(self._video)
        self._measurement = Measurement(in_fields=is_uncut(container))
        self._frame_times = FrameTimes(self._base, self._video.average_rate)
        self._sampler = _make_sampler(options, self._video, self._kinds, self._hold)
        self._expected = Expected(self._sampler.moments_between)
        # What a shot is without its frames nobody can tell.
        scenes = options.sampling == "scenes"
        self._imputer = Imputer("drop" if scenes else options.missing_frames)
        self._sound = Sound(fill=options.missing_audio == "silence")
        self._info: VideoInfo | None = None
        self._pictures: Pictures | None = None
        self._first_dts: int | None = None
        self._shift: int | None = None  # of times, where the container starts later than its frames
        self._spoilt_s: float | None = None  # the last that did not decode, until a key frame
        self._missing_s: list[float] = []  # since the last kept frame
        self._errors = self._sound_errors = self._missing = self._good = self._frames = 0
        self._seen_s = self._end_s = self._sound_seen_s = self._progress_s = 0.0
        self._lost = False  # whether packets are missing
        self._gaps: list[tuple[float, float]] = []
        self._encoded: tuple[Any, bytes] = (None, b"")

    def parts(self) -> Iterator[Part]:
        """Everything, what the video is first: beside its first frame stands how it is turned."""
        held: list[Part] = []
        begun = False
        for part in self._read():
            held.append(part)
            if self._info is None and (len(held) > PARTS_HELD or isinstance(part, Summary)):
                self._describe(UPRIGHT, UNKNOWN_COLOUR)
            if self._info is not None:
                if not begun:
                    begun = True
                    yield self._info
                yield from held
                held.clear()

    def _refuse_if_too_much(self) -> None:
        options = self._options
        info = describe(self._container, self._tracks)
        # Of a clock that may jump, only the end tells how long it ran.
        if info.duration_s > options.max_duration_s and not may_jump(self._container):
            raise MediaError(
                "too_long", f"{info.duration_s:.0f} s are more than {options.max_duration_s:.0f} s."
            )
        self._refuse_if_too_large(info.width, info.height)

    def _refuse_if_too_large(self, width: int, height: int) -> None:
        if width * height > self._options.max_pixels:
            raise MediaError("too_large", f"{width}×{height} are too many pixels.")

    def _describe(self, turn: Turn, colour: Colour) -> None:
        self._info = describe(self._container, self._tracks, turn, colour)
        pixel_aspect = self._video.sample_aspect_ratio or Fraction(1)
        self._pictures = Pictures(self._options, turn, pixel_aspect, self._tracks.crop)

    def _read(self) -> Iterator[Part]:
        for packet in self._packets():
            self._clock.set(packet)
            if packet.stream_index == self._video.index:
                yield from self._video_packet(packet)
            else:
                yield from self._audio_packet(packet)
            if self._info is not None and self._seen_s >= self._progress_s + PROGRESS_S:
                self._progress_s = self._seen_s
                yield Progress(self._seen_s)
        yield from self._decode(None)
        for shown in self._frame_times.end():
            yield from self._frame(*shown)
        if self._frame_times.disordered:
            self._words.note("The times of its frames are not in order.")
        for decoded in self._sampler.end():
            yield from self._keep(decoded)
        yield from self._end()

    def _packets(self) -> Iterator[Any]:
        try:
            for packet, lost in self._led(self._demux()):
                if lost:
                    self._lost = True
                    self._expected.spoil(self._seen_s, lost=True)
                if packet.is_corrupt and not may_jump(self._container):
                    self._words.cut = self._words.cut or "It ends within a packet."
                if packet.size:  # one without content would end the decoder
                    yield packet
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            self._words.cut = self._words.cut or f"It cannot be read further: {error.strerror}"

    def _led(self, packets: Iterator[tuple[Any, bool]]) -> Iterator[tuple[Any, bool]]:
        """Starts the clock with the frame that is shown first, which need not come first."""
        led: list[tuple[Any, bool]] = []
        first: int | None = None
        size = 0
        error: Exception | None = None
        try:
            for packet, lost in packets:
                led.append((packet, lost))
                size += packet.size
                if len(led) > LED_PACKETS or size > LED_BYTES:
                    break
                if packet.stream_index != self._video.index:
                    continue
                if packet.pts is not None and not packet.is_discard:
                    first = packet.pts if first is None else min(first, packet.pts)
                # Nothing is shown before it is decoded.
                if packet.dts is None or (first is not None and packet.dts >= first):
                    break
        except (MemoryError, av.error.FFmpegError) as raised:
            error = raised
        if first is not None:
            self._clock.start_by(float(first * self._base))
        yield from led
        if error is not None:
            raise error
        yield from packets

    def _demux(self) -> Iterator[tuple[Any, bool]]:
        """Yields the packets, each with whether the demuxer stumbled before it."""
        streams = [stream for stream in (self._video, self._audio) if stream]
        while True:
            try:
                for packet in self._container.demux(*streams):
                    lost, self._words.lost = self._words.lost, False
                    yield packet, lost
                return
            except IndexError:
                continue  # PyAV stumbles over packets of streams that begin midway: none of ours

    def _video_packet(self, packet: Any) -> Iterator[Part]:
        if self._info is None and packet.has_sidedata("encryption_info"):
            # It would decode to noise, or not at all.
            raise MediaError("unsupported_codec", "It is encrypted.")
        time_s = None
        hidden = packet.is_discard
        if self._first_dts is None:
            self._first_dts = packet.dts
        if packet.pts is not None:
            if self._shift is None and not hidden:
                self._shift = 0
            time_s = self._time_s(packet.pts)
            hidden = hidden or time_s < -ROUNDING_S
            self._look_for_gap(time_s)
            self._seen_s = max(self._seen_s, time_s)
            end = packet.pts + (packet.duration or 0)
            self._end_s = max(self._end_s, self._time_s(end))
            if not hidden:
                moment = self._sampler.moment(packet, time_s)
                if moment is not None:
                    self._expected.promise(moment, time_s)
        if not hidden and self._kinds.is_shown(packet):
            self._measurement.add_packet(time_s, float((packet.duration or 0) * self._base))
        if packet.is_corrupt:
            self._lost = True
            self._expected.spoil(self._seen_s if time_s is None else time_s, lost=True)
        for waiting, skip in self._sampler.feed(packet, time_s, self._expected.spoilt):
            self._video.codec_context.skip_frame = skip
            yield from self._decode(waiting)

    def _look_for_gap(self, time_s: float) -> None:
        """Notes where nothing is before a packet, in a video of which packets were lost."""
        is_gap = self._lost and self._seen_s and time_s - self._end_s > GAP_S
        if is_gap and len(self._gaps) < GAPS_TOLD:
            self._gaps.append((self._end_s, time_s))

    def _decode(self, packet: Any) -> Iterator[Part]:
        try:
            frames = self._video.codec_context.decode(packet)
        except MemoryError:
            raise
        except av.error.FFmpegError:
            self._require_memory()
            told = packet is not None and packet.pts is not None
            self._spoil(self._time_s(packet.pts) if told else self._seen_s)
            return
        for frame in frames:
            if self._info is None:
                self._describe(Turn.of(frame), Colour.of(frame))
            self._refuse_if_too_large(frame.width, frame.height)
            for shown in self._frame_times.add(frame, self._spoilt_s):
                yield from self._frame(*shown)

    def _frame(self, frame: Any, pts: int, spoilt_s: float | None) -> Iterator[Part]:
        if self._shift is None:
            # Times of decoding are late by what is reordered; the first frame is shown at once.
            self._shift = pts if self._first_dts is None else pts - self._first_dts
        time_s = self._time_s(pts)
        self._require_end(time_s)
        if time_s < -ROUNDING_S:
            return  # an edit list begins after it
        self._seen_s = max(self._seen_s, time_s)
        self._end_s = max(self._end_s, time_s)
        self._measurement.add_frame(time_s)
        if frame.is_corrupt:
            self._spoil(time_s)
            return
        if frame.key_frame and spoilt_s is not None and time_s > spoilt_s:
            if spoilt_s == self._spoilt_s:
                self._spoilt_s = None
            spoilt_s = None
        decoded = Decoded(frame, pts - self._shift, time_s, spoilt_s is not None)
        self._note_missing(time_s, self._sampler.moment_of(decoded))
        for chosen in self._sampler.choose(decoded):
            yield from self._keep(chosen)

    def _time_s(self, pts: int) -> float:
        return (pts - (self._shift or 0)) * self._ticks / self._ticks_per

    def _spoil(self, time_s: float) -> None:
        self._errors += 1
        self._spoilt_s = max(time_s, self._spoilt_s or 0.0)
        self._expected.spoil(time_s)

    def _note_missing(self, before_s: float, moment: Hashable = None) -> None:
        missing = self._expected.missing_before(before_s, moment)
        self._missing += len(missing)
        self._missing_s += missing

    def _hold(self, decoded: Decoded) -> None:
        if decoded.picture is None:
            decoded.picture = self._pictures.make(decoded.frame)
            decoded.frame = None

    def _keep(self, decoded: Decoded) -> Iterator[Part]:
        self._hold(decoded)
        self._good += 1
        yield from self._impute(Kept(decoded, decoded.picture, decoded.time_s))

    def _impute(self, kept: Kept | None) -> Iterator[Part]:
        for one in self._imputer.add(self._missing_s, kept):
            if one.picture is not self._encoded[0]:
                self._encoded = one.picture, self._pictures.encode(one.picture)
            pts = round(one.time_s / self._base) if one.imputed_by else one.decoded.pts
            yield Frame(
                index=self._frames,
                pts=pts,
                time_s=one.time_s,
                key_frame=one.decoded.key_frame and not one.imputed_by,
                damaged=one.decoded.damaged,
                imputed_by=one.imputed_by,
                width=one.picture.size[0],
                height=one.picture.size[1],
                jpeg=self._encoded[1],
            )
            self._frames += 1
        self._missing_s = []

    def _audio_packet(self, packet: Any) -> Iterator[Part]:
        if packet.pts is not None:
            end = packet.pts + (packet.duration or 0)
            self._sound_seen_s = max(self._sound_seen_s, float(end * packet.time_base))
            self._measurement.add_audio(self._sound_seen_s)
        try:
            frames = self._audio.codec_context.decode(packet)
        except MemoryError:
            raise
        except av.error.FFmpegError:
            self._require_memory()
            self._errors += 1
            self._sound_errors += 1
            return
        for frame in frames:
            self._require_end(frame.time or 0.0)
            yield from self._sound.add(frame, frame.time)
            if self._sound.complaint is not None:
                self._words.note(self._sound.complaint)

    def _require_end(self, time_s: float) -> None:
        # The container may have told of less.
        if time_s > self._options.max_duration_s:
            raise MediaError("too_long", f"It goes on after {self._options.max_duration_s:.0f} s.")

    def _require_memory(self) -> None:
        context = self._video.codec_context
        # A decoder may fail for want of memory and not say so.
        frame_bytes = 2 * context.width * context.height
        if self._words.out_of_memory or memory_left_bytes() < 2 * frame_bytes:
            raise MemoryError

    def _end(self) -> Iterator[Part]:
        if self._errors or not self._good:
            self._require_memory()
        self._compare_with_told_end()
        self._note_gaps()
        end_s = self._seen_s
        sound_end_s = self._sound_seen_s if self._sound_errors else 0.0
        if self._words.cut:
            whole_s = self._told_end_s()
            self._expected.spoil(end_s, lost=True)
            end_s, sound_end_s = max(end_s, whole_s), max(sound_end_s, whole_s)
        self._note_missing(end_s + ROUNDING_S)
        yield from self._impute(None)
        self._refuse_if_too_little()
        if self._audio is not None:
            yield from self._sound.end(sound_end_s)
        yield Summary(
            frames=self._frames,
            audio_s=self._sound.length_s,
            decode_errors=self._errors,
            missing_frames=self._missing,
            dropped_frames=self._imputer.counts["dropped"],
            repeated_frames=self._imputer.counts["repeated"],
            interpolated_frames=self._imputer.counts["interpolated"],
            missing_audio_s=round(self._sound.missing_s, 3),
            truncated=self._words.cut is not None,
            told=self._words.told,
            **self._measured()._asdict(),
        )

    def _measured(self) -> Measured:
        damaged = self._errors > self._sound_errors or self._missing
        return self._measurement.result(
            self._info,
            header_durations_s(self._container, self._video),
            whole=not (damaged or self._lost or self._words.cut),
            cut=self._words.cut is not None,
        )

    def _note_gaps(self) -> None:
        if self._clock.audio_ahead_s:
            side = "after" if self._clock.audio_ahead_s > 0 else "before"
            self._words.note(
                f"By the clocks, its audio starts {abs(self._clock.audio_ahead_s):.0f} s {side} the"
                " video; both are taken to start together."
            )
        for start_s, end_s in self._gaps:
            self._words.note(
                f"There are no frames from {start_s:.2f} to {end_s:.2f} s"
                f" ({end_s - start_s:.2f} s)."
            )

    def _compare_with_told_end(self) -> None:
        chosen = [stream for stream in (self._video, self._audio) if stream]
        # Another stream may be the longest.
        if tells_end(self._container) and len(self._container.streams) == len(chosen):
            end_s, told_s = max(self._end_s, self._sound_seen_s), self._told_end_s()
            frame_s = float(1 / (self._video.average_rate or 1))
            if told_s - end_s > max(EARLY_S, EARLY_SHARE * told_s, 1.5 * frame_s):
                self._words.cut = self._words.cut or f"It ends at {end_s:.1f} of {told_s:.1f} s."

    def _told_end_s(self) -> float:
        told_s = told_end_s(self._container, self._video)
        # More than is allowed would have been refused: a number that was never filled in.
        return told_s if told_s <= self._options.max_duration_s else 0.0

    def _refuse_if_too_little(self) -> None:
        share = self._missing / max(1, self._missing + self._good)
        limit = self._options.max_missing_share
        why = self._words.cut or self._words.told or "the decoder gave no reason"
        if not self._good:
            reason = "truncated" if self._words.cut else "no_frames"
            raise MediaError(reason, f"There is a video stream, but no frame of it: {why}")
        if share > limit and self._words.cut:
            raise MediaError("truncated", f"{self._lacks(share)}: {why}")
        if share > limit:
            raise MediaError("damaged", f"{self._lacks(share)}: {why}")

    def _lacks(self, share: float) -> str:
        limit = self._options.max_missing_share
        return f"It lacks {share:.0%} of its frames, more than {limit:.0%}"


def _make_sampler(options: ExtractOptions, stream: Any, kinds: PacketKinds, hold: Any) -> Sampler:
    """The sampler that the options ask for.

    Args:
        options: What is kept.
        stream: A video stream, as PyAV opens it.
        kinds: Tells which of its packets others need.
        hold: Turns a decoded frame into its picture, which takes less memory.
    """
    # Each may be far too high, where it is the rate of the clock.
    told = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    rate = min(told, default=None)
    match options.sampling:
        case "all":
            return All(rate)
        case "keyframes":
            return Keyframes(rate)
        case "scenes":
            from vidpipe.media.scenes import Scenes  # OpenCV, which only this one needs

            return Scenes(rate, options.detector, options.frames_per_shot, hold)
    return Grid(options.fps, kinds, references_only=options.sampling == "reference")
