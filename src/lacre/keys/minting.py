# SPDX-License-Identifier: Apache-2.0
"""
A new key row, and the wrap of a key under another key of the key store: one place for both.

Implements ``spec/key-rows.md``, the wrap under a row. Entropy and time are given. Does not draw the
key, ask a key service, store or activate anything.
"""

from collections.abc import Callable
from dataclasses import replace

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.keys.hierarchy import KeyRow, KeyState, Scope
from lacre.sensitive import KeyMaterial

__all__ = ["SUITE", "pending_row", "wrapped_under"]

SUITE = 1  # of every key row this release makes


def pending_row(
    scope: Scope,
    *,
    version: int,
    parent: str,
    keystore: str,
    now: str,
    entropy: Callable[[int], bytes],
    digest: bytes | None = None,
) -> KeyRow:
    """
    Return the row of a key that is not wrapped yet, pending, with a random id.

    Args:
        parent: the hex id of the key that will wrap it, or the URI of the KMS key.
        now: RFC 3339 text in UTC.
        entropy: returns that many fresh random bytes.
        digest: of the subject, where the key is a subject's.
    """
    return KeyRow(
        key_id=entropy(16),
        scope=scope,
        version=version,
        parent=parent,
        suite=SUITE,
        created=now,
        keystore=keystore,
        wrapped=None,
        state=KeyState.PENDING,
        revision=1,
        changed=now,
        mac=None,
        digest=digest,
    )


def wrapped_under(
    row: KeyRow,
    parent_id: bytes,
    parent: KeyMaterial,
    key: KeyMaterial,
    *,
    entropy: Callable[[int], bytes],
) -> KeyRow:
    """Return *row* with *key* wrapped by *parent*, bound to every immutable column of the row."""
    # A fresh salt for each wrap. All 32 bytes: there is no length to hide, so no padding.
    wrapped = field.encrypt(
        parent.reveal(), parent_id, row.immutable(), key.reveal(), salt=entropy(24), padded=False, label=WRAP
    )  # fmt: skip
    return replace(row, wrapped=bytes(wrapped))
