# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` means for a key service: the KMS keys it needs, and who may do what with them.

Renders for OpenBao and Vault: Transit engines, keys, and five policies, as data and as one shell
script for people to review and run. From the policy file alone; asks no server, so it does not know
what is there already. Applies nothing.

Every path of a policy pins the wrap context by its prefix, and lists the only parameters there may
be. Never `batch_input` and never ``*`` among them: Transit reads the contexts of a batch where no
policy looks. Implements ``spec/key-services.md``, section 3.4.
"""

import datetime as dt
import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lacre.errors import ConfigurationError
from lacre.keys.hierarchy import KeyKind
from lacre.keys.kms_keys import scheme_of
from lacre.keys.transit_context import pinned_prefix
from lacre.policy.decisions import Policy

__all__ = ["Credential", "OpenBaoRendering", "Rule", "TransitKey", "render_openbao"]

_PLAIN: Final = re.compile(r"(?!sha256-)[a-z0-9][a-z0-9_.-]{0,62}")
# For a class whose keys are never called overdue: a KMS key's new version costs nothing.
_ROTATED: Final = dt.timedelta(days=365)
_MADE: Final = {
    "type": "aes256-gcm96",
    "derived": "true",
    "exportable": "false",
    "allow_plaintext_backup": "false",
}


class Credential(StrEnum):
    """Who calls the key service. One of each for a service of the application."""

    PROVISIONING = "provisioning"
    RUNTIME = "runtime"
    SEARCH = "search"
    REWRAP = "rewrap"
    ADMINISTRATION = "administration"
    SEALING = "sealing"


_MEANS: Final = {
    Credential.PROVISIONING: "makes new keys, wrapped; sees none",
    Credential.RUNTIME: "unwraps the keys of every class, for reading and writing",
    Credential.SEARCH: "unwraps index roots only, for looking up",
    Credential.REWRAP: "wraps keys anew under the newest version; in a move, under other KMS keys",
    Credential.ADMINISTRATION: "rotates, retires and destroys versions; wraps and unwraps nothing",
    Credential.SEALING: "begins and ends epochs: makes, opens and destroys seal keys, and nothing else",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitKey:
    """A KMS key to be made."""

    mount: str
    name: str
    rotation: dt.timedelta

    @property
    def path(self) -> str:
        """Where the engine has it."""
        return f"{self.mount}/keys/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    One path of a policy.

    *parameters* are the only ones there may be, with the values they may have; any where the list
    is empty. None allows whatever the path takes.
    """

    path: str
    capabilities: tuple[str, ...]
    parameters: Mapping[str, tuple[str, ...]] | None = None

    def hcl(self) -> str:
        """Return the rule in the language of policies."""
        lines = [f'path "{self.path}" {{', f"  capabilities = {_list(self.capabilities)}"]
        if self.parameters is not None:
            lines.append("  allowed_parameters = {")
            lines += [f"    {name} = {_list(self.parameters[name])}" for name in sorted(self.parameters)]  # fmt: skip
            lines.append("  }")
        return "\n".join([*lines, "}"])

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"path": self.path, "capabilities": list(self.capabilities)}
        if self.parameters is not None:
            told["allowed_parameters"] = {name: list(held) for name, held in self.parameters.items()}  # fmt: skip
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBaoRendering:
    """What an OpenBao server has to have. *names* are the policies' names there."""

    address: str
    namespace: str | None
    keys: tuple[TransitKey, ...]
    names: Mapping[Credential, str]
    policies: Mapping[Credential, tuple[Rule, ...]]
    about: str = ""
    until: dt.date | None = None  # the last day of a move, whose rights are among these

    def policy(self, credential: Credential) -> str:
        """Return the text of one policy."""
        return "\n\n".join(rule.hcl() for rule in self.policies[credential])

    def to_json(self) -> dict[str, Any]:
        """Return the same as data."""
        return {
            "target": "openbao",
            "address": self.address,
            "namespace": self.namespace,
            "until": None if self.until is None else self.until.isoformat(),
            "mounts": list(self.mounts),
            "keys": [
                {"path": key.path, "auto_rotate_period": _period(key.rotation), "deletion_allowed": "false"} | _MADE
                for key in self.keys
            ],
            "policies": {
                str(credential): {"name": self.names[credential], "rules": [rule.to_json() for rule in rules]}
                for credential, rules in self.policies.items()
            },
        }  # fmt: skip

    @property
    def mounts(self) -> tuple[str, ...]:
        """The paths of the Transit engines."""
        return tuple(sorted({key.mount for key in self.keys}))

    def _reminder(self) -> list[str]:
        if self.until is None:
            return []
        return [
            f"# It has the rights of a move, until {self.until}: a policy has no end of its own, so render and",
            "# run it again when [move] is gone from lacre.toml.",
        ]

    def script(self) -> str:
        """Return a POSIX shell script that makes all of it with `bao`, and may be run again."""
        lines = [
            "#!/bin/sh",
            f"# {self.about}",
            "# Rendered by `lacre policy render --target openbao`. Read it, then run it with a token that",
            "# may enable engines and write policies. It gives nobody a credential, and may be run again.",
            *self._reminder(),
            "set -eu",
            f'[ -n "${{BAO_ADDR:-}}" ] || BAO_ADDR={shlex.quote(self.address)}',
            "export BAO_ADDR",
        ]
        if self.namespace is not None:
            lines += [f"export BAO_NAMESPACE={shlex.quote(self.namespace)}"]
        lines += [
            "",
            "# Stop where something is there already, and is not what it has to be.",
            "must_be() {",
            '  path=$1 found=$(bao read "$1")',
            "  shift",
            '  for wanted in "$@"; do',
            '    printf "%s\\n" "$found" | grep -Eqx "${wanted%%=*} +${wanted#*=} *" ||',
            '      { echo "$path: ${wanted%%=*} must be ${wanted#*=}" >&2; exit 1; }',
            "  done",
            "}",
        ]
        for mount in self.mounts:
            at = shlex.quote(mount)
            lines += [
                "",
                f"bao read {shlex.quote('sys/mounts/' + mount)} >/dev/null 2>&1 || bao secrets enable -path={at} transit",
                f"must_be {shlex.quote('sys/mounts/' + mount)} type=transit",
                "# A misspelt name is an error, and not a new key.",
                f"bao write {shlex.quote(mount + '/config/keys')} disable_upsert=true >/dev/null",
            ]
        made = " ".join(f"{name}={value}" for name, value in _MADE.items())
        for key in self.keys:
            path, period = shlex.quote(key.path), _period(key.rotation)
            lines += [
                "",
                f"bao write {path} {made} auto_rotate_period={period} >/dev/null",
                f"must_be {path} {made}",
                f"bao write {path}/config deletion_allowed=false auto_rotate_period={period} >/dev/null",
            ]
        for credential, name in self.names.items():
            lines += [
                "",
                f"# {credential}: {_MEANS[credential]}",
                f"bao policy write {shlex.quote(name)} - <<'END'",
                self.policy(credential),
                "END",
            ]
        return "\n".join(lines) + "\n"


