"""Checkpoints of a training in the object store: each is complete or absent.

    STEP-NAME.npz    the arrays, under a name that no other attempt has
    STEP-NAME.json   written last: how large the arrays' file is, its hash, and what is no array

What lacks one of the two, or is damaged, is passed over for the one before.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpipe.arrays import load_arrays
from vidpipe.errors import BadInputError, VidpipeError
from vidpipe.lake.store import ObjectStore

KEPT = 3
COST_SHARE = 0.05  # of the time of training, at most


@dataclass(frozen=True)
class Checkpoint:
    """All that a training is between two steps.

    Attributes:
        step: Steps that were done.
        arrays: By what they are, in an order that is always the same.
        facts: What else there is, as JSON.
    """

    step: int
    arrays: dict[str, list[np.ndarray]]
    facts: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one training.

    Args:
        store: Where they are kept.
        folder_uri: Their folder, of this very training alone; ends in a slash.
        scratch: A local folder for the file at hand.
        every_s: Seconds from one to the next.
        tell: Gets a line for people.
    """

    def __init__(
        self,
        store: ObjectStore,
        folder_uri: str,
        scratch: Path,
        *,
        every_s: float,
        tell: Callable[[str], None],
    ):
        self._store = store
        self._folder_uri = folder_uri
        self._scratch = scratch
        self._every_s = every_s
        self._due_s = time.monotonic() + every_s
        self.tell = tell

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._due_s

    def save(self, checkpoint: Checkpoint) -> bool:
        """Keeps a checkpoint, and the few before it; tells whether it did.

        A training does not end because it cannot be kept: that is told, and tried again later.
        """
        started_s, kept = time.monotonic(), True
        try:
            self._save(checkpoint)
        except (VidpipeError, OSError) as error:
            kept = False
            self.tell(f"the checkpoint of step {checkpoint.step} could not be kept: {error}")
        ended_s = time.monotonic()
        # Where the store is slow they come less often.
        self._due_s = ended_s + max(self._every_s, (ended_s - started_s) / COST_SHARE)
        return kept

    def newest_first(self) -> Iterator[Checkpoint]:
        """Yields what can be gone on from; what is damaged is removed.

        Raises:
            TemporaryError: The store is away: to begin anew would cost more than to wait.
        """
        for stem in reversed(self._complete(self._names())):
            checkpoint = self._load(stem)
            if checkpoint is not None:
                yield checkpoint
                continue
            # It would be counted among those that are kept.
            self.tell(f"the checkpoint {stem} is damaged and is passed over")
            self._remove([f"{stem}.json", f"{stem}.npz"])

    def clear(self) -> None:
        """Removes all; what cannot be removed does no harm."""
        with contextlib.suppress(VidpipeError):
            self._remove(self._names())

    def _save(self, checkpoint: Checkpoint) -> None:
        # A listing gives names in order, and so by step.
        stem = f"{checkpoint.step:010d}-{secrets.token_hex(8)}"
        path = self._scratch / f"{stem}.npz"
        try:
            np.savez(
                path,
                **{
                    f"{kind}.{number}": array
                    for kind, arrays in checkpoint.arrays.items()
                    for number, array in enumerate(arrays)
                },
            )
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = path.stat().st_size
            self._store.upload(path, f"{self._folder_uri}{stem}.npz")
        finally:
            path.unlink(missing_ok=True)
        record = {
            "step": checkpoint.step,
            "sha256": digest,
            "size_bytes": size_bytes,
            "arrays": {kind: len(arrays) for kind, arrays in checkpoint.arrays.items()},
            "facts": checkpoint.facts,
        }
        self._store.put_json(f"{self._folder_uri}{stem}.json", record)
        # From here on it counts.
        with contextlib.suppress(VidpipeError):
            self._remove_old(stem)

    def _remove_old(self, stem: str) -> None:
        names = self._names()
        kept = {stem, *self._complete(names)[-KEPT:]}
        self._remove([name for name in names if name.rpartition(".")[0] not in kept])

    def _load(self, stem: str) -> Checkpoint | None:
        path = self._scratch / f"{stem}.npz"
        try:
            record = self._store.get_json(f"{self._folder_uri}{stem}.json")
            digest = hashlib.sha256()
            size_bytes = self._store.head(f"{self._folder_uri}{stem}.npz").size_bytes
            if size_bytes != record["size_bytes"]:
                return None
            with path.open("wb") as file:
                for chunk in self._store.stream(f"{self._folder_uri}{stem}.npz"):
                    digest.update(chunk)
                    file.write(chunk)
            told = record["size_bytes"], record["sha256"]
            if (path.stat().st_size, digest.hexdigest()) != told:
                return None
            # They were written as they are: unpacked, they are no larger than their file.
            kept = load_arrays(path, path.stat().st_size)
            arrays = {
                kind: [kept[f"{kind}.{number}"] for number in range(count)]
                for kind, count in record["arrays"].items()
            }
            return Checkpoint(record["step"], arrays, record["facts"])
        except (BadInputError, KeyError, TypeError, AttributeError, ValueError):
            return None
        finally:
            path.unlink(missing_ok=True)

    def _names(self) -> list[str]:
        uris = {found.uri for found in self._store.list(self._folder_uri)}
        return sorted(uri.removeprefix(self._folder_uri) for uri in uris)

    @staticmethod
    def _complete(names: list[str]) -> list[str]:
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return [stem for stem in stems if f"{stem}.npz" in names]

    def _remove(self, names: list[str]) -> None:
        # Those that say that others are whole go first.
        for name in sorted(names, key=lambda name: not name.endswith(".json")):
            self._store.delete(self._folder_uri + name)
