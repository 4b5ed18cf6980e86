"""Attacks on a cluster: what a pod that was got hold of reaches, and what it is given."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
MANIFESTS = CHECKOUT / "docker" / "kubernetes"
# Of the machine itself: whoever asks is given its rights.
METADATA = ipaddress.ip_network("169.254.169.254/32")
PRIVATE = [
    ipaddress.ip_network(network)
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
DNS = {"169.254.20.10/32"}  # NodeLocal DNSCache


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the manifests; tests change copies of overlays in it."""
    copy = tmp_path_factory.mktemp("manifests") / "kubernetes"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("secrets"))
    return copy


@pytest.fixture
def production(folder) -> list[dict[str, Any]]:
    return _rendered(folder / "overlays" / "production")


def _rendered(path: Path) -> list[dict[str, Any]]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    made = subprocess.run(["kubectl", "kustomize", path], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return [item for item in yaml.safe_load_all(made.stdout) if item]


def _of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] in kinds]


def _rules(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule of the way out, with the name of its policy."""
    for policy in _of_kind(objects, "NetworkPolicy"):
        name = f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"
        for rule in policy["spec"].get("egress") or []:
            yield name, rule


def _blocks(objects: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every address block that pods may reach, with the name of its policy."""
    for name, rule in _rules(objects):
        for peer in rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}]):
            if "ipBlock" in peer:
                yield name, peer["ipBlock"]["cidr"]


def _pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]
        for item in _of_kind(objects, "Deployment", "Job")
    }


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def test_pods_of_production_reach_no_address_that_nobody_named(production):
    """Tries: send the videos, from a pod that was got hold of, to a server on the internet, or look
    around among the databases of the private network.

    Stopped by: production opens no address but those that the operator writes down; what is shipped
    holds placeholders alone, and no rule without an address.
    """
    blocks = list(_blocks(production))
    assert {cidr for name, cidr in blocks if not name.endswith("/dns")} == {"REPLACE_ME"}
    assert {cidr for name, cidr in blocks if name.endswith("/dns")} == DNS
    for name, rule in _rules(production):
        assert rule.get("to"), f"{name} opens ports of every address"
        if not name.endswith("/training"):  # among the pods of one training
            assert rule.get("ports"), f"{name} opens every port"


