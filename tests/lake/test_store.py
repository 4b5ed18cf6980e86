"""What the object store says, and what vidpipe makes of it."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta

import botocore.retries.standard
import pyarrow.parquet as pq
import pytest

from tests.servers import new_lake, serve_refusals
from vidpipe.config import S3Settings
from vidpipe.errors import (
    ArchivedError,
    DeniedError,
    NotFoundError,
    TemporaryError,
    UsageError,
    VidpipeError,
)
from vidpipe.lake.store import ObjectStore
from vidpipe.lake.store_errors import os_error

URI = "s3://videos/a.mp4"
USER = "User: arn:aws:iam::1:user/v is not authorized to perform: "


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """What boto3 tries again it tries at once."""
    monkeypatch.setattr(
        botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda *_: 0.0
    )


def refusal(status: int, code: str, message: str = "", headers=None) -> VidpipeError:
    with serve_refusals(status, code, message, headers) as settings:
        with pytest.raises(VidpipeError) as caught:
            ObjectStore(settings).get(URI)
    told = str(caught.value)
    assert told.startswith((URI, "Bucket", "The object")) and "\n" not in told
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "message", "error", "remedy"),
    [
        # All that is asked is refused: no object is to blame.
        (403, "RequestTimeTooSkewed", "The difference is too large.", UsageError, "clock .*NTP"),
        (403, "InvalidAccessKeyId", "It does not exist.", UsageError, "access_key_id"),
        (403, "SignatureDoesNotMatch", "Check your key.", UsageError, "secret_access_key.*proxy"),
        (400, "ExpiredToken", "The provided token has expired.", UsageError, "renew them"),
        (400, "AuthorizationHeaderMalformed", "The region is wrong.", UsageError, r"\[s3\] region"),
        (404, "NoSuchBucket", "It does not exist.", UsageError, "'videos' does not exist"),
        (403, "AllAccessDisabled", "All access is disabled.", UsageError, "administrator"),
        (403, "QuotaExceeded", "", UsageError, "full"),  # of Ceph
        # One object is refused.
        (403, "AccessDenied", "Access Denied", DeniedError, "VPC.*kms:Decrypt.*requester_pays"),
        (403, "AccessDenied", f"{USER}kms:Decrypt on resource", DeniedError, "policy of the key"),
        (403, "AccessDenied", f"{USER}s3:GetObject because no VPC endpoint policy allows it",
         DeniedError, "in the policy of the VPC endpoint"),
        (403, "AccessDenied", f"{USER}s3:GetObject with an explicit deny in a bucket policy",
         DeniedError, "look for Deny"),
        (403, "AccessDenied", f"{USER}s3:GetObject: explicit deny in a service control policy",
         DeniedError, "organization"),
        (403, "AccessDenied", "The bucket is a Requester Pays bucket", DeniedError,
         r"\[s3\] requester_pays = true if"),
        (400, "KMS.DisabledException", "key/1 is disabled.", DeniedError, "enabled"),
        (400, "InvalidRequest", "The object was stored using a form of Server Side Encryption.",
         DeniedError, "SSE-C"),
        (403, "InvalidObjectState", "The operation is not valid for the object's storage class",
         ArchivedError, "Restore it, or change its storage class"),
        (404, "NoSuchKey", "The specified key does not exist.", NotFoundError, "does not exist"),
        (404, "NoSuchVersion", "", NotFoundError, "was replaced"),
        (412, "PreconditionFailed", "", NotFoundError, "was replaced"),
        # It may be answered later.
        (503, "SlowDown", "Please reduce your request rate.", TemporaryError, "fewer"),
        (400, "RequestTimeout", "Your socket connection was not read from.", TemporaryError, ""),
        (400, "KMS.ThrottlingException", "Rate exceeded", TemporaryError, "fewer"),
        (500, "InternalError", "We encountered an internal error.", TemporaryError, ""),
        (429, "TooManyRequests", "", TemporaryError, "fewer"),
    ],
)  # fmt: skip
def test_a_refusal_has_the_code_the_words_and_a_remedy(status, code, message, error, remedy):
    caught = refusal(status, code, message)
    assert type(caught) is error
    assert code in str(caught) and message in str(caught)
    assert re.search(remedy, str(caught)), str(caught)


def test_a_web_page_is_no_answer():
    with (
        serve_refusals(200, "") as settings,
        pytest.raises(TemporaryError, match=r"\[s3\] endpoint_url"),
    ):
        list(ObjectStore(settings).list("s3://videos/"))


def test_the_region_of_the_bucket_is_named():
    told = refusal(301, "PermanentRedirect", "", {"x-amz-bucket-region": "eu-west-1"})
    assert "set [s3] region=eu-west-1" in str(told)
    assert "Set [s3] region" in str(refusal(301, "PermanentRedirect"))


def test_words_of_a_server_are_shortened_and_printable():
    told = str(refusal(403, "AccessDenied", "no\u202e\n" * 2000))
    assert "\u202e" not in told and len(told) < 6000


def test_a_write_that_is_refused_has_the_words_too(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"a")
    with serve_refusals(403, "AccessDenied", "Access Denied") as settings:
        store = ObjectStore(settings)
        for write in (lambda: store.put(URI, b""), lambda: store.upload(file, URI)):
            with pytest.raises(DeniedError, match="AccessDenied, 'Access Denied' to PutObject"):
                write()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (S3Settings("127.0.0.1:9000"), "Invalid endpoint: 127.0.0.1:9000"),
        (S3Settings("http://127.0.0.1:1", "no region"), "no region"),
    ],
)
def test_settings_that_are_none_are_told_in_one_line(settings, words):
    with pytest.raises(UsageError, match=f"{words}.* Check \\[s3\\]"):
        ObjectStore(settings)


def test_a_profile_that_does_not_exist_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(UsageError, match="no-such-profile.* AWS profile"):
        ObjectStore(S3Settings())


def test_a_server_without_tls_is_told():
    with serve_refusals(500, "InternalError") as settings:
        secure = settings.endpoint_url.replace("http:", "https:")
        with pytest.raises(UsageError, match="write http:// in"):
            ObjectStore(dataclasses.replace(settings, endpoint_url=secure)).get(URI)


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (403, "RequestTimeTooSkewed", DeniedError, "clock"),  # such requests have no body
        (400, "ExpiredToken", DeniedError, "credentials"),
        (301, "PermanentRedirect", UsageError, "[s3] region"),
        (503, "SlowDown", TemporaryError, "503"),
    ],
)
def test_what_pyarrow_says_of_the_store_means_the_same(status, code, error, words, tmp_path):
    with serve_refusals(status, code, "S3 says so.") as settings:
        lake = new_lake(settings, tmp_path, "refused")
        with pytest.raises(OSError) as caught:
            pq.read_table("lake/a.parquet", filesystem=lake.filesystem)
    told = os_error(str(caught.value))
    assert type(told) is error and words in str(told), str(caught.value)


def test_pyarrow_names_the_code_where_the_store_does():
    told = os_error(
        "AWS Error [code 133] during GetObject operation: The operation is not valid for the"
        " object's storage class (Request ID: x)"
    )
    assert type(told) is UsageError and "Restore it" in str(told)
    told = os_error(
        "AWS Error UNKNOWN (HTTP status 400) during GetObject operation: Unable to parse"
        " ExceptionName: ExpiredToken Message: The provided token has expired."
    )
    assert type(told) is UsageError and "renew them" in str(told)


def test_who_agrees_to_pay_says_so_in_requests_and_links():
    seen = []
    with serve_refusals(404, "NoSuchKey") as settings:
        store = ObjectStore(dataclasses.replace(settings, requester_pays=True))
        store._client.meta.events.register(
            "before-send.s3",
            lambda request, **_: seen.append(request.headers["x-amz-request-payer"]),
        )
        with pytest.raises(NotFoundError):
            store.get(URI)
        assert seen == [b"requester"]
        assert "x-amz-request-payer=requester" in store.link(URI, timedelta(hours=1))
