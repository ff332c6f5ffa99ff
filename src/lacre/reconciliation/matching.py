# SPDX-License-Identifier: Apache-2.0
"""
Every unwrap that a key service logged against every one that we recorded, both ways.

A call is matched by the id under which the service answered it. What was attempted without an
answer has no id on our side: such attempts, and no more of them than there were, take calls of the
same KMS key and wrap context within *skew*. OpenBao logs a keyed hash of the context, which is
learned from calls that were matched by their ids.

Judged is what is old enough to have been delivered, on both sides, and no older than either log.
Both logs are believed: that ours is whole is for `lacre audit verify` to say, and whoever holds the
credential *and* writes our log can write that it was lacre who asked.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from lacre.audit.entries import Entry
from lacre.reconciliation.calls import ServiceLogs, micros, place_of

__all__ = ["Group", "Matched", "Window", "load_ours", "match"]

_OURS = """
CREATE TABLE ours (
    n BIGINT, shard INTEGER, seq BIGINT, time BIGINT, kms_key VARCHAR, place VARCHAR, digest VARCHAR,
    operation VARCHAR, outcome VARCHAR, principal VARCHAR, attempts BIGINT, requests VARCHAR[]
)
"""
_LOAD = """
INSERT INTO ours BY NAME SELECT * FROM read_json($file, format = 'newline_delimited', maximum_object_size = 1048576, columns = {
    n: 'BIGINT', shard: 'INTEGER', seq: 'BIGINT', time: 'BIGINT', kms_key: 'VARCHAR', place: 'VARCHAR',
    digest: 'VARCHAR', operation: 'VARCHAR', outcome: 'VARCHAR', principal: 'VARCHAR',
    attempts: 'BIGINT', requests: 'VARCHAR[]'
})
"""
_BATCH = 20_000

# By id, and only where the KMS key agrees too: an id says which call, the key what was asked of it.
_BY_ID = """
CREATE TABLE paired AS
SELECT DISTINCT call.n AS call, named.n AS ours
FROM call JOIN (SELECT n, place, unnest(requests) AS request FROM ours) AS named USING (request)
WHERE call.operation IN ('unwrap', 'rewrap') AND list_contains(call.places, named.place)
"""
# What OpenBao writes for a context, where one context only was ever seen behind it.
_LEARNED = """
CREATE TABLE learned AS
SELECT call.digest AS written, min(ours.digest) AS digest
FROM paired JOIN call ON call.n = paired.call JOIN ours ON ours.n = paired.ours
WHERE call.source = 'openbao' AND call.digest <> '' GROUP BY call.digest HAVING count(DISTINCT ours.digest) = 1
"""
# Attempts of ours that have no id, and calls that might be them; both in the order they are paired in.
_SPARE = """
SELECT n, place, digest, time, attempts - len(requests) - coalesce(taken, 0) AS spare
FROM ours LEFT JOIN (SELECT ours AS n, count(*) AS taken FROM guessed GROUP BY ours) USING (n)
WHERE spare > 0 ORDER BY place, if($exact, digest, ''), time, n
"""
_WITHOUT = """
SELECT n, place, digest, time FROM (
    SELECT call.n, unnest(places) AS place, time, coalesce(learned.digest, if(source = 'openbao', '', call.digest)) AS digest
    FROM call LEFT JOIN learned ON source = 'openbao' AND learned.written = call.digest
    WHERE operation IN ('unwrap', 'rewrap') AND call.n NOT IN (SELECT call FROM paired UNION SELECT call FROM guessed)
        AND (source = 'openbao' OR $exact)
) WHERE (digest <> '') = $exact
ORDER BY place, digest, time, n
"""
_JUDGED = """
CREATE TABLE judged AS
SELECT *, coalesce(error, '') <> '' AS refused FROM call
WHERE operation IS NOT NULL AND list_has_any(places, $places)
"""
_GROUPS = """
SELECT source, coalesce(list_filter(kms_keys, lambda k, i: list_contains($places, places[i]))[1], '') AS kms_key,
    principal, name, refused, count(*), min(time), max(time),
    list(DISTINCT request ORDER BY request)[:10], list(DISTINCT address ORDER BY address)[:5]
FROM judged WHERE n NOT IN (SELECT call FROM paired UNION SELECT call FROM guessed) AND time BETWEEN $since AND $until
GROUP BY ALL ORDER BY count(*) DESC, kms_key, principal, name, refused LIMIT 1000
"""
_COUNTS = """
SELECT count(*) FILTER (inside), count(*) FILTER (inside AND refused), count(*) FILTER (inside AND named),
    count(*) FILTER (inside AND guess), count(*) FILTER (NOT inside)
