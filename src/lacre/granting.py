# SPDX-License-Identifier: Apache-2.0
"""
Grants composed: the key store that keeps them, the evidence that remembers them, and who may sign.

Decides nothing (`lacre.policy.grants`) and keeps nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacre.errors import ConfigurationError, LacreError
from lacre.evidence import stamp_of
from lacre.kms.people import people_of
from lacre.policy.grants.book import GrantBook
from lacre.policy.grants.judging import Rules
from lacre.policy.model import PolicyFile
from lacre.stores.log.opening import open_log

if TYPE_CHECKING:
    from lacre.stores.log.revocations import LoggedRevocations

__all__ = ["grantable", "logged_revocations", "make_book", "open_book", "rules_of"]


def grantable(file: PolicyFile) -> bool:
    """Whether any class has rights that are granted."""
    return any(each.on_grant or each.break_glass for each in file.classes.values())


def rules_of(file: PolicyFile, keystore: str) -> Rules:
    """
    Return by what grants of *file* are judged, in the key store with this id.

    Raises:
        ConfigurationError: an identity that it names is none.
    """
    return Rules(file=file, people=people_of(file), keystore=keystore)


def logged_revocations(file: PolicyFile, base: Path) -> "LoggedRevocations | None":
    """Return what the evidence log says of revocations; None without a log whose signers are named."""
    if file.audit.url is None or not file.audit.signers:
        return None
    from lacre.kms.signing import believed
    from lacre.stores.log.revocations import LoggedRevocations

    return LoggedRevocations(open_log(file, base), stamp_of(file), believed(file))


def make_book(file: PolicyFile, base: Path, store: Any, **how: Callable[[], float]) -> GrantBook:
    """Return the book of the grants in *store*, empty until it is refreshed."""
    return GrantBook(
        store,
        lambda: rules_of(file, store.keystore_id),
        age=file.grants.age,
        evidence=logged_revocations(file, base),
        witness=store.newest,
        **how,
    )


def open_book(file: PolicyFile, base: Path, store: Any) -> GrantBook | None:
    """
    Return the book, refreshed and refreshing; None where the policy grants nothing.

    What does not answer now, or is not what was signed, is asked again by the book's thread, which says
    so in the application's log: until then nothing is in effect.

    Raises:
        ConfigurationError: an identity that the policy names is none, or the key store is of another release.
    """
    if not grantable(file) or not hasattr(store, "grant_records"):
        return None
    book = make_book(file, base, store)
    try:
        book.refresh()
    except ConfigurationError:
        book.close()
        raise
    except LacreError:
        pass  # the thread tries at once, and tells
    book.begin()
    return book
