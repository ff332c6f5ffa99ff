# SPDX-License-Identifier: Apache-2.0
"""
What a grant does at the key service, as one exact text: approvers sign its digest.

Of the local keystore: identities that become recipients of KMS keys, which the beneficiary's
`[principals."NAME"] local` names. Empty where the beneficiary has no credential of its own there, and
the grant is effective in processes alone; so it is of AWS KMS and OpenBao. Changes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lacre.errors import Tampered
from lacre.policy.model import PolicyFile, Right

__all__ = ["Recipient", "change_of", "recipients_of"]

_LOCAL = "local://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """*identity* (its public text) becomes a recipient of the local KMS key *key*."""

    key: str
    identity: str


def change_of(file: PolicyFile, beneficiary: str, class_: str, right: str) -> str:
    """Return the text of what a grant changes at the key service; the same for the same policy."""
    declared = file.classes.get(class_)
    principal = file.principals.get(beneficiary)
    if declared is None or principal is None or principal.local is None:
        return ""
    if principal.local in file.local.recipients:
        return ""  # it opens the keys already, and what it may do is decided in the process
    # Searching takes the index key, reading the key of the fields, and re-checking both.
    keys = declared.named_keys() if right == Right.SEARCH else (declared.fields,)
    named = [key.removeprefix(_LOCAL) for key in keys if key.startswith(_LOCAL)]
    if not named:
        return ""
    change = {"recipient": principal.local, "keys": named, "service": "local"}
    return json.dumps(change, sort_keys=True, separators=(",", ":"))


def recipients_of(change: str) -> Sequence[Recipient]:
    """
    Return what `change_of` wrote.

    Raises:
        Tampered: it did not write this.
    """
    if not change:
        return ()
    try:
        found = json.loads(change)
        names, identity = found["keys"], found["recipient"]
        same = found == {"recipient": identity, "keys": names, "service": "local"}
        made = tuple(Recipient(key=str(each), identity=str(identity)) for each in names)
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        raise Tampered.signed("the change of a grant")
    return made
