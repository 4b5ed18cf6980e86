"""Explains to people why a class cannot be split: which of its videos are near duplicates."""

from __future__ import annotations

import io
from collections.abc import Mapping

from pyiceberg.expressions import In

from vidpipe.datasets.clips import read_clips
from vidpipe.datasets.near_duplicates import differing_bits
from vidpipe.datasets.splits import InseparableError
from vidpipe.errors import BadInputError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Sampling
from vidpipe.stages.attempt import Attempt

NAMED = 3  # pairs in the message
DRAWN = 10  # pairs in the picture
_SAMPLING = Sampling(frames=6, height=112, width=112)


def explain(
    error: InseparableError,
    attempt: Attempt,
    lake: Lake,
    snapshots: dict[str, int],
    extractions: Mapping[str, tuple[str, str]],
    fingerprints: Mapping[str, str],
    names: Mapping[str, str],
) -> BadInputError:
    """Returns the error with the names of the pairs, and where a picture shows them.

    Args:
        error: What cannot be split.
        attempt: That of the snapshot; the picture comes into the folder of its run.
        lake: Where the frames are.
        snapshots: Snapshot ids of the tables.
        extractions: Work key and run key of the extraction of each video.
        fingerprints: That of each video.
        names: What people call videos.
    """
    bits = {
        (one, other): differing_bits(fingerprints[one], fingerprints[other])
        for one, other in error.pairs
    }
    # The most alike first.
    pairs = sorted(bits, key=lambda pair: (bits[pair], pair))
    descriptions = [
        f"{names.get(one, one)} and {names.get(other, other)} ({bits[one, other]} of 64 bits)"
        for one, other in pairs
    ]
    more = f", and {len(pairs) - NAMED} more pairs" if len(pairs) > NAMED else ""
    message = f"{error} Near duplicates: {', '.join(descriptions[:NAMED])}{more}."
    captions = {
        (one, other): "\n".join(
            [
                *(names.get(v, v).rpartition("/")[2] for v in (one, other)),
                f"{count} of 64 bits differ",
            ]
        )
        for (one, other), count in bits.items()
    }
    picture = _draw(attempt, lake, snapshots, extractions, {p: captions[p] for p in pairs[:DRAWN]})
    return BadInputError(f"{message} A picture shows them: {picture}" if picture else message)


def _draw(
    attempt: Attempt,
    lake: Lake,
    snapshots: dict[str, int],
    extractions: Mapping[str, tuple[str, str]],
    captions: Mapping[tuple[str, str], str],
) -> str | None:
    """Keeps a picture of pairs; returns its URI, or None where their frames are gone."""
    from vidpipe.evaluation.figures import draw_pairs  # matplotlib takes a second to import

    videos = sorted({video_id for pair in captions for video_id in pair})
    frames = lake.dataset(
        "frames", where=In("run_key", {extractions[v][1] for v in videos}), snapshots=snapshots
    )
    clips = read_clips(
        frames,
        {v: extractions[v][0] for v in videos},
        _SAMPLING,
        attempt.scratch / "near-duplicates.npy",
    )
    clip_of = dict(zip(clips.video_ids, clips.array, strict=True))
    drawn = {pair: text for pair, text in captions.items() if set(pair) <= set(clip_of)}
    if not drawn:
        return None
    figure = draw_pairs([(clip_of[a], clip_of[b]) for a, b in drawn], list(drawn.values()))
    content = io.BytesIO()
    # The ids stand in the file, so that forgetting a video finds it.
    figure.savefig(content, format="png", metadata={"Videos": " ".join(videos)})
    run_uri = layout.run_uri(lake.uri, attempt.manifest.run_key)
    uri = f"{run_uri}/near-duplicates/{attempt.name}.png"
    lake.store.put(uri, content.getvalue())
    return uri
