# SPDX-License-Identifier: Apache-2.0
"""
The dump that a sealing takes, and the proof that it is a way back without the epoch before.

Restores the dump aside and opens, with the new epoch's seal key alone, the outer layer of every
sealed subject key in it: what opens there does not need the KMS key that is destroyed next. The
epoch KMS keys themselves are in no dump. Opens no subject key and no value: `lacre keys drill` does.
"""

import datetime as dt
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from lacre.application import Lacre
from lacre.errors import MisuseError, Tampered
from lacre.keys.epochs import EpochLedger
from lacre.keys.hierarchy import KeyState
from lacre.keys.moments import moment_text
from lacre.keys.ports import KeyService
from lacre.keys.resolver import unwrap_row
from lacre.keys.sealing import bucket_of, bucket_scope, cover, seal_scope, uncovered
from lacre.kms.local import Identity
from lacre.recovery.dump import read_dump, write_dump
from lacre.recovery.files import write_new
from lacre.recovery.restore import restore
from lacre.stores.database import SCRATCH
from lacre.stores.opening import open_key_store
from lacre.stores.sql import SQLKeyStore

__all__ = ["proved_dump"]

_PAGE = 500


def proved_dump(
    lacre: Lacre, store: SQLKeyStore, *, identity: Identity, base: Path, keystore: Path
) -> Callable[[], str]:
    """
    Return what takes a dump of *store*, keeps it, proves it, and returns its SHA-256.

    Args:
        keystore: the directory of the local keystore; it need not be there.
    """

    def prove() -> str:
        sealing = lacre.policy.file.sealing
        assert sealing is not None
        now = dt.datetime.now(dt.UTC)
        contents = store.contents()
        dumped = write_dump(
            contents,
            {path.stem: path.read_bytes() for path in sorted(keystore.glob("[a-z0-9]*.json"))},
            app=lacre.policy.file.app,
            env=lacre.policy.file.env,
            taken_at=moment_text(now),
            signer=identity,
            signers=lacre.signers,
        )
        directory = base / sealing.dumps
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(directory / f"{now:%Y%m%dT%H%M%S%f}.dump", dumped)
        with tempfile.TemporaryDirectory(prefix="lacre-seal-") as made:
            aside = open_key_store(f"sqlite:///{made}/{SCRATCH}keys.db", base)
            try:
                dump = read_dump(dumped, signers=lacre.signers)
                restore(aside, dump, directory=Path(made) / "keystore", signers=lacre.signers)
                _open(lacre, aside, lacre.services, sealing.classes)
            finally:
                aside.discard()
        return hashlib.sha256(dumped).hexdigest()

    return prove


def _open(
    lacre: Lacre,
    aside: SQLKeyStore,
    services: Mapping[str, KeyService],
    classes: frozenset[str],
) -> None:
    ledger = EpochLedger(epochs=aside, signers=lacre.epochs.signers, keystore=aside.keystore_id)
    newest = ledger.rows()[0]
    scope = seal_scope(lacre.policy.service_scope())
    found = [row for row in aside.versions(scope) if row.key_id.hex() == newest.seal]
    failed = MisuseError(
        "the dump does not open without the epoch before; nothing was destroyed",
        hint="look at the dump with `lacre keys drill`, then seal again",
    )
    if not found:
        raise failed
    seal = unwrap_row(found[0], services=services, kms_keys=ledger.kms_keys, parent=None)
    buckets = {
        row.key_id: (row, unwrap_row(row, services={}, kms_keys=ledger.kms_keys, parent=seal))
        for row in aside.bucket_keys()
        if row.state is KeyState.ACTIVE and row.parent == newest.seal
    }
    after = b""
    while page := aside.subject_keys_by_id(after=after, limit=_PAGE):
        after = page[-1].key_id
        for row in page:
            named = cover(row)
            ours = seal_scope(row.scope) == scope
            if named is None and not (ours and row.scope.class_ in classes):
                continue
            try:
                bucket, key = buckets[named or b""]
                if bucket.scope != bucket_scope(scope, bucket_of(row.key_id)):
                    raise Tampered
                uncovered(row, key)
            except (KeyError, Tampered):
                raise failed from None
