"""The cluster that KUBECONFIG names: namespaces in it, and images that it can pull."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from vidpipe.lake.tables import Lake

ROOT = Path(__file__).parents[2]
REGISTRY = os.environ.get("VIDPIPE_TEST_REGISTRY", "localhost:5000")

# Of a pod that passes Pod Security `restricted`, and fits no node.
_SPEC = {
    "restartPolicy": "Never",
    "nodeSelector": {"vidpipe.io/no-such": "node"},
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "stage",
            "image": "none",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}


@dataclass
class TestCluster:
    """The cluster that KUBECONFIG names, and a namespace of the test's own in it.

    Attributes:
        address: That of this machine, as pods see it.
        namespace: Pods in it must pass Pod Security `restricted`.
    """

    __test__ = False

    core: Any
    address: str
    namespace: str = ""

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the namespace, as JSON."""
        listed = self.core.list_namespaced_pod(self.namespace)
        return self.core.api_client.sanitize_for_serialization(listed)["items"]

    def wait_for_pod(self, is_so: Callable[[dict[str, Any]], Any], within_s: float = 60) -> dict:
        """The first pod of which something holds."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for pod in self.pods():
                if is_so(pod):
                    return pod
            time.sleep(0.3)
        raise AssertionError(f"No such pod within {within_s} s; there are: {self.pods()}")

    def wait_for_account(self, within_s: float = 60) -> None:
        """Waits until a new namespace has the account that it is given: no pod starts before."""
        from kubernetes.client import ApiException

        deadline = time.monotonic() + within_s
        while True:
            try:
                self.core.read_namespaced_service_account("default", self.namespace)
                return
            except ApiException as error:
                if error.status != 404 or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def wait_until_empty(self, within_s: float = 60) -> None:
        """Waits until no pod is left; those that are told to go may take a moment."""
        deadline = time.monotonic() + within_s
        while pods := self.pods():
            stay = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
            assert not stay, stay
            assert time.monotonic() < deadline, pods
            time.sleep(0.3)

    def remove_all(self, within_s: float = 120) -> None:
        """Removes what tests started, and waits until it is gone."""
        at_once = {"grace_period_seconds": 0}
        self.batch.delete_collection_namespaced_job(self.namespace, propagation_policy="Background")
        deadline = time.monotonic() + within_s
        while self.pods():
            assert time.monotonic() < deadline, self.pods()
            self.core.delete_collection_namespaced_pod(self.namespace, **at_once)
            time.sleep(0.3)

    def create_waiting_pod(
        self, name: str, labels: dict[str, str], annotations: dict[str, str]
    ) -> None:
        """A pod that waits for a node that is nowhere."""
        body = {"metadata": _metadata(name, labels, annotations), "spec": _SPEC}
        self.core.create_namespaced_pod(self.namespace, body)

    def create_job(self, name: str, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """A Job that makes no pods."""
        spec = {
            **{"suspend": True, "completionMode": "Indexed", "completions": 2, "parallelism": 2},
            "template": {"spec": _SPEC},
        }
        body = {"metadata": _metadata(name, labels, annotations), "spec": spec}
        self.batch.create_namespaced_job(self.namespace, body)

    def create_token(self, account: str, bound_to: Any = None) -> str:
        """A token of a service account, which ends with a Secret that it may be bound to."""
        spec: dict[str, Any] = {"expirationSeconds": 600}
        if bound_to:
            meta = bound_to.metadata
            spec["boundObjectRef"] = {
                **{"apiVersion": "v1", "kind": "Secret"},
                **{"name": meta.name, "uid": meta.uid},
            }
        create = self.core.create_namespaced_service_account_token
        return create(account, self.namespace, {"spec": spec}).status.token

    def create_login(self, name: str) -> str:
        """A token that may do in the namespace what Airflow does there."""
        from kubernetes.client import RbacAuthorizationV1Api

        api, subject = "rbac.authorization.k8s.io", {"kind": "ServiceAccount", "name": name}
        meta = {"metadata": {"name": name}}
        self.core.create_namespaced_service_account(self.namespace, meta)
        role = {
            **meta,
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "edit"},
            "subjects": [{**subject, "namespace": self.namespace}],
        }
        rbac = RbacAuthorizationV1Api(self.core.api_client)
        rbac.create_namespaced_role_binding(self.namespace, role)
        return self.create_token(name, self.core.create_namespaced_secret(self.namespace, meta))

    def end_login(self, name: str, token: str) -> int:
        """Ends a login; returns how the API server answers it once it no longer counts."""
        self.core.delete_namespaced_secret(name, self.namespace)
        server = self.core.api_client.configuration
        asked = f"{server.host}/api/v1/namespaces/{self.namespace}/pods"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            login = {"Authorization": f"Bearer {token}"}
            answer = requests.get(asked, headers=login, verify=server.ssl_ca_cert, timeout=10)
            if answer.status_code != 200:
                break
            time.sleep(0.5)
        return answer.status_code

    def names(self) -> set[tuple[str, str]]:
        """Kind and name of what is there and stays."""
        return {
            (kind, item.metadata.name)
            for kind, listed in (
                ("pods", self.core.list_namespaced_pod(self.namespace)),
                ("Jobs", self.batch.list_namespaced_job(self.namespace)),
            )
            for item in listed.items
            if not item.metadata.deletion_timestamp
        }

    @property
    def batch(self) -> Any:
        """What handles Jobs."""
        from kubernetes.client import BatchV1Api

        return BatchV1Api(self.core.api_client)


def _metadata(
    name: str, labels: dict[str, str], annotations: dict[str, str]
) -> dict[str, str | dict[str, str]]:
    return {"name": name, "labels": labels, "annotations": annotations}


def connect() -> TestCluster:
    """The cluster, before a test has a namespace in it."""
    from kubernetes import client, config

    config.load_kube_config()
    core = client.CoreV1Api()
    core.list_node(_request_timeout=10)
    server = urlsplit(core.api_client.configuration.host)
    with socket.create_connection((server.hostname, server.port or 443)) as connection:
        return TestCluster(core, connection.getsockname()[0])


def build_image(name: str, *arguments: str | Path) -> str:
    """Builds an image and pushes it to the registry that the cluster pulls from."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True).returncode
    ):
        pytest.skip("no docker builds images here")
    base = os.environ.get("VIDPIPE_TEST_BASE_IMAGE")
    image = f"{REGISTRY}/{name}"
    for command in (
        [
            *("build", "--quiet", "--network", "host", "--tag", image),
            *(["--build-arg", f"BASE_IMAGE={base}"] if base else []),
            *arguments,
        ],
        ["push", "--quiet", image],
    ):
        ended = subprocess.run(["docker", *command], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-2000:]
    return image


