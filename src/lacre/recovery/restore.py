# SPDX-License-Identifier: Apache-2.0
"""
Put a dump in the place of a key store, or refuse and say what that would undo.

Takes verified dumps only (`lacre.recovery.dump`). One transaction for the store; the local
keystore's manifests after it, none of them ever replaced by an older one. Decides nothing about
keys: a key that was destroyed after the dump lives again in what was restored.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from lacre.errors import KeyNotFound, MisuseError, Tampered
from lacre.keys.epochs import EpochState
from lacre.keys.hierarchy import KeyRow, KeyState
from lacre.kms.local import PublicIdentity
from lacre.kms.local import manifest as manifests_of
from lacre.kms.local.files import read_shared, write_shared
from lacre.recovery.dump import Dump
from lacre.stores.contents import KeyStoreContents
from lacre.stores.sql import SQLKeyStore

__all__ = ["restore", "undone_by"]

_NOTES = 20  # lines of what would be undone that an error carries


def undone_by(dump: KeyStoreContents, held: KeyStoreContents) -> Sequence[str]:
    """Return a sentence for each thing that *held* knows and *dump*, put in its place, does not."""
    kept = {row.key_id: row for row in dump.keys}
    undone = [
        sentence
        for row in held.keys
        if (sentence := _key_undone(row, kept.get(row.key_id))) is not None
    ]
    columns = {(row.store, row.table, row.column): row for row in dump.columns}
    for state in held.columns:
        before = columns.get((state.store, state.table, state.column))
        if before is None or before.revision < state.revision:
            was = "nothing is known of it" if before is None else str(before.state)
            undone.append(f"column {state.table}.{state.column} is {state.state}: back to {was}")
    seen = {row.kms_key: row for row in dump.seen}
    for row in held.seen:
        earlier = seen.get(row.kms_key)
        if earlier is None or earlier.serial < row.serial:
            undone.append(f"manifest {row.serial} of {row.kms_key} was seen: older ones would be believed again")  # fmt: skip
        elif earlier.serial == row.serial and earlier.hash != row.hash:
            undone.append(f"manifest {row.serial} of {row.kms_key} was seen: another one of the same serial would be believed")  # fmt: skip
    subjects = {row.digest: row for row in dump.subjects}
    for subject in held.subjects:
        then = subjects.get(subject.digest)
        if subject.shredded is not None and (then is None or then.shredded is None):
            undone.append(f"a subject was shredded on {subject.shredded}: it would LIVE AGAIN")
        elif subject.hold is not None and (then is None or then.hold is None):
            undone.append(f"a subject of {subject.created} is on hold: it could be shredded again")
    newest = {row.number: row for row in dump.epochs}
    for epoch in held.epochs:
        if epoch.state is EpochState.DESTROYED and (
            (past := newest.get(epoch.number)) is not None and past.state is not epoch.state
        ):
            undone.append(f"epoch {epoch.number} of sealing was destroyed on {epoch.changed}: sealed subject keys of this dump open NO MORE")  # fmt: skip
        elif epoch.number not in newest:
            undone.append(f"epoch {epoch.number} of sealing began on {epoch.opened}: nothing would be known of it")  # fmt: skip
    if held.remembers and not dump.remembers:
        undone.append("that a memory of a manifest is missing would not be noticed any more")
    return undone


def _key_undone(row: KeyRow, before: KeyRow | None) -> str | None:
    name = f"{row.scope}, version {row.version} ({row.key_id.hex()[:8]})"
    if before is None:
        return f"{name} was made since: what it protects could not be read again"
    if before.revision < row.revision:
        again = "it would LIVE AGAIN" if row.state is KeyState.DESTROYED else f"back to {before.state}"  # fmt: skip
        return f"{name} is {row.state} since {row.changed}: {again}"
    if before.revision == row.revision and before.wrapped != row.wrapped:
        return f"{name} was wrapped anew since: back under its old parent"
    return None


def restore(
    store: SQLKeyStore,
    dump: Dump,
    *,
    directory: Path,
    signers: Collection[PublicIdentity],
    roll_back: bool = False,
) -> Sequence[str]:
    """
    Put *dump* in the place of what *store* holds, and its manifests where *directory* lacks them.

    Args:
        directory: of the local keystore.
        signers: whose manifests are believed.
        roll_back: also where that undoes something.

    Returns:
        What it undid, a sentence each.

    Raises:
        MisuseError: *store* is another key store's, or would lose something; the notes say what.
            Nothing was written.
    """
    missing = _manifests_to_write(dump, directory, signers)
    undone: list[str] = []

    def allow(held: KeyStoreContents) -> None:
        if not held:
            return
        if held.keystore != dump.contents.keystore:
            raise MisuseError(
                "the key store holds the keys of another one; nothing was written",
                hint="restore into an empty key store: --into URL",
            )
        undone.extend(undone_by(dump.contents, held))
        if undone and not roll_back:
            error = MisuseError(
                f"the key store is newer than the dump of {dump.taken_at}; nothing was written",
                hint="--roll-back restores all the same; processes that run refuse the keys that go back in time until they are restarted",
            )
            for sentence in undone[:_NOTES]:
                error.add_note(f"would be undone: {sentence}")
            if len(undone) > _NOTES:
                error.add_note(f"and {len(undone) - _NOTES} more")
            raise error

    store.upgrade()
    store.restore(dump.contents, allow=allow)
    if missing:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, file in missing.items():
        write_shared(directory / f"{name}.json", file)
    return undone


def _manifests_to_write(
    dump: Dump, directory: Path, signers: Collection[PublicIdentity]
) -> Mapping[str, bytes]:
    wanted = {}
    for name, file in dump.manifests.items():
        ours = manifests_of.verify(file, key=name, keystore=dump.contents.keystore, signers=signers)
        try:
            there, _ = read_shared(directory / f"{name}.json", limit=manifests_of.LIMIT)
        except KeyNotFound:
            wanted[name] = file
            continue
        try:
            held = manifests_of.verify(
                there, key=name, keystore=dump.contents.keystore, signers=signers
            )
            if held.serial == ours.serial and held.digest != ours.digest:
                raise Tampered
        except Tampered:
            raise MisuseError(
                f"{directory} holds a manifest of {name} that is not this keystore's; nothing was written",
                hint="move that file away, then restore again",
            ) from None
        if held.serial < ours.serial:
            wanted[name] = file
    return wanted
