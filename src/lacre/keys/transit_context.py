# SPDX-License-Identifier: Apache-2.0
"""
A wrap context as a derived Transit key takes it: base64 in which a policy can pin a prefix.

    canonical(policy pairs), padded with zeros to a multiple of 3 bytes, then the digest of the row

The six policy pairs come first and end on a boundary of base64, so whoever may use the key for one
tenant only is given that text and a ``*``. The digest is that of the pair ``lacre-row``: it covers
every immutable column of the row, ``lacre-key`` among them, so that pair is not repeated.

Implements ``spec/key-services.md``, section 3.2. Calls nothing and knows no server.
"""

from base64 import b64encode, urlsafe_b64decode
from collections.abc import Mapping
from typing import Final

from lacre._core.canonical import canonical
from lacre.errors import MisuseError

__all__ = ["pinned_prefix", "transit_context"]

_POLICY: Final = frozenset({"app", "class", "env", "kind", "service", "tenant"})
_ALL: Final = _POLICY | {"lacre-key", "lacre-row"}
_DIGEST = 32


def transit_context(context: Mapping[str, str]) -> str:
    """
    Return the parameter `context` for the eight pairs of `KeyRow.wrap_context`.

    Raises:
        MisuseError: other pairs than those eight, or a digest that is none.
    """
    if context.keys() != _ALL:
        raise MisuseError("a wrap context has exactly the pairs of KeyRow.wrap_context")
    row = context["lacre-row"]
    try:
        # 43 characters hold 258 bits; decoded and encoded again, the two spare ones are zero.
        digest = urlsafe_b64decode(row + "=")
        text_is_canonical = _urlsafe(digest) == row
    except ValueError:
        digest, text_is_canonical = b"", False
    if len(digest) != _DIGEST or not text_is_canonical:
        raise MisuseError("lacre-row is the base64url of 32 bytes")
    return b64encode(_padded({name: context[name] for name in _POLICY}) + digest).decode()


def pinned_prefix(pairs: Mapping[str, str], *, any_tenant: bool = False) -> str:
    """
    Return what every `context` with these six policy pairs begins with; followed by any digest.

    Args:
        any_tenant: leave the tenant open. It is the last pair, so all before it stay pinned.

    Raises:
        MisuseError: other pairs than the six.
    """
    if pairs.keys() != _POLICY:
        raise MisuseError("the policy pairs are app, class, env, kind, service and tenant")
    if not any_tenant:
        return b64encode(_padded(pairs)).decode()
    serialised = canonical(pairs)
    # "tenant" sorts last. Cut behind its name, then down to a multiple of three: that costs at most
    # two letters of the name, which nothing else can take the place of, and no byte of a value.
    end = len(serialised) - 2 - len(pairs["tenant"].encode())
    return b64encode(serialised[: end - end % 3]).decode()


def _padded(pairs: Mapping[str, str]) -> bytes:
    # Unambiguous: the serialisation knows its own length, and 32 bytes follow the padding.
    serialised = canonical(pairs)
    return serialised + bytes(-len(serialised) % 3)


def _urlsafe(data: bytes) -> str:
    return b64encode(data, b"-_").rstrip(b"=").decode()
