# SPDX-License-Identifier: Apache-2.0
"""
Calls that key services logged, as rows: from CloudTrail's files and OpenBao's audit logs, in DuckDB.

Tolerant: what a record lacks is NULL, what is no record is counted. Nothing in a log is ever part
of a statement: texts are values of columns, shortened. DuckDB reads one directory of ours, loads no
extension, and spills to disk beyond *memory*. Judges nothing (`lacre.reconciliation.matching`).
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from lacre.errors import ConfigurationError
from lacre.reconciliation.staging import OBJECT, Staging

__all__ = ["CLOUDTRAIL", "OPENBAO", "ServiceLogs", "micros", "place_of"]

CLOUDTRAIL, OPENBAO = "cloudtrail", "openbao"

# A multi-Region key is one key, in whichever region it was asked.
_MULTI = re.compile(r"aws-kms://[^/]+/([0-9]+)/key/(mrk-[^/]+)")

_TABLES = """
CREATE SEQUENCE counted;
CREATE TABLE call (
    n BIGINT DEFAULT nextval('counted'), source VARCHAR, id VARCHAR, request VARCHAR,
    time BIGINT, service VARCHAR, name VARCHAR, operation VARCHAR, kms_keys VARCHAR[],
    places VARCHAR[], resource VARCHAR, digest VARCHAR, principal VARCHAR, address VARCHAR,
    agent VARCHAR, error VARCHAR
);
CREATE TABLE covered (source VARCHAR, region VARCHAR, first BIGINT, last BIGINT);
"""

_OBJECTS = """
CREATE OR REPLACE TEMP TABLE object AS
SELECT json FROM read_json_objects($file, format = $format, ignore_errors = $lines, maximum_object_size = $size)
"""

# One row for each record, whatever it is about: what a log covers is from all of them.
_CLOUDTRAIL = """
CREATE OR REPLACE TEMP TABLE record AS
SELECT r, epoch_us(try_cast(r ->> '$.eventTime' AS TIMESTAMPTZ)) AS time
FROM (
    SELECT unnest(from_json(json -> '$.Records', '["JSON"]')) AS r FROM object
    WHERE json_type(json, '$.Records') = 'ARRAY'
    UNION ALL
    SELECT try_cast(e ->> '$.CloudTrailEvent' AS JSON) AS r FROM (
        SELECT unnest(from_json(json -> '$.Events', '["JSON"]')) AS e FROM object
        WHERE json_type(json, '$.Events') = 'ARRAY'
    )
    UNION ALL
    SELECT json AS r FROM object WHERE json_exists(json, '$.eventName')
)
WHERE r IS NOT NULL
"""

# What is neither: read as empty, it would say that nothing happened. A digest, which AWS puts beside, says nothing of calls.
_UNKNOWN = """
SELECT CASE WHEN count(*) = 0 THEN 1 ELSE count(*) FILTER (json IS NOT NULL
    AND coalesce(json_type(json, '$.Records'), '') <> 'ARRAY' AND coalesce(json_type(json, '$.Events'), '') <> 'ARRAY'
    AND NOT coalesce(json_exists(json, '$.eventName'), false)
    AND NOT coalesce(json_exists(json, '$.digestS3Bucket'), false)
) END FROM object
"""

# AWS begins the names of parameters in lower case, and what stands in for it sometimes does not.
_MEMBERS = {
    "event": "$.eventID",
    "asked": "$.requestID",
    "service_name": "$.eventSource",
    "event_name": "$.eventName",
    "source_key": "$.requestParameters.sourceKeyId",
    "key": "$.requestParameters.keyId",
    "source_key_2": "$.requestParameters.SourceKeyId",
    "key_2": "$.requestParameters.KeyId",
    "secret": "$.requestParameters.secretId",
    "secret_2": "$.requestParameters.SecretId",
    "named": "$.requestParameters.name",
    "first_arn": "$.resources[0].ARN",
    "bound": '$.requestParameters.encryptionContext."lacre-row"',
    "source_bound": '$.requestParameters.sourceEncryptionContext."lacre-row"',
    "bound_2": '$.requestParameters.EncryptionContext."lacre-row"',
    "source_bound_2": '$.requestParameters.SourceEncryptionContext."lacre-row"',
    "arn": "$.userIdentity.arn",
    "invoked_by": "$.userIdentity.invokedBy",
    "principal_id": "$.userIdentity.principalId",
    "user_name": "$.userIdentity.userName",
    "account": "$.userIdentity.accountId",
    "from_address": "$.sourceIPAddress",
    "from_agent": "$.userAgent",
    "failed": "$.errorCode",
}
_FROM_CLOUDTRAIL = """
INSERT INTO call BY NAME
SELECT
    'cloudtrail' AS source,
    left(coalesce(event, asked), 64) AS id,
    left(asked, 64) AS request,
    time,
    split_part(service_name, '.', 1) AS service,
    left(event_name, 64) AS name,
    CASE event_name
        WHEN 'Decrypt' THEN 'unwrap' WHEN 'ReEncrypt' THEN 'rewrap'
        WHEN 'GenerateDataKey' THEN 'plaintext' WHEN 'GenerateDataKeyPair' THEN 'plaintext'
        WHEN 'DeriveSharedSecret' THEN 'plaintext'
    END AS operation,
    list_transform(
        list_distinct(list_filter(
            list_concat(
                [source_key, key,
                 source_key_2, key_2],
                arns
            ),
            lambda each: regexp_full_match(each, 'arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]+:key/[0-9a-z-]+')
        )),
        lambda each: regexp_replace(each, 'arn:[a-z-]+:kms:([^:]+):([0-9]+):key/', 'aws-kms://\\1/\\2/key/')
    ) AS kms_keys,
    list_transform(
        kms_keys, lambda uri: regexp_replace(uri, 'aws-kms://[^/]+/([0-9]+)/key/mrk-', 'aws-kms://*/\\1/key/mrk-')
    ) AS places,
    left(coalesce(
        secret, secret_2,
        key, key_2,
        named, first_arn
    ), 512) AS resource,
    left(coalesce(
        bound,
        source_bound,
        bound_2,
        source_bound_2, ''
    ), 64) AS digest,
    left(coalesce(
        arn, invoked_by,
        principal_id, user_name,
        account, ''
    ), 512) AS principal,
    left(from_address, 128) AS address,
    left(from_agent, 512) AS agent,
    left(failed, 128) AS error
