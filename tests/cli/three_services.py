"""The demo's database with its lacre.toml, and the key services that its one line may name."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import sessionmaker

from lacre import Lacre
from lacre.cli import demo_data
from lacre.cli.demo import PROTECTED
from lacre.cli.demo_application import Customer
from lacre.cli.initialise import CLASSES, initialise
from lacre.cli.operator import as_operator
from lacre.cli.protection import authority_of, fields_of
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.sqlite.protect import protect
from lacre.stores.sql import SQLKeyStore
from tests.components.aws import AWS
from tests.components.openbao import OpenBao

__all__ = ["LOCAL", "Shop", "aws_line", "openbao_line"]

LOCAL = "local://{class}-{use}"

USES = [(name, use) for name, _, searchable in CLASSES for use in (("fields", "index") if searchable else ("fields",))]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A directory with lacre.toml, the demo's database, protected, and the key store."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> "Shop":
        """Do what `lacre demo` does before its application starts."""
        directory.mkdir()
        initialise(directory, env="test")
        demo_data.build(directory / "shop.db", 100)
        with as_operator(directory / "lacre.toml", None, purpose="protect") as operator:
            protect(
                directory / "shop.db", "customers", [ColumnRequest.parse(text) for text in PROTECTED],
                fields=fields_of(operator, "main"), authority=authority_of(operator),
            )  # fmt: skip
        return cls(directory=directory)

    @property
    def config(self) -> Path:
        return self.directory / "lacre.toml"

    def names(self, kms_keys: str) -> None:
        """Change the one line of lacre.toml."""
        text, count = re.subn(r"(?m)^kms_keys = .*$", f'kms_keys = "{kms_keys}"', self.config.read_text())  # fmt: skip
        assert count == 1
        self.config.write_text(text)

    def adds(self, table: str) -> None:
        """Add the table that says where a key service is."""
        self.config.write_text(f"{self.config.read_text()}\n{table}\n")

    def data(self) -> list[tuple[object, ...]]:
        """Every row of the database, as bytes."""
        with closing(sqlite3.connect(self.directory / "shop.db")) as connection:
            tables = ("customers", "orders", "sqlite_master")
            return [row for name in tables for row in connection.execute(f"SELECT * FROM {name}")]

    def parents(self) -> set[str]:
        """The KMS keys that wrap anything."""
        store = SQLKeyStore(f"sqlite:///{self.directory / 'lacre' / 'keys.db'}")
        try:
            return {row.parent for row in store.rows() if row.scope.kind.under_kms and row.wrapped}
        finally:
            store.close()

    def works(self) -> str:
        """Open, search and decrypt as the demo's application does; return what it found."""
        engine = sa.create_engine(f"sqlite:///{self.directory / 'shop.db'}")
        with Lacre.load(self.config, environ={}) as lacre:
            sessions = lacre.sqlalchemy(sessionmaker(engine))
            with lacre.acting_as("svc:shop", roles={"app"}, purpose="test"), sessions() as session:
                query = sa.select(Customer).where(Customer.cpf == demo_data.KNOWN_CPF)
                found = session.scalars(query).one()
                everyone = [each.address for each in session.scalars(sa.select(Customer))]
                told = f"{found.name} {found.email}, {len(everyone)} customers"
        engine.dispose()
        return told


def openbao_line(shop: Shop, server: OpenBao) -> str:
    """Make the KMS keys in OpenBao and say where it is; return the line."""
    mount = server.transit()
    for name, use in USES:
        server.key(mount, f"{name}-{use}")
    token = shop.directory / "lacre" / "identities" / "openbao-token"  # a folder that is ours alone
    token.write_text(server.root_token)
    token.chmod(0o600)
    shop.adds(
        f'[openbao]\naddress = "{server.address}"\nca_file = "{server.ca_file}"\n'
        f'auth = "token"\ntoken_file = "lacre/identities/openbao-token"'
    )
    return f"openbao://{mount}/{{class}}-{{use}}"


def aws_line(shop: Shop, server: AWS) -> str:
    """Make the KMS keys and their aliases in AWS and say which region; return the line."""
    prefix = f"shop-{uuid4().hex[:8]}"
    for name, use in USES:
        server.alias(f"alias/{prefix}/{name}-{use}", server.key())
    shop.adds(
        f'[aws]\nregions = ["{server.region}"]\nendpoint_url = "{server.endpoint}"\nallow_static_keys = true'
    )
    return f"aws-kms://{server.region}/alias/{prefix}/{{class}}-{{use}}"
