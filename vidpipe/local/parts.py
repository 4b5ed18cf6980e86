"""The parts of the embedded stack: their files, commands and environment.

Everything a part writes stays below the folder of the stack.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import vidpipe
from vidpipe.config import CONFIG_NAME, bypass_proxies, read_config
from vidpipe.local.state import HOST, StackState, write_private

CHECKOUT = Path(vidpipe.__file__).resolve().parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
BUCKETS = ("videos", "vidpipe-lake", "mlflow")
# A registered model lies in MLflow's own store.
MODEL_SOURCES = "^(mlflow-artifacts|runs|models):/"


@dataclass(frozen=True)
class Part:
    """One process of the stack.

    Attributes:
        name: As `vidpipe status` shows it, and the name of its log.
        command: Program and arguments; secrets are never among them.
    """

    name: str
    command: tuple[str, ...]


def parts(state: StackState) -> list[Part]:
    """All parts, in the order in which they are shown; `airflow` is its API server and pages."""
    airflow = str(SCRIPTS / "airflow")
    s3 = (
        *(str(SCRIPTS / "rclone"), "serve", "s3", str(state.root / "s3")),
        *("--config", "", "--addr", f"{HOST}:{state.ports['s3']}"),
        *("--dir-cache-time", "5s"),  # people copy videos into the folder behind its back
        *("--etag-hash", ""),  # else each listing reads all bytes of all files
    )
    mlflow = (
        *(str(SCRIPTS / "mlflow"), "server", "--workers", "1", "--app-name", "basic-auth"),
        *("--host", HOST, "--port", str(state.ports["mlflow"])),
        *("--backend-store-uri", f"sqlite:///{state.root / 'mlflow' / 'mlflow.db'}"),
        *("--serve-artifacts", "--artifacts-destination", "s3://mlflow/artifacts"),
    )
    # Logs are read from the shared folder: the servers for logs, which listen on every interface,
    # are left out.
    return [
        Part("s3", s3),
        Part("mlflow", mlflow),
        Part("airflow", (airflow, "api-server")),
        Part("scheduler", (airflow, "scheduler", "--skip-serve-logs")),
        Part("dag-processor", (airflow, "dag-processor")),
        Part("triggerer", (airflow, "triggerer", "--skip-serve-logs")),
    ]


def environment(state: StackState) -> dict[str, str]:
    """The environment of every part, and so of every task."""
    cache = state.root / "cache"
    # Airflow settings of another installation must not reach this one.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW__")}
    return {
        **inherited,
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        **bypass_proxies(os.environ),
        "VIDPIPE_CONFIG": str(state.root / "vidpipe.toml"),
        # pyarrow and boto3 send checksums that rclone does not know.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AIRFLOW_HOME": str(state.root / "airflow"),
        "AIRFLOW_CONFIG": str(state.root / "airflow" / "airflow.cfg"),
        "KERAS_HOME": str(cache / "keras"),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def part_environment(state: StackState, part: Part) -> dict[str, str]:
    """The environment of one part: what only it needs to know beside what all do."""
    own = {}
    if part.name == "s3":
        own = {
            "RCLONE_AUTH_KEY": f'"{state.s3_access_key_id},{state.s3_secret_access_key}"',
            "RCLONE_CACHE_DIR": str(state.root / "cache" / "rclone"),
        }
    elif part.name == "mlflow":
        own = {
            "MLFLOW_S3_ENDPOINT_URL": state.url("s3"),
            "AWS_ACCESS_KEY_ID": state.s3_access_key_id,
            "AWS_SECRET_ACCESS_KEY": state.s3_secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            # Its background consumers take a core each.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_AUTH_CONFIG_PATH": str(state.root / "mlflow" / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": state.mlflow_user,
            "MLFLOW_AUTH_ADMIN_PASSWORD": state.mlflow_password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": state.mlflow_secret,
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": MODEL_SOURCES,
        }
    return {**environment(state), **own}


def write_files(state: StackState, dags_folder: Path) -> None:
    """Writes folders and configuration that the parts read."""
    for folder in ("airflow", "cache", "logs", "mlflow", *(f"s3/{name}" for name in BUCKETS)):
        (state.root / folder).mkdir(parents=True, exist_ok=True)
    write_private(state.root / "vidpipe.toml", _vidpipe_toml(state))
    write_private(
        state.root / "airflow" / "passwords.json",
        json.dumps({state.airflow_user: state.airflow_password}) + "\n",
    )
    login = {
        "mlflow": {
            "default_permission": "READ",
            "database_uri": f"sqlite:///{state.root / 'mlflow' / 'basic_auth.db'}",
            "authorization_function": "vidpipe.mlflow_login:authenticate",
            # Passwords are hashed slowly: once a minute, and not at every request.
            "auth_cache_ttl_seconds": "60",
        }
    }
    _write_ini(state.root / "mlflow" / "basic_auth.ini", login)
    _write_ini(state.root / "airflow" / "airflow.cfg", _airflow_settings(state, dags_folder))


def _write_ini(path: Path, sections: dict[str, dict[str, str]]) -> None:
    config = configparser.RawConfigParser()
    # Those who read it take % for a reference.
    config.read_dict(
        {
            section: {name: value.replace("%", "%%") for name, value in values.items()}
            for section, values in sections.items()
        }
    )
    text = io.StringIO()
    config.write(text)
    write_private(path, text.getvalue())


def _airflow_settings(state: StackState, dags_folder: Path) -> dict[str, dict[str, str]]:
    home = state.root / "airflow"
    url = state.url("airflow")
    settings = {
        "core": {
            "dags_folder": dags_folder,
            "plugins_folder": CHECKOUT / "plugins",
            "executor": "LocalExecutor",
            "parallelism": max(2, os.cpu_count() or 2),
            "load_examples": False,
            "fernet_key": state.airflow_fernet_key,
            "default_task_retry_delay": 10,
            "execution_api_server_url": f"{url}/execution/",
            "simple_auth_manager_users": f"{state.airflow_user}:admin",
            "simple_auth_manager_passwords_file": home / "passwords.json",
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}"},
        "api": {
            "host": HOST,
            "port": state.ports["airflow"],
            "base_url": url,
            "workers": 1,
            "secret_key": state.airflow_secret,
        },
        "api_auth": {"jwt_secret": state.airflow_secret},
        "logging": {"base_log_folder": home / "logs"},
        # A run is a dozen short tasks here, and people watch.
        "scheduler": {"scheduler_idle_sleep_time": 0.5},
        # Reading the DAG files again every half minute took an eighth of a core; one that was
        # changed is read at once all the same.
        "dag_processor": {"min_file_process_interval": 300},
        # After a restart tasks may begin before the API server answers: they wait, and no try of
        # theirs is lost.
        # A supervisor that looks before its task has quite ended looks again after the interval,
        # and its worker begins nothing until then: that cost most tasks 5 s.
        "workers": {
            "execution_api_retries": 10,
            "execution_api_timeout": 30.0,
            "min_heartbeat_interval": 2,
        },
        "usage_data_collection": {"enabled": False},
    }
    return {
        section: {name: str(value) for name, value in values.items()}
        for section, values in settings.items()
    }


def _vidpipe_toml(state: StackState) -> str:
    """`vidpipe.toml` of the current folder, where there is one, made to use this stack."""
    own = Path(CONFIG_NAME)
    values = read_config(own) if own.exists() else {}
    values["lake"] = {
        "uri": "s3://vidpipe-lake",
        "catalog_uri": f"sqlite:///{state.root / 'catalog.db'}?timeout=60",
    }
    values["s3"] = {
        "endpoint_url": state.url("s3"),
        "access_key_id": state.s3_access_key_id,
        "secret_access_key": state.s3_secret_access_key,
    }
    values["mlflow"] = {
        "tracking_uri": state.url("mlflow"),
        "username": state.mlflow_user,
        "password": state.mlflow_password,
    }
    values["sources"] = {"uris": ["s3://videos"]}
    # As many tasks as there are cores run side by side.
    values["extract"] = {"workers": 1, **values.get("extract", {})}
    lines = [
        "# Written by `vidpipe up`: vidpipe.toml of the folder above, with [lake], [s3], [mlflow]",
        "# and [sources] of the embedded stack. Change that file, not this one.",
    ]
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines += [f"{name} = {_toml(value)}" for name, value in values.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """Strings, numbers, booleans and lists of them are written the same in TOML and JSON."""
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")
