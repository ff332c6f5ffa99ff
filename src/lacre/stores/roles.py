# SPDX-License-Identifier: Apache-2.0
"""
Who may do what in a key store on PostgreSQL: four group roles, and what nobody may do.

Returns SQL and runs none. The roles cannot log in; a DBA makes logins and grants them one. The
owner of the schema, whoever ran `lacre db upgrade`, and a superuser are past all of it. Written
so that running it again changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lacre.errors import ConfigurationError
from lacre.stores.identifiers import is_plain
from lacre.stores.schema import (
    COLUMN_STATE,
    EPOCH,
    GRANT,
    GRANT_ACT,
    KEY,
    KEYSTORE_SEEN,
    META,
    OUTBOX,
    SUBJECT,
)

__all__ = ["Roles", "group_role", "only", "role_statements"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """
    The names of the four roles, which are a cluster's and not a database's.

    *runtime*: applications. Reads; writes what it remembers of manifests, and makes subjects and
    the first key of each.
    *operator*: `lacre keys`, `lacre protect`, `lacre grant`. Inserts and changes keys, subjects and
    column states; adds grants and what is done about them.
    *auditor*: reads, but for the outbox, which the log has in a second.
    *sequencer*: takes from the outbox what is recorded of changes, and does nothing else. The evidence
    log's role of that name may be the same.
    """

    runtime: str = "lacre_runtime"
    operator: str = "lacre_operator"
    auditor: str = "lacre_auditor"
    sequencer: str = "lacre_sequencer"

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != 4 or not all(is_plain(name) for name in names):
            raise ConfigurationError(
                "roles have four different names of a-z, 0-9 and underscore, no word that SQL reserves and none that begins with pg_",
                hint="--runtime-role, --operator-role, --auditor-role, --sequencer-role",
            )

    @property
    def names(self) -> tuple[str, ...]:
        return (self.runtime, self.operator, self.auditor, self.sequencer)


# The columns of each table that a row's life may change; all others are written once.
_CHANGES = {
    KEY: ("parent", "wrapped", "state", "revision", "changed", "mac", "digest"),
    SUBJECT: ("pseudonym", "shredded", "hold"),
    EPOCH: (
        "kms_key",
        "seal",
        "material",
        "state",
        "changed",
        "final",
        "unsealed",
        "dump",
        "keystore",
        "signer",
        "signature",
    ),
    COLUMN_STATE: ("class", "state", "revision", "changed", "keystore", "signer", "signature"),
    KEYSTORE_SEEN: ("serial", "hash", "version_id", "mac"),
}

# How far the run time moves a serial at once. A manifest is one serial for each change of its key.
_STEP = 1000

# What no change of a row may do, whoever makes it: a stolen operator's credential does not bring
# a destroyed key back, and a stolen run-time's does not make an older manifest acceptable.
_NEVER = {
    KEY: "OLD.state = 'destroyed' OR NEW.revision < OLD.revision OR (NEW.revision = OLD.revision AND NEW.state <> OLD.state)"
    " OR (NEW.digest IS DISTINCT FROM OLD.digest AND (NEW.digest IS NOT NULL OR NEW.state <> 'destroyed'))",
    # A tombstone stays as it is, a pseudonym is erased and never replaced, and what is on hold is not shredded.
    SUBJECT: "OLD.shredded IS NOT NULL OR (NEW.pseudonym IS NOT NULL AND NEW.pseudonym IS DISTINCT FROM OLD.pseudonym)"
    " OR (NEW.shredded IS NOT NULL AND OLD.hold IS NOT NULL)",
    # An epoch that ended does not begin again.
    EPOCH: "OLD.state = 'destroyed'",
    COLUMN_STATE: "NEW.revision <> OLD.revision + 1",
    KEYSTORE_SEEN: "NEW.serial <= OLD.serial",
}


def role_statements(schema: str, roles: Roles) -> Sequence[str]:
    """Return the statements that make the roles, their rights and the triggers, in order."""
    readers = f"{roles.runtime}, {roles.operator}, {roles.auditor}"
    everyone = f"{readers}, {roles.sequencer}"
    position = f"{schema}.{OUTBOX.name}_position_seq"

    def named(*tables: object) -> str:
        return ", ".join(f"{schema}.{table}" for table in tables)

    def changes(table: object) -> str:
        return ", ".join(f'"{column}"' for column in _CHANGES[table])  # type: ignore[index]

    everything = named(META, KEY, COLUMN_STATE, KEYSTORE_SEEN, SUBJECT, EPOCH, GRANT, GRANT_ACT)
    statements = [group_role(name) for name in roles.names]
    statements += [
        # First nothing, then what each needs: a right that a release no longer gives is taken.
        f"REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {everyone}",
        f"REVOKE ALL ON {everything}, {named(OUTBOX)} FROM PUBLIC, {everyone}",
        f"REVOKE ALL ON SEQUENCE {position} FROM PUBLIC, {everyone}",
        only(schema, roles.names),
        f"GRANT USAGE ON SCHEMA {schema} TO {everyone}",
        f"GRANT SELECT ON {everything} TO {readers}",
        # Who changes keys records it, and reads no record; who sequences takes them, and reads no key.
        f"GRANT INSERT ON {named(OUTBOX)} TO {roles.runtime}, {roles.operator}",
        f"GRANT USAGE ON SEQUENCE {position} TO {roles.runtime}, {roles.operator}",
        f"GRANT SELECT, DELETE ON {named(OUTBOX)} TO {roles.sequencer}",
        # A process remembers the highest manifest it saw: spec/local-keystore.md, section 9.
        f"GRANT INSERT, UPDATE ({changes(KEYSTORE_SEEN)}) ON {named(KEYSTORE_SEEN)} TO {roles.runtime}, {roles.operator}",
        f"GRANT INSERT, UPDATE ({changes(KEY)}) ON {named(KEY)} TO {roles.operator}",
        f"GRANT INSERT, UPDATE ({changes(COLUMN_STATE)}) ON {named(COLUMN_STATE)} TO {roles.operator}",
        f"GRANT INSERT, UPDATE ({changes(SUBJECT)}) ON {named(SUBJECT)} TO {roles.operator}",
        f"GRANT INSERT, UPDATE ({changes(EPOCH)}) ON {named(EPOCH)} TO {roles.operator}",
        # A grant is asked for, approved and revoked by rows that are added: nobody changes or removes one.
        f"GRANT INSERT ON {named(GRANT, GRANT_ACT)} TO {roles.operator}",
        # A subject, and not a tombstone; of keys, those that the trigger below lets by.
        f"GRANT INSERT (digest, pseudonym, created) ON {named(SUBJECT)} TO {roles.runtime}",
        f"GRANT INSERT ON {named(KEY)} TO {roles.runtime}",
    ]
    for table, forbidden in _NEVER.items():
        fixed = ", ".join(
            f'"{column.name}"' for column in table.c if column.name not in _CHANGES[table]
        )
        moved = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in fixed.split(", "))
        guard = f"{schema}.{table.name}_guard"
        statements += [
            f"""CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $guard$
