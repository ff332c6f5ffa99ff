# SPDX-License-Identifier: Apache-2.0
"""`lacre certificate`: check certificates of erasure, and issue them anew when a waiting time is over."""

import hashlib
from pathlib import Path
from typing import Any

import typer

from lacre.cli.operator import Config, PassphraseFile, as_operator, key_store
from lacre.cli.terminal import data as machine
from lacre.cli.terminal import out, say, table
from lacre.errors import ConfigurationError, MisuseError
from lacre.jobs.certificates import irrecoverable, read_certificate, write_certificate
from lacre.keys.hierarchy import KeyState
from lacre.keys.moments import now_text
from lacre.kms.local import PublicIdentity
from lacre.recovery.files import write_new

__all__ = ["app", "keep"]

app = typer.Typer(no_args_is_help=True, help="Certificates of erasure.")

_File = typer.Argument(help="the certificate")
_LIMIT = 16 * 1024 * 1024


@app.command("verify")
def verify_certificate(
    file: Path = _File,
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Check who signed a certificate, and show what it says."""
    store, policy = key_store(config)
    store.close()
    body = read_certificate(
        _read(file), signers=[PublicIdentity.from_text(line) for line in policy.local.signers]
    )
    if as_json:
        machine(body)
        return
    shown = ("kind", "tenant", "subject", "reason", "by", "shredded_at", "erased_from_live_at", "irrecoverable_at", "verdict")  # fmt: skip
    out.print(table(("", ""), [[name, str(body.get(name) or "")] for name in shown if name in body]))  # fmt: skip
    for wait in body.get("waits_for", ()):
        say(f"it waits for {wait}")
    say("signed by an operator that lacre.toml trusts")


@app.command("renew")
def renew_certificate(
    file: Path = _File,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Issue a certificate anew, as things are now: after a sealing, or a waiting time."""
    with as_operator(config, passphrase_file, purpose="erasure") as operator:
        lacre = operator.lacre
        body = read_certificate(_read(file), signers=lacre.signers)
        if body.get("kind") != "subject" or not body.get("keys"):
            raise MisuseError("only a certificate that names a subject's keys is issued anew")
        if body.get("keystore") != operator.store.keystore_id:
            raise MisuseError("the certificate is of another key store")
        named = [bytes.fromhex(key["key"]) for key in body["keys"]]
        if any(row.state is not KeyState.DESTROYED for row in operator.store.rows_of(named)):
            raise MisuseError(
                "a key that the certificate says was destroyed lives: an older key store was restored",
                hint="lacre shred the subject again, which certifies it anew",
            )
        sealing = lacre.policy.file.sealing
        found = irrecoverable(
            body["keys"],
            live=body["erased_from_live_at"],
            epochs=lacre.epochs.rows(),
            buckets=operator.store.bucket_keys(),
            sealed=frozenset() if sealing is None else sealing.classes,
            kept=lacre.policy.file.erasure.key_store_backups_kept,
        )
        opened = bool(body["verification"]["opened"])
        waits = [*found.waits, *(each for each in body["waits_for"] if opened)]
        now = now_text()
        fresh: dict[str, Any] = body | {
            "by": operator.identity.name,
            "issued_at": now,
            "irrecoverable_at": None if waits else found.at,
            "verdict": "pending" if waits else found.verdict(now),
            "waits_for": waits,
            "renews": hashlib.sha256(_read(file)).hexdigest(),
        }
        certificate = write_certificate(fresh, signer=operator.identity)
        path = keep(operator.base / lacre.policy.file.erasure.certificates, str(body["subject"]), certificate)  # fmt: skip
    say(f"certificate: {path}")
    say(f"verdict: {fresh['verdict']}")
    for wait in waits:
        say(f"it waits for {wait}")


def keep(directory: Path, name: str, certificate: bytes) -> Path:
    """Write a certificate to *directory*, under a name of its own; return its path."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{name}-{hashlib.sha256(certificate).hexdigest()[:16]}.json"
    if not path.exists():
        write_new(path, certificate)
    return path


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
