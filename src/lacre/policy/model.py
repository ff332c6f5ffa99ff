# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` may say: its tables, their types and defaults.

``docs/reference/lacre-toml.md`` is the page for people. Does not read files or the environment
(`lacre.policy.loading`) and does not decide (`lacre.policy.decisions`).
"""

import datetime as dt
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lacre.keys.kms_keys import expanded, scheme_of
from lacre.policy.alerts import AlertSettings, HoneytokenSettings
from lacre.policy.audit import AuditSettings
from lacre.policy.budgets import BudgetSettings
from lacre.policy.bulk import BulkSettings
from lacre.policy.columns import ColumnName, ColumnTarget, WaiverSettings
from lacre.policy.detection import DetectionSettings
from lacre.policy.erasure import ErasureSettings, RetentionSettings, SealingSettings
from lacre.policy.governance import (
    DepartmentSettings,
    EnvironmentSettings,
    GovernanceSettings,
    KmsKeySettings,
    ResidencySettings,
)
from lacre.policy.legacy import LegacySettings
from lacre.policy.principals import (
    ApproverSettings,
    GrantSettings,
    PrincipalName,
    PrincipalSettings,
    RoleSettings,
)
from lacre.policy.report import ReportSettings
from lacre.policy.search import SearchSettings
from lacre.policy.values import (
    Address,
    Identifier,
    KmsKey,
    KmsKeyTemplate,
    MaskName,
    Name,
    Period,
    Region,
    Table,
)

__all__ = [
    "AwsSettings",
    "CacheSettings",
    "CallSettings",
    "ClassPolicy",
    "KeyStoreSettings",
    "LocalSettings",
    "MoveSettings",
    "OpenBaoSettings",
    "PolicyFile",
    "Right",
    "StoreSettings",
]


class Right(StrEnum):
    """What a role may do with a class."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    MASK = "mask"
    SEARCH = "search"

    # Enum's own hash is a Python function, and a right is hashed for every look.
    __hash__ = str.__hash__


def _none_if_false(value: object) -> object:
    return None if value is False else value


_TABLES = {"openbao": "openbao", "aws-kms": "aws"}
_NEEDED = {
    "openbao": 'address, and role_id with secret_id_file, or auth = "token"',
    "aws-kms": "regions",
}


class KeyStoreSettings(Table):
    """`[key_store]`: where wrapped keys are kept. Apart from the data. *schema* is of PostgreSQL."""

    url: str
    schema_: Identifier = Field(default="lacre", alias="schema")


class LocalSettings(Table):
    """
    `[local]`: identities, and the local keystore.

    *directory* and *identity*, the application's, are needed where a KMS key is ``local://``.
    *operator* is the command line's identity, where it is on this machine; *signers* are the
    operators' public identities, whose signatures are believed, of column states too; *recipients*
    those of everyone to whom a new version of a local KMS key is sealed.
    """

    directory: str | None = None
    identity: str | None = None
    operator: str | None = None
    signers: tuple[str, ...] = Field(min_length=1)
    recipients: tuple[str, ...] = ()


class OpenBaoSettings(Table):
    """
    `[openbao]`: an OpenBao or Vault server and who logs in there.

    *auth* `approle` needs *role_id* and *secret_id_file*; `token` takes *token_file*, or the
    environment's BAO_TOKEN or VAULT_TOKEN. Secrets are never in this file.
    """

    address: Address
    ca_file: str | None = None
    namespace: str | None = Field(default=None, min_length=1, max_length=255)
    auth: Literal["approle", "token"] = "approle"
    auth_mount: str = "approle"
    role_id: str | None = None
    secret_id_file: str | None = None
    token_file: str | None = None

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if self.auth == "approle" and not (self.role_id and self.secret_id_file):
            raise ValueError('auth = "approle" needs role_id and secret_id_file')
        return self


class AwsSettings(Table):
    """
    `[aws]`: which regions may be called, and how.

    *regions* are all that may: a key, replica or endpoint elsewhere is refused. *replicas* says for
    a region which others hold its multi-Region keys, in the order in which they stand in for it.
    Credentials come from the SDK's default chain; long-lived ones are refused unless
    *allow_static_keys*.
    """

    regions: tuple[Region, ...] = Field(min_length=1)
    replicas: dict[Region, tuple[Region, ...]] = Field(default_factory=dict)
    profile: str | None = None
    endpoint_url: Address | None = None
    fips: bool = False
    allow_static_keys: bool = False

    @model_validator(mode="after")
    def _stays_in_its_regions(self) -> Self:
        named = set(self.replicas) | {each for held in self.replicas.values() for each in held}
        if outside := sorted(named - set(self.regions)):
            raise ValueError(f"replicas name {', '.join(outside)}, which regions do not allow")
        return self


