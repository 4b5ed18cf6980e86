"""MLflow: runs, metrics, and the registry in which each task has its champion.

A model of a task is registered as `vidpipe-TASK`; the alias `champion` says which version labels,
`challenger` which one is the best of those that were not promoted: it waits for somebody's
decision. Experiments, runs, models and versions say on their pages what they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Before MLflow is imported: a server that is gone is told in half a minute, not in ten, and nothing
# is reported to anybody else.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# vidpipe shows its own, at the address that browsers reach.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # images have no git, and that is fine
# Else models come from the server's own store, where it says so: by an address that may be known to
# the server alone, which is then tried for many minutes.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")

import mlflow  # noqa: E402
import requests  # noqa: E402
from mlflow.entities import (  # noqa: E402
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    RunData,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.store.artifact.artifact_repository_registry import (  # noqa: E402
    get_artifact_repository,
)
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository  # noqa: E402
from mlflow.utils.mlflow_tags import (  # noqa: E402
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
)
from rich.padding import Padding  # noqa: E402
from rich.text import Text  # noqa: E402

from vidpipe.config import load_settings, no_setting  # noqa: E402
from vidpipe.console import Console, echo  # noqa: E402
from vidpipe.errors import BadInputError, StoppedError, TemporaryError, UsageError  # noqa: E402
from vidpipe.lake.layout import TASK_PATTERN  # noqa: E402
from vidpipe.mlflow_pages import run_page  # noqa: E402
from vidpipe.text import printable  # noqa: E402

CHAMPION, CHALLENGER = "champion", "challenger"
WORK = "vidpipe.work"
# A run says which videos its pictures show.
MISCLASSIFIED, SUSPECTED, FLIPS = "misclassified.png", "suspected_labels.png", "flips.png"
PICTURES = {MISCLASSIFIED, SUSPECTED, FLIPS}
SHOWN = "vidpipe.shown_videos"
PARENT = MLFLOW_PARENT_RUN_ID  # the tag that shows a run below another
_PREFIX = "vidpipe-"
_DECISION, _WHY = "vidpipe.decision", "vidpipe.why"
_TAG_CHARS = 4_000  # the registry allows 5,000
# How a test metric is named in MLflow, and what people call it.
_TEST_METRICS = {"test_accuracy": "accuracy", "test_map": "mAP", "test_macro_f1": "macro F1"}
_MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_TEMPORARY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


@dataclass(frozen=True)
class Version:
    """A registered version of a model.

    Attributes:
        name: The registered model, `vidpipe-TASK`.
        version: Its number, as text.
        run_id: The MLflow run that made it; empty where nobody named one.
    """

    name: str
    version: str
    run_id: str

    @property
    def uri(self) -> str:
        """What `Bundle.load` takes."""
        return f"models:/{self.name}/{self.version}"


def model_name(task: str) -> str:
    """The name under which the models of a task are registered."""
    return f"{_PREFIX}{task}"


def connect() -> mlflow.MlflowClient:
    """Opens the configured MLflow, also for MLflow's own functions in this process.

    Raises:
        UsageError: None is configured.
    """
    settings = load_settings().mlflow
    if not settings.tracking_uri:
        raise UsageError(no_setting("No MLflow is configured", "[mlflow] tracking_uri"))
    mlflow.set_tracking_uri(settings.tracking_uri)
    if settings.username:  # MLflow itself reads a login from the environment only
        os.environ["MLFLOW_TRACKING_USERNAME"] = settings.username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.password
    return mlflow.MlflowClient()


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turns what MLflow raises into vidpipe's errors, with one clear line."""
    try:
        yield
    except MlflowException as error:
        line = _without_password(" ".join(str(error).split()))[:300]
        # Without an answer from the server, MLflow gives the code of a defect of its own.
        if error.error_code in _TEMPORARY:
            raise TemporaryError(f"{_address()} does not answer: {line}") from error
        raise BadInputError(f"{_address()} refused: {line}") from error
    except (requests.RequestException, ConnectionError, TimeoutError) as error:
        line = _without_password(str(error))
        raise TemporaryError(f"{_address()} does not answer: {line}") from error


