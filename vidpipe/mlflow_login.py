"""The login of MLflow's server: `authorization_function` in its `basic_auth.ini`.

MLflow's own login lets everybody who has one choose where the files of an experiment are kept. The
server then writes them there itself, with all its rights: into the folder of the DAG files, or
anywhere in the bucket. It takes requests from every page of any server on this machine. And it has
parts that run commands, call other servers or read other files for whoever has a login, such as an
assistant and traces: here it tracks experiments and models, and does nothing else.
"""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Response, request
from mlflow.exceptions import MlflowException
from mlflow.protos.service_pb2 import CreateExperiment
from mlflow.server.auth import authenticate_request_basic_auth
from mlflow.server.handlers import _get_request_message
from werkzeug.datastructures import Authorization

_CREATE_EXPERIMENT = "/mlflow/experiments/create"
_AREAS = (
    *("artifacts", "datasets", "experiments", "logged-models", "metrics", "model-versions"),
    *("registered-models", "roles", "runs", "server-info", "ui-telemetry", "upload-artifact"),
    "users",
)
_OPEN = re.compile(
    "/|/(graphql|get-artifact|model-versions/get-artifact|signup|version)"
    rf"|/(ajax-)?api/[0-9.]+/(mlflow-artifacts|mlflow/({'|'.join(_AREAS)}))(/.*)?"
)


def authenticate() -> Authorization | Response:
    """Returns who asks, or the answer that refuses the request.

    Raises:
        MlflowException: The request chooses where the files of an experiment are kept.
    """
    if origin := _foreign_origin():
        return Response(f"Pages of {origin!r} may not ask this MLflow.", HTTPStatus.FORBIDDEN)
    if not _OPEN.fullmatch(request.path):
        return Response("This part of MLflow is not open here.", HTTPStatus.FORBIDDEN)
    authorization = authenticate_request_basic_auth()
    if isinstance(authorization, Authorization) and request.path.endswith(_CREATE_EXPERIMENT):
        # As MLflow itself reads it: a field has several spellings.
        location = _get_request_message(CreateExperiment()).artifact_location
        if location:
            raise MlflowException.invalid_parameter_value(
                "The files of an experiment stay in the store of this server. Received the"
                f" artifact location {location!r}. Create the experiment without one."
            )
    return authorization


def _foreign_origin() -> str:
    """Returns the server of the page that sent the request; empty: this one, or it is no page."""
    origin = request.headers.get("Origin", "")
    allowed = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "").split(",")
    return "" if urlsplit(origin).netloc == request.host or origin in allowed else origin
