"""Decoded frames become JPEG files of one size, never by way of RGB."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np
import simplejpeg

from vidpipe.media.colour import UNSPECIFIED, Colour, sdr_table
from vidpipe.media.crop import NO_CROP, Crop
from vidpipe.media.options import ExtractOptions
from vidpipe.media.side_data import display_matrix

# What JPEG files hold, whatever the video did: full range, the matrix of BT.601 (JFIF 1.02).
PIXELS = "yuvj420p"
_TURNS = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}


class Picture(NamedTuple):
    """A picture as JPEG holds it: planes `(height, width)` of bytes, colours at half the size."""

    luma: np.ndarray
    blue: np.ndarray
    red: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.luma.shape
        return width, height


@dataclass(frozen=True)
class Turn:
    """How a stored picture becomes the one that is shown.

    Attributes:
        mirrored: Whether left and right are swapped, first of all.
        clockwise_deg: By how much it is turned then: 0, 90, 180 or 270.
    """

    mirrored: bool = False
    clockwise_deg: int = 0

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Turn:
        """What stands beside a frame, to the nearest quarter of a turn.

        PyAV's own `rotation` is that of a mirrored picture only by chance.
        """
        matrix = display_matrix(frame)
        if matrix is None:
            return UPRIGHT
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        mirrored = a * d - b * c < 0
        angle = math.atan2(-b, -a) if mirrored else math.atan2(b, a)
        return cls(mirrored, round(angle / (math.pi / 2)) * 90 % 360)


UPRIGHT = Turn()


class _Graph:
    """A chain of filters.

    Args:
        frame: It takes frames like this one.
    """

    def __init__(self, frame: av.VideoFrame):
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        self._source = self._last = self._graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        self._table: tuple[Any, np.ndarray] | None = None
        self._pushed = 0

    def add(self, text: str) -> None:
        """Adds a filter, as FFmpeg's command line describes one."""
        name, _, arguments = text.partition("=")
        node = self._graph.add(name, arguments or None)
        self._last.link_to(node)
        self._last = node

    def look_up(self, table: np.ndarray) -> None:
        """Adds the looking up of colours in a table.

        Args:
            table: A Hald image, `(side, side, 3)` of 16 bits.
        """
        self.add("format=rgb48le")
        side = len(table)
        source = self._graph.add(
            "buffer", video_size=f"{side}x{side}", pix_fmt="rgb48le", time_base="1/1000"
        )
        node = self._graph.add("haldclut", "clut=first")
        self._last.link_to(node)
        source.link_to(node, 0, 1)
        self._last = node
        self._table = source, table

    def close(self) -> None:
        """Ends the chain, which is then ready."""
        self.add("buffersink")
        self._graph.configure()
        if self._table is not None:
            source, table = self._table
            image = av.VideoFrame.from_ndarray(table, format="rgb48le")
            image.pts = 0
            source.push(image)
            source.push(None)

    def run(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Passes a frame through; its time is lost, for looking up wants each to be later."""
        frame.pts = self._pushed
        self._pushed += 1
        self._source.push(frame)
        return self._last.pull()


class Pictures:
    """Makes pictures of one size: that of the first, where the size of the video changes midway.

    Args:
        options: Size, fit and quality.
        turn: How a frame is turned to be shown.
        pixel_aspect: Width of a pixel by its height.
        crop: What is cut off a stored frame, before all else.
    """

    def __init__(
        self, options: ExtractOptions, turn: Turn, pixel_aspect: Fraction, crop: Crop = NO_CROP
    ):
        self._options = options
        self._turn = turn
        self._pixel_aspect = pixel_aspect
        self._crop = crop
        self._size: tuple[int, int] | None = None
        self._layout: tuple | None = None
        self._graph: _Graph | None = None

    def make(self, frame: av.VideoFrame) -> Picture:
        """Scales, turns, cuts or pads a frame."""
        colour = Colour.of(frame)
        layout = (
            *(frame.width, frame.height, frame.format.name),
            *(frame.colorspace, frame.color_range, colour),
        )
        if layout != self._layout:
            self._graph = self._build(frame, colour)
            self._layout = layout
        made = self._graph.run(frame)
        # Copies: the frame goes back to those that made it. Its lines are longer than they look.
        return Picture(
            *(
                np.ascontiguousarray(
                    np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[
                        : plane.height, : plane.width
                    ]
                )
                for plane in made.planes
            )
        )

    def encode(self, picture: Picture) -> bytes:
        """Encodes a picture as JPEG."""
        luma = picture.luma
        height, width = luma.shape
        if height % 2 or width % 2:
            # The encoder reads whole pairs of lines and columns: the last gets a partner.
            pairs = np.pad(luma, ((0, height % 2), (0, width % 2)), "edge")
            luma = pairs[:height, :width]
        return simplejpeg.encode_jpeg_yuv_planes(
            luma, picture.blue, picture.red, self._options.jpeg_quality
        )

    def _build(self, frame: av.VideoFrame, colour: Colour) -> _Graph:
        stored, cropped = self._crop.size_within(frame.width, frame.height)
        width, height = stored[0] * float(self._pixel_aspect), float(stored[1])
        turned = self._turn.clockwise_deg % 180 != 0
        shown = (height, width) if turned else (width, height)
        scaled, cut = self._fit(*shown)
        if self._size is None:
            self._size = cut or scaled
        elif not cut:
            scaled = self._size
        # Averaging takes every pixel into account where a picture gets smaller.
        smaller = scaled[0] * scaled[1] < shown[0] * shown[1]
        before_turn = scaled[::-1] if turned else scaled
        graph = _Graph(frame)
        if cropped:
            place = f"{self._crop.left}:{self._crop.top}"
            graph.add(f"crop={stored[0]}:{stored[1]}:{place}:exact=1")
        scale = f"scale={before_turn[0]}:{before_turn[1]}:flags={'area' if smaller else 'bicubic'}"
        jpeg = "out_range=full:out_color_matrix=bt601"
        if (table := sdr_table(colour)) is not None:
            untold = int(frame.colorspace) == UNSPECIFIED
            graph.add(f"{scale}:in_color_matrix=bt2020" if untold else scale)
            graph.look_up(table)
            graph.add(f"scale={jpeg}")
        else:
            graph.add(f"{scale}:{jpeg}")
        graph.add(f"format={PIXELS}")
        graph.add("setsar=1")
        if self._turn.mirrored:
            graph.add("hflip")
        if self._turn.clockwise_deg:
            for text in _TURNS[self._turn.clockwise_deg].split(","):
                graph.add(text)
        if cut and self._options.fit == "crop":
            graph.add(f"crop={cut[0]}:{cut[1]}:exact=1")
        elif cut:
            graph.add(f"pad={cut[0]}:{cut[1]}:-1:-1")
        graph.add("copy")  # lines may lie in memory from the last to the first
        graph.close()
        return graph

    def _fit(self, width: float, height: float) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """The size to scale to, and the one to cut or pad to where an exact one is asked for."""
        options = self._options
        if options.width:
            ratios = options.width / width, options.height / height
            ratio = max(ratios) if options.fit == "crop" else min(ratios)
            choose = max if options.fit == "crop" else min
            exact = (options.width, options.height)
            scaled = (
                choose(exact[0], round(width * ratio)),
                choose(exact[1], round(height * ratio)),
            )
            return (max(1, scaled[0]), max(1, scaled[1])), exact
        ratio = 1.0
        if options.short_side and min(width, height) > options.short_side:
            ratio = options.short_side / min(width, height)
        return (max(1, round(width * ratio)), max(1, round(height * ratio))), None


def blend(before: Picture, after: Picture, weight: float) -> Picture:
    """A picture between two, nearer to `after` as the weight goes from 0 to 1."""
    return Picture(
        *(
            np.rint(a * (1 - weight) + b * weight).astype(np.uint8)
            for a, b in zip(before, after, strict=True)
        )
    )
