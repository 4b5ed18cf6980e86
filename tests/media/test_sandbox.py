"""sandbox: what holds on this kernel and on others, found out by trying."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.media_files import make_clip
from vidpipe.media import check_sandbox
from vidpipe.media.landlock import landlock_version

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the walls are those of Linux")

# As a container that allows no namespaces, on a kernel without Landlock: a filter around all.
POORER = """
import ctypes, errno, platform, struct, sys
from pathlib import Path
from vidpipe.media import ExtractOptions, check_sandbox, decode

unshare = {"x86_64": 272, "aarch64": 97}[platform.machine()]
code = struct.pack("HBBI", 0x20, 0, 0, 0)
for number, error in ((444, errno.ENOSYS), (unshare, errno.EPERM)):
    code += struct.pack("HBBI", 0x15, 0, 1, number) + struct.pack("HBBI", 6, 0, 0, 0x50000 | error)
code += struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(code, len(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("HQ", len(code) // 8, ctypes.addressof(held))) == 0
print(check_sandbox())
*_, summary = decode(Path(sys.argv[1]), ExtractOptions(fps=100))
print(summary.frames, "frames")
"""


def test_all_walls_that_this_kernel_has_hold():
    walls = check_sandbox()
    assert walls.no_privileges and walls.no_socket and walls.no_program
    assert walls.no_file == bool(landlock_version())
    assert str(walls).startswith("no new privileges, no network (seccomp")


def test_what_a_poorer_kernel_lacks_is_told_and_videos_are_decoded(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    command = [sys.executable, "-c", POORER, str(clip)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    walls = "no new privileges, no network (seccomp), no programs"
    lacking = "all files of its user can be read, for there is no Landlock"
    assert out.splitlines() == [f"{walls}; {lacking}", "10 frames"]
