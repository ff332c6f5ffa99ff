# SPDX-License-Identifier: Apache-2.0
"""
The key services that `lacre.toml` needs, opened: one for each scheme its KMS keys have.

Imports an SDK only where a KMS key is held there. Calls no key service.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lacre.errors import ConfigurationError
from lacre.keys.kms_keys import scheme_of
from lacre.keys.ports import KeyService
from lacre.kms.calling import CallLimits
from lacre.policy.model import PolicyFile

if TYPE_CHECKING:
    from lacre.keys.seen import SerialMemory
    from lacre.kms.local import Identity, PublicIdentity

__all__ = ["open_key_services"]


def open_key_services(
    file: PolicyFile,
    *,
    base: Path,
    identity: "Identity | None",
    signers: "Collection[PublicIdentity]",
    memory: "SerialMemory",
    keystore_id: str,
    environ: Mapping[str, str],
    directory: Path | None = None,
) -> dict[str, KeyService]:
    """
    Return a key service for each scheme.

    Args:
        base: what paths of the file are relative to.
        identity: the local one; needed where a KMS key is ``local://``.
        environ: where tokens of key services may be.
        directory: of the local keystore, another than the file names.
    """
    services: dict[str, KeyService] = {}
    schemes = file.schemes()
    if "local" in schemes and identity is not None and file.local.directory is not None:
        from lacre.kms.local import LocalKeyService

        services["local"] = LocalKeyService(
            directory or base / file.local.directory,
            identity=identity,
            signers=signers,
            memory=memory,
            keystore_id=keystore_id,
        )
    limits = CallLimits(deadline=file.calls.deadline, attempt=file.calls.attempt)
    if "openbao" in schemes and file.openbao is not None:
        try:
            from lacre.kms.openbao import OpenBaoKeyService
        except ModuleNotFoundError:
            raise _not_installed("openbao") from None
        services["openbao"] = OpenBaoKeyService.open(
            file.openbao, limits=limits, base=base, environ=environ
        )
    if "aws-kms" in schemes and file.aws is not None:
        try:
            from lacre.kms.aws import AwsKeyService, check_regions
        except ModuleNotFoundError:
            raise _not_installed("aws-kms", extra="aws") from None
        check_regions(file.aws, (uri for uri in file.named_keys() if scheme_of(uri) == "aws-kms"))
        services["aws-kms"] = AwsKeyService.open(file.aws, limits=limits)
    return services


def _not_installed(scheme: str, *, extra: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        f"a KMS key is {scheme}://, and what talks to that service is not installed",
        hint=f"pip install 'lacre[{extra or scheme}]'",
    )
