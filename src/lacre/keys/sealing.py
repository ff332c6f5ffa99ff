# SPDX-License-Identifier: Apache-2.0
"""
The outer wrap of subject keys: one of 256 bucket keys, which a seal key wraps, which an epoch ends.

Implements ``spec/sealing.md``, sections 1 and 2. Puts the outer layer around the inner one, which
the branch key made, and takes it off; neither needs the other's key, so whoever seals never sees a
subject key. Does not choose an epoch and stores nothing.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.errors import MisuseError, Tampered
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, Scope
from lacre.keys.moments import moment_text
from lacre.sensitive import KeyMaterial

__all__ = [
    "BUCKETS",
    "after_all",
    "bucket_of",
    "bucket_scope",
    "check_ended",
    "cover",
    "covered",
    "ended_at",
    "seal_scope",
    "uncovered",
]

BUCKETS = 256

# Of seal and bucket keys, which serve every tenant and class of a service. No class is named so,
# and a tenant that is named so has keys of other kinds.
_ALL = "-"


def seal_scope(of: Scope) -> Scope:
    """Return the scope of the seal keys of the service that *of* belongs to."""
    return replace(of, kind=KeyKind.SEAL, tenant=_ALL, class_=_ALL, subject=None)


def bucket_scope(of: Scope, bucket: int) -> Scope:
    """Return the scope of a bucket's keys of the service that *of* belongs to."""
    return replace(of, kind=KeyKind.BUCKET, tenant=_ALL, class_=_ALL, subject=f"{bucket:02x}")


def bucket_of(key_id: bytes) -> int:
    """Return the bucket of a subject key: ids are random, so the first byte spreads them evenly."""
    return key_id[0]


def cover(row: KeyRow) -> bytes | None:
    """
    Return the id of the bucket key that the outer layer of *row* names; None where there is none.

    Unauthenticated, like every header: whoever opens the layer finds out.
    """
    if row.wrapped is None:
        return None
    named = field.key_id_of(row.wrapped)
    return None if named.hex() == row.parent else named


def covered(row: KeyRow, *, bucket: bytes, key: KeyMaterial, salt: bytes) -> KeyRow:
    """
    Return *row*, whose inner layer stands alone, with an outer layer under the bucket key *bucket*.

    Bound to the same bytes as the inner layer: no layer moves to another row. The keys differ, so
    the same context under both is safe.
    """
    if row.wrapped is None or cover(row) is not None:
        raise Tampered
    outer = field.encrypt(
        key.reveal(), bucket, row.immutable(), row.wrapped, salt=salt, padded=False, label=WRAP
    )
    return replace(row, wrapped=bytes(outer))


def uncovered(row: KeyRow, key: KeyMaterial) -> KeyRow:
    """
    Return *row* without its outer layer.

    Raises:
        Tampered: it does not open, or there is no inner layer of the row's parent in it.
    """
    if row.wrapped is None:
        raise Tampered
    inner = field.decrypt(key.reveal(), row.wrapped, row.immutable(), label=WRAP)
    found = replace(row, wrapped=bytes(inner))
    if cover(found) is not None:
        raise Tampered
    return found


def ended_at(row: KeyRow, buckets: Iterable[KeyRow], *, now: str) -> str:
    """
    Return when the subject key *row* ends, where it is *now* by the clock of whoever ends it.

    Never before a bucket key of its bucket was made, of which *buckets* were read after *row* was:
    so what is around it came first by the key store's word, however far two clocks are apart.
    """
    mine = bucket_scope(row.scope, bucket_of(row.key_id))
    return max([now, *(each.created for each in buckets if each.scope == mine)])


def after_all(ended: str, *, now: str) -> str:
    """Return when a bucket key is made that is to be later than *ended*, where it is *now* by the sealer's clock."""
    try:
        after = dt.datetime.fromisoformat(ended) + dt.timedelta(seconds=1)
    except (ValueError, OverflowError):
        return now  # none ended; or somebody wrote it, and is sealed once more next time
    return max(now, moment_text(after))


def check_ended(row: KeyRow, state: KeyState) -> None:
    """Raise `MisuseError` where *state* would end a seal or bucket key, which only sealing does."""
    if row.scope.kind in (KeyKind.SEAL, KeyKind.BUCKET) and state not in USABLE:
        raise MisuseError(
            f"a {row.scope.kind} key is over keys of many people, and ends with its epoch",
            hint="lacre seal begins the next epoch; lacre shred ends one subject's keys",
        )
