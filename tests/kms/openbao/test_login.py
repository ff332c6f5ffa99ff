# SPDX-License-Identifier: Apache-2.0
"""A token is got once, renewed ahead, replaced when it is gone; and a refusal stays one."""

import os
import threading
import time
from pathlib import Path

import pytest

from lacre.errors import ConfigurationError, KeyServiceDenied
from lacre.kms.calling import CallLimits
from lacre.kms.openbao import AppRole, Connection, Login, OpenBaoKeyService, TokenFile
from lacre.policy.model import OpenBaoSettings
from lacre.testing import FrozenClock
from tests.kms.openbao.conftest import Engine, bound

UPDATE, READ = 'capabilities = ["update"]', 'capabilities = ["read"]'
PII = {"decrypt/pii": UPDATE, "datakey/wrapped/pii": UPDATE, "keys/pii": READ}
SELF = {"auth/token/lookup-self": READ, "auth/token/renew-self": UPDATE}
PATIENT = CallLimits(deadline=20, attempt=10)


def approle(engine: Engine, rules: dict[str, str], **settings: object) -> dict[str, str]:
    """Make a role with *rules*; return the settings that log in as it."""
    role_id, secret_id = engine.server.approle([engine.policy(rules)], **settings)  # type: ignore[arg-type]
    return {
        "auth": "approle",
        "role_id": role_id,
        "secret_id_file": engine.secret_file("secret-id", secret_id),
    }


def login_of(engine: Engine, settings: dict[str, str], clock: FrozenClock) -> tuple[Connection, Login]:  # fmt: skip
    """Return a log-in on a clock of its own, and its connection."""
    connection = Connection(
        engine.server.address, ca_file=engine.server.ca_file, namespace=None, attempt=10.0
    )
    role = AppRole(
        role_id=settings["role_id"], secret_id_file=engine.directory / settings["secret_id_file"]
    )
    return connection, Login(connection, role, clock=clock)


def token_of(connection: Connection, login: Login) -> str:
    with connection.allowed():
        return login.token()


def logins(engine: Engine, since: int) -> int:
    return engine.server.calls("auth/approle/login", since=since).total()


def test_an_approle_logs_in_once(engine: Engine) -> None:
    """The first call logs in, further ones do not, and none is made before it."""
    since = engine.server.mark()
    service = engine.service(**approle(engine, PII))
    before = logins(engine, since)
    wrapped = service.mint(engine.pii, bound())
    service.unwrap(engine.pii, wrapped, bound())

    assert (before, logins(engine, since)) == (0, 1)


def test_many_threads_log_in_once(engine: Engine) -> None:
    """However many threads find no token, one logs in, and all get on with what it got."""
    wrapped = engine.service().mint(engine.pii, bound())
    service = engine.service(limits=PATIENT, **approle(engine, PII))
    since, opened, gate = engine.server.mark(), [], threading.Barrier(64)

    def unwrap() -> None:
        gate.wait()
        opened.append(service.unwrap(engine.pii, wrapped, bound()).reveal())

    threads = [threading.Thread(target=unwrap) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(opened), len(set(opened))) == (64, 1)
    assert logins(engine, since) == 1


def test_a_revoked_token_is_replaced(engine: Engine) -> None:
    """Where the server no longer knows the token, one log-in and one more attempt bring the key."""
    settings = approle(engine, PII | SELF)
    service = engine.service(**settings)
    wrapped = service.mint(engine.pii, bound())
    revoke(engine)
    since = engine.server.mark()
    service.unwrap(engine.pii, wrapped, bound())

    assert logins(engine, since) == 1
    assert engine.server.calls(f"{engine.mount}/decrypt", since=since).total() == 2


def revoke(engine: Engine) -> None:
    """Revoke every token of every AppRole."""
    engine.server.client().sys.revoke_prefix("auth/approle/login")


def test_a_denial_logs_nobody_in(engine: Engine) -> None:
    """A refusal by policy with a token that the server knows is a denial: no log-in, no second try."""
    wrapped = engine.service().mint(engine.other, bound())
    service = engine.service(**approle(engine, PII | SELF))
    service.mint(engine.pii, bound())
    since = engine.server.mark()

    for _ in range(3):
        with pytest.raises(KeyServiceDenied):
            service.unwrap(engine.other, wrapped, bound())
    assert logins(engine, since) == 0
    assert engine.server.calls(f"{engine.mount}/decrypt", since=since).total() == 3


