"""What errors of an S3 server mean: one of vidpipe's own, with the server's code and words, and
what to do.

Two kinds of refusal are kept apart. A `DeniedError` is about one object: the others may well be
read. Any other `UsageError` is about all of them: the clock, the credentials, the bucket.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import boto3.exceptions
import botocore.exceptions
import botocore.parsers

from vidpipe.errors import (
    ArchivedError,
    DeniedError,
    NotFoundError,
    TemporaryError,
    UsageError,
    VidpipeError,
)
from vidpipe.text import printable

WORDS_CHARS = 500  # of what a server says
_TEMPORARY_STATUS = {408, 409, 425, 429}


class _Meaning(NamedTuple):
    error: type[VidpipeError]
    remedy: str = ""


_CLOCK = _Meaning(
    UsageError, "Set the clock of this machine (NTP): S3 accepts a difference of 15 minutes."
)
_CREDENTIALS = _Meaning(
    UsageError,
    "Check [s3] access_key_id and secret_access_key, or the AWS profile or role; behind a proxy,"
    " that it forwards the host name and the path unchanged.",
)
_EXPIRED = _Meaning(
    UsageError,
    "The temporary credentials have expired: renew them (such as `aws sso login`), or use a role,"
    " whose credentials are renewed by themselves.",
)
_ACCOUNT = _Meaning(UsageError, "Ask the administrator of the account that owns the bucket.")
_REGION = _Meaning(UsageError, "Set [s3] region (or AWS_REGION) to the region of the bucket.")
_FULL = _Meaning(UsageError, "The object store is full: free space there, or raise the quota.")
_GONE = _Meaning(NotFoundError)
_BUSY = _Meaning(
    TemporaryError,
    "The object store limits the rate of requests: fewer tasks at a time (the pool, [extract]"
    " workers) ask for less.",
)
_AWAY = _Meaning(TemporaryError)
_KEY = (
    "The object is encrypted with a KMS key: allow kms:Decrypt (to write, kms:GenerateDataKey, too)"
    " in the policy of the key and in that of these credentials, and keep the key enabled."
)
_ARCHIVED = _Meaning(
    ArchivedError,
    "Restore it, or change its storage class. Later runs look whether that is done.",
)

# By code, in lower case: servers differ in that, too.
_MEANINGS = {
    code.lower(): meaning
    for meaning, codes in (
        (_ARCHIVED, "InvalidObjectState"),
        (_GONE, "NoSuchKey NotFound 404 NoSuchVersion PreconditionFailed 412"),
        (_CLOCK, "RequestTimeTooSkewed RequestExpired RequestInTheFuture"),
        (_EXPIRED, "ExpiredToken ExpiredTokenException TokenRefreshRequired InvalidToken"),
        (
            _CREDENTIALS,
            "InvalidAccessKeyId SignatureDoesNotMatch InvalidSecurity CredentialsNotSupported"
            " XAmzContentSHA256Mismatch MissingSecurityHeader InvalidClientTokenId"
            " UnrecognizedClientException",
        ),
        (_ACCOUNT, "AccountProblem AllAccessDisabled NotSignedUp UnauthorizedAccess"),
        (
            _REGION,
            "301 307 PermanentRedirect TemporaryRedirect Redirect AuthorizationHeaderMalformed"
            " IllegalLocationConstraintException BucketRegionError",
        ),
        (_FULL, "QuotaExceeded XMinioStorageFull 507"),
        (
            _BUSY,
            "SlowDown SlowDownRead SlowDownWrite Throttling ThrottlingException ThrottledException"
            " RequestLimitExceeded TooManyRequests TooManyRequestsException BandwidthLimitExceeded"
            " KMS.ThrottlingException 429",
        ),
        (
            _AWAY,
            "RequestTimeout RequestTimeoutException InternalError ServiceUnavailable"
            " OperationAborted ConditionalRequestConflict IncompleteBody"
            " XMinioServerNotInitialized KMS.KMSInternalException KMS.DependencyTimeoutException",
        ),
    )
    for code in codes.split()
}

# By what the server says, for what its code leaves open; the first that fits.
_REMEDIES = [
    (re.compile(words, re.IGNORECASE), remedy)
    for words, remedy in (
        (r"\bkms\b|kms:", _KEY),
        (
            r"requester.?pays|request.?payer",
            "Set [s3] requester_pays = true if your account is to pay for its requests.",
        ),
        (r"VPC endpoint polic", "Allow the bucket in the policy of the VPC endpoint."),
        (
            r"(service|resource) control polic",
            "A policy of the organization forbids it: ask its administrator.",
        ),
        (
            r"permissions? boundar|session polic",
            "Allow it in the permissions boundary or the session policy of the role.",
        ),
        (
            r"explicit deny",
            "A policy forbids it by name: look for Deny in the policy of the bucket and in those"
            " of these credentials.",
        ),
        (
            r"encrypt|SSE-?C|customer.?key",
            "Objects under a key of the customer's own (SSE-C) cannot be read: copy it with another"
            " encryption.",
        ),
    )
]
_DENIED = (
    "Allow it in the policies of these credentials, of the bucket and of a VPC endpoint; for a KMS"
    " key allow kms:Decrypt; for Requester Pays set [s3] requester_pays = true."
)
# What an answer can mean that says no more.
_NO_WORDS = (
    "The object store refuses these credentials: look at [s3], or at the AWS profile; then at the"
    " clock of this machine, and at the policies of the bucket and of its key,"
    " and whether the object is archived."
)


def os_error(told: str) -> VidpipeError:
    """What the words of an `OSError` mean: a full disk, or pyarrow's store is away or refuses."""
    told = " ".join(told.split())[:WORDS_CHARS]
    found = re.search(r"AWS Error (.+?)(?: \(HTTP status (\d+)\))? during", told)
    if found is None:
        return TemporaryError(told)
    code = found[1].replace("_", "")
    if "not valid for the object's" in told:  # for which it has a number only
        code = "InvalidObjectState"
    if named := re.search(r"ExceptionName: (\w+)", told):
        code = named[1]  # one that the client does not know
    status = 403 if code == "ACCESSDENIED" else int(found[2] or 0)
    meaning = _meaning_of(code, status, told)
    if meaning.error is DeniedError and re.search(r"operation:( No response body.*)?$", told):
        return DeniedError(f"{_NO_WORDS} {told}")
    # It is of the lake: not one video, but all tables are missed.
    error = UsageError if meaning.error in (NotFoundError, ArchivedError) else meaning.error
    return error(f"{told} {meaning.remedy}".strip())