FROM (
    SELECT refused, time BETWEEN $since AND $until AS inside, n IN (SELECT call FROM paired) AS named,
        n IN (SELECT call FROM guessed) AS guess FROM judged
)
"""
# Ours are judged where the service's log was there to know them: between its first and its last record of any kind.
_UNSEEN = """
CREATE TABLE unseen AS
SELECT ours.*, known.n IS NOT NULL AS known, coalesce(known.n IS NOT NULL OR ours.time BETWEEN reach.first AND reach.last, false)
    AND ours.time BETWEEN $since AND $until AS reached
FROM ours LEFT JOIN (SELECT ours AS n FROM paired UNION SELECT ours FROM guessed) AS known ON known.n = ours.n
LEFT JOIN (SELECT source, region, min(first) AS first, max(last) AS last FROM covered GROUP BY ALL) AS reach
    ON (reach.source = 'openbao' AND starts_with(ours.place, 'openbao://'))
    OR (reach.source = 'cloudtrail' AND starts_with(ours.kms_key, 'aws-kms://' || reach.region || '/'))
WHERE ours.outcome = 'allowed' AND list_contains($places, ours.place)
"""
_UNSEEN_GROUPS = """
SELECT kms_key, principal, operation, count(*), min(time), max(time),
    flatten(list(requests ORDER BY n)[:10])[:10], min([shard, seq]), max([shard, seq])
FROM unseen WHERE reached AND NOT known GROUP BY ALL ORDER BY count(*) DESC, kms_key, principal LIMIT 1000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    What is judged: from *since* to *until*. *skew* is how far the clocks of both logs may be apart.
    """

    since: datetime
    until: datetime
    skew: timedelta = timedelta(minutes=1)

    @classmethod
    def of(
        cls, *, days: float, delay: timedelta, now: datetime, began: datetime | None
    ) -> "Window":
        """
        Return the window of *days*, up to what was delivered for sure.

        Args:
            delay: that a log's records may be late.
            began: when our log did; what was called before then nobody could record.
        """
        since = now - timedelta(days=days)
        if began is not None:
            since = max(since, began.replace(microsecond=0))  # CloudTrail has whole seconds
        return cls(since=since, until=now - delay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    Calls alike that one log has and the other has not.

    Args:
        source: whose log has them: `cloudtrail`, `openbao` or `lacre`.
        principal: as that log names it.
        requests: ids of some of them.
        evidence: (shard, seq) of the first and the last, for those of our log.
    """

    source: str
    kms_key: str
    principal: str
    name: str
    refused: bool
    count: int
    first: datetime
    last: datetime
    requests: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    evidence: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """
    What came of it.

    Args:
        calls: that key services logged in the window, of the KMS keys that were asked about.
        by_id, by_time: how many of them are ours.
        refused: how many the service refused, whosever they were.
        bypass: calls that nobody recorded.
        recorded: unwraps that our log says succeeded, in the window.
        unseen: those of them that the service's log does not know.
        unjudged: ours outside of what the service's log covers, and calls outside of the window.
    """

    calls: int
    by_id: int
    by_time: int
    refused: int
    bypass: tuple[Group, ...]
    recorded: int
    unseen: tuple[Group, ...]
    unjudged: int


def load_ours(
    logs: ServiceLogs,
    entries: Iterable[tuple[tuple[int, int] | None, Entry]],
    *,
    namespace: str | None = None,
) -> set[str]:
    """
    Take the unwraps of our log: each entry with its position, if it has one. Return the places of their KMS keys.

    Args:
        namespace: of OpenBao, as lacre.toml says.
    """
    logs.database.execute(_OURS)
    places: set[str] = set()
    for batch in _batches(_rows(entries, namespace)):
        places.update(row["place"] for row in batch)
        file = logs.directory / "ours.json"
        file.write_text("\n".join(map(json.dumps, batch)), encoding="utf-8")
        logs.database.execute(_LOAD, {"file": str(file)})
        file.unlink()
    return places


