# SPDX-License-Identifier: Apache-2.0
"""
Who signs the evidence log, and who is believed, as `lacre.toml` says.

`[audit] identity` is the path of an identity, or a KMS key by its URI; `[audit] signers` are public
texts, of identities (``lacre-public-1 ...``) or as other tools that read C2SP notes write them
(``name+id+key``). Imports an SDK only where a key is held there.
"""

from collections.abc import Mapping
from pathlib import Path

from lacre.audit.notes import Signer, Verifier
from lacre.errors import ConfigurationError
from lacre.kms.calling import CallLimits
from lacre.kms.local import Identity, PublicIdentity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.policy.model import PolicyFile

__all__ = ["believed", "open_signer", "operators", "read_verifier"]

_PUBLIC = "lacre-public-1 "


def read_verifier(text: str) -> Verifier:
    """
    Return who is believed by a public text, of either kind.

    Raises:
        ConfigurationError: it is neither.
    """
    if text.strip().startswith(_PUBLIC):
        return verifier_of(PublicIdentity.from_text(text))
    return Verifier.from_text(text)


def believed(file: PolicyFile) -> list[Verifier]:
    """Return whose checkpoints are believed: `[audit] signers`."""
    return [read_verifier(text) for text in file.audit.signers]


def operators(file: PolicyFile) -> list[Verifier]:
    """Return whose statements are believed: `[local] signers`, the operators."""
    return [verifier_of(PublicIdentity.from_text(text)) for text in file.local.signers]


def open_signer(file: PolicyFile, base: Path, *, environ: Mapping[str, str]) -> Signer:
    """
    Return who signs: `[audit] identity`. A KMS key is asked for its public key.

    Args:
        base: what paths of the file are relative to.
        environ: where tokens of key services may be.

    Raises:
        ConfigurationError: there is none, or it cannot be one.
        KeyServiceDenied, KeyServiceUnreachable, KeyNotFound: of a KMS key.
    """
    named = file.audit.identity
    if named is None:
        raise ConfigurationError(
            "lacre.toml does not say who signs the evidence log",
            hint='[audit] identity = "lacre/identities/svc-audit.key", or the URI of a KMS key',
        )
    scheme, separator, _ = named.partition("://")
    if not separator:
        return IdentitySigner(Identity.load(base / named))
    limits = CallLimits(deadline=file.calls.deadline, attempt=file.calls.attempt)
    if scheme == "aws-kms" and file.aws is not None:
        try:
            from lacre.kms.aws.signing import AwsSigner
        except ModuleNotFoundError:
            raise _not_installed(scheme, "aws") from None
        return AwsSigner(file.aws, named, limits=limits)
    if scheme == "openbao" and file.openbao is not None:
        try:
            from lacre.kms.openbao import OpenBaoKeyService
        except ModuleNotFoundError:
            raise _not_installed(scheme, "openbao") from None
        return OpenBaoKeyService.open(
            file.openbao, limits=limits, base=base, environ=environ
        ).signer(named)
    raise ConfigurationError(
        f"[audit] identity names {scheme}://, and lacre.toml does not say where that is",
        hint="[openbao] address, [aws] regions; a local identity is named by its path",
    )


def _not_installed(scheme: str, extra: str) -> ConfigurationError:
    return ConfigurationError(
        f"[audit] identity is {scheme}://, and what talks to that service is not installed",
        hint=f"pip install 'lacre[{extra}]'",
    )