BEGIN
  IF {forbidden} OR {moved} THEN
    RAISE EXCEPTION 'lacre: a row of {table.name} does not change like that' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $guard$""",
            f"REVOKE ALL ON FUNCTION {guard}() FROM PUBLIC",
            f"CREATE OR REPLACE TRIGGER {table.name}_guard BEFORE UPDATE ON {named(table)} FOR EACH ROW EXECUTE FUNCTION {guard}()",
        ]
    return [*statements, *_remembering(schema, roles), *_making(schema, roles)]


def _making(schema: str, roles: Roles) -> Sequence[str]:
    # What the run time makes is a subject's first key, and nothing that a KMS key wraps. A trigger
    # and not row security, which would stop a backup that reads everything.
    table, first = f"{schema}.{KEY.name}", f"{schema}.{KEY.name}_first"
    return [
        f"""CREATE OR REPLACE FUNCTION {first}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $first$
BEGIN
  IF {_trusted(roles)} THEN
    RETURN NEW;
  END IF;
  IF NEW.kind <> 'subject' OR NEW.state <> 'active' OR NEW.version <> 1 OR NEW.revision <> 2
    OR NEW.digest IS NULL OR NEW.parent !~ '^[0-9a-f]{{32}}$'
    OR pg_catalog.octet_length(NEW.mac) IS DISTINCT FROM 32
    OR pg_catalog.octet_length(NEW.wrapped) NOT BETWEEN 123 AND 1024 THEN
    RAISE EXCEPTION 'lacre: the run time makes no such key' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $first$""",
        f"REVOKE ALL ON FUNCTION {first}() FROM PUBLIC",
        f"CREATE OR REPLACE TRIGGER {KEY.name}_first BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {first}()",
    ]


def _trusted(roles: Roles) -> str:
    # Whoever inserts is an operator, or the owner of the table.
    return f"""EXISTS (SELECT FROM pg_roles WHERE rolname = '{roles.operator}' AND pg_has_role(current_user, oid, 'USAGE'))
    OR EXISTS (SELECT FROM pg_class WHERE oid = TG_RELID AND pg_has_role(current_user, relowner, 'USAGE'))"""  # noqa: S608 - plain identifiers, which Roles checks


def _remembering(schema: str, roles: Roles) -> Sequence[str]:
    # Nothing here checks a MAC, so a stolen run-time login can still remember what no manifest
    # says; it does so in small steps and for keys in use only, and `lacre keys reseat` undoes it.
    table, step = f"{schema}.{KEYSTORE_SEEN.name}", f"{schema}.{KEYSTORE_SEEN.name}_step"
    return [
        f"""CREATE OR REPLACE FUNCTION {step}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $step$
