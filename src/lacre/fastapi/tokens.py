# SPDX-License-Identifier: Apache-2.0
"""
Who calls, according to a signed token (JWT, RFC 7519; as RFC 8725 advises).

The algorithms, the issuer, the audience and the roles that a token may give are pinned by the
application; the token chooses among keys that were given, and nothing else. It is refused with one
face, `NoPrincipal`: which check it failed is not said.

Does not fetch keys, does not issue or revoke tokens, and keeps none.
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, JWKRegistry, KeySet, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from lacre.errors import ConfigurationError, NoPrincipal

__all__ = ["Caller", "Tokens"]

# By asymmetric keys only: with a shared secret whoever verifies tokens could make them.
# `EdDSA` is the older name of what RFC 9864 calls `Ed25519`; here both are that curve alone.
_ALGORITHMS: dict[str, type] = {"Ed25519": OKPKey, "EdDSA": OKPKey, "ES256": ECKey, "RS256": RSAKey}
_CURVES = {"Ed25519": "Ed25519", "EdDSA": "Ed25519", "ES256": "P-256"}
_LEAST_RSA = 2048
_LONGEST = 255  # characters of a subject, role or tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom a verified token names."""

    principal: str
    roles: frozenset[str]
    tenant: str | None = None


def _user(claims: Mapping[str, Any]) -> str:
    return f"user:{claims['sub']}"


class _Pinned(JWSRegistry):
    # joserfc would fall back on its recommendation for an empty list, and warns of the name EdDSA.
    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


class Tokens:
    """
    What a token must be to name a caller.

    Args:
        keys: the issuer's public keys, as a JWKS. `trust` replaces them.
        algorithms: of `Ed25519`, `EdDSA`, `ES256` and `RS256`, those that are taken.
        issuer: the `iss` of every token.
        audience: this service, in the `aud` of every token.
        roles: those that a token may give; others in it are ignored.
        roles_claim: where a token names its roles: a list, or words in a string.
        tenant_claim: where a token names the tenant; then every token must.
        principal: makes the principal of a token's claims; ``user:SUB`` by default. It is written
            into the evidence, so it should be an opaque id.
        typ: the `typ` that a token's header must have, `at+jwt` say; any by default.
        leeway: seconds by which clocks may differ.
        clock: in seconds since the epoch; the system's by default.

    Raises:
        ConfigurationError: a key that is secret, private or weak; none that fits; an unknown algorithm.
    """

    def __init__(
        self,
        *,
        keys: KeySet | Mapping[str, Any],
        algorithms: Collection[str],
        issuer: str,
        audience: str,
        roles: Collection[str],
        roles_claim: str = "roles",
        tenant_claim: str | None = None,
        principal: Callable[[Mapping[str, Any]], str] = _user,
        typ: str | None = None,
        leeway: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        known = set(_ALGORITHMS) & set(JWSRegistry.algorithms)
        if isinstance(algorithms, str) or not algorithms or not set(algorithms) <= known:
            raise ConfigurationError(
                f"tokens are signed with one of {', '.join(sorted(known))}",
                hint='algorithms=["Ed25519"]',
            )
        if isinstance(roles, str):
            raise ConfigurationError(
                "roles is a set of names, not one string", hint=f'roles={{"{roles}"}}'
            )
        if not issuer or not audience:
            raise ConfigurationError("a token's issuer and audience are named, and never empty")
        self._algorithms = tuple(algorithms)
        self._roles = frozenset(roles)
        self._roles_claim = roles_claim
        self._tenant_claim = tenant_claim
        self._principal = principal
        self._typ = typ
        self._registry = _Pinned(algorithms=self._algorithms)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=leeway,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        self.trust(keys)

    def __repr__(self) -> str:
        return f"<Tokens {' '.join(self._algorithms)}>"

    def trust(self, keys: KeySet | Mapping[str, Any]) -> None:
        """
        Believe *keys* from now on, and no others: for an issuer that rotates them.

        Keys of other kinds, for other algorithms or for encryption are passed over, as RFC 7517 says.

        Raises:
            ConfigurationError: as the constructor. The keys of before stay.
        """
        try:
            held = keys.keys if isinstance(keys, KeySet) else _imported(keys)
            found = [key for key in held if self._fits(key)]
        except (JoseError, KeyError, TypeError, ValueError, AttributeError):
            # Without the cause: it may quote the key.
            raise ConfigurationError(
                "the issuer's keys are not a JWKS", hint='keys={"keys": [{"kty": "OKP", ...}]}'
            ) from None
        if not found:
            raise ConfigurationError(
                f"none of the issuer's keys fits {', '.join(self._algorithms)}",
                hint="give the public keys that these algorithms verify with",
            )
        self._keys = KeySet(found)

    def _fits(self, key: Any) -> bool:
        # A key that is for something else is not used (RFC 7517, section 5: an issuer may publish
        # others beside it). One that nobody but the issuer may have says that the set is wrong.
        if isinstance(key, OctKey) or key.is_private:
            raise ConfigurationError(
                "a key of the issuer is secret or private", hint="give the public parts only"
            )
        told = key.as_dict(private=False)
        kinds = [name for name in self._algorithms if isinstance(key, _ALGORITHMS[name])]
        fitting = [
            name
            for name in kinds
            if _CURVES.get(name) in (None, getattr(key, "curve_name", None))
            and told.get("alg") in (None, name)
        ]
        if not fitting or told.get("use", "sig") != "sig":
            return False
        if "verify" not in told.get("key_ops", ["verify"]):
            return False
        if isinstance(key, RSAKey) and key.raw_value.key_size < _LEAST_RSA:
            raise ConfigurationError(f"an RSA key of the issuer has fewer than {_LEAST_RSA} bits")
        return True

    def verify(self, token: str | None) -> Caller:
        """
        Return whom *token* names.

        Raises:
            NoPrincipal: there is none, or it is not accepted.
        """
        if not token:
            raise NoPrincipal("the request has no token", hint="Authorization: Bearer ...")
        try:
            found = jwt.decode(token, self._keys, registry=self._registry)
            self._claims.validate(found.claims)
            if self._typ is not None and found.header.get("typ", "").lower() != self._typ.lower():
                raise ValueError
            return self._caller(found.claims)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Which check it failed would help whoever forges one; joserfc's errors quote headers.
            raise NoPrincipal("the token is not accepted", hint="ask the issuer anew") from None

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        _name(claims["sub"])
        given = claims.get(self._roles_claim, [])
        roles = frozenset(given.split() if isinstance(given, str) else given)
        tenant = None if self._tenant_claim is None else _name(claims[self._tenant_claim])
        return Caller(
            principal=_name(self._principal(claims)), roles=roles & self._roles, tenant=tenant
        )


def _imported(document: Mapping[str, Any]) -> list[Any]:
    given = document["keys"]
    if not isinstance(given, list):
        raise TypeError
    found = []
    for each in given:
        # Of a kind that is not known here, or not whole: passed over, as RFC 7517 says.
        with suppress(JoseError, KeyError, TypeError, ValueError, AttributeError):
            found.append(JWKRegistry.import_key(dict(each)))
    return found


def _name(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST or not text.isprintable():
        raise ValueError
    return text
