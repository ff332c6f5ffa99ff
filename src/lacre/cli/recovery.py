# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys backup`, `restore` and `drill`: the key store's way back.

Thin over `lacre.recovery`. A dump goes to a file that is made for it, mode 0600, and never over
one that is there.
"""

import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from lacre.application import Lacre
from lacre.audit.event import who
from lacre.audit.events import Recovery
from lacre.audit.recorder import Recorder
from lacre.cli.operator import Config, PassphraseFile, as_operator, key_store, load_operator
from lacre.cli.terminal import data as machine
from lacre.cli.terminal import out, say, table, warn
from lacre.context import acting_as, current
from lacre.errors import ConfigurationError
from lacre.evidence import open_sink
from lacre.keys.moments import now_text
from lacre.kms.local import PublicIdentity
from lacre.kms.opening import open_key_services
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_pins
from lacre.policy.model import PolicyFile
from lacre.recovery.drill import DrillReport, SampledColumn, drill, types_by_name
from lacre.recovery.dump import Dump, read_dump, write_dump
from lacre.recovery.files import write_new
from lacre.recovery.restore import restore
from lacre.stores.database import SCRATCH
from lacre.stores.opening import open_key_store

__all__ = ["backup_keys", "drill_keys", "restore_keys"]

_NOT_OPENED = 6  # the exit code of what is tampered with: something did not open
_LIMIT = 1024**3

_File = typer.Argument(help="the dump")


def backup_keys(
    file: Path = typer.Argument(help="the file to make; it must not exist"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Dump the key store and the local keystore's manifests, signed. No key is opened."""
    with as_operator(config, passphrase_file, purpose="backup") as operator:
        lacre = operator.lacre
        # The store first: a manifest that changes meanwhile is newer than what was seen of it.
        contents = operator.store.contents()
        keystore = _directory(lacre.policy.file, operator.base)
        dumped = write_dump(
            contents,
            {path.stem: path.read_bytes() for path in sorted(keystore.glob("[a-z0-9]*.json"))},
            app=lacre.policy.file.app,
            env=lacre.policy.file.env,
            taken_at=now_text(),
            signer=operator.identity,
            signers=lacre.signers,
        )
        lacre.recorder.write([_event("backup", dumped, contents.keystore, len(contents.keys))])
        write_new(file, dumped)
        operator.store.close()
    say(f"dumped: {len(contents.keys)} keys, {len(contents.columns)} column states, to {file}")
    say(
        "with the operator's identity file and lacre.toml, kept elsewhere, it is the way back; `lacre keys drill` proves it"
    )


