"""What can become of an item, and why: the words of the table `outcomes`.

Light on purpose (no pyarrow): the forms of the DAGs offer them.
"""

from __future__ import annotations

STATUSES = ("done", "skipped", "quarantined", "failed")

# Why an item was not done. Quarantined: the video's own fault, tried again only when something
# changed. Failed: ours or the machine's, tried again by later runs. Skipped: nothing to be done.
REASONS = {
    "empty": "quarantined",  # no bytes
    "unreadable": "quarantined",  # no container that ffmpeg knows
    "truncated": "quarantined",  # the container ends before its index or its frames
    "damaged": "quarantined",  # it lacks more of its frames than is allowed
    "no_video": "quarantined",  # no video stream: audio alone, or an image
    "no_track": "quarantined",  # no track of the number that was asked for
    "no_frames": "quarantined",  # a video stream of which nothing could be decoded
    "unsupported_codec": "quarantined",
    "decoder_failed": "quarantined",  # with an error that nobody knew of
    "too_long": "quarantined",
    "too_large": "quarantined",
    "out_of_memory": "quarantined",
    "timed_out": "quarantined",
    "denied": "failed",  # the object may not be read
    "unavailable": "failed",  # the store fails for this object only, or no disk here can hold it
    "archived": "skipped",  # it must be restored first; taken when it was
    "vanished": "skipped",  # gone or replaced between listing and reading
    "duplicate": "skipped",  # the same bytes are done already
    "forgotten": "skipped",  # never to be ingested again
    "out_of_budget": "skipped",  # the night was over, or a ceiling reached; a later run takes it
    "stage_failed": "failed",  # the shard ended without a report
    "model_unusable": "failed",  # the champion cannot be loaded, or scores its canary otherwise
    "internal": "failed",  # a defect of vidpipe
}

# Those for which a video can be asked to be extracted again.
RETRY_REASONS = tuple(
    reason
    for reason, status in REASONS.items()
    if status != "skipped" and reason != "model_unusable"
)