FROM (
    -- Each record is parsed once for all its members: parsed for each, a few thousand take gigabytes.
    SELECT time, arns, {names} FROM (
        SELECT time, json_extract_string(r, {paths}) AS p, json_extract_string(r, '$.resources[*].ARN') AS arns
        FROM record WHERE time >= $since
    )
)
WHERE service_name IN ('kms.amazonaws.com', 'secretsmanager.amazonaws.com')
""".format(  # noqa: S608 - of constants
    names=", ".join(f"p[{n}] AS {name}" for n, name in enumerate(_MEMBERS, 1)),
    paths=list(_MEMBERS.values()),
)

_OPENBAO = """
CREATE OR REPLACE TEMP TABLE record AS
SELECT json AS r, epoch_us(try_cast(json ->> '$.time' AS TIMESTAMPTZ)) AS time
FROM object WHERE json ->> '$.type' = 'response'
"""

_FROM_OPENBAO = """
INSERT INTO call BY NAME
SELECT
    'openbao' AS source,
    left(r ->> '$.request.id', 64) AS id,
    id AS request,
    time,
    coalesce(r ->> '$.request.mount_type', '') AS service,
    CASE WHEN operation IS NULL THEN left(r ->> '$.request.operation', 64) ELSE left(part, 64) END AS name,
    operation,
    CASE WHEN operation IS NULL THEN [] ELSE [
        'openbao://' || coalesce(r ->> '$.request.namespace.path', '')
        || regexp_extract(r ->> '$.request.path', $path, 1) || '/'
        || regexp_extract(r ->> '$.request.path', $path, 3)
    ] END AS kms_keys,
    kms_keys AS places,
    left(coalesce(r ->> '$.request.namespace.path', '') || (r ->> '$.request.path'), 512) AS resource,
    left(coalesce(r ->> '$.request.data.context', ''), 128) AS digest,
    left(coalesce(r ->> '$.auth.display_name', r ->> '$.auth.entity_id', ''), 512) AS principal,
    left(r ->> '$.request.remote_address', 128) AS address,
    NULL AS agent,
    CASE
        WHEN coalesce(r ->> '$.error', '') <> '' THEN left(r ->> '$.error', 128)
        WHEN json_exists(r, '$.response.data.error') THEN 'refused'
    END AS error
FROM (
    SELECT *, CASE
        WHEN coalesce(r ->> '$.request.mount_type', 'transit') <> 'transit' THEN NULL
        WHEN json_exists(r, '$.request.data.batch_input') AND part <> '' THEN 'plaintext'
        WHEN part IN ('decrypt', 'rewrap') THEN if(part = 'decrypt', 'unwrap', 'rewrap')
        WHEN part <> '' THEN 'plaintext'
    END AS operation
    FROM (SELECT *, regexp_extract(r ->> '$.request.path', $path, 2) AS part FROM record)
)
WHERE time >= $since AND coalesce(r ->> '$.request.mount_type', 'transit') IN ('transit', 'kv', 'database', 'generic')
"""

# MOUNT/decrypt/NAME, MOUNT/datakey/plaintext/NAME, MOUNT/export/TYPE/NAME/VERSION; of
# MOUNT/byok-export/DESTINATION/NAME the first name is of the key that it leaves under.
_PATH = (
    r"^(.+)/(decrypt|rewrap|datakey/plaintext|export|backup|byok-export/[^/]+)"
    r"(?:/(?:encryption-key|signing-key|hmac-key|public-key))?/([^/]+)(?:/[^/]+)?$"
)

_COVERED = """
INSERT INTO covered
SELECT $source, coalesce(r ->> '$.awsRegion', ''), min(time), max(time)
FROM record WHERE time IS NOT NULL GROUP BY ALL
"""


def place_of(kms_key: str, namespace: str | None = None) -> str:
    """Return what a KMS key is matched by: its URI, with OpenBao's namespace, without the region of a multi-Region key."""
    if namespace and kms_key.startswith("openbao://"):
        return f"openbao://{namespace.strip('/')}/{kms_key.removeprefix('openbao://')}"
    return _MULTI.sub(r"aws-kms://*/\1/key/\2", kms_key)


