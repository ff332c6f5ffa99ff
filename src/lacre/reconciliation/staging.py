# SPDX-License-Identifier: Apache-2.0
"""
The files of a log, one after another, in a directory of our own: plain JSON, in pieces of bounded size.

A place is a file, a folder, or ``s3://BUCKET/PREFIX``, which is listed and fetched with the default
chain of AWS credentials. A file that cannot be read, or holds more than a piece may, is named and
never passed over in silence. Understands nothing of what is in the files (`lacre.reconciliation.calls`).
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from lacre.errors import ConfigurationError

__all__ = ["OBJECT", "Staging"]

OBJECT = 128 * 1024 * 1024  # bytes of one JSON object at most: CloudTrail's files are far smaller
_PIECE = 32 * 1024 * 1024  # bytes of lines that are read at once
_LATE = timedelta(days=1)  # CloudTrail names a file by when it was delivered
# 123456789012_CloudTrail_eu-central-1_20261122T2350Z_Abc.json.gz
_DELIVERED = re.compile(r"_CloudTrail_[a-z0-9-]+_(\d{8})T(\d{4})Z_")
_GZIP = b"\x1f\x8b"


@dataclass(slots=True, kw_only=True)
class Staging:
    """
    What is read from places, since *since*, by way of *directory*.

    *files* counts those that were read; *unreadable* says of the others what they are called and why.
    """

    directory: Path
    since: datetime
    files: int = 0
    name: str = ""  # of the file that was begun last
    unreadable: list[str] = field(default_factory=list)

    def objects(self, place: str) -> Iterator[Path]:
        """Yield each file that holds one JSON object, or lines of them, decompressed."""
        for name, opened in self._opened(place):
            with opened as source:
                yield from self._pieces(name, source, split=False)

    def lines(self, place: str) -> Iterator[Path]:
        """Yield files of whole lines, a piece of the log each."""
        for name, opened in self._opened(place):
            with opened as source:
                yield from self._pieces(name, source, split=True)

    def _pieces(self, name: str, source: IO[bytes], *, split: bool) -> Iterator[Path]:
        piece = self.directory / "piece.json"
        self.files += 1
        self.name = name
        try:
            plain = _plain(source)
            while True:
                limit = _PIECE if split else OBJECT
                data = plain.read(limit)
                if not data:
                    return
                if split:
                    data = _whole(data + plain.readline(OBJECT))
                elif plain.read(1):
                    self._refuse(name, "larger than a log file of CloudTrail is")
                    return
                piece.write_bytes(data)
                del data
                yield piece
        except (OSError, EOFError, zlib.error):
            self._refuse(name, "cannot be read, or is cut off")
        finally:
            piece.unlink(missing_ok=True)

    def refuse(self, why: str) -> None:
        """Say that something in the last file cannot be understood."""
        self._refuse(self.name, why)

    def _refuse(self, name: str, why: str) -> None:
        self.unreadable.append(f"{name}: {why}")

    def _opened(self, place: str) -> Iterator[tuple[str, IO[bytes]]]:
        if place.startswith("s3://"):
            yield from self._fetched(place)
            return
        path = Path(place)
        if not path.exists():
            raise ConfigurationError(
                f"there is no {place}", hint="name the file or the folder that the log is in"
            )
        found = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]  # fmt: skip
        for each in found:
            if each != path and self._is_old(each.name):
                continue
            try:
                yield str(each), each.open("rb")
            except OSError:
                self._refuse(str(each), "cannot be opened")

    def _fetched(self, place: str) -> Iterator[tuple[str, IO[bytes]]]:
        # Fetched by boto3, not by an extension of DuckDB: that would be downloaded when it is needed.
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ModuleNotFoundError:
            raise ConfigurationError(
                "boto3 is needed to read from S3, and is not installed",
                hint="pip install 'lacre[aws]'",
            ) from None
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        fetched = self.directory / "fetched"
        try:
            client: Any = boto3.client("s3")
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for each in page.get("Contents", ()):
                    if self._is_old(str(each["Key"]).rpartition("/")[2]):
                        continue
                    client.download_file(bucket, each["Key"], str(fetched))
                    yield f"s3://{bucket}/{each['Key']}", fetched.open("rb")
        except (BotoCoreError, ClientError) as error:
            # Its text may quote a request; its class does not.
            failed = type(error).__name__
        else:
            return
        finally:
            fetched.unlink(missing_ok=True)
        raise ConfigurationError(
            f"S3 does not give {place} ({failed})",
            hint="the credential needs s3:ListBucket and s3:GetObject there",
        )

    def _is_old(self, name: str) -> bool:
        found = _DELIVERED.search(name)
        if found is None:
            return False
        with suppress(ValueError):
            delivered = datetime.strptime(found[1] + found[2], "%Y%m%d%H%M").replace(tzinfo=UTC)
            return delivered < self.since - _LATE
        return False


def _whole(data: bytes) -> bytes:
    # The last line of a log that is being written may be half of one.
    head, _, tail = data.rpartition(b"\n")
    try:
        return data if not tail or json.loads(tail) else head
    except ValueError:
        return head


def _plain(source: IO[bytes]) -> IO[bytes]:
    # By what it is, not by what it is called.
    begins = source.read(2)
    source.seek(0)
    return gzip.GzipFile(fileobj=source) if begins == _GZIP else source  # type: ignore[return-value]
