"""What a container cuts off the stored frames of a video."""

from __future__ import annotations

from typing import NamedTuple


class Crop(NamedTuple):
    """Pixels that are cut off each side of a stored frame, before it is turned or scaled."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def size_within(self, width: int, height: int) -> tuple[tuple[int, int], bool]:
        """The size of what is left of a frame, and whether anything is cut off.

        Nothing is where nothing would be left: then the container is wrong, or the video is another
        one from here on.
        """
        left = width - self.left - self.right, height - self.top - self.bottom
        if self == NO_CROP or min(left) < 1:
            return (width, height), False
        return left, True


NO_CROP = Crop()
