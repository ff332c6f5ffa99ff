# SPDX-License-Identifier: Apache-2.0
"""An issuer of tokens for the tests: makes keys and signs what it is told. Checks nothing."""

import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from lacre.fastapi import Tokens

__all__ = ["AUDIENCE", "ISSUER", "Issuer"]

ISSUER, AUDIENCE = "https://id.example.org", "shop"


class _Any(JWSRegistry):
    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: Any) -> None: ...


class Issuer:
    """One key pair; *algorithm* is what its tokens say."""

    def __init__(self, algorithm: str = "Ed25519", kid: str = "1", **parameters: Any) -> None:
        self.algorithm, self.kid = algorithm, kid
        given = {"kid": kid, **parameters}
        self.key: Any
        if algorithm == "ES256":
            self.key = ECKey.generate_key("P-256", given)
        elif algorithm == "RS256":
            self.key = RSAKey.generate_key(2048, given)
        else:
            self.key = OKPKey.generate_key("Ed25519", given)

    def public(self) -> dict[str, Any]:
        """The JWKS."""
        return {"keys": [self.key.as_dict(private=False)]}

    def key_set(self) -> KeySet:
        return KeySet.import_key_set(self.public())  # type: ignore[arg-type]

    def tokens(self, **settings: Any) -> Tokens:
        """What takes this issuer's tokens."""
        given: dict[str, Any] = {
            "keys": self.public(),
            "algorithms": [self.algorithm],
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "roles": {"app", "support", "admin"},
        }
        return Tokens(**(given | settings))

    def token(
        self,
        sub: Any = "ana",
        *roles: str,
        header: dict[str, Any] | None = None,
        key: Any = None,
        **claims: Any,
    ) -> str:
        """A token of *sub*; a claim that is None is left out."""
        told = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "exp": int(time.time()) + 60,
            "roles": list(roles or ("app",)),
        } | claims
        told = {name: value for name, value in told.items() if value is not None}
        head = {"alg": self.algorithm, "kid": self.kid} | (header or {})
        return jwt.encode(head, told, key or self.key, registry=_Any())

    def headers(self, sub: str = "ana", *roles: str, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(sub, *roles, **claims)}"}
