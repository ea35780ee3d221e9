"""The client of S3 and of what speaks its protocol, through boto3.

Credentials, region and endpoint come from the environment as for every AWS tool (AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL_S3, …). Encryption by the server is requested with

    LONGHAUL_S3_SSE              AES256 (SSE-S3), aws:kms or aws:kms:dsse
    LONGHAUL_S3_SSE_KMS_KEY_ID   the key's id or ARN; the account's own key for S3 without it

Requests are retried in botocore's standard mode. What botocore does not retry, `again` does: a body that breaks off or
arrives with other bytes.
"""

import base64
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError

from infra.store.backend import SCHEME, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 16
ATTEMPTS = 5
"""How often a body is sent or read before it is given up."""
READ_TIMEOUT = 60
"""Seconds without a byte after which a request is made again."""
ABSENT = {"NoSuchKey", "404"}
ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
SSE, KMS_KEY = "LONGHAUL_S3_SSE", "LONGHAUL_S3_SSE_KMS_KEY_ID"


def split_address(address: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix; the prefix may be empty. Raises StoreError for another form."""
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not address.startswith(SCHEME) or not bucket:
        raise StoreError(f"{address!r} is not an S3 address: expected s3://bucket/prefix")
    return bucket, prefix.strip("/")


def connect() -> "S3Client":
    """A client that retries, and that names the bucket in the path where the endpoint is not AWS's own."""
    custom = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    # A server of one's own seldom has a host name for every bucket.
    style = Config(s3={"addressing_style": "path"}) if custom else Config()
    config = Config(
        retries={"mode": "standard", "max_attempts": 6},
        connect_timeout=10,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=CONNECTIONS,
        # Downloads are compared with the manifest; where there is none, a request asks for the check itself.
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", config=config.merge(style))


def encryption(environment: Mapping[str, str]) -> dict[str, str]:
    """The arguments that ask the server to encrypt. Raises StoreError naming a variable that cannot be."""
    kind, key = environment.get(SSE, ""), environment.get(KMS_KEY, "")
    if kind and kind not in ENCRYPTIONS:
        raise StoreError(f"{SSE}={kind}: expected one of {', '.join(ENCRYPTIONS)}")
    if key and not kind.startswith("aws:kms"):
        raise StoreError(f"{KMS_KEY}={key} needs {SSE}=aws:kms, which is {kind or 'not set'}")
    chosen = {"ServerSideEncryption": kind} if kind else {}
    return chosen | ({"SSEKMSKeyId": key} if key else {})


def base64_digest(sha256: str) -> str:
    """A digest in hex as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


@contextmanager
def naming(address: str) -> Iterator[None]:
    """Turn what boto3 raises into a StoreError that names the address."""
    try:
        yield
    except NoCredentialsError as error:
        raise StoreError(f"{address}: no credentials; set AWS_PROFILE, or the key pair's variables") from error
    except (BotoCoreError, ClientError, HTTPClientError) as error:
        raise StoreError(f"{address}: {error}") from error
    except OSError as error:
        raise StoreError(f"{address}: {error.filename or 'local disk'}: {error.strerror or error}") from error


def error_code(error: ClientError) -> str:
    """S3's name for an error."""
    return error.response.get("Error", {}).get("Code", "")


def again(attempt: int) -> None:
    """Wait before the attempt that follows this one (from 0)."""
    time.sleep(random.uniform(0.5, 1) * 0.2 * 2**attempt)