def build_worker_image() -> str:
    """Builds the image of docker/ that stages run in; minutes, the first time."""
    sources = [*(ROOT / "vidpipe").rglob("*.py"), ROOT / "docker/Dockerfile"]
    sources += [ROOT / name for name in ("setup.cfg", "constraints.txt")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    arguments = ("--target", "worker", "--file", ROOT / "docker/Dockerfile", ROOT)
    return build_image(f"vidpipe-worker:test-{digest[:12]}", *arguments)


@contextlib.contextmanager
def new_namespace(cluster: TestCluster) -> Iterator[TestCluster]:
    """A new namespace, removed with all that is in it."""
    name = f"vidpipe-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.create_namespace({"metadata": {"name": name, "labels": labels}})
    made = dataclasses.replace(cluster, namespace=name)
    try:
        made.wait_for_account()
        yield made
    finally:
        with contextlib.suppress(Exception):
            cluster.core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
        cluster.core.delete_namespace(name)


def configure_pods(cluster: TestCluster, lake: Lake, image: str, **told: str) -> dict[str, str]:
    """Puts into a namespace what its pods are told; returns the environment of who starts them."""
    settings = lake.settings
    told |= {
        "VIDPIPE_LAKE_URI": settings.lake.uri,
        "VIDPIPE_S3_ENDPOINT_URL": settings.s3.endpoint_url,
        "VIDPIPE_MLFLOW_TRACKING_URI": settings.mlflow.tracking_uri,
        "VIDPIPE_SOURCES_URIS": ",".join(settings.sources.uris),
        # As the embedded stack does it: the S3 server of tests knows no newer checksums.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    secret = {
        "VIDPIPE_LAKE_CATALOG_URI": settings.lake.catalog_uri,
        "VIDPIPE_S3_ACCESS_KEY_ID": settings.s3.access_key_id,
        "VIDPIPE_S3_SECRET_ACCESS_KEY": settings.s3.secret_access_key,
    }
    name = {"metadata": {"name": "vidpipe"}}
    cluster.core.create_namespaced_config_map(cluster.namespace, {**name, "data": told})
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in secret.items()}
    cluster.core.create_namespaced_secret(cluster.namespace, {**name, "data": coded})
    return {
        **told,
        **secret,
        "VIDPIPE_RUNTIME": "kubernetes",
        "VIDPIPE_DEPLOYMENT": "tests",
        "VIDPIPE_KUBERNETES_NAMESPACE": cluster.namespace,
        "VIDPIPE_KUBERNETES_WORKER_IMAGE": image,
        "VIDPIPE_KUBERNETES_RESOURCES_FILE": str(Path(__file__).with_name("resources.toml")),
        "PYTHONPATH": str(ROOT),
    }
