"""The manifests of docker/kubernetes, as kubectl renders them and as a cluster takes them.

What is rendered needs kubectl, and no cluster. In a cluster nothing but namespaces and access rules
is really applied, and what was not there before is removed.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parent.parent.parent
MANIFESTS = CHECKOUT / "docker" / "kubernetes"
OVERLAYS = ("try", "production")
WORKLOADS = ("Deployment", "Job")
ACCESS = (
    *("Namespace", "ServiceAccount", "Role", "RoleBinding"),
    *("ClusterRole", "ClusterRoleBinding"),
)


def on_cluster(test):
    """Marks a test that asks a cluster which has the access rules."""
    return pytest.mark.kubernetes(pytest.mark.usefixtures("access")(test))


def kubectl(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the manifests as somebody has them who made the secrets."""
    copy = tmp_path_factory.mktemp("manifests") / "kubernetes"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([copy / "make-secrets", copy / "overlays" / "try"], check=True)
    return copy


@pytest.fixture(scope="module")
def filled_in(folder: Path) -> Path:
    """overlays/production with a value for every placeholder."""
    copy = folder / "overlays" / "acme"
    shutil.copytree(folder / "overlays" / "production", copy)
    for path in copy.iterdir():
        text = path.read_text().replace("cidr: REPLACE_ME", "cidr: 192.0.2.7/32")
        text = text.replace("sha256:REPLACE_ME", f"sha256:{'5e' * 32}")
        path.write_text(text.replace("REPLACE_ME", "acme.example"))
    return copy


@functools.cache
def rendered(path: Path) -> str:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    made = kubectl("kustomize", path)
    assert made.returncode == 0, made.stderr
    return made.stdout


def objects(path: Path, *kinds: str) -> list[dict]:
    found = [item for item in yaml.safe_load_all(rendered(path)) if item]
    return [item for item in found if not kinds or item["kind"] in kinds]


def pods(path: Path) -> list[tuple[str, dict]]:
    """Name and pod specification of every workload."""
    return [
        (item["metadata"]["name"], item["spec"]["template"]["spec"])
        for item in objects(path, *WORKLOADS)
    ]


def settings_with(path: Path, name: str) -> dict[str, str]:
    """The ConfigMap that has a setting."""
    return next(o["data"] for o in objects(path, "ConfigMap") if name in o["data"])