def render_openbao(policy: Policy, *, tenant: str | None = None) -> OpenBaoRendering:
    """
    Return what *policy* needs of OpenBao.

    Args:
        tenant: pin the policies to this one; otherwise to none.

    Raises:
        ConfigurationError: no KMS key is held there, or there can be no such tenant.
    """
    if tenant is not None and not 1 <= len(tenant) <= 255:
        # An empty variable of a shell: the policies would be pinned to nobody.
        raise ConfigurationError("a tenant is a name of 1 to 255 characters")
    file = policy.file
    uses = [
        _Use(class_=name, kind=kind, policy=policy, tenant=tenant)
        for name, declared in sorted(file.classes.items())
        for kind in (KeyKind.BRANCH, KeyKind.INDEX)
        if kind is KeyKind.BRANCH or declared.index is not None
    ]
    if file.openbao is None or not (any(use.all for use in uses) or _epochs(policy)):
        raise ConfigurationError(
            "no KMS key of lacre.toml is in OpenBao",
            hint='kms_keys = "openbao://transit/{class}-{use}", and an [openbao] table',
        )
    index = [use for use in uses if use.kind is KeyKind.INDEX]
    decrypted = _paths(uses, "decrypt", "ciphertext")
    moved = [
        *_rules(_paths([use for use in uses if use.stays], "rewrap", "ciphertext")),
        *_rules(_paths([use for use in uses if use.moves], "decrypt", "ciphertext", old=True)),
        *_rules(_paths([use for use in uses if use.moves], "encrypt", "plaintext", old=False)),
    ]
    keys = _keys(uses)
    read = [Rule(path=key.path, capabilities=("read",)) for key in keys]
    policies = {
        Credential.PROVISIONING: [*_rules(_paths(uses, "datakey/wrapped", "bits", old=False)), *read],
        Credential.RUNTIME: _rules(decrypted),
        Credential.SEARCH: _rules(_paths(index, "decrypt", "ciphertext")),
        Credential.REWRAP: [*moved, *read],
        Credential.ADMINISTRATION: [rule for key in keys for rule in _administered(key)] + _REVIEW,
    }  # fmt: skip
    if (epochs := _epochs(policy)) is not None:
        # Subject keys are behind a seal key too. Whoever may end an epoch is nobody else.
        opens, ends = _sealing(policy, epochs)
        policies[Credential.RUNTIME] += opens
        policies[Credential.SEALING] = [*opens, *ends]
        keys.append(epochs)
    owner = f"{file.app}:{file.env}:{file.service}"
    whose = "" if tenant is None else f":{_named(tenant)}"
    return OpenBaoRendering(
        address=file.openbao.address,
        namespace=file.openbao.namespace,
        keys=tuple(keys),
        # Colons are in none of the names, so no two applications share one.
        names={each: f"lacre:{owner}:{each}{whose}" for each in policies},
        policies={each: (*rules, *_SELF) for each, rules in policies.items()},
        about=f"OpenBao for {file.service} of {file.app}, {file.env}"
        + ("" if tenant is None else ", for one tenant"),
        until=file.move.until if file.move and any(use.moves for use in uses) else None,
    )


