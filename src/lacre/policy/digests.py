# SPDX-License-Identifier: Apache-2.0
"""
The digest of a policy: what evidence calls the rules that a process works by.

Of everything in `lacre.toml` that says who may do what and for how long; of no address, path or
connection string, whose passwords could be guessed from it. Decides nothing.
"""

import hashlib
import json

from lacre.policy.model import PolicyFile

__all__ = ["digest_of"]

_GOVERNS = {
    "app",
    "env",
    "service",
    "default_tenant",
    "purposes",
    "environments",
    "residency",
    "governance",
    "roles",
    "principals",
    "approvers",
    "grants",
    "keys",
    "departments",
    "classes",
    "columns",
    "stores",
    "cache",
    "bulk",
    "search",
    "sealing",
    "erasure",
    "retention",
    "waivers",
}
_EVIDENCE = {"mode", "buffer", "looks", "open_for", "heartbeat", "signers"}


def digest_of(file: PolicyFile) -> str:
    """Return the SHA-256 of the rules of *file*, hex: equal rules have equal digests, however they are written."""
    rules = file.model_dump(mode="json", include=_GOVERNS)
    rules["audit"] = file.audit.model_dump(mode="json", include=_EVIDENCE)
    return hashlib.sha256(json.dumps(_ordered(rules), sort_keys=True).encode()).hexdigest()


def _ordered(value: object) -> object:
    # Sets have no order in the file, and must have one here.
    if isinstance(value, dict):
        return {str(name): _ordered(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return sorted((_ordered(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))  # fmt: skip
    return value