def containers(pod: dict) -> list[dict]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.fixture(scope="module")
def access(folder: Path) -> Iterator[None]:
    """Namespaces, accounts and roles of the base are in the cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    text = yaml.safe_dump_all(objects(folder / "base", *ACCESS))
    answer = kubectl("version", "--request-timeout=5s")
    if answer.returncode:
        pytest.skip(f"the cluster does not answer: {answer.stderr.strip()}")
    listed = ("--filename=-", "--output=name")
    before = set(kubectl("get", "--ignore-not-found", *listed, stdin=text).stdout.split())
    applied = kubectl("apply", *listed, stdin=text)
    try:
        assert applied.returncode == 0, applied.stderr
        yield
    finally:
        # What a namespace holds goes with it.
        new = sorted(set(applied.stdout.split()) - before, key=lambda n: not n.startswith("name"))
        for name in new:
            kind = name.split("/")[0].split(".")[0]
            if kind in ("namespace", "clusterrole", "clusterrolebinding"):
                kubectl("delete", name, "--wait=true")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_rendered(folder, overlay):
    kinds = {item["kind"] for item in objects(folder / "overlays" / overlay)}
    assert {"Namespace", "Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget"} <= kinds


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_of_work_pods_are_those_of_the_platform(folder, overlay):
    path = folder / "overlays" / overlay
    settings = {
        item["data"]["VIDPIPE_KUBERNETES_WORKER_IMAGE"]
        for item in objects(path, "ConfigMap")
        if item["metadata"]["name"] == "vidpipe"
    }
    platform = {
        container["image"]
        for _, pod in pods(path)
        for container in containers(pod)
        if "vidpipe-worker" in container["image"]
    }
    assert settings == platform
    assert len(settings) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_of_vidpipe_are_the_same_in_both_namespaces(folder, overlay):
    found = {
        item["metadata"]["namespace"]: item["data"]
        for item in objects(folder / "overlays" / overlay, "ConfigMap")
        if item["metadata"]["name"] == "vidpipe"
    }
    assert set(found) == {"vidpipe", "vidpipe-work"}
    assert found["vidpipe"] == found["vidpipe-work"]


@pytest.mark.parametrize("path", ["base", "overlays/production"])
def test_what_is_in_git_holds_no_secret(folder, path):
    assert not objects(folder / path, "Secret")
    for config in objects(folder / path, "ConfigMap"):
        for name, value in config["data"].items():
            assert not re.search(r"PASSWORD|SECRET_KEY|JWT_SECRET|ACCESS_KEY|FERNET|CONN$", name)
            assert not re.search(r"://[^/\s]*:[^/\s]*@", value), name
    for _, pod in pods(folder / path):
        assert not [c["name"] for c in containers(pod) if c.get("env")]


def test_generated_secrets_are_in_secrets_only(folder):
    path = folder / "overlays" / "try"
    text = yaml.safe_dump_all(o for o in objects(path) if o["kind"] != "Secret")
    values = [
        line.split("=", 1)[1]
        for file in (path / "secrets").iterdir()
        for line in file.read_text().splitlines()
        if not line.startswith("MLFLOW_TRACKING_USERNAME=")
    ]
    assert len(values) > 15
    assert not [value for value in values if value in text]
    assert {file.stat().st_mode & 0o777 for file in (path / "secrets").iterdir()} == {0o600}


def test_secrets_that_are_there_stay(folder):
    overlay = folder / "overlays" / "try"
    before = {file.name: file.read_text() for file in (overlay / "secrets").iterdir()}
    subprocess.run([folder / "make-secrets", overlay], check=True)
    assert {file.name: file.read_text() for file in (overlay / "secrets").iterdir()} == before
    tracked = subprocess.run(
        ["git", "check-ignore", "docker/kubernetes/overlays/try/secrets/vidpipe.env"], cwd=CHECKOUT
    )
    assert tracked.returncode in (0, 128)  # 128: no checkout


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_ask_for_no_privileges_and_say_what_they_need(folder, overlay):
    found = pods(folder / "overlays" / overlay)
    assert len(found) >= 6
    for name, pod in found:
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # That of the Service `mlflow`, MLFLOW_PORT, would be an option of MLflow.
        assert pod["enableServiceLinks"] is False, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, name
            assert "memory" in resources["limits"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_servers_have_probes(folder, overlay):
    served = {
        item["spec"]["selector"]["app.kubernetes.io/name"]
        for item in objects(folder / "overlays" / overlay, "Service")
    }
    for item in objects(folder / "overlays" / overlay, "Deployment"):
        name = item["metadata"]["name"]
        if name == "shell":
            continue
        for container in item["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe"} <= set(container), name
            assert name not in served or "readinessProbe" in container, name


def test_work_pods_get_their_two_objects_only(folder):
    shell = dict(pods(folder / "overlays" / "try"))["shell"]
    assert shell["containers"][0]["envFrom"] == [
        {"configMapRef": {"name": "vidpipe"}},
        {"secretRef": {"name": "vidpipe"}},
    ]
    tokens = {
        item["metadata"]["name"]: item["automountServiceAccountToken"]
        for item in objects(folder / "base", "ServiceAccount")
    }
    assert set(tokens.values()) == {False}
    assert {
        name for name, pod in pods(folder / "base") if pod.get("automountServiceAccountToken")
    } == {
        "airflow-scheduler",
        "airflow-triggerer",
    }


def test_an_apply_starts_what_was_stopped_for_an_upgrade(folder):
    """Who counts no replicas in the manifest stays at none."""
    replicas = {
        item["metadata"]["name"]: item["spec"].get("replicas")
        for item in objects(folder / "base", "Deployment")
    }
    assert "mlflow" in replicas and set(replicas.values()) == {1}


def test_files_of_airflow(folder):
    files = next(
        item["data"]
        for item in objects(folder / "base", "ConfigMap")
        if item["metadata"]["name"].startswith("airflow-files-")
    )
    pools = json.loads(files["pools.json"])
    assert {name for name, pool in pools.items() if pool["include_deferred"]} == {"pods", "gpu"}
    settings = settings_with(folder / "base", "AIRFLOW_HOME")
    assert set(json.loads(settings["AIRFLOW__FAB__CUSTOM_ROLES"])) == {"Operator", "Approver"}
    # Anybody without a login would have this role.
    assert "AIRFLOW__FAB__AUTH_ROLE_PUBLIC" not in settings


def test_first_login_is_told_to_the_setup_alone(folder):
    path = folder / "overlays" / "try"
    password = (path / "secrets" / "setup.env").read_text().strip()
    (secret,) = [o for o in objects(path, "Secret") if "AIRFLOW_ADMIN_PASSWORD" in o["data"]]
    assert list(secret["data"]) == [password.partition("=")[0]]
    assert {
        name
        for name, pod in pods(path)
        for container in containers(pod)
        for source in container.get("envFrom", ())
        if source.get("secretRef", {}).get("name") == secret["metadata"]["name"]
    } == {"setup"}
    script = (folder / "base" / "platform" / "setup.sh").read_text()
    assert "--password" not in script, "arguments are for everybody to see"


def test_scheduler_reads_the_resources_of_the_overlay(folder):
    for path in (folder / "base", folder / "overlays" / "production"):
        setting = "VIDPIPE_KUBERNETES_RESOURCES_FILE"
        file = Path(settings_with(path, setting)[setting])
        scheduler = dict(pods(path))["airflow-scheduler"]
        (mount,) = [m for m in scheduler["containers"][0]["volumeMounts"] if "readOnly" in m]
        (volume,) = [v for v in scheduler["volumes"] if v["name"] == mount["name"]]
        (files,) = [
            item["data"]
            for item in objects(path, "ConfigMap")
            if item["metadata"]["name"] == volume["configMap"]["name"]
        ]
        assert file.parent == Path(mount["mountPath"])
        assert tomllib.loads(files[file.name]) == {}, "as vidpipe has them, until somebody differs"


def test_examples_of_resources_are_such(folder):
    from vidpipe.orchestration.resources import load_resources

    path = folder / "overlays" / "production" / "resources.toml"
    shown = folder / "shown.toml"
    shown.write_text(re.sub(r"^# (?=\[|\w+ =)", "", path.read_text(), flags=re.MULTILINE))
    assert set(tomllib.loads(shown.read_text())) == {"default", "extract", "train"}
    assert load_resources(str(shown), "extract").cpu_limit == "4"
    assert load_resources(str(shown), "train").node_selector


def test_accounts_of_production_have_a_role_each(folder):
    roles = {
        item["metadata"]["name"]: item["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        for item in objects(folder / "overlays" / "production", "ServiceAccount")
    }
    assert {name: role.rpartition("/")[2] for name, role in roles.items()} == {
        name: name for name in ("vidpipe-airflow", "vidpipe-api", "vidpipe-mlflow", "vidpipe-work")
    }


def test_mlflow_answers_to_the_names_by_which_it_is_called(filled_in):
    setting = "MLFLOW_SERVER_ALLOWED_HOSTS"
    hosts = settings_with(filled_in, setting)[setting].split(",")
    for setting in ("VIDPIPE_MLFLOW_TRACKING_URI", "VIDPIPE_MLFLOW_PUBLIC_URI"):
        assert urlsplit(settings_with(filled_in, setting)[setting]).netloc in hosts


def test_forgotten_placeholders_are_named(folder):
    told = subprocess.run(
        ["sh", folder / "base" / "platform" / "setup.sh"],
        env={"PATH": os.environ["PATH"], "VIDPIPE_LAKE_URI": "s3://REPLACE_ME", "PGHOST": "x"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 2
    assert told.stderr.strip() == "These settings still say REPLACE_ME: VIDPIPE_LAKE_URI"


def test_setup_sees_every_setting_that_may_be_forgotten(folder):
    path = folder / "overlays" / "production"
    (container,) = dict(pods(path))["setup"]["containers"]
    seen = {s["configMapRef"]["name"] for s in container["envFrom"] if "configMapRef" in s}
    forgotten = {
        item["metadata"]["name"]
        for item in objects(path, "ConfigMap")
        if any("REPLACE_ME" in item["data"][name] for name in item["data"] if name.isidentifier())
    }
    assert len(forgotten) == 3
    assert forgotten <= seen


def tried(path: Path) -> subprocess.CompletedProcess[str]:
    """What the cluster says of the manifests; nothing is applied."""
    found = objects(path)
    for item in found:
        if item["kind"] == "Job":
            # One that is there cannot be changed.
            item["metadata"]["name"] += "-tried"
    return kubectl("apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all(found))


@on_cluster
def test_cluster_takes_try(folder):
    taken = tried(folder / "overlays" / "try")
    assert taken.returncode == 0, taken.stderr
    assert "would violate" not in taken.stderr


@on_cluster
def test_cluster_takes_production_once_it_is_filled_in(folder, filled_in):
    taken = tried(filled_in)
    assert taken.returncode == 0, taken.stderr
    assert "would violate" not in taken.stderr
    refused = tried(folder / "overlays" / "production")
    assert refused.returncode != 0
    assert 'host: Invalid value: "REPLACE_ME"' in refused.stderr
    assert 'ipBlock.cidr: Invalid value: "REPLACE_ME"' in refused.stderr


@on_cluster
@pytest.mark.parametrize("namespace", ["vidpipe", "vidpipe-work"])
def test_cluster_refuses_pods_with_privileges(namespace):
    refused = kubectl(
        *("--namespace", namespace, "run", "root", "--image=any", "--dry-run=server"),
    )
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr


def can_i(account: str, namespace: str, verb: str, resource: str) -> bool:
    resource, _, subresource = resource.partition("/")  # kubectl takes pods/log for a pod named log
    answer = kubectl(
        *("auth", "can-i", verb, resource, "--namespace", namespace),
        f"--subresource={subresource}",
        f"--as=system:serviceaccount:{account.replace('/', ':')}",
    )
    assert answer.stdout.strip() in ("yes", "no"), answer.stderr
    return answer.stdout.strip() == "yes"


ALLOWED = {
    "pods": ("create", "get", "list", "delete"),
    "pods/log": ("get",),
    "events": ("list",),
    "jobs.batch": ("create", "get", "list", "delete"),
    "services": ("create",),
    "nodes": ("list",),
    "secrets": (),
    "configmaps": (),
    "pods/exec": (),
    "pods/ephemeralcontainers": (),
    "serviceaccounts": (),
    "serviceaccounts/token": (),
    "deployments.apps": (),
    "rolebindings.rbac.authorization.k8s.io": (),
}


@on_cluster
@pytest.mark.parametrize("resource", ALLOWED)
def test_airflow_may_do_with_work_what_is_listed(resource):
    verbs = ("create", "get", "list", "watch", "patch", "update", "delete", "deletecollection")
    allowed = [
        verb for verb in verbs if can_i("vidpipe/vidpipe-airflow", "vidpipe-work", verb, resource)
    ]
    assert sorted(allowed) == sorted(ALLOWED[resource])


@on_cluster
@pytest.mark.parametrize("namespace", ["vidpipe", "default", "kube-system"])
def test_airflow_may_do_nothing_elsewhere(namespace):
    for verb, resource in (
        ("create", "pods"),
        ("list", "pods"),
        ("get", "secrets"),
        ("delete", "pods"),
    ):
        assert not can_i("vidpipe/vidpipe-airflow", namespace, verb, resource)


@on_cluster
@pytest.mark.parametrize(
    "account", ["vidpipe/vidpipe-api", "vidpipe/vidpipe-mlflow", "vidpipe-work/vidpipe-work"]
)
def test_other_accounts_may_do_nothing(account):
    for namespace in ("vidpipe", "vidpipe-work"):
        for verb, resource in (
            ("get", "pods"),
            ("create", "pods"),
            ("get", "secrets"),
            ("list", "nodes"),
        ):
            assert not can_i(account, namespace, verb, resource)