# So that a token can be renewed, and an expired one told from one that is refused something.
_SELF: Final = (
    Rule(path="auth/token/lookup-self", capabilities=("read",)),
    Rule(path="auth/token/renew-self", capabilities=("update",)),
)
# What `lacre keys status` compares: who may use a key. Reading only.
_REVIEW: Final = [
    Rule(path="sys/policies/acl", capabilities=("list",)),
    Rule(path="sys/policies/acl/*", capabilities=("read",)),
]


class _Use:
    """A class's keys of one kind, and where they are wrapped."""

    def __init__(self, *, class_: str, kind: KeyKind, policy: Policy, tenant: str | None) -> None:
        scope = policy.scope(kind, class_, "any" if tenant is None else tenant)
        self.kind = kind
        self.rotation = policy.class_(class_).rotate_after or _ROTATED
        self.prefix = pinned_prefix(scope.pairs(), any_tenant=tenant is None) + "*"
        named = policy.kms_key(scope)
        every = policy.kms_keys(scope)
        self.present = _held([named])
        self.old = _held(uri for uri in every if uri != named)
        self.all = self.present + self.old
        self.moves = len(every) > 1
        self.stays = bool(self.present)


def _held(uris: Iterable[str]) -> list[tuple[str, str]]:
    found = []
    for uri in uris:
        if scheme_of(uri) == "openbao":
            mount, _, name = uri.removeprefix("openbao://").rpartition("/")
            found.append((mount, name))
    return found


def _paths(
    uses: Iterable[_Use], operation: str, parameter: str, *, old: bool | None = None
) -> dict[str, dict[str, list[str]]]:
    # Of the present KMS keys, the old, or both; a key of several classes has a prefix for each.
    found: dict[str, dict[str, list[str]]] = {}
    for use in uses:
        for mount, name in use.all if old is None else use.old if old else use.present:
            rule = found.setdefault(f"{mount}/{operation}/{name}", {"context": [], parameter: []})
            if use.prefix not in rule["context"]:
                rule["context"].append(use.prefix)
    return found


def _rules(paths: Mapping[str, Mapping[str, list[str]]]) -> list[Rule]:
    return [
        Rule(
            path=path,
            capabilities=("update",),
            parameters={name: tuple(values) for name, values in allowed.items()},
        )
        for path, allowed in sorted(paths.items())
    ]


def _keys(uses: Iterable[_Use]) -> list[TransitKey]:
    # The shortest period of those whose key it is. Old ones of a move are there already.
    periods: dict[tuple[str, str], dt.timedelta] = {}
    for use in uses:
        for place in use.present:
            periods[place] = min(use.rotation, periods.get(place, use.rotation))
    return [
        TransitKey(mount=mount, name=name, rotation=period)
        for (mount, name), period in sorted(periods.items())
    ]


def _administered(key: TransitKey) -> list[Rule]:
    # Not `exportable`, `allow_plaintext_backup` or `deletion_allowed`: who sets those may take the
    # key away, or what it wraps.
    settings = ("auto_rotate_period", "min_decryption_version", "min_encryption_version")
    return [
        Rule(path=key.path, capabilities=("read",)),
        Rule(path=f"{key.path}/rotate", capabilities=("update",)),
        Rule(path=f"{key.path}/config", capabilities=("update",), parameters=dict.fromkeys(settings, ())),
        Rule(path=f"{key.path}/trim", capabilities=("update",), parameters={"min_available_version": ()}),
    ]  # fmt: skip


def _epochs(policy: Policy) -> TransitKey | None:
    # A key of its own, which rotates with the epochs and not by itself.
    sealing = policy.file.sealing
    held = [] if sealing is None else _held([sealing.kms_key])
    return TransitKey(mount=held[0][0], name=held[0][1], rotation=dt.timedelta()) if held else None


def _sealing(policy: Policy, key: TransitKey) -> tuple[list[Rule], list[Rule]]:
    context = (pinned_prefix(policy.service_scope().pairs()) + "*",)

    def rule(operation: str, parameter: str) -> Rule:
        return Rule(
            path=f"{key.mount}/{operation}/{key.name}",
            capabilities=("update",),
            parameters={"context": context, parameter: ()},
        )

    settings = ("min_decryption_version", "min_encryption_version")
    ends = [
        rule("datakey/wrapped", "bits"),
        Rule(path=key.path, capabilities=("read",)),
        Rule(path=f"{key.path}/rotate", capabilities=("update",)),
        Rule(path=f"{key.path}/config", capabilities=("update",), parameters=dict.fromkeys(settings, ())),
        Rule(path=f"{key.path}/trim", capabilities=("update",), parameters={"min_available_version": ()}),
    ]  # fmt: skip
    return [rule("decrypt", "ciphertext")], ends


def _named(tenant: str) -> str:
    # A tenant may be any text, the name of a policy may not.
    return tenant if _PLAIN.fullmatch(tenant) else "sha256-" + hashlib.sha256(tenant.encode()).hexdigest()[:16]  # fmt: skip


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def _period(rotation: dt.timedelta) -> str:
    return f"{rotation.days * 24}h"
