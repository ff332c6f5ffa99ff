# SPDX-License-Identifier: Apache-2.0

"""
The peers of `tables.py`: the same workload on models of other libraries, in their environment.

Reads one line at a time: the name of an operation, with its number of rows. Runs one round of
it, prints the seconds of one row as JSON. The database is in the environment variable
BENCH_DATABASE. Each peer gets its cheapest configuration that authenticates and can be searched;
none of them decides, records, binds a value to its row or commits to a key.
"""

import json
import os
import sys
from importlib.metadata import version

os.environ["ENCRYPTION_METHOD"] = "fernet"
os.environ["ENCRYPTION_KEY"] = "kJ3vG8F0m1yqYw0yI0yqYw0yI0yqYw0yI0yqYw0yI0w="
os.environ["BLIND_INDEX_SECRET_KEY"] = os.urandom(32).hex()

from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic_encryption import (
    BlindIndexMethod,
    DeferredDecryptMixin,
    SQLAlchemyBlindIndexValue,
    SQLAlchemyEncryptedValue,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy_utils import StringEncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesEngine, AesGcmEngine
from workload import Workload, customers

KEY = os.urandom(32).hex()


class Base(DeclarativeBase):
    pass


def _gcm() -> StringEncryptedType:
    return StringEncryptedType(sa.String, KEY, AesGcmEngine)


class SQLAlchemyUtils(Base):
    """Searchable only by its deterministic engine (AES-CBC, no authentication), which email has."""

    __tablename__ = "bench_sqlalchemy_utils"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(
        StringEncryptedType(sa.String, KEY, AesEngine, "pkcs5"), unique=True
    )
    phone: Mapped[str] = mapped_column(_gcm())
    address: Mapped[str] = mapped_column(_gcm())


class PydanticEncryption(DeferredDecryptMixin, Base):
    """Decrypts on access, in batches; the index column is the application's to fill."""

    __tablename__ = "bench_pydantic_encryption"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[bytes] = mapped_column(SQLAlchemyEncryptedValue())
    email_bidx: Mapped[bytes] = mapped_column(
        SQLAlchemyBlindIndexValue(BlindIndexMethod.HMAC_SHA256), unique=True
    )
    phone: Mapped[bytes] = mapped_column(SQLAlchemyEncryptedValue())
    address: Mapped[bytes] = mapped_column(SQLAlchemyEncryptedValue())


class Indexed(Workload):
    """A workload whose model is searched by a column of its own."""

    def _searched(self) -> sa.ColumnElement[bytes]:
        return PydanticEncryption.email_bidx


def main() -> None:
    engine = sa.create_engine(os.environ["BENCH_DATABASE"])
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    operations = {}
    for count in json.loads(os.environ["BENCH_ROWS"]):
        rows = customers(count)
        indexed = [{**row, "email_bidx": row["email"]} for row in rows]
        for name, workload in (
            ("sqlalchemy-utils", Workload(sessions, SQLAlchemyUtils, rows)),
            ("pydantic-encryption", Indexed(sessions, PydanticEncryption, indexed)),
        ):
            for what, run in workload.operations(name).items():
                operations[f"{what} {count}"] = run
    for line in sys.stdin:
        asked = line.strip()
        if asked == "versions":
            answer: object = {
                name: version(name)
                for name in ("sqlalchemy-utils", "pydantic-encryption", "sqlalchemy")
            }
        else:
            answer = operations[asked]()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