def _address() -> str:
    return f"MLflow at {_without_password(mlflow.get_tracking_uri())}"


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


# === Runs ===


class Run:
    """One run in MLflow.

    Attributes:
        id: MLflow's id of it.
        experiment_id: MLflow's id of the experiment that it is in.
        url: Its page.
    """

    def __init__(self, client: mlflow.MlflowClient, run_id: str, experiment_id: str):
        self._client = client
        self.id, self.experiment_id = run_id, experiment_id
        self._noted: dict[str, set[int]] = {}
        server = load_settings().mlflow.public_uri or mlflow.get_tracking_uri()
        self.url = run_page(_without_password(server), experiment_id, run_id)

    def params(self) -> dict[str, str]:
        """All parameters that were noted."""
        with answering():
            return dict(self._client.get_run(self.id).data.params)

    def metrics(self) -> dict[str, float]:
        """The metrics that were noted, each as of its last step."""
        with answering():
            return dict(self._client.get_run(self.id).data.metrics)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Notes parameters; the same again is harmless."""
        with answering():
            self._client.log_batch(self.id, params=[Param(k, str(v)) for k, v in params.items()])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Notes what may be otherwise in the next attempt."""
        with answering():
            self._client.log_batch(self.id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def describe(self, heading: str, text: str) -> str:
        """Says something of the run on its page, in place of what was said under this heading.

        Returns:
            The whole description, Markdown.
        """
        with answering():
            described = self._client.get_run(self.id).data.tags.get(MLFLOW_RUN_NOTE, "")
            mark = f"**{heading}.** "
            parts = [of for of in described.split("\n\n") if of and not of.startswith(mark)]
            described = "\n\n".join([*parts, mark + " ".join(text.split())])
            self._client.set_tag(self.id, MLFLOW_RUN_NOTE, described)
        return described

    def log_dataset(
        self, name: str, version: str, uri: str, lake_uri: str, facts: Mapping[str, Any]
    ) -> None:
        """Notes the dataset that the run learns from; the same again is harmless.

        Args:
            name: The task.
            version: Hash of what is in it.
            uri: The pinned dataset, a JSON file in the lake.
            lake_uri: The lake.
            facts: Counts, and the snapshot of each table.
        """
        source = json.dumps({"uri": uri, "lake": lake_uri})
        dataset = Dataset(name, version, "s3", source, profile=json.dumps(facts))
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, "training")]
        with answering():
            self._client.log_inputs(self.id, [DatasetInput(dataset, tags)])

    def log_metrics(
        self, metrics: Mapping[str, float], step: int = 0, *, once: bool = False
    ) -> None:
        """Notes metrics of a step.

        Args:
            metrics: By name.
            step: The step.
            once: Those that an earlier attempt noted of this step are not noted again. MLflow keeps
                both, as it is another time.
        """
        now_ms = int(time.time() * 1000)
        with answering():
            if once:
                metrics = {k: v for k, v in metrics.items() if step not in self._steps(k)}
            self._client.log_batch(
                self.id, metrics=[Metric(k, float(v), now_ms, step) for k, v in metrics.items()]
            )

    def _steps(self, metric: str) -> set[int]:
        """The steps of which a metric was noted when it was first asked for."""
        if metric not in self._noted:
            history = self._client.get_metric_history(self.id, metric)
            self._noted[metric] = {noted.step for noted in history}
        return self._noted[metric]

    def log_figure(self, figure: Any, name: str) -> None:
        """Keeps a matplotlib figure as the file `name`."""
        with answering():
            self._client.log_figure(self.id, figure, name)

    def log_json(self, document: Any, name: str) -> None:
        """Keeps a document as the file `name`."""
        with answering():
            self._client.log_dict(self.id, document, name)

    def read_json(self, name: str) -> Any:
        """Returns the document that the file `name` holds.

        Raises:
            BadInputError: There is no such file, or MLflow does not keep it itself.
        """
        uri = f"runs:/{self.id}/{name}"
        find_files(uri)
        with answering():
            return mlflow.artifacts.load_dict(uri)

    def log_pictures(self, figures: Mapping[str, Any], video_ids: Iterable[str]) -> None:
        """Keeps figures that show videos; which, it says first, so that none is missed.

        Args:
            figures: By their names, of `PICTURES`.
            video_ids: All that one of them shows.
        """
        with answering():
            shown = self._client.get_run(self.id).data.tags.get(SHOWN, "").split()
        self._say_shown(sorted({*shown, *video_ids}))
        for name, figure in figures.items():
            self.log_figure(figure, name)

    def remove_pictures(self) -> None:
        """Removes the figures that show videos from where they are kept."""
        with answering():
            info = self._client.get_run(self.id).info
            repository = get_artifact_repository(info.artifact_uri)
            for name in PICTURES & {found.path for found in repository.list_artifacts()}:
                repository.delete_artifacts(name)
            in_bin = info.lifecycle_stage == LifecycleStage.DELETED
            if in_bin:
                self._client.restore_run(self.id)  # nothing is noted of a run in the bin
            self._say_shown(())
            if in_bin:
                self._client.delete_run(self.id)

    def _say_shown(self, video_ids: Iterable[str]) -> None:
        with answering():
            self._client.set_tag(self.id, SHOWN, " ".join(video_ids))