@final
class ServiceLogs:
    """
    What key services logged since *since*, and a database to ask about it.

    Args:
        memory: that DuckDB uses at most, in MiB; more goes to a directory that `close` removes.

    Raises:
        ConfigurationError: DuckDB is not installed.
    """

    def __init__(self, *, since: datetime, memory: int = 512) -> None:
        try:
            import duckdb
        except ModuleNotFoundError:
            raise ConfigurationError(
                "duckdb is needed to read the logs of key services, and is not installed",
                hint="pip install 'lacre[reconcile]'",
            ) from None
        self._error, self._out_of_memory = duckdb.Error, duckdb.OutOfMemoryException
        self.since = since
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="lacre-logs-")))  # fmt: skip
        self.staging = Staging(directory=self.directory, since=since)
        self.database: Any = self._stack.enter_context(
            duckdb.connect(
                config={
                    "memory_limit": f"{memory}MiB",
                    "threads": 2,
                    "temp_directory": str(self.directory / "spilled"),
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "allow_community_extensions": False,
                }
            )
        )
        # A log is somebody else's text: whatever it did to a statement, it would read no other file.
        ours = str(self.directory).replace("'", "''")
        self.database.execute(f"SET allowed_directories = ['{ours}/']")
        self.database.execute("SET TimeZone = 'UTC'")
        self.database.execute("SET enable_external_access = false")
        self.database.execute("SET lock_configuration = true")
        self.database.execute(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the copies."""
        self._stack.close()

    @property
    def unreadable(self) -> Sequence[str]:
        """What could not be read. Where there is anything, nothing is known of what it held."""
        return tuple(self.staging.unreadable)

    def read_cloudtrail(self, place: str) -> None:
        """Read CloudTrail's files: as S3 has them, as `aws cloudtrail lookup-events` prints, or a record a line."""
        for piece in self.staging.objects(place):
            # Lines first, for they may be many; a file laid out over several lines is one object.
            broken = self._loaded(piece, lines=True)
            if broken and self._loaded(piece, lines=False) is not None:
                broken = 0
            self._take(_CLOUDTRAIL, _FROM_CLOUDTRAIL, CLOUDTRAIL, broken)
            if broken is not None and self._number(_UNKNOWN):
                self.staging.refuse(
                    "it is not laid out as a file of CloudTrail is: neither Records, nor Events, nor a record a line"
                )

    def read_openbao(self, place: str) -> None:
        """Read OpenBao's, or Vault's, audit log: a line of JSON for each request and each response."""
        for piece in self.staging.lines(place):
            broken = self._loaded(piece, lines=True)
            self._take(_OPENBAO, _FROM_OPENBAO, OPENBAO, broken, path=_PATH)

    @contextmanager
    def in_memory(self) -> Iterator[None]:
        """Say what to do where the memory that DuckDB may use in the block does not do."""
        try:
            yield
        except self._out_of_memory:
            failed = "DuckDB has too little memory for these logs"
        else:
            return
        raise ConfigurationError(failed, hint="--memory gives it more, --days reads less")

    def settle(self) -> None:
        """Leave each call once, however often its record was delivered; and leave out those without a time or id."""
        self.database.execute(
            "DELETE FROM call WHERE time IS NULL OR id IS NULL OR n IN "
            "(SELECT n FROM (SELECT n, row_number() OVER (PARTITION BY source, id ORDER BY n) AS nth FROM call) WHERE nth > 1)"
        )

    def _loaded(self, piece: Path, *, lines: bool) -> int | None:
        # The lines that are no JSON; None where the file as a whole is none. `object` is as it was then.
        given = {
            "file": str(piece),
            "format": "newline_delimited" if lines else "unstructured",
            "size": min(OBJECT, max(piece.stat().st_size, 1 << 20)) + 1024,
            "lines": lines,
        }
        try:
            self.database.execute(_OBJECTS, given)
        except self._out_of_memory:
            raise
        except self._error:
            return None  # what DuckDB says may quote the file
        return self._number("SELECT count(*) FROM object WHERE json IS NULL")

    def _take(
        self, records: str, calls: str, source: str, broken: int | None, **given: str
    ) -> None:
        if broken is None or broken:
            what = "it" if broken is None else f"{broken} of its lines"
            self.staging.refuse(f"{what} cannot be read as JSON, as the {source} log is")
        if broken is not None:
            self.database.execute(records)
            self.database.execute(_COVERED, {"source": source})
            self.database.execute(calls, {"since": micros(self.since)} | given)

    def _number(self, statement: str) -> int:
        return int(self.database.execute(statement).fetchone()[0])


def micros(when: datetime) -> int:
    """Return *when* as microseconds since 1970."""
    return round(when.timestamp() * 1_000_000)
