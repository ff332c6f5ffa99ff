# SPDX-License-Identifier: Apache-2.0
"""
Proofs of what is in a stored log, made of its tiles: a handful of rows each.

Implements ``spec/evidence-log.md``, section 7.3. Every proof is verified before it is handed out, so
one from a log that somebody changed is an error here and not at whoever is given it.
"""

from collections.abc import Collection

import sqlalchemy as sa

from lacre._core.merkle import consistency_proof, inclusion_proof
from lacre.audit.leaves import leaf_text, shard_name
from lacre.audit.notes import Verifier
from lacre.audit.proofs import check_consistency, check_proof, write_consistency, write_proof
from lacre.errors import MisuseError
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import CHECKPOINT, LEAF
from lacre.stores.log.tree import Nodes

__all__ = ["prove_consistency", "prove_event"]


def prove_event(log: AuditLog, event: str, signers: Collection[Verifier]) -> str:
    """
    Return the file that proves the event with the id *event* (32 hex digits) to be in *log*.

    Raises:
        MisuseError: there is no such event, or it is not signed yet.
        Tampered: what is stored proves nothing.
    """
    try:
        wanted = bytes.fromhex(event)
    except ValueError:
        raise MisuseError("an event's id is 32 hex digits") from None
    with log.snapshot() as connection:
        leaf = connection.execute(
            sa.select(LEAF.c.shard, LEAF.c.seq, LEAF.c.sequenced, LEAF.c.entry).where(
                LEAF.c.id == wanted
            )
        ).one_or_none()
        if leaf is None:
            raise MisuseError(
                "there is no such event in the log",
                hint="its month may be purged; `lacre audit tail` shows ids",
            )
        head = connection.execute(
            sa.select(CHECKPOINT.c.size, CHECKPOINT.c.note)
            .where(CHECKPOINT.c.shard == leaf.shard, CHECKPOINT.c.size > leaf.seq)
            .order_by(CHECKPOINT.c.size.desc())
            .limit(1)
        ).one_or_none()
        if head is None:
            raise MisuseError(
                "the event is not signed yet", hint="ask again in a second; does a sequencer run?"
            )
        proof = inclusion_proof(leaf.seq, head.size, Nodes(connection, leaf.shard))
    made = write_proof(leaf_text(leaf.sequenced, bytes(leaf.entry)), leaf.seq, proof, head.note)
    check_proof(made, signers)
    return made


def prove_consistency(
    log: AuditLog, shard: int, old: int, signers: Collection[Verifier], *, new: int | None = None
) -> str:
    """
    Return the file that proves the checkpoint of *old* leaves of *shard* to be the beginning of that of *new*, by default the newest.

    Raises:
        MisuseError: there is no such checkpoint.
        Tampered: what is stored proves nothing.
    """
    query = sa.select(CHECKPOINT.c.size, CHECKPOINT.c.note).where(CHECKPOINT.c.shard == shard)
    newest = query.order_by(CHECKPOINT.c.size.desc()).limit(1)
    with log.snapshot() as connection:
        before = connection.execute(query.where(CHECKPOINT.c.size == old)).one_or_none()
        after = connection.execute(
            newest if new is None else query.where(CHECKPOINT.c.size == new)
        ).one_or_none()
        if before is None or after is None or after.size < before.size:
            raise MisuseError(
                f"{shard_name(shard)} has no such checkpoints",
                hint="`lacre audit verify --json` lists the newest",
            )
        proof = consistency_proof(before.size, after.size, Nodes(connection, shard))
    made = write_consistency(proof, before.note, after.note)
    check_consistency(made, signers)
    return made