class CallSettings(Table):
    """
    `[calls]` of a remote key service: the total *deadline* of one operation with all its attempts,
    and the longest single *attempt*, in seconds. *concurrent* bounds the calls of a warm-up.
    """

    deadline: float = Field(default=2.0, ge=0.1, le=60)
    attempt: float = Field(default=1.0, ge=0.05, le=60)
    concurrent: int = Field(default=8, ge=1, le=64)


class MoveSettings(Table):
    """
    `[move]`: the window in which keys go from other KMS keys to those named now.

    *from* is the `kms_keys` of before. Until *until* keys under either open; `lacre keys rewrap`
    moves them.
    """

    from_: KmsKeyTemplate = Field(alias="from")
    until: dt.date


class StoreSettings(Table):
    """`[stores.NAME]`: a logical database. Its name is bound in every value it holds. *region* is where it is."""

    region: Region | None = None


class ClassPolicy(Table):
    """
    `[classes.NAME]`: the KMS keys of a class, its mask, and which role has which rights.

    *rotate_after* is of its branch and data keys, *rotate_index_after* of its index roots; None is
    never. *reencrypt_within* is how long after a rotation values may stay under the key before.
    `lacre keys due` reports both, nothing rotates by itself. Without *fields* the keys are
    those that `kms_keys` names; *index* false is a class that is never searchable.

    *columns* are the only ones that may hold the class; any by default. *purposes* are the only
    ones that it may be used for. *on_grant* are rights that a role has only by a grant;
    *break_glass* says that one in an emergency may give `decrypt` to whoever can have it by none.
    """

    fields: KmsKey
    index: Annotated[KmsKey | None, BeforeValidator(_none_if_false)] = None
    mask: MaskName = "hidden"
    denied: Literal["error", "mask"] = "error"
    # One year: well inside the two that NIST SP 800-57 part 1 gives the originator of a
    # symmetric key. A new index root makes every look-up ask twice, so nobody asks for one.
    rotate_after: Period = dt.timedelta(days=365)
    rotate_index_after: Period = None
    reencrypt_within: Period = None
    rights: dict[Name, frozenset[Right]] = Field(default_factory=dict)
    on_grant: dict[Name, frozenset[Right]] = Field(default_factory=dict)
    break_glass: bool = False
    columns: frozenset[ColumnName] | None = None
    purposes: frozenset[str] | None = None
    administrators: tuple[PrincipalName, ...] | None = None
    budget: BudgetSettings | None = None

    def named_keys(self) -> tuple[str, ...]:
        """Return the class's KMS keys: one, or two where it may be searched."""
        return (self.fields,) if self.index is None else (self.fields, self.index)


class CacheSettings(Table):
    """
    `[cache]`: of unwrapped keys. *age* in seconds is the longest a revoked process keeps reading.

    *stale_for* seconds more are values still read, never written or searched, where the key
    service does not answer at all. *entries* are the keys held, *subjects* the subject keys besides.
    """

    age: float = Field(default=300.0, ge=1, le=3600)
    entries: int = Field(default=1000, ge=1, le=1_000_000)
    subjects: int = Field(default=10_000, ge=1, le=10_000_000)
    stale_for: float = Field(default=0.0, ge=0, le=900)


