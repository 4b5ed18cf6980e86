"""Where objects lie below the lake's URI. Nothing here needs a server, pyarrow or Airflow.

tables/TABLE/data/RUN/STAGE/SHARD/ATTEMPT/00000.parquet   data, never written over
runs/RUN/shards/STAGE/ATTEMPT/00012.json                  manifests, by the attempt that planned
runs/RUN/plans/STAGE/HASH.json                            manifests of stages that are one task
runs/RUN/reports/STAGE/SHARD/ATTEMPT.json                 reports: an attempt is complete
runs/RUN/progress/STAGE/SHARD.json                        how far it is, for people
runs/RUN/checkpoints/STAGE/SHARD/HASH/STEP-NAME.npz       what a training learnt so far
runs/RUN/checkpoints/STAGE/SHARD/HASH/STEP-NAME.json      written after it: it is whole
runs/RUN/trials/ATTEMPT/study.json                        what a tuning searches, and by what
runs/RUN/trials/ATTEMPT/00012.json                        a trial of it; written by its own task
runs/RUN/publish/ATTEMPT.json                             what audit found fit to publish
runs/RUN/given-up/STAGE/SHARD.json                        why a try of it left no report
runs/RUN/approval.json                                    whether people want a model
runs/RUN/near-duplicates/ATTEMPT.png                      why a class could not be split
runs/RUN/usage/DAY                                        this run had pods that began that day
usage/DAY/RUN/POD~…                                       from when to when it had a pod
runs/RUN/review/ATTEMPT/…                                 tasks for people, with links that end
features/KEY/VIDEO_ID/EXTRACTION.npz                      what a frozen backbone makes of a video
features/KEY/used                                         when a training last used them
annotations/DIGEST/NAME                                   label files that were uploaded
weights/BACKBONE/DIGEST/model.json                        pretrained weights; beside it its parts
forgetting/TOMBSTONE.json                                 what is being forgotten, until it is
"""

from __future__ import annotations

import hashlib
import re

# A task names a model and is a part of keys.
TASK_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"

_UNSAFE = re.compile(r"[^A-Za-z0-9_=-]+")


def make_run_key(deployment: str, dag_id: str, run_id: str) -> str:
    """Names a DAG run in objects, commits and MLflow tags.

    Safe in object keys whatever the run id holds, and different for different run ids.
    """
    whole = f"{deployment}.{dag_id}.{run_id}"
    safe = ".".join(map(_safe, (deployment, dag_id, run_id)))
    return f"{safe[:180]}.{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def make_work_key(*parts: object) -> str:
    """Says what makes two pieces of work the same: a hash of video, stage, configuration, model."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def table_uri(lake_uri: str, table: str) -> str:
    """The location of a table."""
    return f"{lake_uri.rstrip('/')}/tables/{table}"


def data_uri(lake_uri: str, table: str, run_key: str, stage: str, shard: str, attempt: str) -> str:
    """The folder into which one attempt writes its files of one table."""
    return f"{table_uri(lake_uri, table)}/data/{run_key}/{stage}/{shard}/{attempt}"


def run_uri(lake_uri: str, run_key: str) -> str:
    """The folder of a run."""
    return f"{lake_uri.rstrip('/')}/runs/{run_key}"


def manifest_uri(lake_uri: str, run_key: str, stage: str, attempt: str, shard: str) -> str:
    """The manifest of a shard, under the planning attempt that wrote it."""
    return f"{run_uri(lake_uri, run_key)}/shards/{stage}/{attempt}/{shard}.json"


def plan_uri(lake_uri: str, run_key: str, stage: str, manifest_hash: str) -> str:
    """The manifest of a stage that is one task."""
    return f"{plans_uri(lake_uri, run_key)}{stage}/{manifest_hash[:32]}.json"


def plans_uri(lake_uri: str, run_key: str) -> str:
    """The folder of the manifests of a run's stages that are one task; ends in a slash."""
    return f"{run_uri(lake_uri, run_key)}/plans/"


def reports_uri(lake_uri: str, run_key: str, stage: str, shard: str) -> str:
    """The folder in which the attempts of a shard leave their reports; ends in a slash."""
    return f"{run_uri(lake_uri, run_key)}/reports/{stage}/{shard}/"


def progress_uri(lake_uri: str, run_key: str, stage: str = "", shard: str = "") -> str:
    """Where a shard tells how far it is; the folder of a run's where no shard is named."""
    folder = f"{run_uri(lake_uri, run_key)}/progress/"
    return f"{folder}{stage}/{shard}.json" if stage else folder


def checkpoints_uri(lake_uri: str, run_key: str, stage: str, shard: str, manifest_hash: str) -> str:
    """The folder of the checkpoints of one very training; ends in a slash.

    Args:
        manifest_hash: Of what is to be done: another training finds none of them.
    """
    folder = f"{run_uri(lake_uri, run_key)}/checkpoints/{stage}/{shard}"
    return f"{folder}/{manifest_hash[:32]}/"


def review_uri(lake_uri: str, run_key: str, attempt: str) -> str:
    """The folder of what people are asked to look at; ends in a slash."""
    return f"{run_uri(lake_uri, run_key)}/review/{attempt}/"


def approval_uri(lake_uri: str, run_key: str) -> str:
    """What people answered when they were asked about a model."""
    return f"{run_uri(lake_uri, run_key)}/approval.json"


def trials_uri(lake_uri: str, run_key: str, attempt: str) -> str:
    """The folder of the trials that an attempt planned; ends in a slash."""
    return f"{run_uri(lake_uri, run_key)}/trials/{attempt}/"


def given_up_uri(lake_uri: str, run_key: str, stage: str = "", shard: str = "") -> str:
    """Tells why a shard was given up; the folder of a run's where no shard is named."""
    folder = f"{run_uri(lake_uri, run_key)}/given-up/"
    return f"{folder}{stage}/{shard}.json" if stage else folder


def usage_days_uri(lake_uri: str, run_key: str) -> str:
    """The folder that names the days on which pods of a run began; ends in a slash."""
    return f"{run_uri(lake_uri, run_key)}/usage/"


def usage_uri(lake_uri: str) -> str:
    """The folder that tells what pods took; ends in a slash."""
    return f"{lake_uri.rstrip('/')}/usage/"


def run_keys_begin(deployment: str) -> str:
    """What the run keys of a deployment begin with."""
    return f"{_safe(deployment)}."


def features_uri(lake_uri: str, key: str = "") -> str:
    """The folder of what a frozen backbone makes of videos; of all where no key is given."""
    folder = f"{lake_uri.rstrip('/')}/features/"
    return f"{folder}{key}/" if key else folder


def weights_uri(lake_uri: str) -> str:
    """The folder of the pretrained weights that were fetched by name."""
    return f"{lake_uri.rstrip('/')}/weights/"


def annotations_uri(lake_uri: str) -> str:
    """The folder of the label files that were uploaded; ends in a slash."""
    return f"{lake_uri.rstrip('/')}/annotations/"


def forgetting_uri(lake_uri: str, tombstone: str) -> str:
    """Where the names of what is being forgotten are kept until all of it is gone."""
    return f"{lake_uri.rstrip('/')}/forgetting/{tombstone}.json"


def _safe(part: str) -> str:
    return _UNSAFE.sub("-", part)
