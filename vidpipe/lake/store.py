"""Objects in S3, through boto3. Every error becomes one of vidpipe's own (`store_errors.py`)."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from xml.etree import ElementTree

import boto3
import botocore.config
import botocore.exceptions
from botocore.awsrequest import AWSRequest

from vidpipe.config import S3Settings, Settings, load_settings
from vidpipe.errors import BadInputError, NotFoundError, UsageError
from vidpipe.lake.store_errors import client_errors, no_s3, translated

CHUNK_BYTES = 1 << 20
# Objects that are read whole. A pinned dataset of a million videos has some 300 MB.
MOST_BYTES, DOCUMENT_BYTES = 1 << 31, 1 << 29
MAX_LINK_HOURS = 7 * 24  # of signature version 4
# Objects of these classes must be restored before they can be read.
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
# A listing does not say whether an object of these is in an archive: that depends on its use, or
# the server names no class.
_UNTOLD = {None, "", "INTELLIGENT_TIERING"}


class StoredObject(NamedTuple):
    """What the server says of an object.

    Attributes:
        uri: The object.
        version: Its ETag without quotes; where the server has none, what `_version` makes.
        size_bytes: Its size.
        modified_at: When it was written.
        archived: Whether it must be restored before it can be read; None: a listing does not say.
            A server that lists no restores lists restored objects as archived.
        storage_class: Its class; empty: the server names none.
    """

    uri: str
    version: str
    size_bytes: int
    modified_at: datetime
    archived: bool | None = None
    storage_class: str = ""


def split_uri(uri: str) -> tuple[str, str]:
    """Splits `s3://bucket/key` into bucket and key (which may be empty, and is never a path).

    Raises:
        UsageError: It is no S3 URI.
    """
    scheme, separator, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not separator or not bucket:
        raise UsageError(f"A location must look like s3://bucket/prefix. Received: {uri!r}")
    return bucket, key


class ObjectStore:
    """The S3 operations that vidpipe needs, by URI.

    Args:
        settings: Endpoint and credentials; what is empty is left to boto3's own chain.
    """

    def __init__(self, settings: S3Settings):
        self._settings = settings
        self._client = self._open(settings.endpoint_url)
        self._client.meta.events.register("before-parse.s3.ListObjectsV2", _read_objects)
        self._listed_too = {"OptionalObjectAttributes": ["RestoreStatus"]}

    def _open(self, endpoint_url: str) -> Any:
        settings = self._settings
        with client_errors():
            client = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint_url or None,
                region_name=settings.region or None,
                aws_access_key_id=settings.access_key_id or None,
                aws_secret_access_key=settings.secret_access_key or None,
                config=botocore.config.Config(
                    signature_version="s3v4",  # of links: the one before is known to few by now
                    connect_timeout=10,
                    read_timeout=60,
                    retries={"mode": "standard", "max_attempts": 5},
                    # S3 servers other than Amazon's often know no trailing checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        if settings.requester_pays:
            client.meta.events.register("before-call.s3", _agree_to_pay)
            client.meta.events.register("before-sign.s3", _agree_to_pay_by_link)
        return client

    def get(self, uri: str, most_bytes: int = MOST_BYTES) -> bytes:
        """Returns the bytes of an object that fits in memory.

        Raises:
            BadInputError: It is larger than `most_bytes`.
        """
        bucket, key = split_uri(uri)
        with translated(uri):
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with contextlib.closing(answer["Body"]) as body:
                if answer["ContentLength"] > most_bytes:
                    raise BadInputError(
                        f"{uri} is too large to be what it should be. Received:"
                        f" {answer['ContentLength'] / 1e6:.0f} MB. Allowed: {most_bytes / 1e6:.0f}"
                        " MB. Whoever can write there may have replaced it."
                    )
                return body.read()

    def get_json(self, uri: str) -> Any:
        """Returns the JSON document kept at `uri`.

        Raises:
            BadInputError: It is none, or larger than `DOCUMENT_BYTES`.
        """
        try:
            return json.loads(self.get(uri, DOCUMENT_BYTES))
        except (ValueError, RecursionError) as error:
            raise BadInputError(
                f"{uri} is no JSON document ({error}). Whoever can write there may have replaced"
                " it."
            ) from error

    def put(self, uri: str, body: bytes) -> None:
        """Writes an object whole."""
        bucket, key = split_uri(uri)
        with translated(uri):
            self._client.put_object(Bucket=bucket, Key=key, Body=body)

    def put_json(self, uri: str, document: Any) -> None:
        """Writes a JSON document."""
        self.put(uri, json.dumps(document, ensure_ascii=False, sort_keys=True).encode())

    def upload(self, path: str, uri: str) -> None:
        """Copies a local file to `uri`, in parts where it is large."""
        bucket, key = split_uri(uri)
        with translated(uri):
            self._client.upload_file(str(path), bucket, key)

    def stream(self, uri: str, *, version: str | None = None) -> Iterator[bytes]:
        """Yields the bytes of an object, a chunk at a time.

        Args:
            uri: The object.
            version: The version it must still have.

        Raises:
            NotFoundError: It is gone, or was replaced.
            ArchivedError: It must be restored first.
            DeniedError: The server refuses it.
        """
        bucket, key = split_uri(uri)
        condition = {"IfMatch": f'"{version}"'} if version else {}
        with translated(uri):
            answer = self._client.get_object(Bucket=bucket, Key=key, **condition)
            with contextlib.closing(answer["Body"]) as body:
                # Some servers ignore IfMatch.
                read = _version(answer["ETag"], answer["ContentLength"], answer["LastModified"])
                if version and read != version:
                    raise NotFoundError(f"{uri} was replaced since it was listed.")
                yield from body.iter_chunks(CHUNK_BYTES)

    def head(self, uri: str) -> StoredObject:
        """Returns what is known of one object."""
        bucket, key = split_uri(uri)
        with translated(uri):
            answer = self._client.head_object(Bucket=bucket, Key=key)
        storage_class = answer.get("StorageClass", "")
        restored = 'ongoing-request="false"' in answer.get("Restore", "")
        is_kept_away = storage_class in _ARCHIVES or "ArchiveStatus" in answer
        return StoredObject(
            uri,
            _version(answer["ETag"], answer["ContentLength"], answer["LastModified"]),
            answer["ContentLength"],
            answer["LastModified"],
            is_kept_away and not restored,
            answer.get("ArchiveStatus") or storage_class,
        )

    def list(self, prefix_uri: str) -> Iterator[StoredObject]:
        """Yields every object below a prefix, page by page, in the order of the keys."""
        bucket, _ = split_uri(prefix_uri)
        with translated(prefix_uri):
            for page in self._pages(prefix_uri):
                for found in page.get("Contents", ()):
                    yield StoredObject(
                        f"s3://{bucket}/{found['Key']}",
                        _version(found["ETag"], found["Size"], found["LastModified"]),
                        found["Size"],
                        found["LastModified"],
                        _is_archived(found["StorageClass"], found["Restored"]),
                        found["StorageClass"] or "",
                    )

    def _pages(self, prefix_uri: str) -> Iterator[dict[str, Any]]:
        bucket, prefix = split_uri(prefix_uri)
        listing = self._client.get_paginator("list_objects_v2")
        while True:
            pages = iter(listing.paginate(Bucket=bucket, Prefix=prefix, **self._listed_too))
            try:
                first = next(pages)
                break
            except botocore.exceptions.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status not in (400, 501) or not self._listed_too:
                    raise
                # Directory buckets, and servers other than Amazon's, may not know restores.
                self._listed_too = {}
        yield first
        yield from pages

    @functools.cached_property
    def _public_client(self) -> Any:
        """For links: the address is a part of what is signed."""
        public_url = self._settings.public_endpoint_url
        return self._open(public_url) if public_url else self._client

    def link(self, uri: str, valid: timedelta) -> str:
        """A link by which anybody may read an object for a while: as secret as a password.

        Nothing is asked of the store. A link that was signed with the passing credentials of a role
        ends with these.

        Args:
            uri: The object.
            valid: For how long; at most `MAX_LINK_HOURS`.
        """
        bucket, key = split_uri(uri)
        with translated(uri):
            return self._public_client.generate_presigned_url(
                "get_object",
                Params={"Bucket": bucket, "Key": key},
                ExpiresIn=int(valid.total_seconds()),
            )

    def delete(self, uri: str) -> None:
        """Removes an object; one that is gone already is no error."""
        bucket, key = split_uri(uri)
        with translated(uri):
            self._client.delete_object(Bucket=bucket, Key=key)


def _version(etag: str | None, size_bytes: int, modified_at: datetime) -> str:
    """What tells an object from the one that was there before: its ETag, else size and time.

    The S3 server of one machine has no ETags: to make one it would read all of a file, also for a
    listing. Times of single objects come in whole seconds.
    """
    return (etag or "").strip('"') or f"{size_bytes}-{int(modified_at.timestamp())}"


def _agree_to_pay(params: dict[str, Any], **_: Any) -> None:
    """Requests to Requester Pays buckets are billed to these credentials."""
    params["headers"]["x-amz-request-payer"] = "requester"


def _agree_to_pay_by_link(request: AWSRequest, signature_version: str, **_: Any) -> None:
    """As above, for links: a browser sends no such header."""
    if signature_version.endswith("-query"):
        request.params["x-amz-request-payer"] = "requester"


def _is_archived(storage_class: str | None, restored: bool) -> bool | None:
    """What a listing says of it."""
    if storage_class in _UNTOLD:
        return None
    return storage_class in _ARCHIVES and not restored


def _read_objects(response_dict: dict, customized_response_dict: dict, **_: Any) -> None:
    """Reads the objects of a page of a listing, which takes botocore several times as long; the
    rest is left to it."""
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:
        return  # botocore tells of it
    namespace, is_listing, _ = root.tag.partition("ListBucketResult")
    if not is_listing:
        if response_dict["status_code"] < 300:
            # Such as a page of a proxy: taken for an empty listing, all objects would be gone.
            raise no_s3(f"<{root.tag[:100]}>")
        return  # an error, of which it tells, too
    found = root.findall(f"{namespace}Contents")
    restoring = f"{namespace}RestoreStatus/{namespace}IsRestoreInProgress"
    customized_response_dict["Contents"] = [
        {
            "Key": entry.findtext(f"{namespace}Key"),
            "ETag": entry.findtext(f"{namespace}ETag"),
            "Size": int(entry.findtext(f"{namespace}Size")),
            "LastModified": datetime.fromisoformat(entry.findtext(f"{namespace}LastModified")),
            "StorageClass": entry.findtext(f"{namespace}StorageClass"),
            "Restored": entry.findtext(restoring, "true") == "false",
        }
        for entry in found
    ]
    for entry in found:
        root.remove(entry)
    response_dict["body"] = ElementTree.tostring(root)


def open_store(settings: Settings | None = None) -> ObjectStore:
    """Opens the configured object store."""
    return ObjectStore((settings or load_settings()).s3)
