# SPDX-License-Identifier: Apache-2.0
"""
`MappedAsDataclass` for models with encrypted columns.

At run time it is SQLAlchemy's own and nothing else. Type checkers are told in addition that
`encrypted` and `row_id` declare fields, as `mapped_column` does: without that they take the
call for the field's default and report fields that follow it.

Leans on a name SQLAlchemy does not document, pinned by a test: `DCTransformDeclarative`, the
metaclass of its `MappedAsDataclass`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import dataclass_transform

    from sqlalchemy import orm
    from sqlalchemy.orm.decl_api import DCTransformDeclarative

    from lacre.sqlalchemy.column import encrypted, row_id

    @dataclass_transform(
        field_specifiers=(
            orm.MappedColumn,
            orm.RelationshipProperty,
            orm.Composite,
            orm.Synonym,
            orm.mapped_column,
            orm.relationship,
            orm.composite,
            orm.synonym,
            orm.deferred,
            encrypted,
            row_id,
        )
    )
    class _Transform(DCTransformDeclarative): ...

    # On the metaclass, as SQLAlchemy has it: on the class it would satisfy mypy, not pyright.
    class MappedAsDataclass(orm.MappedAsDataclass, metaclass=_Transform): ...

else:
    from sqlalchemy.orm import MappedAsDataclass

__all__ = ["MappedAsDataclass"]
