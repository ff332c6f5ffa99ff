# SPDX-License-Identifier: Apache-2.0
"""
The key services that `lacre.toml` needs, opened: one for each scheme its KMS keys have.

Imports an SDK only where a KMS key is held there. Calls no key service.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacre.errors import ConfigurationError
from lacre.keys.epochs import EpochKeys
from lacre.keys.kms_keys import scheme_of
from lacre.keys.ports import KeyService
from lacre.kms.calling import CallLimits
from lacre.policy.model import PolicyFile

if TYPE_CHECKING:
    from lacre.keys.seen import SerialMemory
    from lacre.kms.local import Identity, KeystoreAdministration, PublicIdentity

__all__ = ["open_epoch_keys", "open_key_services"]


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
        named = (*file.named_keys(), *(() if file.sealing is None else (file.sealing.kms_key,)))
        check_regions(file.aws, (uri for uri in named if scheme_of(uri) == "aws-kms"))
        services["aws-kms"] = AwsKeyService.open(file.aws, limits=limits)
    return services


def open_epoch_keys(
    file: PolicyFile,
    services: "Mapping[str, KeyService]",
    *,
    administration: "KeystoreAdministration | None",
    directory: Path | None,
    recipients: "Collection[PublicIdentity]",
    keystore_id: str,
) -> EpochKeys:
    """
    Return what makes and destroys the epoch KMS keys of `[sealing]`.

    Args:
        services: as `open_key_services` opened them.
        administration: of the local keystore in *directory*, where epoch KMS keys are ``local://``.
        recipients: who may open those.
        keystore_id: of the key store, so that no other finds its keys by their aliases.

    Raises:
        ConfigurationError: there is no `[sealing]`, or no local keystore to keep them in.
    """
    if file.sealing is None:
        raise ConfigurationError(
            "lacre.toml has no [sealing]",
            hint='[sealing] kms_key = "openbao://transit/epochs", classes = ["pii"]',
        )
    named = file.sealing.kms_key
    scheme = scheme_of(named)
    service: Any = services.get(scheme)
    # Of an application, which counts its calls, the service inside.
    service = getattr(service, "service", service)
    if scheme == "openbao":
        from lacre.kms.openbao.epochs import OpenBaoEpochKeys

        return OpenBaoEpochKeys(named, service=service)
    if scheme == "aws-kms":
        from lacre.kms.aws.epochs import AwsEpochKeys

        waiting = file.sealing.waiting
        return AwsEpochKeys(
            f"{named}-{keystore_id[:8]}",
            service=service,
            waiting=7 if waiting is None else waiting.days,
            tags={"lacre-app": file.app, "lacre-env": file.env, "lacre-service": file.service},
        )
    from lacre.kms.local.epochs import LocalEpochKeys

    if administration is None or directory is None:
        raise ConfigurationError(
            "local epoch keys need the local keystore", hint='[local] directory = "lacre/keystore"'
        )
    return LocalEpochKeys(
        named.removeprefix("local://"),
        administration=administration,
        directory=directory,
        recipients=recipients,
    )


def _not_installed(scheme: str, *, extra: str | None = None) -> ConfigurationError:
    return ConfigurationError(
        f"a KMS key is {scheme}://, and what talks to that service is not installed",
        hint=f"pip install 'lacre[{extra or scheme}]'",
    )
