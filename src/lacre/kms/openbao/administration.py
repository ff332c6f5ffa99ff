# SPDX-License-Identifier: Apache-2.0
"""
KMS keys of Transit, administered: how they are, a new version, old ones retired or destroyed.

Wraps and unwraps nothing. What becomes of keys wrapped under an old version is for the caller to
have thought of.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable
from typing import Final

from lacre.errors import ConfigurationError, KeyServiceDenied, MisuseError
from lacre.keys.ports import KmsKeyStatus
from lacre.kms.openbao.answers import check_properties
from lacre.kms.openbao.connection import Answer
from lacre.kms.openbao.transit import Transit, number, place_of

__all__ = ["destroy_before", "retire_before", "rotate", "status"]

_DAY: Final = 86_400
_POLICIES: Final = "sys/policies/acl"
# Where a policy may speak of a key: what stands in quotes in HCL and in JSON alike.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
# What may be done with a key; where its name goes.
_PATHS: Final = (
    "datakey/wrapped/{}", "datakey/plaintext/{}", "decrypt/{}", "encrypt/{}", "rewrap/{}",
    "export/encryption-key/{}", "byok-export/{}/{}", "backup/{}", "keys/{}", "keys/{}/config",
    "keys/{}/rotate", "keys/{}/trim", "keys/{}/soft-delete",
)  # fmt: skip


def status(transit: Transit, kms_key: str) -> KmsKeyStatus:
    """See `OpenBaoKeyService.status`."""
    began = time.monotonic()
    found = transit.read(kms_key)
    latency = time.monotonic() - began
    state = "soft-deleted" if found.get("soft_deleted") is True else "enabled"
    try:
        check_properties(found, kms_key)
    except ConfigurationError:
        state = "unfit: its context does not bind, or it may leave the server"
    period = number(found, "auto_rotate_period") or 0
    return KmsKeyStatus(
        kms_key=kms_key,
        state=state,
        usable=state == "enabled",
        latency=latency,
        version=number(found, "latest_version"),
        rotation=f"every {period / _DAY:g} days" if period > 0 else None,
        deletion="allowed at any time" if found.get("deletion_allowed") is True else None,
        policy=_policies(transit, kms_key),
    )


def rotate(transit: Transit, kms_key: str) -> int | None:
    """See `OpenBaoKeyService.rotate`."""
    mount, name = place_of(kms_key)
    present = number(transit.read(kms_key), "latest_version") or 0

    def made_already() -> Answer | None:
        # The answer to an attempt was lost; the key shows whether the attempt was.
        found = transit.look(kms_key)
        return found if (number(found.data, "latest_version") or 0) > present else None

    answer = transit.call("post", f"{mount}/keys/{name}/rotate", kms_key, {}, before=made_already)
    return number(answer.data, "latest_version") or present + 1


def retire_before(transit: Transit, kms_key: str, version: int) -> None:
    """See `OpenBaoKeyService.retire_before`."""
    newest = number(transit.read(kms_key), "latest_version") or 0
    if not 1 <= version <= newest:
        raise MisuseError(
            f"{kms_key} has versions 1 to {newest}, so {version} cannot be the first to stay",
            hint="`lacre keys rotate` makes a new one",
        )
    mount, name = place_of(kms_key)
    first = {"min_decryption_version": version, "min_encryption_version": version}
    transit.call("post", f"{mount}/keys/{name}/config", kms_key, first)


def destroy_before(transit: Transit, kms_key: str, version: int) -> None:
    """See `OpenBaoKeyService.destroy_before`."""
    # The engine trims only what is retired from both uses.
    retire_before(transit, kms_key, version)
    mount, name = place_of(kms_key)
    transit.call("post", f"{mount}/keys/{name}/trim", kms_key, {"min_available_version": version})


def _policies(transit: Transit, kms_key: str) -> str | None:
    # Of every policy that speaks of the key, also by a pattern. Root's is not among them: it has no
    # text, and whoever holds a root token may do anything.
    mount, name = place_of(kms_key)
    paths = [f"{mount}/" + path.replace("{}", name) for path in _PATHS]
    found: dict[str, str] = {}
    try:
        listed = transit.call("list", _POLICIES, kms_key).data.get("keys")
        for each in sorted(set(listed if isinstance(listed, list) else ()) - {"root"}):
            text = transit.call("get", f"{_POLICIES}/{each}", kms_key).data.get("policy")
            if isinstance(text, str) and _speaks_of(text, paths):
                found[str(each)] = text
    except KeyServiceDenied:
        return None
    return "sha256:" + hashlib.sha256(json.dumps(sorted(found.items())).encode()).hexdigest()


def _speaks_of(policy: str, paths: Iterable[str]) -> bool:
    patterns = [_pattern(text) for text in _QUOTED.findall(policy)]
    return any(pattern.match(path) for pattern in patterns for path in paths)


def _pattern(text: str) -> re.Pattern[str]:
    # `*` at the end stands for anything, `+` for one segment, a template for who knows what.
    parts = ["[^/]+" if part == "+" else re.escape(part) for part in text.rstrip("*").split("/")]
    path = re.sub(r"\\\{\\\{.*?\\\}\\\}", ".*", "/".join(parts))
    return re.compile(path + ("" if text.endswith("*") else r"\Z"))