def test_an_address_that_was_forgotten_stays_closed(folder, production):
    """Tries: rely on an operator who leaves a placeholder where the address of a store belongs.

    Stopped by: a placeholder is no address, so Kubernetes refuses the policy; and without it the
    policies that deny everything hold in both namespaces.
    """
    for _, cidr in _blocks(production):
        if cidr not in DNS:
            with pytest.raises(ValueError):
                ipaddress.ip_network(cidr)
    denied = {
        policy["metadata"]["namespace"]
        for policy in _of_kind(production, "NetworkPolicy")
        if policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert denied == {"vidpipe", "vidpipe-work"}
    assert {cidr for _, cidr in _blocks(_rendered(folder / "base"))} == DNS


def test_work_pods_reach_what_was_named_once(folder):
    """Tries: find an address that is open to work pods because it is written in two places, of
    which one was forgotten when the other was narrowed.

    Stopped by: the addresses of the stores are written once, and copied to the work pods.
    """
    copy = folder / "overlays" / "named"
    shutil.copytree(folder / "overlays" / "production", copy)
    text = (copy / "network.yaml").read_text()
    addresses = iter(["10.1.2.3/32", "10.1.2.4/32", "10.1.2.5/32"])
    named = re.sub(r"cidr: REPLACE_ME", lambda match: f"cidr: {next(addresses)}", text)
    (copy / "network.yaml").write_text(named)
    cidrs: dict[str, set[str]] = {}
    for name, cidr in _blocks(_rendered(copy)):
        cidrs.setdefault(name, set()).add(cidr)
    assert cidrs["vidpipe-work/to-stores"] == {"10.1.2.3/32", "10.1.2.4/32"}
    assert cidrs["vidpipe/to-stores"] == cidrs["vidpipe-work/to-stores"]
    assert cidrs["vidpipe/kubernetes-api"] == {"10.1.2.5/32"}


def test_the_internet_is_open_only_to_those_who_asked_for_it(folder):
    """Tries: ask the metadata service of the machine for its rights, or reach the private network,
    where the operator opened the internet to reach a public S3.

    Stopped by: the component open-egress, which no overlay takes by itself, leaves private
    addresses out, and opens port 443 alone.
    """
    for overlay in ("try", "production"):
        kustomization = MANIFESTS / "overlays" / overlay / "kustomization.yaml"
        assert not yaml.safe_load(kustomization.read_text()).get("components")
    copy = folder / "overlays" / "opened"
    shutil.copytree(folder / "overlays" / "production", copy)
    path = copy / "kustomization.yaml"
    path.write_text(path.read_text().replace("# components: [", "components: ["))
    opened = [
        policy["spec"]["egress"]
        for policy in _of_kind(_rendered(copy), "NetworkPolicy")
        if policy["metadata"]["name"] == "open-egress"
    ]
    assert len(opened) == 2
    for (rule,) in opened:
        (peer,) = rule["to"]
        closed = [ipaddress.ip_network(network) for network in peer["ipBlock"]["except"]]
        for network in (*PRIVATE, METADATA):
            assert any(network.subnet_of(other) for other in closed), network
        assert rule["ports"] == [{"protocol": "TCP", "port": 443}]


def test_the_way_in_is_from_the_ingress_controller_alone(production):
    """Tries: reach Airflow, MLflow or a work pod from another pod of the cluster, past the ingress.

    Stopped by: each way in names a namespace or pods; to work pods there is none but among the
    pods of one training.
    """
    for policy in _of_kind(production, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress") or []:
            name = policy["metadata"]["name"]
            assert rule.get("from"), name
            for peer in rule["from"]:
                chosen = [*peer.get("namespaceSelector", {}).values()]
                chosen += [*peer.get("podSelector", {}).values()]
                assert chosen and all(chosen), f"{name} lets everybody in"
            if policy["metadata"]["namespace"] == "vidpipe-work":
                assert name == "training"


def test_logins_do_not_travel_in_the_clear(production):
    """Tries: listen to the logins of people between browser and cluster.

    Stopped by: each ingress has a certificate for each of its hosts; cookies are for TLS alone.
    """
    ingresses = _of_kind(production, "Ingress")
    assert {item["metadata"]["name"] for item in ingresses} == {"airflow", "mlflow"}
    for item in ingresses:
        hosts = {rule["host"] for rule in item["spec"]["rules"]}
        secured = {host for tls in item["spec"]["tls"] for host in tls["hosts"]}
        assert hosts <= secured and all(tls["secretName"] for tls in item["spec"]["tls"])
    settings: dict[str, str] = {}
    for item in _of_kind(production, "ConfigMap"):
        settings |= item["data"]
    assert settings["AIRFLOW__FAB__COOKIE_SECURE"] == "True"
    assert settings["AIRFLOW__API__BASE_URL"].startswith("https://")
    assert settings["VIDPIPE_MLFLOW_PUBLIC_URI"].startswith("https://")


def test_an_image_cannot_be_replaced_under_its_name(production):
    """Tries: push another image under the tag that the cluster pulls.

    Stopped by: production names its images by their digests, those of work pods, too.
    """
    images = {
        container["image"] for pod in _pods(production).values() for container in _containers(pod)
    }
    for item in _of_kind(production, "ConfigMap"):
        images |= {value for name, value in item["data"].items() if name.endswith("_IMAGE")}
    assert len(images) == 3
    for image in images:
        assert re.fullmatch(r"[^:@]+@sha256:\S+", image), image


SECRETS = {
    **dict.fromkeys(
        ("airflow-api", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"),
        {"airflow", "vidpipe"},
    ),
    "setup": {"airflow", "setup", "vidpipe"},
    "mlflow": {"mlflow"},
}


def test_each_part_is_given_its_own_secrets(production):
    """Tries: read the passwords of other parts from the environment of one that was got hold of,
    or ask the Kubernetes API for them.

    Stopped by: each part gets the Secrets that it needs; tokens of the API have only the scheduler
    and the triggerer, whose rights name no Secret.
    """
    given = {
        name: {
            source["secretRef"]["name"]
            for container in _containers(pod)
            for source in container.get("envFrom", [])
            if "secretRef" in source
        }
        for name, pod in _pods(production).items()
    }
    assert given == SECRETS
    assert not [pod for pod in _pods(production).values() if "secret" in str(pod.get("volumes"))]
    tokens = {n for n, pod in _pods(production).items() if pod.get("automountServiceAccountToken")}
    assert tokens == {"airflow-scheduler", "airflow-triggerer"}
    for account in _of_kind(production, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for role in _of_kind(production, "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert not {"*", "secrets", "configmaps", "pods/exec"} & set(rule["resources"])
            assert "*" not in rule["verbs"]


def test_a_pod_cannot_reach_beyond_its_container(production):
    """Tries: break out of a container: as root, with capabilities, by a writable root, a folder or
    the network of the node.

    Stopped by: both namespaces refuse such pods, and none of the manifests asks for it.
    """
    for namespace in _of_kind(production, "Namespace"):
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in _pods(production).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
        for container in _containers(pod):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}, name
