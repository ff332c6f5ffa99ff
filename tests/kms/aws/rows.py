# SPDX-License-Identifier: Apache-2.0
"""Key rows and the URIs of keys, for the tests of AWS KMS."""

from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope

__all__ = ["context_of", "uri_of"]


def uri_of(arn: str) -> str:
    """Return the URI of the key that *arn* names."""
    _, _, _, region, account, key = arn.split(":")
    return f"aws-kms://{region}/{account}/{key}"


def context_of(
    *, tenant: str = "acme", class_: str = "pii", kind: KeyKind = KeyKind.BRANCH, version: int = 1
) -> dict[str, str]:
    """Return the wrap context of a key row, as lacre makes it."""
    scope = Scope(
        kind=kind, app="shop", env="production", service="checkout", tenant=tenant, class_=class_
    )
    row = KeyRow(
        key_id=bytes(16), scope=scope, version=version, parent="aws-kms://of/the/test", suite=1,
        created="2026-01-01T00:00:00Z", keystore="0" * 32, wrapped=b"", state=KeyState.PENDING,
        revision=1, changed="2026-01-01T00:00:00Z", mac=None,
    )  # fmt: skip
    return row.wrap_context()
