"""Makes the videos that the benchmarks decode: moving, coded as cameras and phones code."""

from __future__ import annotations

import collections
import math
import subprocess
from pathlib import Path
from typing import NamedTuple

import av
from av.video.frame import PictureType

from vidpipe.media import ffmpeg_path

RATE = 30
MADE_S = 60
SCENE_S = 10


class Media(NamedTuple):
    """A made video, and what is in it.

    Attributes:
        path: Where it is.
        height: Pixels.
        duration_s: Its length.
        frames: All of them.
        key_frames: How many are coded without others.
        moments: Half seconds in which a frame is shown.
        share_of_b: Frames coded between others, by all.
        bit_rate: Of all streams, per second.
    """

    path: Path
    height: int
    duration_s: int
    frames: int
    key_frames: int
    moments: int
    share_of_b: float
    bit_rate: float

    def __str__(self) -> str:
        interval_s = self.duration_s / self.key_frames
        return (
            f"{self.path.name}: {self.bit_rate / 1e6:.1f} Mbit/s, {self.frames} frames,"
            f" {self.share_of_b:.0%} of them B-frames, a key frame every {interval_s:.1f} s"
        )


def make(folder: Path, height: int, duration_s: int) -> Media:
    """Makes a video in a folder, unless it is there; a minute is coded, and repeated as it is.

    Args:
        folder: Keeps what is made.
        height: Pixels; the picture is 16:9.
        duration_s: Its length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    minute = folder / f"{height}p-minute.mp4"
    if not minute.exists():
        _run(minute, *_scenes(height * 16 // 9, height))
    path = folder / f"{height}p-{duration_s}s.mp4"
    if not path.exists():
        repeats = -(-duration_s // MADE_S) - 1
        # The sound is made in one piece: a minute of AAC is no whole number of its frames.
        sound = (
            f"anoisesrc=c=pink:r=48000:a=0.1:s=1[noise];sine=f=220:r=48000,tremolo=f=0.3,"
            f"volume=0.5[tone];[noise][tone]join=inputs=2:channel_layout=stereo,"
            f"atrim=end={duration_s}[a]"
        )
        picture = ("-stream_loop", str(repeats), "-i", str(minute))
        mapped = ("-map", "0:v", "-map", "[a]", "-c:v", "copy", "-c:a", "aac", "-b:a", "128k")
        cut = ("-t", str(duration_s)) if duration_s % MADE_S else ()
        _run(path, *picture, "-filter_complex", sound, *mapped, *cut)
    return _look(path, height, duration_s)


def _scenes(width: int, height: int) -> list[str]:
    """Six scenes: fine detail that grows, a landscape that is panned, something that flies over
    haze, small things that live, a board that is panned, a bird before a landscape; with the noise
    of a sensor. x264 chooses B-frames for them about as often as for recordings.
    """
    half = f"s={width // 2}x{height // 2}:r={RATE}"
    small = f"s={width // 8}x{height // 8}:r={RATE}"
    cut = f"trim=end_frame={SCENE_S * RATE}"
    whole = f"scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p,{cut}"
    across = "x='mod(t*W/7,W+w)-w':y='H/3+H/5*sin(t)'"

    def landscape(x: float, y: float, scale: float) -> str:
        return (
            f"mandelbrot={half}:start_x={x}:start_y={y}:start_scale={scale},trim=end_frame=1,"
            f"loop=-1:1,scale={width * 2}:{height * 2}:flags=bicubic,"
            "zoompan=z=1.5:x='(iw-iw/zoom)*(0.5+0.45*sin(on/90))'"
            f":y='(ih-ih/zoom)*(0.5+0.4*cos(on/120))':d=1:s={width}x{height}:fps={RATE},"
            f"setsar=1,format=yuv420p,{cut}"
        )

    scenes = [
        f"mandelbrot={half},{whole}",
        landscape(-0.7436, -0.1318, 0.01),
        f"gradients={half}:speed=0.02:seed=3,{whole}[back];testsrc2={small}[thing];"
        f"[thing]scale={width // 4}:-2,setsar=1[big];[back][big]overlay={across}:shortest=1",
        f"life={small}:mold=9:ratio=0.2:seed=4:life_color=#d0a060:death_color=#305080:"
        f"mold_color=#204020,{whole},gblur=2",
        f"testsrc2={half},scale={width * 3 // 2}:-2:flags=bicubic,crop={width}:{height}"
        f":'(iw-ow)*(0.5+0.5*sin(t))':'(ih-oh)*(0.5+0.5*cos(t*0.7))',setsar=1,format=yuv420p,"
        f"{cut}",
        f"{landscape(-1.25, -0.02, 0.1)}[land];"
        f"mandelbrot={small}:start_x=-0.7436:start_y=-0.1318[fractal];"
        f"[fractal]scale={width // 3}:-2,setsar=1[bird];[land][bird]overlay={across}:shortest=1",
    ]
    graph = ";".join(f"{scene},setpts=PTS-STARTPTS[s{n}]" for n, scene in enumerate(scenes))
    joined = "".join(f"[s{n}]" for n in range(len(scenes)))
    graph += f";{joined}concat=n={len(scenes)},noise=alls=4:allf=t[v]"
    coded = ("-c:v", "libx264", "-preset", "medium", "-pix_fmt", "yuv420p")
    return ["-filter_complex", graph, "-map", "[v]", *coded, "-frames:v", str(MADE_S * RATE)]


def _run(path: Path, *arguments: str) -> None:
    # Under another name until it is whole: who is interrupted finds no half of one later.
    part = path.with_suffix(".part.mp4")
    begin = (ffmpeg_path(), "-nostdin", "-loglevel", "error", "-y")
    subprocess.run([*begin, *arguments, str(part)], check=True)
    part.rename(path)


def _look(path: Path, height: int, duration_s: int) -> Media:
    """Counts what a video holds; the kinds of frames by decoding its first minute."""
    kinds: collections.Counter[int] = collections.Counter()
    with av.open(path) as container:
        video = container.streams.video[0]
        packets = [p for p in container.demux(video) if p.size]
        shown_s = [float(p.pts * p.time_base) for p in packets]
        container.seek(0)
        video.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video)):
            if number == MADE_S * RATE:
                break
            kinds[frame.pict_type] += 1
    return Media(
        path=path,
        height=height,
        duration_s=duration_s,
        frames=len(packets),
        key_frames=sum(p.is_keyframe for p in packets),
        moments=len({math.floor((time_s + 0.001) * 2) for time_s in shown_s}),
        share_of_b=kinds[PictureType.B] / kinds.total(),
        bit_rate=path.stat().st_size * 8 / duration_s,
    )
