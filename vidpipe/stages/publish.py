"""publish: makes what `audit` found fit into rows of the tables."""

from __future__ import annotations

from vidpipe.errors import BadInputError
from vidpipe.lake import publication
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Publishes `config["publication"]`.

    Raises:
        BadInputError: The audit failed the run: only its outcomes were published.
    """
    uri = manifest.config["publication"]
    publication.publish(lake, uri)
    pinned = lake.store.get_json(uri)
    if pinned["failure"]:
        raise BadInputError(pinned["failure"])
    rows = pinned["rows"]
    attempt.conclude(", ".join(f"{n} {t}" for t, n in sorted(rows.items())) or "nothing")
    attempt.result |= {"rows": rows}