BEGIN
  IF {_trusted(roles)} THEN
    RETURN NEW;
  END IF;
  IF pg_catalog.octet_length(NEW.mac) <> 32
    OR (TG_OP = 'UPDATE' AND NEW.serial::bigint - OLD.serial > {_STEP})
    OR (TG_OP = 'INSERT' AND NOT EXISTS (SELECT FROM {table} WHERE kms_key = NEW.kms_key)
      AND (NEW.serial NOT BETWEEN 1 AND {_STEP} OR NOT EXISTS (SELECT FROM {schema}.{KEY.name} WHERE parent = NEW.kms_key))) THEN
    RAISE EXCEPTION 'lacre: a manifest is not remembered like that' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END $step$""",  # noqa: S608 - plain identifiers, which Roles and PostgreSQLDatabase check
        f"REVOKE ALL ON FUNCTION {step}() FROM PUBLIC",
        f"CREATE OR REPLACE TRIGGER {KEYSTORE_SEEN.name}_step BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {step}()",
    ]


def only(schema: str, roles: Sequence[str]) -> str:
    """
    Return the statement that takes from all but *roles* what lets them write in *schema*.

    Whatever gave it to them, ALTER DEFAULT PRIVILEGES for one. What they may read stays, a backup's
    role for one. Rights on a table take those on its columns along.
    """
    ours = ", ".join(f"'{name}'" for name in roles)
    return f"""DO $others$ DECLARE found record; BEGIN
  FOR found IN
    SELECT DISTINCT pg_catalog.pg_get_userbyid(a.grantee) AS name FROM (
      SELECT grantee, nspowner AS owner FROM pg_catalog.pg_namespace, pg_catalog.aclexplode(nspacl) WHERE nspname = '{schema}'
      UNION SELECT grantee, relowner FROM pg_catalog.pg_class, pg_catalog.aclexplode(relacl) WHERE relnamespace = '{schema}'::pg_catalog.regnamespace
      UNION SELECT grantee, relowner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid, pg_catalog.aclexplode(attacl) WHERE relnamespace = '{schema}'::pg_catalog.regnamespace
    ) a WHERE a.grantee NOT IN (0, a.owner) AND pg_catalog.pg_get_userbyid(a.grantee) NOT IN ({ours})
  LOOP
    EXECUTE 'REVOKE CREATE ON SCHEMA {schema} FROM ' || pg_catalog.quote_ident(found.name) || ' CASCADE';
    EXECUTE 'REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA {schema} FROM ' || pg_catalog.quote_ident(found.name) || ' CASCADE';
  END LOOP;
END $others$"""  # noqa: S608 - plain identifiers, which Roles and PostgreSQLDatabase check


def group_role(name: str) -> str:
    """Return the statement that makes the role *name*, unless it is there."""
    # Two upgrades in two databases of one cluster may make it at once: either of them will do.
    return f"""DO $role$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{name}') THEN
    CREATE ROLE {name} NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $role$"""