def test_a_denial_of_a_token_that_may_not_look_itself_up(engine: Engine) -> None:
    """Where nobody can tell whether the token is at fault, a new one is tried once, not each time."""
    wrapped = engine.service().mint(engine.other, bound())
    service = engine.service(**approle(engine, PII))
    service.mint(engine.pii, bound())
    since = engine.server.mark()

    for _ in range(3):
        with pytest.raises(KeyServiceDenied):
            service.unwrap(engine.other, wrapped, bound())
    assert logins(engine, since) == 1
    assert engine.server.calls(f"{engine.mount}/decrypt", since=since).total() == 4


def test_a_refused_login_is_a_denial(engine: Engine) -> None:
    """A secret id that the server does not know is KeyServiceDenied, and not tried twice."""
    settings = approle(engine, PII)
    engine.secret_file("secret-id", "canary-4711")
    since = engine.server.mark()
    service = engine.service(**settings)

    with pytest.raises(KeyServiceDenied, match="approle") as raised:
        service.mint(engine.pii, bound())
    assert logins(engine, since) == 1
    assert "canary" not in str(raised.value) + raised.value.hint
    with pytest.raises(KeyServiceDenied):
        engine.service(**settings, auth_mount="elsewhere").mint(engine.pii, bound())


def test_a_new_secret_id_is_read(engine: Engine) -> None:
    """A secret id that is put into the file later is used by the next log-in."""
    settings = approle(engine, PII)
    secret = (engine.directory / "secret-id").read_text().strip()
    engine.secret_file("secret-id", "not-yet")
    service = engine.service(**settings)
    with pytest.raises(KeyServiceDenied):
        service.mint(engine.pii, bound())
    engine.secret_file("secret-id", secret)

    assert service.mint(engine.pii, bound())


def test_a_token_is_renewed_ahead(engine: Engine) -> None:
    """Past two thirds of its life a token is renewed, not before; and nobody logs in for it."""
    clock = FrozenClock()
    connection, login = login_of(engine, approle(engine, SELF, token_ttl="90s"), clock)
    token = token_of(connection, login)
    since = engine.server.mark()
    clock.advance(59)
    early = token_of(connection, login)
    renewed = engine.server.calls("auth/token/renew-self", since=since).total()
    clock.advance(2)
    late = token_of(connection, login)

    assert early == late == token
    assert renewed == 0
    assert engine.server.calls("auth/token/renew-self", since=since).total() == 1
    assert logins(engine, since) == 0
    clock.advance(59)
    token_of(connection, login)
    assert engine.server.calls("auth/token/renew-self", since=since).total() == 1


def test_a_token_that_cannot_be_renewed_is_replaced_ahead(engine: Engine) -> None:
    """Where the policy allows no renewal, another log-in comes before the token ends."""
    clock = FrozenClock()
    connection, login = login_of(
        engine, approle(engine, {"auth/token/lookup-self": READ}, token_ttl="90s"), clock
    )
    token = token_of(connection, login)
    clock.advance(61)

    assert token_of(connection, login) != token


def test_the_longest_life_ends_with_a_login(engine: Engine) -> None:
    """A token whose renewals give little more is replaced by a new log-in."""
    clock = FrozenClock()
    settings = approle(engine, SELF, token_ttl="90s", token_max_ttl="91s")
    connection, login = login_of(engine, settings, clock)
    token = token_of(connection, login)
    # The server's clock is real: ask for less than it has given, as the end of its life would.
    since = engine.server.mark()
    clock.advance(91)
    other = token_of(connection, login)

    assert other != token
    assert logins(engine, since) == 1


def test_an_expired_token_is_not_used(engine: Engine) -> None:
    """By this machine's own clock a token that ended is not tried; a new log-in comes first."""
    clock = FrozenClock()
    connection, login = login_of(engine, approle(engine, SELF, token_ttl="90s"), clock)
    token = token_of(connection, login)
    since = engine.server.mark()
    clock.advance(90)

    assert token_of(connection, login) != token
    assert engine.server.calls("auth/token/renew-self", since=since).total() == 0


def test_renewing_fails_and_the_token_serves_on(engine: Engine) -> None:
    """While a renewal gets no answer the token there is is used, and the server is not pestered."""
    clock = FrozenClock()
    connection, login = login_of(engine, approle(engine, SELF, token_ttl="90s"), clock)
    token = token_of(connection, login)
    clock.advance(61)
    with engine.server.sealed():
        during = [token_of(connection, login) for _ in range(3)]

    assert during == [token] * 3