def open_run(run_id: str) -> Run:
    """Returns a run that exists, to add to it.

    Raises:
        BadInputError: There is no such run.
    """
    if not run_id:
        raise BadInputError("The model version names no MLflow run.")
    client = connect()
    with answering():
        return Run(client, run_id, client.get_run(run_id).info.experiment_id)


@contextlib.contextmanager
def training_run(task: str, name: str, work: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """Starts the run of a piece of work, or resumes it where an earlier attempt began it.

    It ends as FINISHED, as KILLED when a stop signal arrives, as FAILED on any other error.
    Arguments are those of `begin_run`.
    """
    run, client = begin_run(task, name, work, tags), connect()
    try:
        yield run
    except BaseException as error:
        stopped = isinstance(error, StoppedError | KeyboardInterrupt)
        with contextlib.suppress(Exception):  # the error that is under way matters more
            client.set_terminated(run.id, "KILLED" if stopped else "FAILED")
        raise
    with answering():
        client.set_terminated(run.id, "FINISHED")


def begin_run(task: str, name: str, work: str, tags: Mapping[str, str]) -> Run:
    """Starts the run of a piece of work, or resumes it; a `training_run` of the same work ends it.

    Args:
        task: Names the experiment, as `model_name` does.
        name: For people.
        work: What makes two attempts the same work.
        tags: Further tags.
    """
    client = connect()
    with answering():
        experiment_id = _experiment(client, task)
        begun = client.search_runs([experiment_id], f"tags.`{WORK}` = '{work}'")
        if begun:
            run_id = begun[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            run_id = client.create_run(
                experiment_id, run_name=name, tags={**tags, WORK: work}
            ).info.run_id
    return Run(client, run_id, experiment_id)


def give_up(works: Iterable[str]) -> None:
    """Ends as FAILED the runs of pieces of work that were killed and that nobody goes on with."""
    client = connect()
    with answering():
        ids = _experiment_ids(client, ViewType.ACTIVE_ONLY)
        for work in works if ids else ():
            running = f"tags.`{WORK}` = '{work}' and attributes.status = 'RUNNING'"
            for run in client.search_runs(ids, running):
                client.set_terminated(run.info.run_id, "FAILED")


def _experiment_ids(client: mlflow.MlflowClient, view_type: int) -> list[str]:
    """Those of the experiments of all tasks."""
    named = f"name LIKE '{_PREFIX}%'"
    experiments = _all(client.search_experiments, filter_string=named, view_type=view_type)
    return [experiment.experiment_id for experiment in experiments]


def _experiment(client: mlflow.MlflowClient, task: str) -> str:
    name = model_name(task)
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            client.create_experiment(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    tags = {
        MLFLOW_RUN_NOTE: (
            f"Trainings (DAG `train`) and tunings (DAG `tune`) of the task **{task}**. Each run"
            " says which dataset it learnt from, how good its model is on the test videos, and"
            f" whether it was promoted. The models are registered as `{name}`."
        ),
        # Opens as "Model training", not as "GenAI".
        "mlflow.experimentKind": "custom_model_development",
    }
    for key, value in tags.items():
        if key not in found.tags:  # people may have changed it
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def runs_showing(video_ids: Iterable[str]) -> list[Run]:
    """The runs that keep pictures of one of the videos, also those that were put into the bin."""
    client = connect()
    found = {}
    with answering():
        ids = _experiment_ids(client, ViewType.ALL)
        for video_id in video_ids if ids else ():
            shown = f"tags.`{SHOWN}` LIKE '%{video_id}%'"
            for run in _search_runs(client, ids, shown):
                found[run.id] = run
    return list(found.values())


def runs_of_dataset(task: str, version: str) -> list[Run]:
    """The runs that trained on a version of a dataset."""
    client = connect()
    with answering():
        experiment = client.get_experiment_by_name(model_name(task))
        if experiment is None:
            return []
        chosen = f"params.dataset_version = '{version}'"
        return list(_search_runs(client, [experiment.experiment_id], chosen))


def _search_runs(client: mlflow.MlflowClient, ids: list[str], chosen: str) -> Iterator[Run]:
    for found in _all(
        client.search_runs, experiment_ids=ids, filter_string=chosen, run_view_type=ViewType.ALL
    ):
        yield Run(client, found.info.run_id, found.info.experiment_id)


# === Registry ===


def champion(task: str) -> Version | None:
    """The version that labels, or None while there is none."""
    return _aliased(task, CHAMPION)


def challenger(task: str) -> Version | None:
    """The version that waits for somebody's decision, or None where none does."""
    return _aliased(task, CHALLENGER)


def _aliased(task: str, alias: str) -> Version | None:
    client = connect()
    with answering():
        try:
            registered = client.get_registered_model(model_name(task))
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            raise
        number = registered.aliases.get(alias)
    return None if number is None else find_version(task, str(number))


def champions() -> dict[str, Version]:
    """The version that labels, for each task that has one."""
    return _all_aliased(CHAMPION)


def challengers() -> dict[str, Version]:
    """The version that waits for somebody's decision, for each task that has one."""
    return _all_aliased(CHALLENGER)


def _all_aliased(alias: str) -> dict[str, Version]:
    client = connect()
    with answering():
        names = [model.name for model in _all(client.search_registered_models)]
    versions = {task: _aliased(task, alias) for task in sorted(filter(None, map(_task_of, names)))}
    return {task: version for task, version in versions.items() if version}


def _task_of(name: str) -> str:
    """The task that a registered model is of; empty where its name is none that vidpipe gives."""
    task = name.removeprefix(_PREFIX)
    return task if name.startswith(_PREFIX) and re.fullmatch(TASK_PATTERN, task) else ""


def find_files(uri: str) -> str:
    """Finds where the files of a model version or of a run lie.

    Whoever may register a model may name any place as its source, also a folder of this machine or
    a bucket that these credentials may read: nothing is loaded from there.

    Args:
        uri: `models:/NAME/VERSION` or `runs:/RUN/PATH`.

    Returns:
        A URI below a place where MLflow or the lake keeps its files.

    Raises:
        BadInputError: They lie elsewhere, or nothing is known by that name.
    """
    client, place = connect(), uri
    with answering():
        if uri.startswith("models:/"):
            name, _, number = uri.removeprefix("models:/").rpartition("/")
            place = client.get_model_version_download_uri(name, number)
        if place.startswith("models:/"):
            place = client.get_logged_model(place.removeprefix("models:/")).artifact_location
        if place.startswith("runs:/"):
            run_id, path = RunsArtifactRepository.parse_runs_uri(place)
            place = f"{client.get_run(run_id).info.artifact_uri.rstrip('/')}/{path or ''}"
        if not any(_is_below(place, root) for root in _own_places(client)):
            raise BadInputError(
                f"{uri} is not loaded: its files lie at {place!r}, where neither MLflow nor the"
                " lake keeps any. Register the model from a run, or promote another version."
            )
    return place


def _own_places(client: mlflow.MlflowClient) -> Iterator[str]:
    """Where MLflow and the lake keep their files."""
    if load_settings().lake.uri:
        yield load_settings().lake.uri
    try:
        # The first experiment, which every server makes, has the place that the server was given.
        first = client.get_experiment("0").artifact_location
    except MlflowException as error:
        if error.error_code not in _MISSING:
            raise
    else:
        yield first.rpartition("/")[0] or first
    if mlflow.get_tracking_uri().startswith(("http://", "https://")):
        yield "mlflow-artifacts:"  # the server itself, which is asked at its own address


def _is_below(place: str, root: str) -> bool:
    path = place
    while (unquoted := urllib.parse.unquote(path)) != path:
        path = unquoted
    if ".." in re.split(r"[/\\]", path) or not path.isprintable():
        return False
    return place.startswith(f"{root.rstrip('/')}/") and not (
        root == "mlflow-artifacts:" and place.startswith("mlflow-artifacts://")
    )


def version_of_run(task: str, run_id: str) -> Version | None:
    """The version that a run registered, or None."""
    client = connect()
    with answering():
        found = client.search_model_versions(f"name = '{model_name(task)}' and run_id = '{run_id}'")
    return _version(found[0]) if found else None


def find_version(task: str, number: str) -> Version | None:
    """The version with this number, or None."""
    client = connect()
    with answering():
        try:
            return _version(client.get_model_version(model_name(task), number))
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            raise


def aliases(version: Version) -> list[str]:
    """What a version is, such as the champion."""
    client = connect()
    with answering():
        named = client.get_registered_model(version.name).aliases
    return sorted(alias for alias, number in named.items() if str(number) == version.version)


def set_alias(version: Version, alias: str) -> None:
    """Makes a version the champion or the challenger; a champion is no challenger any more."""
    client = connect()
    with answering():
        aliases = client.get_registered_model(version.name).aliases
        client.set_registered_model_alias(version.name, alias, version.version)
        if alias == CHAMPION and str(aliases.get(CHALLENGER)) == version.version:
            client.delete_registered_model_alias(version.name, CHALLENGER)


def describe_model(task: str) -> None:
    """Says on the page of a task's registered model what it is, where nobody has said it yet."""
    client, name = connect(), model_name(task)
    with answering():
        if not client.get_registered_model(name).description:
            client.update_registered_model(
                name,
                f"Models of the task **{task}**, trained and promoted by vidpipe. The version with"
                f" the alias `{CHAMPION}` labels new videos; `{CHALLENGER}` is the best of those"
                f" that were not promoted. `vidpipe models --task {task}` lists them,"
                f" `vidpipe promote {task} VERSION` changes the champion.",
            )


def describe_version(version: Version, heading: str, text: str) -> None:
    """Says something of a version, on its own page and on that of its run; see `Run.describe`."""
    try:
        described = open_run(version.run_id).describe(heading, text)
    except BadInputError:  # registered without a run, or the run is gone
        described = f"**{heading}.** {text}"
    client = connect()
    with answering():
        client.update_model_version(version.name, version.version, described)


def describe_decision(version: Version, decision: str, why: str) -> None:
    """Notes what became of a version, in a few words, and why; `list_models` reads it."""
    client = connect()
    with answering():
        for key, value in ((_DECISION, decision), (_WHY, why)):
            client.set_model_version_tag(version.name, version.version, key, value[:_TAG_CHARS])
    describe_version(version, "Decision", f"{decision.capitalize()}. {why}".strip())


def _version(found: Any) -> Version:
    return Version(found.name, str(found.version), found.run_id or "")


def list_models(task: str | None = None) -> list[dict[str, Any]]:
    """The registered versions, newest first in each task.

    Args:
        task: Only those of this task.

    Returns:
        For each: task, version, alias, architecture, hears (whether it does), test_videos (how
        many; empty where nobody noted it), metrics (by name), decision and why (empty where nobody
        decided), created_at (seconds since 1970), run_id, problem (why nothing is known of its
        training; empty where something is). Models with names that vidpipe does not give are left
        out.
    """
    client = connect()
    models = []
    with answering():
        names = f"name = '{model_name(task)}'" if task else f"name like '{_PREFIX}%'"
        for registered in _all(client.search_registered_models, filter_string=names):
            if not (task_of_model := _task_of(registered.name)):
                continue
            alias_of = {str(number): alias for alias, number in registered.aliases.items()}
            versions = _all(
                client.search_model_versions, filter_string=f"name = '{registered.name}'"
            )
            for found in sorted(versions, key=lambda v: int(v.version), reverse=True):
                run, problem = _data_of_run(client, found.run_id)
                models.append(
                    {
                        "task": task_of_model,
                        "version": str(found.version),
                        "alias": alias_of.get(str(found.version), ""),
                        "problem": problem,
                        "architecture": run.params.get("architecture", ""),
                        "hears": run.params.get("sound") == "True",
                        "test_videos": run.params.get("test_videos", ""),
                        "metrics": dict(run.metrics),
                        "decision": found.tags.get(_DECISION, ""),
                        "why": found.tags.get(_WHY, ""),
                        "created_at": found.creation_timestamp / 1000,
                        "run_id": found.run_id,
                    }
                )
    return models


def _data_of_run(client: mlflow.MlflowClient, run_id: str | None) -> tuple[RunData, str]:
    """What a run noted; nothing, and why, where a version names none, or one that is gone."""
    if not run_id:
        return RunData(), "It was registered without a run"
    try:
        return client.get_run(run_id).data, ""
    except MlflowException as error:
        if error.error_code in _TEMPORARY:
            raise
        return RunData(), f"Its run {run_id} cannot be read"


def _all(search: Any, **how: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token, **how)
        yield from page
        token = page.token
        if not token:
            return


def print_models(task: str | None = None) -> None:
    """Prints `list_models` as a table."""
    models = list_models(task)
    if not models:
        of = f" of task {task!r}" if task else ""
        echo(f"No model{of} is registered yet: annotate some videos, then `vidpipe run train`.")
        if task and (others := sorted({model["task"] for model in list_models()})):
            echo(f"There are models of: {', '.join(others)}.")
        return
    console = Console()
    for model in models:
        heading, *lines = _model_lines(model)
        style = "bold" if model["alias"] == CHAMPION else ""
        console.print(heading, style=style, soft_wrap=True)
        for line in lines:
            if console.is_terminal:
                console.print(Padding(Text(printable(line)), (0, 0, 0, 2), expand=False))
            else:  # in a pipe or a file a line stays a line
                echo(f"  {line}")


def _model_lines(model: Mapping[str, Any]) -> list[str]:
    """What a version is, how good it is, and what became of it, each a line."""
    alias = f" ({model['alias']})" if model["alias"] else ""
    created = time.strftime("%F %H:%M", time.localtime(model["created_at"]))
    metrics, results = model["metrics"], []
    for name, shown in _TEST_METRICS.items():
        if name in metrics:
            ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
            interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if None not in ends else ""
            results.append(f"{shown} {metrics[name]:.3f}{interval}")
    if results and model["test_videos"]:
        results.append(f"{model['test_videos']} test videos")
    lines = [
        f"{model['task']} version {model['version']}{alias}:"
        f" {model['architecture'] or 'unknown architecture'}"
        + " + audio" * model["hears"]
        + f", {created}",
        ", ".join(results) or "not evaluated",
    ]
    if model["problem"]:
        lines.append(
            f"{model['problem']}: nothing is known of its training. Delete the version in MLflow,"
            " or train anew."
        )
    if model["decision"]:
        lines.append(f"{model['decision'].capitalize()}. {model['why']}".strip())
    return lines
