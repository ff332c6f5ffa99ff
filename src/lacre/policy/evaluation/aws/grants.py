# SPDX-License-Identifier: Apache-2.0
"""
Grants of AWS KMS: who may do which operations on one key, in which encryption context.

As the page "GrantConstraints" of the API reference says. Does not know grants to an account, nor what a grant
that allows `CreateGrant` lets its holder give on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lacre.errors import PolicyNotUnderstood
from lacre.policy.evaluation.aws.calls import Request
from lacre.policy.evaluation.aws.known import KMS_ACTIONS, WITH_CONTEXT

__all__ = ["Grant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    One grant on *key*, to *grantee*.

    *operations* are named as KMS names them, ``("Decrypt",)``; *equals* and *subset* are the pairs of
    ``EncryptionContextEquals`` and ``EncryptionContextSubset``, None for no constraint.
    """

    key: str
    grantee: str
    operations: tuple[str, ...]
    equals: Mapping[str, str] | None = None
    subset: Mapping[str, str] | None = None
    name: str = "grant"

    def __post_init__(self) -> None:
        if unknown := [each for each in self.operations if f"kms:{each}" not in KMS_ACTIONS]:
            raise PolicyNotUnderstood(f"{self.name}: the operation {unknown[0]!r}")
        if self.grantee.endswith(":root") or ":assumed-role/" in self.grantee:
            raise PolicyNotUnderstood(
                f"{self.name}: the grantee {self.grantee!r}, an account or a session"
            )

    def allows(self, request: Request) -> bool:
        """
        Whether it allows *request*.

        Raises:
            PolicyNotUnderstood: it allows creating a grant.
        """
        asked = request.action.removeprefix("kms:")
        if (self.key, self.grantee) != (request.call.resource, request.call.principal):
            return False
        if asked not in self.operations:
            return False
        if asked == "CreateGrant":
            raise PolicyNotUnderstood(f"{self.name}: what who holds it may give on")
        if request.action not in WITH_CONTEXT:
            return True
        # "the key in each key-value pair is not case sensitive, but the value is"
        said = _folded(request.pairs)
        if self.equals is not None and said != _folded(self.equals):
            return False
        return self.subset is None or set(_folded(self.subset).items()) <= set(said.items())


def _folded(pairs: Mapping[str, str]) -> dict[str, str]:
    folded = {name.lower(): value for name, value in pairs.items()}
    if len(folded) != len(pairs):
        raise PolicyNotUnderstood("pairs of an encryption context that differ by case alone")
    return folded
