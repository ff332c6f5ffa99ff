# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys reseat`: remember the present manifests of the local keystore, whatever was remembered.

The way back where what the key store remembers was falsified, so that every manifest is refused.
Verifies signatures and opens each key as the operator. Cannot tell an older manifest that
somebody put back from the present one: that is what the memory was for.
"""

import time
from dataclasses import replace
from pathlib import Path

import typer

from lacre.audit.event import who
from lacre.audit.events import KeyChanged
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.terminal import out, say, table, warn
from lacre.context import current
from lacre.errors import KeyServiceDenied, MisuseError

__all__ = ["reseat_keys"]


def reseat_keys(
    yes: bool = typer.Option(
        False, "--yes", help="take the manifests for the present ones; without it they are listed"
    ),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Remember the local keystore's manifests anew. Gives up noticing that they were rolled back before."""
    with as_operator(config, passphrase_file, purpose="reseat") as operator:
        if operator.identity.fingerprint not in {
            each.fingerprint for each in operator.lacre.signers
        }:
            raise KeyServiceDenied(
                f"{operator.identity.name} is not a signer that lacre.toml trusts",
                hint="the operator who signs the manifests does this: [local] signers",
            )
        remembered = {row.kms_key: row for row in operator.store.contents().seen}
        keystore = operator.keystore()
        names = keystore.keys()
        found = [keystore.to_remember(name) for name in names]
        signed = {each.fingerprint: each.name for each in operator.lacre.signers}
        rows = []
        for manifest, _ in found:
            before = remembered.get(f"local://{manifest.key}")
            told = "nothing" if before is None else str(before.serial)
            rows.append([f"local://{manifest.key}", str(manifest.serial), manifest.signed_at, signed.get(manifest.signer, manifest.signer), told])  # fmt: skip
        out.print(table(("key", "#manifest", "signed at", "by", "#remembered"), rows))
        warn(
            "whether one of these was put back in the place of a newer one cannot be seen afterwards: compare them with the audit log and your backups"
        )
        if not yes:
            raise MisuseError("nothing was changed", hint="--yes remembers these manifests")
        event = KeyChanged(
            **who(current(), time=time.time(), tenant=""),
            class_="", kind="kms", key="", version=0, state="reseated",
        )  # fmt: skip
        operator.lacre.recorder.write(
            [
                replace(event, key=f"local://{each.key}", version=each.newest.number)
                for each, _ in found
            ]
        )
        operator.store.reseat([memory for _, memory in found if memory is not None])
        operator.store.close()
    say(f"remembered anew: {len(found)} manifests; processes that run believe them at once")