def restore_keys(
    file: Path = _File,
    config: Path = Config,
    into: str | None = typer.Option(
        None, "--into", help="another key store than [key_store] url names; a URL without password"
    ),
    roll_back: bool = typer.Option(
        False, "--roll-back", help="restore although the key store is newer, and say what is undone"
    ),
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Put a dump in the place of an empty or older key store. All or nothing."""
    store, policy = key_store(config)
    base = config.resolve().parent
    if into is not None:
        store.close()
        store = open_key_store(into, base, schema=policy.key_store.schema_)
    identity = load_operator(policy, base, passphrase_file)
    dumped, dump = _read(file, policy)
    recorder = Recorder(open_sink(policy, base), buffer=policy.audit.buffer)
    try:
        with acting_as(identity.name, roles={"operator"}, purpose="restore"):
            recorder.write(
                [_event("restore", dumped, dump.contents.keystore, len(dump.contents.keys))]
            )
            undone = restore(
                store,
                dump,
                directory=_directory(policy, base),
                signers=_signers(policy),
                roll_back=roll_back,
            )
    finally:
        recorder.close()
        store.close()
    for sentence in undone:
        warn(f"undone: {sentence}")
    say(f"restored: {len(dump.contents.keys)} keys, as they were at {dump.taken_at}")
    warn(
        "keys destroyed after that live again here: look for them in the audit log, and destroy them again"
    )


def drill_keys(
    file: Path = _File,
    config: Path = Config,
    database: str | None = typer.Option(
        None, help="where stored values are, an SQLAlchemy URL or an SQLite file"
    ),
    table_name: str | None = typer.Option(None, "--table", help="the table of --column"),
    column: list[str] = typer.Option(
        [], help="NAME[:CLASS[:TYPE]], once for each column to take a sample of"
    ),
    store: str = typer.Option("main", help="the logical name of the database in lacre.toml"),
    tenant: str | None = typer.Option(None, help="whose rows they are, without a default tenant"),
    rows: int = typer.Option(20, min=1, max=100_000, help="values of each column, drawn by lot"),
    scratch: str | None = typer.Option(
        None, help="a PostgreSQL database to restore into; a temporary SQLite file without it"
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Restore a dump aside, unwrap its keys, open a sample of values. Changes nothing."""
    _, policy = key_store(config)
    base = config.resolve().parent
    identity = load_operator(policy, base, passphrase_file)
    dumped, dump = _read(file, policy)
    columns = [_column(text, table_name, store, tenant, dump) for text in column]
    signers = _signers(policy)
    with tempfile.TemporaryDirectory(prefix="lacre-drill-") as made:
        directory = Path(made) / "keystore"
        place = scratch or f"sqlite:///{made}/{SCRATCH}keys.db"
        aside = open_key_store(place, base, schema=SCRATCH + secrets.token_hex(8))
        try:
            restore(aside, dump, directory=directory, signers=signers)
            _with_epochs(directory, _directory(policy, base))
            services = open_key_services(
                policy,
                base=base,
                identity=identity,
                signers=signers,
                memory=aside,
                keystore_id=dump.contents.keystore,
                environ=os.environ,
                directory=directory,
            )
            with (
                Lacre(
                    Policy(policy, pins=load_pins(config)),
                    store=aside,
                    services=services,
                    sink=open_sink(policy, base),
                    signers=signers,
                ) as lacre,
                acting_as(identity.name, roles={"operator"}, purpose="drill", tenant=tenant),
            ):
                lacre.recorder.write(
                    [_event("drill", dumped, dump.contents.keystore, len(dump.contents.keys))]
                )
                report = drill(lacre, dump, columns=columns, database=_url(database), rows=rows)
                if report.passed:
                    lacre.recorder.write(
                        [_event("drilled", dumped, dump.contents.keystore, len(dump.contents.keys))]
                    )
        finally:
            aside.discard()
    _show(report, as_json=as_json)
    if not report.passed:
        say("the drill FAILED: this dump is no way back for what did not open")
        raise typer.Exit(_NOT_OPENED)
    say("the drill passed; the scratch key store is gone")


def _event(step: str, dumped: bytes, keystore: str, keys: int) -> Recovery:
    return Recovery(
        **who(current(), time=time.time(), tenant=""),
        step=step,
        keystore=keystore,
        keys=keys,
        dump=hashlib.sha256(dumped).hexdigest(),
    )


def _directory(policy: PolicyFile, base: Path) -> Path:
    # Where all KMS keys are elsewhere there is no such directory, and nothing is looked for in it.
    return base / (policy.local.directory or "lacre/keystore")


def _with_epochs(directory: Path, live: Path) -> None:
    # Epoch KMS keys are in no dump: what was sealed opens while the keystore in use has them.
    if (live / "epochs").is_dir():
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        (directory / "epochs").symlink_to((live / "epochs").resolve())


def _signers(policy: PolicyFile) -> Sequence[PublicIdentity]:
    return [PublicIdentity.from_text(line) for line in policy.local.signers]


def _read(path: Path, policy: PolicyFile) -> tuple[bytes, Dump]:
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _LIMIT:
        raise ConfigurationError(f"{path} is too long for a dump")
    dump = read_dump(data, signers=_signers(policy))
    if (dump.app, dump.env) != (policy.app, policy.env):
        raise ConfigurationError(
            f"the dump is of {dump.app} in {dump.env}, lacre.toml of {policy.app} in {policy.env}",
            hint="restore it with its own lacre.toml",
        )
    return data, dump


def _column(
    text: str, table_name: str | None, store: str, tenant: str | None, dump: Dump
) -> SampledColumn:
    name, class_, kind = (*text.split(":"), "", "")[:3]
    if table_name is None:
        raise ConfigurationError("no table was named", hint="--table NAME")
    known = {(row.store, row.table, row.column): row.class_ for row in dump.contents.columns}
    class_ = class_ or known.get((store, table_name, name), "")
    types = types_by_name()
    if not name or not class_ or (kind or "str").lower() not in types:
        raise ConfigurationError(
            "a column is given as NAME[:CLASS[:TYPE]]; the dump knows the class of columns that `lacre protect` encrypted",
            hint="types: " + ", ".join(sorted(types)),
        )
    return SampledColumn(
        table=table_name,
        column=name,
        class_=class_,
        python_type=types[(kind or "str").lower()],
        store=store,
        tenant=tenant,
    )


def _url(database: str | None) -> str | None:
    if database is None or "://" in database:
        return database
    return f"sqlite:///{database}"


def _show(report: DrillReport, *, as_json: bool) -> None:
    keys: list[dict[str, Any]] = [
        {
            "tenant": item.tenant,
            "class": item.class_,
            "kind": str(item.kind),
            "opened": item.opened,
            "unused": item.unused,
            "failed": list(item.failed),
            "encrypts": item.encrypts,
        }
        for item in report.keys
    ]
    values: list[dict[str, Any]] = [
        {
            "table": item.column.table,
            "column": item.column.column,
            "class": item.column.class_,
            "opened": item.opened,
            "failed": list(item.failed),
        }
        for item in report.values
    ]
    if as_json:
        about = {"taken_at": report.taken_at, "keystore": report.keystore, "passed": report.passed}
        machine(about | {"keys": keys, "values": values})
        return
    out.print(
        table(
            ("tenant", "class", "kind", "#opened", "#out of use", "#failed", "encrypts"),
            [
                [str(k[name]) for name in ("tenant", "class", "kind", "opened", "unused")]
                + [str(len(k["failed"])), "yes" if k["encrypts"] else "no"]
                for k in keys
            ],
        )
    )
    if values:
        out.print(
            table(
                ("table", "column", "class", "#opened", "#failed"),
                [
                    [str(v[name]) for name in ("table", "column", "class", "opened")]
                    + [str(len(v["failed"]))]
                    for v in values
                ],
            )
        )
