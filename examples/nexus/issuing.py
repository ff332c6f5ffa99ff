# SPDX-License-Identifier: Apache-2.0
"""
Tokens of Nexus' own, signed with Ed25519.

A service of yours will have an identity provider for this: then only its public keys are here.
"""

import json
import time
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey

from lacre.fastapi import Tokens
from nexus.settings import Settings

__all__ = ["Issuer", "make_key"]

AUDIENCE = "nexus"
ROLES = frozenset({"person", "support", "admin"})


def make_key(path: Path) -> None:
    """Write a new private key, readable for its owner only."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True)))


class Issuer:
    """Signs what a person may act as, for some minutes."""

    def __init__(self, settings: Settings) -> None:
        self._key = OKPKey.import_key(json.loads(settings.issuer_key.read_text("utf-8")))
        self._issuer = settings.issuer
        self.seconds = settings.token_seconds

    def tokens(self) -> Tokens:
        """What its tokens are verified with: the public part of its key."""
        public = OKPKey.import_key(self._key.as_dict(private=False))
        return Tokens(
            keys=KeySet([public]),
            algorithms=["Ed25519"],
            issuer=self._issuer,
            audience=AUDIENCE,
            roles=ROLES,
            typ="at+jwt",
        )

    def issue(self, subject: str, roles: set[str]) -> str:
        """Return a token of *subject*, an id that says nothing about the person."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now,
            "exp": now + self.seconds,
            "roles": sorted(roles),
        }
        header = {"alg": "Ed25519", "typ": "at+jwt"}
        return jwt.encode(header, claims, self._key, algorithms=["Ed25519"])