def test_a_token_file(engine: Engine) -> None:
    """A token file is read anew when its token is gone; while it holds the same one, that is a denial."""
    rules = PII | SELF
    first = engine.allowed(rules)
    file = engine.secret_file("token", first)
    service = engine.service(token_file=file)
    wrapped = service.mint(engine.pii, bound())
    engine.server.client().auth.token.revoke(first)
    with pytest.raises(KeyServiceDenied):
        service.unwrap(engine.pii, wrapped, bound())
    engine.secret_file("token", engine.allowed(rules))

    assert service.unwrap(engine.pii, wrapped, bound())


def test_a_token_that_expires_is_renewed(engine: Engine) -> None:
    """A token that was given is looked up, and renewed past two thirds of its life."""
    clock = FrozenClock()
    connection = Connection(
        engine.server.address, ca_file=engine.server.ca_file, namespace=None, attempt=10.0
    )
    token = engine.allowed(SELF, ttl="90s")
    login = Login(connection, TokenFile(engine.directory / engine.secret_file("token", token)), clock=clock)  # fmt: skip
    token_of(connection, login)
    since = engine.server.mark()
    clock.advance(61)

    assert token_of(connection, login) == token
    assert engine.server.calls("auth/token/renew-self", since=since).total() == 1


def test_tokens_of_the_environment(engine: Engine) -> None:
    """BAO_TOKEN comes before VAULT_TOKEN; with neither, and no file, it is said before any call."""
    settings = OpenBaoSettings(
        address=engine.server.address, ca_file=str(engine.server.ca_file), auth="token"
    )

    def opened(environ: dict[str, str]) -> OpenBaoKeyService:
        return OpenBaoKeyService.open(
            settings, limits=engine.limits, base=engine.directory, environ=environ
        )

    root = engine.server.root_token
    assert opened({"BAO_TOKEN": root, "VAULT_TOKEN": "s.bogus"}).status(engine.pii).usable
    assert opened({"BAO_TOKEN": "", "VAULT_TOKEN": root}).status(engine.pii).usable
    with pytest.raises(KeyServiceDenied):
        opened({"BAO_TOKEN": "s.bogus", "VAULT_TOKEN": root}).status(engine.pii)
    for wrong in ({}, {"BAO_TOKEN": "two lines\nX-Header: 1"}, {"BAO_TOKEN": "é"}):
        with pytest.raises(ConfigurationError):
            opened(wrong)


def test_a_secret_file_open_to_others(engine: Engine) -> None:
    """A secret id or token in a file that others can read, or that is missing, is refused at once."""
    file = engine.secret_file("token", "s.secret")
    (engine.directory / file).chmod(0o640)

    for settings in (
        {"token_file": file},
        {"token_file": "absent"},
        {"auth": "approle", "role_id": "r", "secret_id_file": file},
    ):
        with pytest.raises(ConfigurationError):
            engine.service(**settings)


def test_after_a_fork(engine: Engine, tmp_path: Path) -> None:
    """A child that was forked from a process with an open connection has one of its own, and works."""
    # One attempt: what goes wrong on a shared connection is not made good by another.
    service = engine.service(limits=CallLimits(deadline=10, attempt=10), **approle(engine, PII))
    wrapped = service.mint(engine.pii, bound())
    expected = service.unwrap(engine.pii, wrapped, bound()).reveal()
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            try:
                same = all(
                    service.unwrap(engine.pii, wrapped, bound()).reveal() == expected
                    for _ in range(20)
                )
                (tmp_path / str(number)).write_text(str(same))
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    mine = [service.unwrap(engine.pii, wrapped, bound()).reveal() for _ in range(20)]

    assert set(mine) == {expected}
    assert [(tmp_path / str(number)).read_text() for number in range(3)] == ["True"] * 3


def test_a_fork_while_somebody_logs_in(engine: Engine, tmp_path: Path) -> None:
    """A child that was forked while a thread held the lock of the log-in does not wait for it for ever."""
    service = engine.service(limits=PATIENT, **approle(engine, PII))
    login = service._transit._login
    with login._lock:
        child = os.fork()
        if child == 0:
            try:
                (tmp_path / "made").write_bytes(service.mint(engine.pii, bound()))
            finally:
                os._exit(0)
    for _ in range(400):
        if os.waitpid(child, os.WNOHANG)[0]:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)

    assert (tmp_path / "made").read_bytes().startswith(b"vault:v1:")
