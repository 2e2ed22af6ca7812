"""Minimal client for S3-compatible object storage.

Credentials, region and endpoint come from the environment, as for every S3 client (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, ...). Objects are written atomically. A conditional write reports whether this writer succeeded,
also if the response to its first try was lost and the retry found the object in place.
"""

import base64
import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError

SCHEME = "s3://"


class BucketError(HeirloomError):
    """The object storage refused a request or is unreachable; the message names the request."""


@dataclass(frozen=True)
class StoredObject:
    """An object: its content, its ETag, and its age by the server's clock."""

    content: bytes
    etag: str
    age_seconds: float


@dataclass(frozen=True)
class Bucket:
    """`s3://name/prefix`; keys are relative to the prefix."""

    url: str

    @property
    def name(self) -> str:
        """Name of the bucket."""
        return self.url.removeprefix(SCHEME).partition("/")[0]

    @property
    def prefix(self) -> str:
        """Prefix of every key: empty, or a path that ends with a slash."""
        inside = self.url.removeprefix(SCHEME).partition("/")[2].strip("/")
        return f"{inside}/" if inside else ""

    def list_etags(self) -> dict[str, str]:
        """Return the ETag of every key."""
        with self._request("list", ""):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix)
            entries = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(self.prefix): entry["ETag"] for entry in entries}

    def read(self, key: str) -> StoredObject | None:
        """Return the object, or None if there is none."""
        with self._request("read", key):
            try:
                answer = self._client.get_object(Bucket=self.name, Key=self.prefix + key)
            except self._client.exceptions.NoSuchKey:
                return None
            content = answer["Body"].read()
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return StoredObject(content, answer["ETag"], (now - answer["LastModified"]).total_seconds())

    def fetch(self, key: str, path: Path) -> None:
        """Download the object to a file, in chunks."""
        with self._request("read", key), path.open("wb") as target:
            self._client.download_fileobj(self.name, self.prefix + key, target)

    def upload(self, path: Path, key: str) -> None:
        """Upload a file, in chunks if it is large; an existing object is replaced."""
        with self._request("write", key):
            self._client.upload_file(str(path), self.name, self.prefix + key)

    def put(self, key: str, content: bytes, *, if_match: str | None = "") -> str | None:
        """Write an object conditionally.

        Args:
            key: key of the object.
            content: its content.
            if_match: write only if the existing object has this ETag; empty: only if there is none; None: always.

        Returns:
            The new ETag, or None if the condition failed.
        """
        condition = {"IfNoneMatch": "*"} if if_match == "" else {"IfMatch": if_match}
        checked = base64.b64encode(hashlib.sha256(content).digest()).decode()
        with self._request("write", key):
            try:
                answer = self._client.put_object(
                    Bucket=self.name,
                    Key=self.prefix + key,
                    Body=content,
                    ChecksumSHA256=checked,
                    **({} if if_match is None else condition),
                )
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in (
                    "PreconditionFailed",
                    "ConditionalRequestConflict",
                    "NoSuchKey",
                ):
                    raise
            else:
                return str(answer["ETag"])
        # If the response to a successful write was lost, the library has retried it, and the retry fails the condition.
        there = self.read(key)
        return there.etag if there and there.content == content else None

    def create(self) -> None:
        """Create the bucket itself."""
        with self._request("create", ""):
            self._client.create_bucket(Bucket=self.name)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        for key in keys:
            with self._request("delete", key):
                self._client.delete_object(Bucket=self.name, Key=self.prefix + key)

    @contextlib.contextmanager
    def _request(self, verb: str, key: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise BucketError(f"could not {verb} {SCHEME}{self.name}/{self.prefix}{key}: {error}") from error

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401  (the library has no types)
        return _client()


@lru_cache(maxsize=1)
def _client() -> Any:  # noqa: ANN401
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise BucketError("a store on object storage needs boto3; pip install 'heirloom[s3]'") from error
    return boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 6}, read_timeout=30))
