# SPDX-License-Identifier: Apache-2.0
"""
The outer layer of subject keys as the run time puts it on, when it makes one: ``spec/sealing.md``, section 2.

Asks the resolver for bucket keys like for any other. Replaces no bucket key (`lacre.jobs.sealing`)
and takes no layer off (`lacre.keys.loading`).
"""

import math
import os
from collections.abc import Callable
from typing import final

from lacre.errors import KeyNotFound
from lacre.keys.cache import ScopeHandle
from lacre.keys.hierarchy import KeyRow
from lacre.keys.resolver import Resolver
from lacre.keys.sealing import bucket_of, bucket_scope, covered

__all__ = ["Covering"]


@final
class Covering:
    """
    Covers new subject keys of the classes that are sealed.

    Args:
        resolver: of the application, once there is one.
        seals: whether a class's subject keys are sealed.
    """

    def __init__(
        self,
        *,
        resolver: Callable[[], Resolver],
        seals: Callable[[str], bool],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._resolver = resolver
        self._seals = seals
        self._entropy = entropy

    def __call__(self, row: KeyRow, anew: bool) -> KeyRow:
        """
        Return *row* with its outer layer, or as it is where its class is not sealed.

        Args:
            anew: ask for the bucket key again: the one that is held was replaced.

        Raises:
            KeyNotFound: no epoch was begun. Without it the key would be in dumps for ever.
        """
        if not self._seals(row.scope.class_):
            return row
        handle = ScopeHandle(bucket_scope(row.scope, bucket_of(row.key_id)))
        resolver = self._resolver()
        try:
            bucket = resolver.renew(handle, spare=math.inf) if anew else resolver.to_encrypt(handle)
        except KeyNotFound:
            raise KeyNotFound(
                f"class {row.scope.class_!r} is sealed, and no epoch of sealing was begun",
                hint="lacre seal begins the first one",
            ) from None
        return covered(row, bucket=bucket.key_id, key=bucket.material, salt=self._entropy(24))
