# SPDX-License-Identifier: Apache-2.0
"""
Whose signatures on grants are believed, by the public identities in `lacre.toml`.

`[approvers]`, `[local] signers`, and `[principals."NAME"] local`. Opens no private key.
"""

from lacre.kms.local.identity import PublicIdentity
from lacre.policy.grants.judging import People
from lacre.policy.model import PolicyFile

__all__ = ["people_of"]


def people_of(file: PolicyFile) -> People:
    """
    Return whom *file* knows.

    Raises:
        ConfigurationError: an identity in it is none.
    """
    operators = [PublicIdentity.from_text(each) for each in file.local.signers]
    return People(
        approvers={name: PublicIdentity.from_text(each.identity) for name, each in file.approvers.items()},
        operators={each.name: each for each in operators},
        principals={
            name: PublicIdentity.from_text(each.local)
            for name, each in file.principals.items()
            if each.local is not None
        },
    )  # fmt: skip
