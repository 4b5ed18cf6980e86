"""Configuration: one TOML file, any value of which an environment variable may replace.

The file is the one `VIDPIPE_CONFIG` names, else `.vidpipe/vidpipe.toml` (written by `vidpipe up`)
or `vidpipe.toml` of the nearest folder that has one: the current folder or one above it, as git
finds its repository. Files that other users can write are refused, unless `VIDPIPE_CONFIG` names
them: nobody else chooses what runs here. The variable for `[s3] endpoint_url` is
`VIDPIPE_S3_ENDPOINT_URL`, and so for every other value; lists are given separated by commas.
"""

from __future__ import annotations

import dataclasses
import functools
import grp
import os
import pwd
import shlex
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidpipe.errors import UsageError

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
RUNTIMES = ("local", "kubernetes")
STACK_FOLDER = ".vidpipe"
CONFIG_NAME = "vidpipe.toml"
LOOPBACK = ("127.0.0.1", "localhost")
ENVIRONMENT_ONLY = "environment_only"


@dataclass(frozen=True)
class LakeSettings:
    """Where tables and runs are kept.

    Attributes:
        uri: `s3://bucket[/prefix]` below which all of vidpipe's objects lie.
        catalog_uri: SQLAlchemy URI of the Iceberg catalog (SQLite or PostgreSQL).
    """

    uri: str = ""
    catalog_uri: str = field(default="", repr=False)


@dataclass(frozen=True)
class S3Settings:
    """How S3 is reached; empty values are left to boto3 (environment, profile, role).

    Attributes:
        public_endpoint_url: Where people's browsers reach it: links to videos lead there; empty:
            `endpoint_url`.
        requester_pays: Agree to pay for requests to Requester Pays buckets.
    """

    endpoint_url: str = ""
    region: str = "us-east-1"
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    public_endpoint_url: str = ""
    requester_pays: bool = False


@dataclass(frozen=True)
class MlflowSettings:
    """Where metrics and models are kept.

    Attributes:
        tracking_uri: Where vidpipe reaches them.
        public_uri: Where people's browsers do: links lead there; empty: `tracking_uri`.
        username: The login there; empty: that of MLFLOW_TRACKING_USERNAME, or none.
        password: The password of the login.
    """

    tracking_uri: str = ""
    public_uri: str = ""
    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class SourceSettings:
    """Which buckets are watched.

    Attributes:
        uris: `s3://bucket[/prefix]` each; `ingest` refuses any other.
        max_decode_s: For some of their folders, another limit than `[extract] max_decode_s`:
            `s3://bucket/uploads=300` each. The longest that a source is in holds.

    Raises:
        UsageError: An entry of `max_decode_s` is not of that form.
    """

    uris: tuple[str, ...] = ()
    max_decode_s: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in self.max_decode_s:
            folder, _, seconds = entry.rpartition("=")
            if not (folder.startswith("s3://") and _is_positive(seconds)):
                raise UsageError(
                    "[sources] max_decode_s holds entries such as s3://bucket/uploads=300, in"
                    f" seconds. Received: {entry!r}"
                )

    def decode_limit_s(self, source_uri: str) -> float | None:
        """Returns the limit of the folder that a source is in; None where there is none."""
        limits_s: dict[str, float] = {}
        for entry in self.max_decode_s:
            folder, _, seconds = entry.rpartition("=")
            folder = f"{folder.rstrip('/')}/"
            if source_uri.startswith(folder):
                limits_s[folder] = float(seconds)
        return limits_s[max(limits_s, key=len)] if limits_s else None