@contextlib.contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turns boto3's errors into vidpipe's own, each one line.

    Args:
        uri: What is read or written; it is named, shortened, in each line.

    Raises:
        ArchivedError: The object must be restored before it can be read.
        NotFoundError: There is no such object, or it was replaced.
        DeniedError: The server refuses this object.
        UsageError: The server refuses all that is asked.
        TemporaryError: The server does not answer, or not now.
    """
    shown = quote(uri, safe="/:@!$&'()*+,;=~ ")[:300]
    try:
        yield
    except VidpipeError:
        raise
    except botocore.exceptions.ClientError as error:
        raise _refusal(shown, error) from error
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
    ) as error:
        raise UsageError(f"{shown}: no credentials found; set [s3] or an AWS profile.") from error
    except (
        botocore.exceptions.SSOError,
        botocore.exceptions.TokenRetrievalError,
    ) as error:
        raise UsageError(f"{shown}: {_one_line(error)} {_EXPIRED.remedy}") from error
    except botocore.exceptions.ParamValidationError as error:
        raise UsageError(f"{shown}: {_one_line(error)}") from error
    except RecursionError as error:  # of botocore, where the answer names no region
        raise UsageError(
            f"{shown}: the object store redirects without end. {_REGION.remedy}"
        ) from error
    except botocore.exceptions.SSLError as error:
        raise _tls_error(shown, error) from error
    except botocore.parsers.ResponseParserError as error:
        raise no_s3(f"{shown}: {_one_line(error)}") from error
    except (
        botocore.exceptions.BotoCoreError,
        boto3.exceptions.Boto3Error,
        ConnectionError,
        TimeoutError,
    ) as error:
        if isinstance(refused := error.__context__, botocore.exceptions.ClientError):
            raise _refusal(shown, refused) from error  # that of an upload, wrapped
        raise TemporaryError(
            f"{shown}: the object store does not answer ({_one_line(error)})."
        ) from error


def no_s3(received: str) -> TemporaryError:
    """Says that something else answers than an S3 server."""
    return TemporaryError(
        f"The answer is none of S3's. Received: {received}. Is [s3] endpoint_url the address of the"
        " S3 API, and not of a web page or a proxy?"
    )


@contextlib.contextmanager
def client_errors() -> Iterator[None]:
    """Turns what boto3 says against its own configuration into a `UsageError`."""
    try:
        yield
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise UsageError(
            f"The object store cannot be addressed: {_one_line(error)} Check [s3] and the AWS"
            " profile."
        ) from error


def _refusal(shown: str, error: botocore.exceptions.ClientError) -> VidpipeError:
    """What an answer that is an error means."""
    answer: dict[str, Any] = error.response
    said = answer.get("Error", {})
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(said.get("Code") or status)
    words = printable(" ".join(str(said.get("Message") or "").split()))[:WORDS_CHARS]
    quoted = f"{code}, {words!r}" if words else code
    answered = f"{shown}: the object store answers {quoted} to {error.operation_name}."
    if code == "NoSuchBucket":
        bucket = shown.removeprefix("s3://").partition("/")[0]
        return UsageError(
            f"Bucket {bucket!r} does not exist. Check [sources] uris and [lake] uri. {answered}"
        )
    meaning = _meaning_of(code, status, words)
    region = headers.get("x-amz-bucket-region") or said.get("Region")
    if meaning is _REGION and region:
        return UsageError(f"{answered} The bucket is in another region: set [s3] region={region}.")
    if meaning is _ARCHIVED:
        kept = said.get("AccessTier") or said.get("StorageClass")
        return ArchivedError(f"{archived_words(kept)} {answered}")
    if meaning is _GONE:
        return NotFoundError(f"{shown} does not exist, or was replaced ({quoted}).")
    return meaning.error(f"{answered} {meaning.remedy}".strip())


def archived_words(storage_class: str | None) -> str:
    """What there is to say of an object that is archived."""
    of = f" (storage class {storage_class})" if storage_class else ""
    return f"The object is archived{of}. {_ARCHIVED.remedy}"


def _meaning_of(code: str, status: int, words: str) -> _Meaning:
    if code == "NoSuchBucket":
        return _Meaning(UsageError)
    if known := _MEANINGS.get(code.lower()) or _MEANINGS.get(str(status)):
        return known
    if status == 403 or 400 <= status < 500 and status not in _TEMPORARY_STATUS:
        if code.lower().startswith("kms."):
            return _Meaning(DeniedError, _KEY)
        fitting = (remedy for pattern, remedy in _REMEDIES if pattern.search(words))
        return _Meaning(DeniedError, next(fitting, _DENIED if status in (401, 403) else ""))
    return _AWAY


def _tls_error(shown: str, error: Exception) -> VidpipeError:
    told = _one_line(error)
    if "CERTIFICATE_VERIFY_FAILED" in told:
        remedy = "Name the certificates of your own authority in AWS_CA_BUNDLE."
    elif "WRONG_VERSION_NUMBER" in told:
        remedy = "The server does not speak TLS: write http:// in [s3] endpoint_url."
    else:
        return TemporaryError(f"{shown}: the object store does not answer ({told}).")
    return UsageError(f"{shown}: no secure connection ({told}). {remedy}")


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:WORDS_CHARS]
