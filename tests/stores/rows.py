"""Rows that a key store may hold, and every way to use one."""

from collections.abc import Callable
from dataclasses import replace

from lacre.fields.column_state import ColumnState, ColumnStateRow
from lacre.keys.hierarchy import KeyRow, KeyState, SubjectRow
from lacre.stores.sql import SQLKeyStore
from tests.keys.parts import scope

ROW = KeyRow(
    key_id=b"\x01" * 16,
    scope=scope(),
    version=1,
    parent="ab" * 16,
    suite=1,
    created="2026-11-22T10:00:00Z",
    keystore="00" * 16,
    wrapped=b"CANARY-wrapped" * 9,
    state=KeyState.ACTIVE,
    revision=1,
    changed="2026-11-22T10:00:00Z",
    mac=b"CANARY-mac" * 3,
)
COLUMN = ColumnStateRow(
    store="main",
    table="t",
    column="c",
    class_="pii",
    state=ColumnState.DUAL,
    revision=1,
    changed="now",
    keystore="00" * 16,
    signer="ab" * 16,
    signature=b"s" * 64,
)
SUBJECT = SubjectRow(digest=b"\x07" * 32, pseudonym="0b" * 16, created="2026-11-22T10:00:00Z")


# The header of a wrap under the parent, and nothing that opens.
WRAPPED = b"\xc1\x01\x00" + bytes.fromhex(ROW.parent) + bytes(104)


def subject_key(subject: SubjectRow, **more: str) -> KeyRow:
    """A row of the subject's key, as the run time makes one; what is wrapped in it is nothing."""
    return replace(
        ROW,
        key_id=bytes.fromhex(subject.pseudonym or ""),
        scope=scope("subject", subject=subject.pseudonym, **more),
        wrapped=WRAPPED,
        mac=bytes(32),
        revision=2,
        digest=subject.digest,
    )


def uses(store: SQLKeyStore) -> list[Callable[[], object]]:
    """Each method that reads or writes."""
    return [
        lambda: store.versions(scope()),
        lambda: store.find(scope(), [bytes(16)]),
        lambda: store.holds(bytes(16)),
        lambda: store.row(bytes(16)),
        lambda: store.rows(),
        lambda: store.keystore_id,
        lambda: store.change(add=[ROW]),
        lambda: store.get("main", "t", "c"),
        lambda: store.put(COLUMN),
        lambda: store.recall("local://x"),
        lambda: store.subjects(scope(), [bytes(32)]),
        lambda: store.add_subjects([SUBJECT]),
        lambda: store.add_subject_keys([subject_key(SUBJECT)]),
        lambda: store.add_subject_version(subject_key(SUBJECT), over=None),
        lambda: store.subject_page(scope()),
        lambda: store.subject_keys(),
    ]