def _in_environment(tables: Any) -> Any:
    """Put the environment's name where names of KMS keys and their contexts say ``{env}``."""
    if not isinstance(tables, dict) or not isinstance(env := tables.get("env"), str):
        return tables

    def put(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{env}", env)
        if isinstance(value, dict):
            return {name: put(each) for name, each in value.items()}
        return value

    named = {"kms_keys", "move", "sealing", "keys", "departments", "classes"}
    return tables | {name: put(tables[name]) for name in named & tables.keys()}


class PolicyFile(Table):
    """The whole file."""

    app: Name
    env: Name
    service: Name
    default_tenant: str | None = Field(default=None, min_length=1, max_length=255)
    purposes: frozenset[str] | None = None
    kms_keys: KmsKeyTemplate | None = None
    key_store: KeyStoreSettings
    local: LocalSettings
    openbao: OpenBaoSettings | None = None
    aws: AwsSettings | None = None
    calls: CallSettings = CallSettings()
    move: MoveSettings | None = None
    legacy: dict[Name, LegacySettings] = Field(default_factory=dict)
    environments: dict[Name, EnvironmentSettings] = Field(default_factory=dict)
    residency: ResidencySettings | None = None
    governance: GovernanceSettings = GovernanceSettings()
    roles: dict[Name, RoleSettings] = Field(default_factory=dict)
    principals: dict[PrincipalName, PrincipalSettings] = Field(default_factory=dict)
    approvers: dict[str, ApproverSettings] = Field(default_factory=dict)
    grants: GrantSettings = GrantSettings()
    keys: dict[Name, KmsKeySettings] = Field(default_factory=dict)
    departments: dict[Name, DepartmentSettings] = Field(default_factory=dict)
    stores: dict[Name, StoreSettings] = Field(default_factory=lambda: {"main": StoreSettings()})
    classes: dict[Name, ClassPolicy] = Field(min_length=1)
    columns: dict[ColumnName, ColumnTarget] = Field(default_factory=dict)
    waivers: tuple[WaiverSettings, ...] = ()
    cache: CacheSettings = CacheSettings()
    audit: AuditSettings
    alerts: dict[Name, AlertSettings] = Field(default_factory=dict)
    honeytokens: HoneytokenSettings = HoneytokenSettings()
    bulk: BulkSettings = BulkSettings()
    sealing: SealingSettings | None = None
    erasure: ErasureSettings = ErasureSettings()
    retention: dict[Name, RetentionSettings] = Field(default_factory=dict)
    search: SearchSettings = SearchSettings()
    report: ReportSettings = ReportSettings()
    detection: DetectionSettings = DetectionSettings()

    @model_validator(mode="before")
    @classmethod
    def _name_the_keys(cls, tables: Any) -> Any:
        # Before the classes are read: there every class has its keys, whoever named them.
        tables = _in_environment(tables)
        template = tables.get("kms_keys") if isinstance(tables, dict) else None
        classes = tables.get("classes") if isinstance(tables, dict) else None
        if not isinstance(template, str) or not isinstance(classes, dict):
            return tables
        named: dict[Any, Any] = {}
        for name, table in classes.items():
            if isinstance(table, dict) and "fields" not in table:
                keys = {
                    use: expanded(template, class_=name, use=use) for use in ("fields", "index")
                }
                table = keys | table  # noqa: PLW2901 - the class as it is meant
            named[name] = table
        return tables | {"classes": named}

    @model_validator(mode="after")
    def _has_what_its_keys_need(self) -> Self:
        schemes = self.schemes()
        if "local" in schemes and not (self.local.directory and self.local.identity):
            raise ValueError("[local] needs directory and identity, because a KMS key is local://")
        for scheme, table in (("openbao", self.openbao), ("aws-kms", self.aws)):
            if scheme in schemes and table is None:
                raise ValueError(
                    f"a KMS key is {scheme}://, and there is no [{_TABLES[scheme]}], which needs {_NEEDED[scheme]}"
                )
        return self

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Self:
        for name, column in self.columns.items():
            if column.class_ not in self.classes or column.store not in self.stores:
                raise ValueError(f"[columns.{name}] names a class or store that this file has not")
        return self

    @model_validator(mode="after")
    def _seals_classes_there_are(self) -> Self:
        unknown = set() if self.sealing is None else self.sealing.classes - self.classes.keys()
        if unknown:
            raise ValueError(f"[sealing] classes names {', '.join(sorted(unknown))}: there is none")
        if self.sealing is not None and any(map(self.sealing.ends, self.named_keys())):
            raise ValueError(
                "[sealing] kms_key ends with each epoch: the keys of a class, which are under it too, would be lost"
            )
        return self

    def seals(self, class_: str) -> bool:
        """Return whether new subject keys of *class_* are sealed."""
        return self.sealing is not None and class_ in self.sealing.classes

    def budgets(self) -> dict[str, BudgetSettings]:
        """Return the classes that have a budget of looks, and it."""
        return {name: each.budget for name, each in self.classes.items() if each.budget is not None}

    def every_kms_key(self) -> dict[tuple[str, ...], str]:
        """Return every KMS key that the file names, by where it does; aliases as they stand."""
        named: dict[tuple[str, ...], str] = {}
        for name, declared in self.classes.items():
            named["classes", name, "fields"] = declared.fields
            if declared.index is not None:
                named["classes", name, "index"] = declared.index
        if self.sealing is not None:
            named["sealing", "kms_key"] = self.sealing.kms_key
        named |= {("keys", name): each.kms_key for name, each in self.keys.items()}
        named |= {("departments", name): each.kms_key for name, each in self.departments.items()}
        return named

    def schemes(self) -> frozenset[str]:
        """Return which key services hold keys of this application, those that are moved from too."""
        sealing = () if self.sealing is None else (self.sealing.kms_key,)
        return frozenset(scheme_of(uri) for uri in (*self.named_keys(), *sealing))

    def named_keys(self) -> tuple[str, ...]:
        """Return every KMS key that is named, aliases as they stand; during a move the old ones too."""
        named = [uri for each in self.classes.values() for uri in each.named_keys()]
        if self.move is not None:
            named += [
                expanded(self.move.from_, class_=name, use=use)
                for name, each in self.classes.items()
                for use in (("fields", "index") if each.index else ("fields",))
            ]
        return tuple(dict.fromkeys(named))