@dataclass(frozen=True)
class ExtractSettings:
    """Defaults of extraction; the form of the `ingest` DAG starts with them.

    Attributes:
        ffmpeg_path: The ffmpeg that makes canaries and the demo's clips; empty: the one that the
            imageio-ffmpeg wheel carries. (Videos are decoded by the libraries in PyAV's wheel.) A
            file may come with somebody's folder and must not choose a program: only the environment
            sets it.
        workers: Videos that one task decodes at a time; 0: as many as there are cores, each of
            which needs 0.5 GB of free memory.
        sampling: Which frames are kept: fps, reference, keyframes, scenes or all.
        fps: Frames kept per second of video, for the samplings fps and reference.
        detector: What finds the shots of the sampling scenes.
        frames_per_shot: For the sampling scenes.
        short_side: Pixels of the shorter side of the kept frames; 0 keeps the size.
        width: With height, an exact size in place of short_side; 0: none.
        height: As width.
        fit: How a picture of another shape gets an exact size: crop or pad.
        jpeg_quality: 1 (worst) to 100.
        missing_frames: What stands for frames that do not decode: drop, repeat or interpolate.
        missing_audio: What stands for sound that is not there: silence or drop.
        max_missing_share: A video that lacks a larger share of its frames is quarantined.
        video_track: Number of the video track, from 1; 0: the one that FFmpeg would take.
        audio_track: As video_track, of the audio.
        audio_language: The audio track of this language where there is one, such as deu; empty:
            of any language.
        max_duration_s: Longer videos are quarantined.
        max_pixels: Larger pictures are quarantined.
        max_decode_s: Decoding a video may take so many seconds, by the clock and in CPU; videos
            that take longer are quarantined. `[sources] max_decode_s` has others for some folders.
        max_failed_share: Failure budget: a larger share of items that failed through no fault of
            their own fails the run, which then publishes outcomes only.
        max_tries: Runs after which a failed item is left alone.

    Raises:
        UsageError: `max_decode_s` is not more than 0.
    """

    ffmpeg_path: str = field(default="", metadata={ENVIRONMENT_ONLY: True})
    workers: int = 0
    sampling: str = "fps"
    fps: float = 2.0
    detector: str = "content"
    frames_per_shot: int = 1
    short_side: int = 224
    width: int = 0
    height: int = 0
    fit: str = "crop"
    jpeg_quality: int = 90
    missing_frames: str = "drop"
    missing_audio: str = "silence"
    max_missing_share: float = 0.2
    video_track: int = 0
    audio_track: int = 0
    audio_language: str = ""
    max_duration_s: float = 6 * 3600.0
    max_pixels: int = 1 << 26
    max_decode_s: float = 7200.0
    max_failed_share: float = 0.2
    max_tries: int = 3

    def __post_init__(self) -> None:
        if not self.max_decode_s > 0:
            raise UsageError(
                f"[extract] max_decode_s must be more than 0. Received: {self.max_decode_s:g}"
            )


@dataclass(frozen=True)
class AnnotateSettings:
    """What reading one annotation file may take; one that takes more is refused.

    Attributes:
        max_s: Seconds of processor time.
        max_gb: Memory, beside what the process took before.
    """

    max_s: float = 120.0
    max_gb: float = 4.0


@dataclass(frozen=True)
class TrainSettings:
    """What a training keeps while it runs.

    Attributes:
        checkpoint_every_s: Seconds of training between two checkpoints, which is what a training
            loses at most when its machine dies. They come less often where they would cost more
            than a twentieth of the time.
        cache_gb: Decoded clips are kept on the local disk if they take at most so much of it; else
            they are decoded anew in each epoch, in an order that is shuffled by parts.
    """

    checkpoint_every_s: float = 60.0
    cache_gb: float = 8.0


@dataclass(frozen=True)
class MemorySettings:
    """How much memory is taken.

    Attributes:
        batch_gb: A batch that goes through a network takes at most so much beside the network,
            unless a single frame (behind a backbone) or clip takes more.
        stage_share: On one machine a stage, with its children, may take this share of the memory
            that is free when it starts; one that takes more is ended.
        stage_gb: It may take so much in place of that share; 0: the share.
    """

    batch_gb: float = 1.0
    stage_share: float = 0.8
    stage_gb: float = 0.0


@dataclass(frozen=True)
class NotifySettings:
    """Whom Airflow tells of failures and waiting promotions. Empty: nobody.

    Attributes:
        email_to: Addresses, sent through the Airflow connection `smtp_default`.
        slack_channel: Sent through the Airflow connection `slack_default`.
        webhook_path: Posted as JSON through the Airflow connection `http_default`.
    """

    email_to: tuple[str, ...] = ()
    slack_channel: str = ""
    webhook_path: str = ""


