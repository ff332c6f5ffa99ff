# SPDX-License-Identifier: Apache-2.0
"""
Calls of a Transit engine: logged in, in time, tried again where that is right, checked.

A call that is refused is asked of the server once more with a new token only if the token is at
fault. Knows paths and answers, not what they are for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, final

from lacre.errors import ConfigurationError, KeyDestroyed, KeyDisabled, LacreError
from lacre.keys.kms_keys import check_kms_key, scheme_of
from lacre.keys.requests import noted
from lacre.kms.calling import Calls, TryAgain
from lacre.kms.openbao.answers import check_properties, lacks_context, refusal, says_retired
from lacre.kms.openbao.connection import Answer, Connection, Secret
from lacre.kms.openbao.login import Login

__all__ = ["SCHEME", "Transit", "number", "place_of"]

T = TypeVar("T")
SCHEME: Final = "openbao"


@final
class Transit:
    """The Transit engines of one server, as one credential may use them."""

    def __init__(self, connection: Connection, login: Login, calls: Calls) -> None:
        self._connection = connection
        self._login = login
        self._calls = calls
        self._checked: frozenset[str] = frozenset()  # replaced, never altered: no lock is needed

    @property
    def address(self) -> str:
        return self._connection.address

    def resting(self) -> dict[str, bool]:
        """Return whether the breaker is open, by the server's address."""
        return {self.address: self._calls.resting}

    def ask(
        self,
        kms_key: str,
        operation: str,
        body: Mapping[str, Any],
        take: Callable[[Answer], T],
        *,
        version: int | None = None,
    ) -> T:
        """
        Return what *take* finds in the answer to ``MOUNT/operation/NAME``.

        Args:
            version: of the KMS key, that the body's ciphertext is under.

        Raises:
            Tampered, KeyNotFound, KeyDisabled, KeyDestroyed, KeyServiceDenied,
            KeyServiceUnreachable, ConfigurationError
        """
        mount, name = place_of(kms_key)
        path = f"{mount}/{operation}/{name}"
        retired = False

        def attempt() -> T:
            nonlocal retired
            answer = self._send("post", path, body)
            retired = version is not None and says_retired(answer)
            if answer.status >= 400:
                raise refusal(answer, kms_key, path)
            return take(answer)

        try:
            return self._calls(attempt)
        except KeyDisabled:
            if version is None or not retired or not self._is_destroyed(kms_key, version):
                raise
        raise KeyDestroyed(f"version {version} of {kms_key} was destroyed")

    def read(self, kms_key: str) -> Mapping[str, Any]:
        """
        Return what the engine tells of the key.

        Raises:
            KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        return self.call("get", _read_at(kms_key), kms_key).data

    def call(
        self,
        method: str,
        path: str,
        kms_key: str,
        body: Mapping[str, Any] | None = None,
        *,
        before: Callable[[], Answer | None] = lambda: None,
    ) -> Answer:
        """
        Return the answer at *path*.

        Args:
            before: called before each further attempt; what it returns is taken for the answer.

        Raises:
            what `read` raises
        """
        tried = False

        def attempt() -> Answer:
            nonlocal tried
            found = before() if tried else None
            tried = True
            if found is not None:
                return found
            answer = self._send(method, path, body)
            if answer.status >= 400:
                raise refusal(answer, kms_key, path)
            return answer

        return self._calls(attempt)

    def look(self, kms_key: str) -> Answer:
        """Return the answer about the key, in a single attempt, as *before* of `call` needs it."""
        return self._send("get", _read_at(kms_key), None)

    def check(self, kms_key: str, *, mints: bool = False) -> None:
        """
        Refuse a key that ignores the context or may leave the server; once for each process and key.

        It is read. A credential that may not do that, but *mints*, finds out at least whether the
        key insists on a context; otherwise nobody can tell here, and the server's own policy has
        to be trusted.

        Raises:
            ConfigurationError: not such a key.
            what `read` raises, except for a denial
        """
        if kms_key in self._checked:
            return
        answer = self._calls(lambda: self.look(kms_key))
        if answer.status < 400:
            check_properties(answer.data, kms_key)
        elif answer.status != 403:
            raise refusal(answer, kms_key, _read_at(kms_key))
        elif mints:
            self._check_by_minting(kms_key)
        self._checked |= {kms_key}

    def _check_by_minting(self, kms_key: str) -> None:
        # What comes of it is thrown away: a key that nobody has seen.
        mount, name = place_of(kms_key)
        path = f"{mount}/datakey/wrapped/{name}"
        answer = self._calls(lambda: self._send("post", path, {"bits": 256}))
        if answer.status < 400:
            check_properties({"type": "aes256-gcm96", "derived": False}, kms_key)
        if not lacks_context(answer) and answer.status != 403:
            raise refusal(answer, kms_key, path)

    def _is_destroyed(self, kms_key: str, version: int) -> bool:
        # For the error only; whoever may not read the key is told what is certain.
        try:
            available = number(self.read(kms_key), "min_available_version")
        except LacreError:
            return False
        return available is not None and version < available

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        with self._connection.allowed():
            token = self._login.token()
            answer = self._asked(method, path, token, body)
            if answer.status != 403:
                return answer
            try:
                if not self._login.replaces(token):
                    return answer
                fresh = self._login.token()
                second = self._asked(method, path, fresh, body)
            except TryAgain:
                # Refused is what is known. "No answer" in its place would let whoever cuts the
                # network now have keys used that were refused.
                return answer
            if second.status == 403:
                self._login.did_not_help()
        return second

    def _asked(
        self, method: str, path: str, token: Secret, body: Mapping[str, Any] | None
    ) -> Answer:
        try:
            answer = self._connection.request(method, path, token=token, body=body)
        except TryAgain:
            noted()
            raise
        # The id that the server's audit log has too; a refusal has none.
        noted(answer.body.get("request_id"))
        return answer


def place_of(kms_key: str) -> tuple[str, str]:
    """Return the mount and the name in the URI of a KMS key, or raise `ConfigurationError`."""
    try:
        check_kms_key(kms_key)
    except ValueError:
        kms_key = ""
    if scheme_of(kms_key) != SCHEME:
        raise ConfigurationError(
            "OpenBao serves KMS keys named openbao://MOUNT/NAME",
            hint='for example "openbao://transit/pii-fields"',
        )
    mount, _, name = kms_key.removeprefix(f"{SCHEME}://").rpartition("/")
    return mount, name


def _read_at(kms_key: str) -> str:
    mount, name = place_of(kms_key)
    return f"{mount}/keys/{name}"


def number(found: Mapping[str, Any], name: str) -> int | None:
    """Return a whole number of what the engine tells."""
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
