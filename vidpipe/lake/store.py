"""Objects in S3, through boto3. Every error becomes one of vidpipe's own, with one clear line."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import boto3
import boto3.exceptions
import botocore.config
import botocore.exceptions

from vidpipe.config import S3Settings, Settings, load_settings
from vidpipe.errors import DeniedError, NotFoundError, TemporaryError, UsageError, VidpipeError

CHUNK_BYTES = 1 << 20
MAX_LINK_HOURS = 7 * 24  # of signature version 4
_DENIED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}


class StoredObject(NamedTuple):
    """What a listing tells of an object; `version` is its ETag without quotes."""

    uri: str
    version: str
    size_bytes: int
    modified_at: datetime


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


def os_error(told: str) -> VidpipeError:
    """What the words of an `OSError` mean: a full disk, or pyarrow's store is away or denies."""
    told = " ".join(told.split())[:500]
    if "AWS Error ACCESS_DENIED" in told:  # all that an answer without a body can tell
        return DeniedError(
            "The object store refuses these credentials: look at [s3], or at the AWS profile."
            f" {told}"
        )
    return TemporaryError(told)


class ObjectStore:
    """The S3 operations that vidpipe needs, by URI.

    Args:
        settings: Endpoint and credentials; what is empty is left to boto3's own chain.
    """

    def __init__(self, settings: S3Settings):
        self._settings = settings
        self._client = self._open(settings.endpoint_url)
        self._client.meta.events.register("before-parse.s3.ListObjectsV2", _read_objects)

    def _open(self, endpoint_url: str) -> Any:
        settings = self._settings
        return boto3.session.Session().client(
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

    def get(self, uri: str) -> bytes:
        """Returns the bytes of a (small) object."""
        bucket, key = split_uri(uri)
        with _translated(uri):
            return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def get_json(self, uri: str) -> Any:
        """Returns the JSON document kept at `uri`."""
        return json.loads(self.get(uri))

    def put(self, uri: str, body: bytes) -> None:
        """Writes an object whole."""
        bucket, key = split_uri(uri)
        with _translated(uri):
            self._client.put_object(Bucket=bucket, Key=key, Body=body)

    def put_json(self, uri: str, document: Any) -> None:
        """Writes a JSON document."""
        self.put(uri, json.dumps(document, ensure_ascii=False, sort_keys=True).encode())

    def upload(self, path: str, uri: str) -> None:
        """Copies a local file to `uri`, in parts where it is large."""
        bucket, key = split_uri(uri)
        with _translated(uri):
            self._client.upload_file(str(path), bucket, key)

    def stream(self, uri: str, *, version: str | None = None) -> Iterator[bytes]:
        """Yields the bytes of an object, a chunk at a time.

        Args:
            uri: The object.
            version: The ETag it must still have.

        Raises:
            NotFoundError: It is gone, or was replaced.
        """
        bucket, key = split_uri(uri)
        condition = {"IfMatch": f'"{version}"'} if version else {}
        with _translated(uri):
            answer = self._client.get_object(Bucket=bucket, Key=key, **condition)
            with contextlib.closing(answer["Body"]) as body:
                # Some servers ignore IfMatch.
                if version and answer["ETag"].strip('"') != version:
                    raise NotFoundError(f"{uri} was replaced since it was listed.")
                yield from body.iter_chunks(CHUNK_BYTES)

    def head(self, uri: str) -> StoredObject:
        """Returns what is known of one object."""
        bucket, key = split_uri(uri)
        with _translated(uri):
            answer = self._client.head_object(Bucket=bucket, Key=key)
        return StoredObject(
            uri, answer["ETag"].strip('"'), answer["ContentLength"], answer["LastModified"]
        )

    def list(self, prefix_uri: str) -> Iterator[StoredObject]:
        """Yields every object below a prefix, page by page, in the order of the keys."""
        bucket, prefix = split_uri(prefix_uri)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        with _translated(prefix_uri):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield StoredObject(
                        f"s3://{bucket}/{found['Key']}",
                        found["ETag"].strip('"'),
                        found["Size"],
                        found["LastModified"],
                    )

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
        with _translated(uri):
            return self._public_client.generate_presigned_url(
                "get_object",
                Params={"Bucket": bucket, "Key": key},
                ExpiresIn=int(valid.total_seconds()),
            )

    def delete(self, uri: str) -> None:
        """Removes an object; one that is gone already is no error."""
        bucket, key = split_uri(uri)
        with _translated(uri):
            self._client.delete_object(Bucket=bucket, Key=key)


def _read_objects(response_dict: dict, customized_response_dict: dict, **_: Any) -> None:
    """Reads the objects of a page of a listing, which takes botocore several times as long; the
    rest is left to it."""
    try:
        root = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:
        return  # botocore tells of it
    namespace, is_listing, _ = root.tag.partition("ListBucketResult")
    if not is_listing:
        return  # an error, of which it tells, too
    found = root.findall(f"{namespace}Contents")
    customized_response_dict["Contents"] = [
        {
            "Key": entry.findtext(f"{namespace}Key"),
            "ETag": entry.findtext(f"{namespace}ETag"),
            "Size": int(entry.findtext(f"{namespace}Size")),
            "LastModified": datetime.fromisoformat(entry.findtext(f"{namespace}LastModified")),
        }
        for entry in found
    ]
    for entry in found:
        root.remove(entry)
    response_dict["body"] = ElementTree.tostring(root)


@contextlib.contextmanager
def _translated(uri: str) -> Iterator[None]:
    shown = quote(uri, safe="/:@!$&'()*+,;=~ ")[:300]
    try:
        yield
    except VidpipeError:
        raise
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            raise UsageError(
                f"Bucket {split_uri(uri)[0]!r} does not exist. Check [sources] uris and [lake] uri."
            ) from error
        if code in _MISSING or status == 412:
            raise NotFoundError(f"{shown} does not exist, or was replaced.") from error
        if code in _DENIED or status == 403:
            raise DeniedError(
                f"{shown} may not be read with these credentials ({code})."
            ) from error
        if status == 400:
            raise UsageError(f"{shown}: the object store refuses it ({code}).") from error
        raise TemporaryError(f"{shown}: the object store answered {code or status}.") from error
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
    ) as error:
        raise DeniedError(f"{shown}: no credentials found; set [s3] or an AWS profile.") from error
    except botocore.exceptions.ParamValidationError as error:
        raise UsageError(f"{shown}: {error}") from error
    except (
        botocore.exceptions.BotoCoreError,
        boto3.exceptions.Boto3Error,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise TemporaryError(f"{shown}: the object store does not answer ({error}).") from error


def open_store(settings: Settings | None = None) -> ObjectStore:
    """Opens the configured object store."""
    return ObjectStore((settings or load_settings()).s3)