def match(logs: ServiceLogs, window: Window, places: Iterable[str]) -> Matched:
    """Match what *logs* and `load_ours` took; judge calls of the KMS keys at *places* (`place_of`) in *window*."""
    database = logs.database
    places = sorted(places)
    database.execute(_BY_ID)
    database.execute(_LEARNED)
    database.execute("CREATE TABLE guessed (call BIGINT, ours BIGINT)")
    skew = round(window.skew.total_seconds() * 1_000_000)
    # First where both name the context, then where nobody can tell what OpenBao's hash stands for.
    _pair(database, skew, exact=True)
    _pair(database, skew, exact=False)
    times = {"since": micros(window.since), "until": micros(window.until)}
    database.execute(_JUDGED, {"places": places})
    database.execute(_UNSEEN, times | {"places": places})
    calls, refused, by_id, by_time, outside = _one(database, _COUNTS, times)
    recorded, unreached = _one(database, "SELECT count(*) FILTER (reached), count(*) FILTER (NOT reached) FROM unseen")  # fmt: skip
    alike = database.execute(_GROUPS, times | {"places": places}).fetchall()
    lost = database.execute(_UNSEEN_GROUPS).fetchall()
    return Matched(
        calls=calls,
        by_id=by_id,
        by_time=by_time,
        refused=refused,
        bypass=tuple(_bypass(row) for row in alike),
        recorded=recorded,
        unseen=tuple(_unseen(row) for row in lost),
        unjudged=outside + unreached,
    )


def _pair(database: Any, skew: int, *, exact: bool) -> None:
    # Both sides in order, so that neither is in memory: the earliest attempt that is in reach takes
    # the earliest call, which pairs as many as can be paired.
    spare = _each(database, _SPARE, exact)
    mine = next(spare, None)
    left = mine[4] if mine else 0
    guessed: list[tuple[int, int]] = []
    done: set[int] = set()
    for call, place, digest, time in _each(database, _WITHOUT, exact):
        group = (place, digest if exact else "")
        while mine is not None:
            at = (mine[1], mine[2] if exact else "")
            if at > group or (at == group and left and mine[3] >= time - skew):
                break
            mine = next(spare, None)
            left = mine[4] if mine else 0
        if mine is not None and at == group and mine[3] <= time + skew and call not in done:
            guessed.append((call, mine[0]))
            done.add(call)
            left -= 1
    for start in range(0, len(guessed), _BATCH):
        part = guessed[start : start + _BATCH]
        database.execute(
            "INSERT INTO guessed SELECT unnest($calls), unnest($ours)",
            {"calls": [call for call, _ in part], "ours": [ours for _, ours in part]},
        )


def _each(database: Any, statement: str, exact: bool) -> Iterator[tuple[Any, ...]]:
    cursor = database.cursor().execute(statement, {"exact": exact})
    while rows := cursor.fetchmany(_BATCH):
        yield from rows


def _one(database: Any, statement: str, given: Mapping[str, int] | None = None) -> Any:
    return database.execute(statement, given or {}).fetchone()


def _rows(
    entries: Iterable[tuple[tuple[int, int] | None, Entry]], namespace: str | None
) -> Iterator[dict[str, Any]]:
    for n, (position, entry) in enumerate(entries):
        said = entry.members
        yield {
            "n": n,
            "shard": position[0] if position else None,
            "seq": position[1] if position else None,
            "time": micros(datetime.fromisoformat(said["time"])),
            "kms_key": said["kms_key"],
            "place": place_of(said["kms_key"], namespace),
            "digest": said["digest"],
            "operation": said["operation"],
            "outcome": said["outcome"],
            "principal": said["principal"],
            "attempts": said["attempts"],
            "requests": said["requests"],
        }


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _bypass(row: tuple[Any, ...]) -> Group:
    source, kms_key, principal, name, refused, count, first, last, requests, addresses = row
    return Group(
        source=source,
        kms_key=kms_key,
        principal=principal,
        name=name,
        refused=refused,
        count=count,
        first=_when(first),
        last=_when(last),
        requests=tuple(requests or ()),
        addresses=tuple(addresses or ()),
    )


def _unseen(row: tuple[Any, ...]) -> Group:
    kms_key, principal, name, count, first, last, requests, earliest, latest = row
    placed = {tuple(at): None for at in (earliest, latest) if at[0] is not None}
    return Group(
        source="lacre",
        kms_key=kms_key,
        principal=principal,
        name=name,
        refused=False,
        count=count,
        first=_when(first),
        last=_when(last),
        requests=tuple(requests),
        evidence=tuple(placed),
    )


def _when(time: int) -> datetime:
    return datetime.fromtimestamp(time // 1_000_000, UTC).replace(microsecond=time % 1_000_000)
