# SPDX-License-Identifier: Apache-2.0
"""
Two questions of auditors to the logs of key services: who used KMS keys, and who had secrets.

Each row has the same named columns, whichever service logged it; times are UTC, newest first. Shows
what is in the logs and judges nothing. As CSV no cell begins as a formula of a spreadsheet does.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum

from lacre.reconciliation.calls import ServiceLogs, micros

__all__ = ["Answer", "Question", "as_csv", "ask"]

_BATCH = 1000


class Question(StrEnum):
    """What is asked."""

    KMS_USAGE = "kms-usage"
    SECRET_ACCESS = "secret-access"  # noqa: S105 - the name of a question


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One call. *resource* is the KMS key or the secret, *error* empty where the call was answered."""

    time: datetime
    source: str
    principal: str
    action: str
    resource: str
    address: str
    agent: str
    error: str
    request: str


_CONDITIONS = {
    Question.KMS_USAGE: "(service = 'kms' OR (source = 'openbao' AND service = 'transit'))",
    # Reads, and what changes what is read: a version that is put or deleted is one that was not kept.
    Question.SECRET_ACCESS: """(
        (service = 'secretsmanager' AND name IN (
            'GetSecretValue', 'BatchGetSecretValue', 'PutSecretValue', 'UpdateSecret', 'CreateSecret',
            'UpdateSecretVersionStage', 'DeleteSecret', 'RestoreSecret', 'RotateSecret'))
        OR (source = 'openbao' AND service IN ('kv', 'generic', 'database') AND name <> 'help')
    )""",
}
_ASKED = """
SELECT time, source, principal, name, coalesce(kms_keys[1], resource, ''), coalesce(address, ''),
    coalesce(agent, ''), coalesce(error, ''), coalesce(request, '')
FROM call WHERE time BETWEEN $since AND $until AND {condition}
ORDER BY time DESC, source, id
"""


def ask(logs: ServiceLogs, question: Question, *, since: datetime, until: datetime) -> Iterator[Answer]:  # fmt: skip
    """Yield the calls that *question* is about, from *since* to *until*."""
    asked = _ASKED.format(condition=_CONDITIONS[question])
    cursor = logs.database.cursor().execute(asked, {"since": micros(since), "until": micros(until)})
    names = [each.name for each in fields(Answer)][1:]
    while rows := cursor.fetchmany(_BATCH):
        for time, *said in rows:
            when = datetime.fromtimestamp(time / 1_000_000, UTC)
            yield Answer(time=when, **dict(zip(names, said, strict=True)))


def as_csv(answers: Iterable[Answer]) -> Iterator[str]:
    """Yield lines of CSV (RFC 4180), the names of the columns first."""
    names = [each.name for each in fields(Answer)]
    yield _line(names)
    for answer in answers:
        yield _line([_text(getattr(answer, name)) for name in names])


def _text(value: datetime | str) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    # No line but ours, and nothing that a spreadsheet would work out.
    plain = "".join(each if each.isprintable() else " " for each in value)
    return f"'{plain}" if plain.lstrip()[:1] in ("=", "+", "-", "@") else plain


def _line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()
