"""What stands beside a frame, of which FFmpeg knows more kinds than PyAV has names for."""

from __future__ import annotations

from typing import Any

from av.sidedata.sidedata import Type


def _unnamed(cls: type[Type], value: Any) -> Type:
    """A kind of side data without a name: to be passed over, not to fail on."""
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# PyAV looks up the kinds of all side data of a frame when it is asked for any, and raises a
# ValueError on one that is newer than itself: EXIF, or the reference displays of stereo video.
Type._missing_ = classmethod(_unnamed)


def display_matrix(frame: Any) -> bytes | None:
    """The matrix that turns a stored frame into the one that is shown; None: as it is."""
    beside = frame.side_data.get("DISPLAYMATRIX")
    return None if beside is None else bytes(beside)
