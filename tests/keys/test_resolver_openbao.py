"""The cache before a real OpenBao that is killed, started again, and told to deny."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lacre.context import acting_as
from lacre.errors import KeyServiceDenied, KeyServiceUnreachable
from lacre.keys.resolver import CacheLimits, Resolver
from lacre.kms.calling import CallLimits
from lacre.kms.openbao import OpenBaoKeyService
from lacre.policy.model import OpenBaoSettings
from tests.components.key_stores import KeptInSQLite
from tests.components.openbao import OpenBao
from tests.keys.parts import Parts, handle, scope

AGE = 300.0


@dataclass
class Held:
    """A resolver before a Transit key that its credential may only decrypt with."""

    server: OpenBao
    parts: Parts
    resolver: Resolver
    mount: str
    policy: str

    def calls(self, since: int) -> int:
        """The decryptions that the server's audit log has."""
        return sum(self.server.calls(f"{self.mount}/decrypt/", since=since).values())

    def allow(self, capability: str) -> None:
        self.server.policy(self.policy, _rule(self.mount, capability))


def _rule(mount: str, capability: str) -> str:
    return f'path "{mount}/decrypt/pii" {{ capabilities = ["{capability}"] }}'


@pytest.fixture
def held(openbao: OpenBao, tmp_path: Path) -> Iterator[Held]:
    """With keys of one tenant and class, none of them cached."""
    mount = openbao.transit()
    openbao.key(mount, "pii")
    policy = openbao.policy(None, _rule(mount, "update"))

    def service(token: str) -> OpenBaoKeyService:
        settings = {"address": openbao.address, "ca_file": str(openbao.ca_file), "auth": "token"}
        return OpenBaoKeyService.open(
            OpenBaoSettings.model_validate(settings),
            limits=CallLimits(),
            base=tmp_path,
            environ={"BAO_TOKEN": token},
        )

    parts = Parts.at(KeptInSQLite(path=tmp_path / "store" / "keys.db"))
    provisioner = replace(
        parts.provisioner,
        services={"openbao": service(openbao.root_token)},
        kms_keys=lambda _: (f"openbao://{mount}/pii",),
    )
    with acting_as("operator", purpose="test", across_yield=True):
        provisioner.create(scope(), indexed=False)
    resolver = Resolver(
        store=parts.store,
        services={"openbao": service(openbao.token([policy]))},
        kms_keys=lambda _: (f"openbao://{mount}/pii",),
        limits=CacheLimits(age=AGE),
        clock=parts.clock,
    )
    parts.resolvers.append(resolver)
    yield Held(openbao, parts, resolver, mount, policy)
    parts.close()


def test_a_server_that_is_killed_takes_nothing_that_is_held(held: Held) -> None:
    """Cached keys serve until they expire, then `KeyServiceUnreachable`; started again, one call serves."""
    held.resolver.to_encrypt(handle())
    with held.server.stopped():
        held.parts.clock.advance(0.85 * AGE)
        assert held.resolver.to_encrypt(handle())
        assert held.resolver._cache.background.settle(30)
        assert held.resolver.to_encrypt(handle())
        held.parts.clock.advance(0.15 * AGE)
        with pytest.raises(KeyServiceUnreachable):
            held.resolver.to_encrypt(handle())
    mark = held.server.mark()

    assert held.resolver.to_encrypt(handle())
    assert held.calls(mark) == 1


def test_a_policy_that_is_taken_away_is_heard_before_the_expiry(held: Held) -> None:
    """In use, the key is asked for anew, denied and dropped; a loop then asks the server once in two seconds."""
    entry = held.resolver.to_encrypt(handle())
    held.allow("deny")
    held.parts.clock.now = entry.fresh
    held.resolver.to_encrypt(handle())
    assert held.resolver._cache.background.settle(30)
    mark = held.server.mark()
    for _ in range(50):
        with pytest.raises(KeyServiceDenied):
            held.resolver.to_encrypt(handle())

    assert held.parts.clock() < entry.expires
    assert held.calls(mark) == 0
    held.allow("update")
    held.parts.clock.advance(2)
    assert held.resolver.to_encrypt(handle())
