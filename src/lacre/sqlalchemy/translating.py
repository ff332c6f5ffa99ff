# SPDX-License-Identifier: Apache-2.0
"""
What a session of an application does around SQLAlchemy's own writing: a unique value that was
there already is said without the statement, and the legacy bulk methods know encrypted columns.

Put in front of the session class an application gave. Does not execute statements
(`lacre.sqlalchemy.session`).
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from lacre.errors import UnsupportedQuery
from lacre.fields.stored import IndexToken, IndexTokens, Sealed
from lacre.sqlalchemy.bulk import Bulk, written_in_bulk
from lacre.sqlalchemy.declared import sealed_properties
from lacre.sqlalchemy.evidence import keep_evidence
from lacre.sqlalchemy.held_subjects import unheld_or_stay
from lacre.sqlalchemy.row_ids import keys_of_flush
from lacre.sqlalchemy.statements import refuse_values
from lacre.sqlalchemy.subjects import READY, subjects_of_flush
from lacre.sqlalchemy.token_triggers import before_flush, before_mappings
from lacre.sqlalchemy.types import SealedValue
from lacre.sqlalchemy.violations import translated
from lacre.sqlalchemy.writing import FLUSH

__all__ = ["TranslatingSession", "prepare_writing"]


def prepare_writing(factory: Any) -> None:
    """Have the sessions of *factory* know their rows before they write, and record what they wrote."""
    event.listen(factory, "do_orm_execute", written_in_bulk)
    event.listen(factory, "before_flush", keys_of_flush)
    event.listen(factory, "before_flush", subjects_of_flush)
    event.listen(factory, "before_flush", unheld_or_stay)
    event.listen(factory, "before_flush", before_flush)
    keep_evidence(factory)


class TranslatingSession(Session):
    """Says which unique value was there already, without the statement and its parameters."""

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        try:
            with translated(self):
                super().flush(objects)
        finally:
            self.info.pop(FLUSH, None)
            self.info.pop(READY, None)

    # The legacy bulk methods run no event of the unit of work.

    def bulk_save_objects(self, objects: Any, *args: Any, **kw: Any) -> None:
        objects = list(objects)
        for mapper in {instance_state(found).mapper for found in objects}:
            self.info["lacre"].refuse_overdue(mapper)
            if sealed_properties(mapper):
                # It would leave the objects with their plaintext, in a session they do not belong to.
                raise UnsupportedQuery(
                    f"{mapper.class_.__name__} has encrypted columns, which bulk_save_objects does not know",
                    hint="session.add_all(objects), or session.execute(insert(Model), [{...}, ...])",
                )
        super().bulk_save_objects(objects, *args, **kw)

    def bulk_insert_mappings(
        self,
        mapper: Any,
        mappings: Any,
        return_defaults: bool = False,
        render_nulls: bool = False,
    ) -> None:
        rows = list(mappings)
        self.info["lacre"].refuse_overdue(inspect(mapper))
        before_mappings(self, inspect(mapper))
        bulk = Bulk(self, inspect(mapper), inserting=True)
        if not rows or not bulk.concerns(rows):
            super().bulk_insert_mappings(mapper, rows, return_defaults, render_nulls)
            return
        made = bulk.sealed(rows)
        whole = [{**row, **more} for row, more in zip(rows, made, strict=True)]
        with translated(self):
            super().bulk_insert_mappings(mapper, whole, return_defaults, render_nulls)
        bulk.executed()
        if return_defaults:
            for row, written in zip(rows, whole, strict=True):
                row.update(
                    (key, value)
                    for key, value in written.items()
                    if key not in row
                    and key not in bulk.token_keys
                    and not isinstance(value, Sealed | SealedValue | IndexToken | IndexTokens)
                )

    def bulk_update_mappings(self, mapper: Any, mappings: Any) -> None:
        rows = list(mappings)
        self.info["lacre"].refuse_overdue(inspect(mapper))
        before_mappings(self, inspect(mapper))
        bulk = Bulk(self, inspect(mapper), inserting=False)
        if not rows or not bulk.concerns(rows):
            refuse_values(sa.update(mapper), rows, by_key=True)
            super().bulk_update_mappings(mapper, rows)
            return
        made = bulk.sealed(rows)
        with translated(self):
            super().bulk_update_mappings(
                mapper, [{**row, **more} for row, more in zip(rows, made, strict=True)]
            )
        bulk.executed()
