# SPDX-License-Identifier: Apache-2.0
"""
OpenBao's Transit engine as a key service: mints, unwraps, moves and administers.

Implements ``spec/key-services.md``, section 3. Which of its methods work is for the credential's
policy to say (`lacre.policy.rendering`). Never asks for a key in the clear to mint one, never sends
several items in one call: a policy that pins the context does not see into `batch_input`.

Keeps no key. Cached keys are the resolver's.
"""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never, Self, final

from lacre.errors import ConfigurationError, MisuseError
from lacre.keys.ports import KmsKeyStatus
from lacre.keys.transit_context import transit_context
from lacre.kms.calling import CallLimits, Calls
from lacre.kms.openbao import administration
from lacre.kms.openbao.answers import key_of, version_of, wrapped_of
from lacre.kms.openbao.connection import Connection, Secret
from lacre.kms.openbao.login import Login
from lacre.kms.openbao.signing import OpenBaoSigner
from lacre.kms.openbao.sources import AppRole, GivenToken, TokenFile
from lacre.kms.openbao.transit import Transit, number
from lacre.sensitive import KeyMaterial

if TYPE_CHECKING:
    from lacre.policy.model import OpenBaoSettings

__all__ = ["OpenBaoKeyService"]

_TOKENS: Final = ("BAO_TOKEN", "VAULT_TOKEN")


@final
class OpenBaoKeyService:
    """
    The KMS keys of one OpenBao server, or Vault's, as one credential may use them.

    Args:
        connection: to the server.
        login: who calls.
        calls: how often and how long.
    """

    def __init__(self, connection: Connection, login: Login, calls: Calls) -> None:
        self._transit = Transit(connection, login, calls)

    @classmethod
    def open(
        cls,
        settings: "OpenBaoSettings",
        *,
        limits: CallLimits,
        base: Path,
        environ: Mapping[str, str],
    ) -> Self:
        """
        Return the service that `[openbao]` describes. Does not call the server.

        Args:
            base: what paths of *settings* are relative to.
            environ: where BAO_TOKEN or VAULT_TOKEN is, if the token is in no file.

        Raises:
            ConfigurationError: a file cannot be used, or there is no token.
        """
        connection = Connection(
            settings.address,
            ca_file=None if settings.ca_file is None else base / settings.ca_file,
            namespace=settings.namespace,
            attempt=limits.attempt,
        )
        source: AppRole | TokenFile | GivenToken
        if settings.auth == "approle":
            assert settings.role_id is not None
            assert settings.secret_id_file is not None
            source = AppRole(
                role_id=settings.role_id,
                secret_id_file=base / settings.secret_id_file,
                mount=settings.auth_mount,
            )
        elif settings.token_file is not None:
            source = TokenFile(base / settings.token_file)
        else:
            token = next((environ[name] for name in _TOKENS if environ.get(name)), None)
            if token is None:
                raise ConfigurationError(
                    "there is no token for OpenBao",
                    hint='[openbao] token_file, BAO_TOKEN in the environment, or auth = "approle"',
                )
            source = GivenToken(token)
        return cls(
            connection,
            Login(connection, source),
            Calls(f"OpenBao at {settings.address}", limits),
        )

    def signer(self, kms_key: str) -> OpenBaoSigner:
        """Return who signs notes with *kms_key*."""
        return OpenBaoSigner(self._transit, kms_key)

    def resting(self) -> dict[str, bool]:
        """Return whether the breaker of the server is open, by the server's address."""
        return self._transit.resting()

    def __repr__(self) -> str:
        return f"<OpenBaoKeyService {self._transit.address}>"

    def __reduce__(self) -> Never:
        raise MisuseError("a key service does not pickle or copy")

    # KeyService.

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """Return 32 new random bytes, wrapped; the server makes them and does not show them."""
        body = {"context": transit_context(context), "bits": 256}
        self._transit.check(kms_key, mints=True)
        return self._transit.ask(kms_key, "datakey/wrapped", body, wrapped_of)

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """Return the key, if its version of the KMS key may still decrypt."""
        version = version_of(wrapped)
        body = {"context": transit_context(context), "ciphertext": wrapped.decode("ascii")}
        return self._transit.ask(kms_key, "decrypt", body, key_of, version=version)

    # KeyMover.

    def wrap(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        """Wrap a key that comes from elsewhere, under the newest version."""
        plaintext = Secret(b64encode(key.reveal()).decode())
        body = {"context": transit_context(context), "plaintext": plaintext}
        # Also because the engine would otherwise *make* a key of that name, for whoever may create.
        self._transit.check(kms_key)
        return self._transit.ask(kms_key, "encrypt", body, wrapped_of)

    def rewrap(
        self,
        kms_key: str,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        to: str,
        to_context: Mapping[str, str],
    ) -> bytes:
        """Wrap anew; inside the server where KMS key and context stay what they are."""
        bound = transit_context(context)
        if kms_key != to or bound != transit_context(to_context):
            return self.wrap(to, self.unwrap(kms_key, wrapped, context), to_context)
        version = version_of(wrapped)
        body = {"context": bound, "ciphertext": wrapped.decode("ascii")}
        return self._transit.ask(kms_key, "rewrap", body, wrapped_of, version=version)

    def version_of(self, wrapped: bytes) -> str:
        """Return the number of the version that the wrapped key names."""
        return str(version_of(wrapped))

    # KmsKeyAdministration.

    def status(self, kms_key: str) -> KmsKeyStatus:
        """Return how the KMS key is. Of a sealed server nothing is known: `KeyServiceUnreachable`."""
        return administration.status(self._transit, kms_key)

    def rotate(self, kms_key: str) -> int | None:
        """Give the KMS key a new version, and return its number; once, also where an answer is lost."""
        return administration.rotate(self._transit, kms_key)

    def retire_before(self, kms_key: str, version: int) -> None:
        """
        Let versions below *version* open nothing more, until somebody lowers it again.

        What is wrapped under them has to be wrapped anew before; it answers `KeyDisabled`.

        Raises:
            MisuseError: there is no such version.
            KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        administration.retire_before(self._transit, kms_key, version)

    def destroy_before(self, kms_key: str, version: int) -> None:
        """
        Destroy versions below *version* for good: what is wrapped under them never opens again.

        A snapshot of the server that was taken before holds them, until it is destroyed too.

        Raises:
            MisuseError: there is no such version.
            KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        administration.destroy_before(self._transit, kms_key, version)

    def available_from(self, kms_key: str) -> int:
        """Return the lowest version that was not destroyed; 0 where none ever was."""
        return number(self._transit.read(kms_key), "min_available_version") or 0
