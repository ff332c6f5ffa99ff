# SPDX-License-Identifier: Apache-2.0
"""
Encrypted columns for SQLAlchemy models.

::

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))
        address: Mapped[str | None] = encrypted("pii")

    Session = lacre.sqlalchemy(sessionmaker(engine))

A value is encrypted when its object is flushed, bound to its row, and decrypted when somebody
looks at the attribute; each look is decided by the policy and recorded. Loading decrypts
nothing. ``==``, ``!=``, ``in_`` and ``is_(None)`` ask the blind index; whatever else SQL cannot
do with ciphertext raises `UnsupportedQuery` before anything is sent.

On an event loop it is `lacre.sqlalchemy(async_sessionmaker(engine))`: a look does no I/O there.

Bulk INSERT, and bulk UPDATE by primary key, take rows of plaintext (`lacre.sqlalchemy.bulk`).
"""

from lacre.errors import ConfigurationError
from lacre.fields.contains_index import ContainsIndex
from lacre.fields.index import BlindIndex
from lacre.fields.prefix_index import PrefixIndex

try:
    from lacre.sqlalchemy.attribute import ciphertext_of
    from lacre.sqlalchemy.candidates import Candidate, candidates
    from lacre.sqlalchemy.column import encrypted, row_id
    from lacre.sqlalchemy.compounds import compound
    from lacre.sqlalchemy.crossing import moving_tenants
    from lacre.sqlalchemy.dataclasses import MappedAsDataclass
    from lacre.sqlalchemy.outbox import outbox_table
    from lacre.sqlalchemy.types import EncryptedType, IndexType
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"{error.name} is not installed", hint="pip install 'lacre[sqlalchemy]'"
    ) from None

__all__ = [
    "BlindIndex",
    "Candidate",
    "ContainsIndex",
    "EncryptedType",
    "IndexType",
    "MappedAsDataclass",
    "PrefixIndex",
    "candidates",
    "ciphertext_of",
    "compound",
    "encrypted",
    "moving_tenants",
    "outbox_table",
    "row_id",
]
