# SPDX-License-Identifier: Apache-2.0
"""
Where a token comes from.

`AppRole` logs in with a role id and a secret id, which it reads anew each time, so that the file may
be replaced. `TokenFile` is a token that somebody else keeps good (an agent), read anew when it is
needed. `GivenToken` is one that is what it is.

Files are as private as identities (``spec/local-keystore.md``, section 5). Keeps no token.
"""

from pathlib import Path
from typing import Never, Protocol, final

from lacre.errors import ConfigurationError, KeyServiceDenied, MisuseError
from lacre.kms.local.files import check_private, read_private
from lacre.kms.openbao.connection import Answer, Connection, Secret

__all__ = ["AppRole", "GivenToken", "Source", "TokenFile", "secret_of"]


class Source(Protocol):
    """Where a token comes from. *logs_in*: by asking the server, so that each time makes another."""

    @property
    def logs_in(self) -> bool: ...

    def obtain(self, connection: Connection) -> Answer | Secret:
        """
        Return the answer to a log-in, or a token.

        Raises:
            KeyServiceDenied, ConfigurationError, TryAgain
        """
        ...


@final
class AppRole:
    """
    A role id, and a file whose first line is the secret id.

    Raises:
        ConfigurationError: the file is missing, open to others, or in a directory that is.
    """

    __slots__ = ("_mount", "_role_id", "_secret_id_file")

    def __init__(self, *, role_id: str, secret_id_file: Path, mount: str = "approle") -> None:
        check_private(secret_id_file)
        self._role_id = role_id
        self._secret_id_file = secret_id_file
        self._mount = mount

    def __repr__(self) -> str:
        return f"<AppRole at {self._mount}, {self._secret_id_file}>"

    @property
    def logs_in(self) -> bool:
        return True

    def obtain(self, connection: Connection) -> Answer:
        answer = connection.request(
            "post",
            f"auth/{self._mount}/login",
            body={"role_id": self._role_id, "secret_id": _first_line(self._secret_id_file)},
        )
        if answer.status == 404:
            raise ConfigurationError(
                "OpenBao has no such namespace, or no such way to log in",
                hint="look at [openbao] namespace and auth_mount",
            )
        if answer.status >= 400:
            raise KeyServiceDenied(
                f"OpenBao refuses the AppRole at {self._mount!r}",
                hint="look at role_id, secret_id_file and auth_mount, and whether the secret id expired or was used up",
            )
        return answer


@final
class TokenFile:
    """
    A file whose first line is a token, that somebody else keeps good.

    Raises:
        ConfigurationError: the file is missing, open to others, or in a directory that is.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        check_private(path)
        self._path = path

    def __repr__(self) -> str:
        return f"<TokenFile {self._path}>"

    @property
    def logs_in(self) -> bool:
        return False

    def obtain(self, connection: Connection) -> Secret:
        return _first_line(self._path)


@final
class GivenToken:
    """A token, as the environment gives one."""

    __slots__ = ("__token",)

    def __init__(self, token: str) -> None:
        self.__token = _required(secret_of(token.strip()), "the token of the environment")

    def __repr__(self) -> str:
        return "<GivenToken>"

    def __reduce__(self) -> Never:
        raise MisuseError("a token does not pickle or copy")

    @property
    def logs_in(self) -> bool:
        return False

    def obtain(self, connection: Connection) -> Secret:
        return self.__token


def secret_of(text: object) -> Secret | None:
    """Return *text* as a secret, where it is one line of printable ASCII."""
    # A line break in it would be another header; and the error about that would quote it.
    if not isinstance(text, str) or not 0 < len(text) <= 8192 or " " in text:
        return None
    return Secret(text) if text.isascii() and text.isprintable() else None


def _first_line(path: Path) -> Secret:
    line = read_private(path).partition(b"\n")[0].strip()
    secret = secret_of(line.decode("ascii", "replace"))
    del line
    return _required(secret, str(path))


def _required(secret: Secret | None, name: str) -> Secret:
    if secret is None:
        raise ConfigurationError(
            f"{name} is no token and no secret id", hint="one line of printable ASCII"
        )
    return secret