@dataclass(frozen=True)
class KubernetesSettings:
    """Where and how pods run, for the runtime `kubernetes`.

    The cluster is the one that Airflow runs in, or that of its connection `kubernetes_default`.

    Attributes:
        namespace: Where the pods are.
        worker_image: Image of all stages (docker/); a stage may have its own in `resources_file`.
        gpu_image: Image of stages that were given GPUs; empty: the same.
        config_map: ConfigMap with the environment of the pods, such as VIDPIPE_LAKE_URI.
        secret: Secret with that part of it which is secret.
        service_account: Of the pods.
        image_pull_policy: As Kubernetes has it; empty: its default.
        resources_file: What the pods of each stage get; empty: as in
            `vidpipe/orchestration/resources.toml`.
        autoscaling: Nodes are added when pods wait for them: a pod that fits no node waits, too.
        max_wait_s: A pod that has not started after so long is given up.
        max_lost: So many lost pods (drained, evicted, deleted) are replaced within one try.
        max_active: Pods of a mapped task that one run has at the same time.
        max_pod_hours_run: A run whose pods took so many hours starts no further one, but to be
            audited and published; 0, here and in the next three: no such ceiling.
        max_gpu_hours_run: As before, of pods with GPUs: an hour counts once for each GPU.
        max_pod_hours_day: As max_pod_hours_run, of all runs of this deployment together, from
            midnight to midnight (UTC).
        max_gpu_hours_day: As max_gpu_hours_run, by day.
    """

    namespace: str = "vidpipe-work"
    worker_image: str = ""
    gpu_image: str = ""
    config_map: str = "vidpipe"
    secret: str = "vidpipe"
    service_account: str = "default"
    image_pull_policy: str = ""
    resources_file: str = ""
    autoscaling: bool = False
    max_wait_s: float = 3600.0
    max_lost: int = 5
    max_active: int = 16
    max_pod_hours_run: float = 0.0
    max_gpu_hours_run: float = 0.0
    max_pod_hours_day: float = 0.0
    max_gpu_hours_day: float = 0.0


@dataclass(frozen=True)
class Settings:
    """All configuration.

    Attributes:
        deployment: Name of this installation; it starts every run key.
        runtime: Where stages run: `local` (a process each) or `kubernetes` (a pod each).
    """

    deployment: str = "vidpipe"
    runtime: str = "local"
    lake: LakeSettings = LakeSettings()
    s3: S3Settings = S3Settings()
    mlflow: MlflowSettings = MlflowSettings()
    sources: SourceSettings = SourceSettings()
    extract: ExtractSettings = ExtractSettings()
    annotate: AnnotateSettings = AnnotateSettings()
    train: TrainSettings = TrainSettings()
    memory: MemorySettings = MemorySettings()
    notify: NotifySettings = NotifySettings()
    kubernetes: KubernetesSettings = KubernetesSettings()


def find_config() -> Path | None:
    """Returns the configuration file that applies, or None where there is none.

    Raises:
        UsageError: `VIDPIPE_CONFIG` names a file that does not exist, or other users can write the
            nearest file.
    """
    if named := _named_config():
        return named
    for folder in _folders_upwards():
        stack, file = folder / STACK_FOLDER, folder / CONFIG_NAME
        if _is_own(stack) and _is_own(stack / CONFIG_NAME):
            return stack / CONFIG_NAME
        if _is_own(file):
            return file
    return None


def find_stack() -> Path:
    """Returns the folder of the embedded stack, whether it exists or not.

    It is the folder of the file that `VIDPIPE_CONFIG` names if that is a stack's, else the nearest
    `.vidpipe` of the current folder and those above it, else `.vidpipe` in the current folder.

    Raises:
        UsageError: As `find_config`.
    """
    named = _named_config()
    if named and named.name == CONFIG_NAME and named.absolute().parent.name == STACK_FOLDER:
        return named.parent
    stacks = (folder / STACK_FOLDER for folder in _folders_upwards())
    return next((s for s in stacks if _is_own(s) and s.is_dir()), Path(STACK_FOLDER))


def no_setting(problem: str, setting: str) -> str:
    """Returns the message that a setting is missing: in which file, or that there is no file."""
    if file := find_config():
        return f"{problem}: {file} does not set {setting}. Add it, or start a stack: vidpipe up"
    return (
        f"{problem}: there is no {CONFIG_NAME} in {Path.cwd()} or above it. Change to the folder of"
        f" your stack, set VIDPIPE_CONFIG to its {STACK_FOLDER}/{CONFIG_NAME}, or start one here:"
        " vidpipe up"
    )


def _named_config() -> Path | None:
    named = os.environ.get("VIDPIPE_CONFIG")
    if not named:
        return None
    if not Path(named).is_file():
        raise UsageError(f"VIDPIPE_CONFIG names {named!r}, which is not a file.")
    return Path(named)


def _folders_upwards() -> Iterator[Path]:
    """Yields the current folder and those above it, as far as they are on the same file system."""
    try:
        current = Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("The current folder was deleted. Change to one that exists.") from error
    yield Path()
    device = current.stat().st_dev
    for folder in current.parents:
        if folder.stat().st_dev != device:
            return
        yield folder


def _is_own(path: Path) -> bool:
    """Whether a file or folder exists; one that other users can write is refused."""
    try:
        # Of a link, also the link: it may lead to any file of this user.
        statuses = path.lstat(), path.stat()
    except OSError:
        return False
    for status in statuses:
        require_own(path, status, _trust(path))
    return True


