"""Whether a pod can reach what it was told of: an address of one machine means nothing in another.

Asked before a stage does anything, so that no retry is spent on it.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from vidpipe.config import Settings
from vidpipe.errors import UsageError


def require_reachable(settings: Settings) -> None:
    """Refuses a configuration that only holds on another machine than this pod.

    Raises:
        UsageError: A server's address is that of the pod itself, or the catalog is a local file.
    """
    if "KUBERNETES_SERVICE_HOST" not in os.environ:  # this is no pod
        return
    addresses = {
        "[s3] endpoint_url": settings.s3.endpoint_url,
        "[mlflow] tracking_uri": settings.mlflow.tracking_uri,
        "[lake] catalog_uri": settings.lake.catalog_uri,
    }
    for name, address in addresses.items():
        parts = urlsplit(address)
        if _is_this_machine(parts.hostname or ""):
            raise UsageError(
                f"{name} is {parts.hostname}, which in a pod is the pod itself. Name an address"
                " that the pods of the cluster reach."
            )
    if settings.lake.catalog_uri.startswith("sqlite"):
        raise UsageError(
            "[lake] catalog_uri is a SQLite file, which each pod would have for itself. Name a"
            " PostgreSQL database."
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
