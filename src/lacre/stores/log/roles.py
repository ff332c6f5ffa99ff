# SPDX-License-Identifier: Apache-2.0
"""
Who may do what in an evidence log on PostgreSQL: four group roles, and what nobody may do.

Returns SQL and runs none. The roles cannot log in; a DBA makes logins and grants them one, or
several. The owner of the schema, whoever ran `lacre db upgrade`, and a superuser are past all of it:
what they change is found (``docs/threat-model.md``), not prevented. Written so that running it
again changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import sqlalchemy as sa

from lacre.errors import ConfigurationError
from lacre.stores.identifiers import is_plain
from lacre.stores.log.schema import (
    ALERT,
    CHANNEL,
    CHECKPOINT,
    CURSOR,
    HONEYTOKEN,
    INBOX,
    LEAF,
    LOG_META,
    SEQUENCER,
    SHARD,
    SPENT,
    TALLY,
    TILE,
    TOUCHED,
    metadata,
)
from lacre.stores.roles import group_role, only

__all__ = ["LogRoles", "log_role_statements"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRoles:
    """
    The names of the four roles, which are a cluster's and not a database's.

    *writer*: applications. Hands entries over, and reads none.
    *sequencer*: what sequences. Appends leaves, and changes none.
    *detector*: what looks for the suspicious. Reads, hands entries over, and writes what it found.
    *auditor*: reads.
    """

    writer: str = "lacre_writer"
    sequencer: str = "lacre_sequencer"
    detector: str = "lacre_detector"
    auditor: str = "lacre_auditor"

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names) or not all(is_plain(name) for name in names):
            raise ConfigurationError(
                "roles have four different names of a-z, 0-9 and underscore, no word that SQL reserves and none that begins with pg_",
                hint="--writer-role, --sequencer-role, --detector-role, --auditor-role",
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(getattr(self, each.name) for each in fields(self))


# What the sequencer changes of a row that is there. Of leaves, checkpoints and what was touched: nothing.
_UPKEEP: dict[sa.Table, tuple[str, ...]] = {
    TILE: ("hashes",),
    TALLY: ("events", "count"),
    SHARD: ("state",),
}


def log_role_statements(schema: str, roles: LogRoles) -> Sequence[str]:
    """Return the statements that make the roles and their rights, in order."""
    everyone = ", ".join(roles.names)

    def named(*tables: sa.Table) -> str:
        return ", ".join(f"{schema}.{table.name}" for table in tables)

    everything = named(*metadata.sorted_tables)
    position = f"{schema}.{INBOX.name}_position_seq"
    return [
        *map(group_role, roles.names),
        # First nothing, then what each needs: a right that a release no longer gives is taken.
        f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {everyone}",
        f"REVOKE ALL ON {everything} FROM PUBLIC, {everyone}",
        f"REVOKE ALL ON SEQUENCE {position} FROM PUBLIC, {everyone}",
        only(schema, roles.names),
        f"GRANT USAGE ON SCHEMA {schema} TO {everyone}",
        f"GRANT SELECT ON {named(LOG_META)} TO {everyone}",
        f"GRANT SELECT ON {everything} TO {roles.sequencer}, {roles.detector}, {roles.auditor}",
        # Hands over, and reads nothing of anybody's; of leaves, when the last one was sequenced.
        f"GRANT INSERT ON {named(INBOX)} TO {roles.writer}, {roles.detector}",
        f"GRANT USAGE ON SEQUENCE {position} TO {roles.writer}, {roles.detector}",
        f"GRANT SELECT (shard, seq, sequenced) ON {named(LEAF)} TO {roles.writer}",
        f"GRANT DELETE, UPDATE (position) ON {named(INBOX)} TO {roles.sequencer}",
        f"GRANT INSERT ON {named(LEAF, TOUCHED, CHECKPOINT, *_UPKEEP)} TO {roles.sequencer}",
        f"GRANT UPDATE ON {named(SEQUENCER)} TO {roles.sequencer}",
        *(
            f"GRANT UPDATE ({', '.join(names)}) ON {named(table)} TO {roles.sequencer}"
            for table, names in _UPKEEP.items()
        ),
        f"GRANT INSERT, UPDATE ON {named(ALERT, CHANNEL, CURSOR, HONEYTOKEN)} TO {roles.detector}",
        f"GRANT DELETE ON {named(HONEYTOKEN)} TO {roles.detector}",
        # What principals spent of budgets is counted by all applications together.
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {named(SPENT)} TO {roles.writer}",
    ]
