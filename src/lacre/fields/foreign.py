# SPDX-License-Identifier: Apache-2.0
"""
What is told of whoever reads values that another library encrypted: a legacy reader, and what a job takes for one.

Reads nothing itself, and knows no format.
"""

from typing import Protocol

__all__ = ["ForeignReader"]


class ForeignReader(Protocol):
    """
    *name* is what evidence calls it, *python_type* the type of every value. *calls* is how many calls of a key service one
    value costs. *authenticated*: what was changed does not open.
    """

    @property
    def name(self) -> str: ...

    @property
    def python_type(self) -> type: ...

    @property
    def calls(self) -> int: ...

    @property
    def authenticated(self) -> bool: ...