def _trust(path: Path) -> str:
    file = path / CONFIG_NAME if path.name == STACK_FOLDER else path
    return f"If you trust it: export VIDPIPE_CONFIG={shlex.quote(str(file.absolute()))}"


def require_own(path: Path, status: os.stat_result, advice: str) -> None:
    """Checks that nobody but this user and root can change a file or folder.

    Args:
        path: Where it is.
        status: What the system says of it.
        advice: What to do with one that may be as others made it.

    Raises:
        UsageError: It belongs to another user, or other users can write it.
    """
    if status.st_uid not in (os.geteuid(), 0):
        raise UsageError(
            f"{path.absolute()} belongs to another user, who could choose what runs here. {advice}"
        )
    if not stat.S_ISLNK(status.st_mode) and _others_can_write(status):
        raise UsageError(
            f"{path.absolute()} can be written by other users, who could choose what runs here."
            f" Look into it, then: chmod go-w {shlex.quote(str(path.absolute()))}. {advice}"
        )


def _others_can_write(status: os.stat_result) -> bool:
    if not status.st_mode & stat.S_IWGRP:
        return bool(status.st_mode & stat.S_IWOTH)
    if status.st_mode & stat.S_IWOTH:
        return True
    try:
        # Where each user has a group of their own, files are made so that it can write them.
        user, group = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid)
    except KeyError:
        return True
    return group.gr_name != user or not set(group.gr_mem) <= {user}


def bypass_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables by which clients reach this machine's own servers without a proxy.

    Args:
        environment: Whose proxies and exceptions hold otherwise.
    """
    names = ("NO_PROXY", "no_proxy")
    known = [host.strip() for name in names for host in environment.get(name, "").split(",")]
    return dict.fromkeys(names, ",".join(dict.fromkeys(filter(None, (*known, *LOOPBACK)))))


@functools.cache
def load_settings() -> Settings:
    """Reads the configuration once for this process, and lets its clients bypass proxies.

    Raises:
        UsageError: The file is not TOML, or holds a name or a type that does not exist.
    """
    # Each of boto3, requests, MLflow and pyarrow reads the environment in its own way.
    os.environ.update(bypass_proxies(os.environ))
    path = find_config()
    values = read_config(path) if path else {}
    return _build(Settings, values, "", str(path or "the environment"))


def read_config(path: Path) -> dict[str, Any]:
    """Reads a configuration file.

    Raises:
        UsageError: It is not TOML, other users can write it and `VIDPIPE_CONFIG` does not name it,
            or it holds a name or a type that does not exist.
    """
    named = os.environ.get("VIDPIPE_CONFIG", "")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not os.path.exists(named) or not os.path.samestat(status, os.stat(named)):
                # Of the file that is open: the name may lead to another one by now.
                require_own(path, status, _trust(path))
            values = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    _build(Settings, values, "", str(path))
    return values


def _build(cls: type, values: dict, section: str, origin: str):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        place = f"[{section}] " if section else ""
        raise UsageError(
            f"{origin}: {place}{unknown[0]} is no setting; there are: {', '.join(sorted(fields))}."
        )
    built = {}
    for name, spec in fields.items():
        default = spec.default
        if dataclasses.is_dataclass(default):
            if not isinstance(values.get(name, {}), dict):
                raise UsageError(f"{origin}: {name} must be a section, [{name}].")
            built[name] = _build(type(default), values.get(name, {}), name, origin)
            continue
        variable = "_".join(filter(None, ("VIDPIPE", section.upper(), name.upper())))
        if spec.metadata.get(ENVIRONMENT_ONLY) and name in values:
            raise UsageError(
                f"{origin}: [{section}] {name} names a program, which a file must not choose."
                f" Remove that line; if you want that program, set {variable}."
            )
        raw = os.environ.get(variable, values.get(name, default))
        try:
            built[name] = _convert(raw, default)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{origin}: {name} must be a {type(default).__name__}. Received: {raw!r}"
            ) from error
    return cls(**built)


def _is_positive(number: str) -> bool:
    try:
        return float(number) > 0  # which nan is not
    except ValueError:
        return False


def _convert(raw, default):
    if isinstance(default, tuple):
        parts = raw.split(",") if isinstance(raw, str) else raw
        return tuple(str(part).strip() for part in parts if str(part).strip())
    if isinstance(default, bool):
        return _BOOLEANS[str(raw).lower()]
    if isinstance(default, str) and not isinstance(raw, str):
        raise TypeError
    return type(default)(raw)
