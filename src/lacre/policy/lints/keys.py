# SPDX-License-Identifier: Apache-2.0
"""Lints of KMS keys: rotation, deletion, regions, one key for two things. Asks no key service."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from lacre.keys.kms_keys import scheme_of
from lacre.policy.consistency import region_of
from lacre.policy.lints.finding import Finding, Level
from lacre.policy.model import PolicyFile

__all__ = ["KEYS"]

_RECOMMENDED = 30  # days in which somebody notices that a key was to be deleted


def deletion_window(file: PolicyFile) -> Iterator[Finding]:
    """AWS deletes a key for good: how long it waits is said, and is long enough to notice."""
    for path, key in file.every_kms_key().items():
        if scheme_of(key) != "aws-kms":
            continue
        direct = file.keys.get(path[1]) if path[0] == "keys" else None
        window = (
            file.governance.deletion_window if direct is None else direct.waits(file.governance)
        )
        if window is None or window.days < _RECOMMENDED:
            said = "no deletion window" if window is None else f"{window.days} days to notice"
            yield Finding(
                rule="deletion-window",
                level=Level.WARNING,
                path=path,
                sentence=f"{key} has {said} before AWS deletes it",
                hint=f'[governance] deletion_window = "{_RECOMMENDED} days"',
            )


def rotation_off(file: PolicyFile) -> Iterator[Finding]:
    """A key that is never rotated protects everything since it was made."""
    for path, key in file.every_kms_key().items():
        if scheme_of(key) == "local":
            continue
        direct = file.keys.get(path[1]) if path[0] == "keys" else None
        after = (
            file.governance.rotation if direct is None else direct.rotates_after(file.governance)
        )
        if after is None:
            yield Finding(
                rule="rotation-off",
                level=Level.WARNING,
                path=path,
                sentence=f"{key} is never rotated",
                hint='[governance] rotation = "365 days"',
            )
    for name, each in file.classes.items():
        if each.rotate_after is None:
            yield Finding(
                rule="rotation-off",
                level=Level.WARNING,
                path=("classes", name),
                sentence="its branch and data keys are never called due",
                hint='rotate_after = "365 days"',
            )


def one_key_one_purpose(file: PolicyFile) -> Iterator[Finding]:
    """One KMS key for two things is one grant for both."""
    held: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for path, key in file.every_kms_key().items():
        held[key].append(path)
    for key, paths in held.items():
        for path in paths[1:]:
            yield Finding(
                rule="key-of-two-purposes",
                level=Level.WARNING,
                path=path,
                sentence=f"{key} is that of {'.'.join(paths[0])} too",
                hint="a KMS key each: whoever may use it for one may use it for the other",
            )


def key_region(file: PolicyFile) -> Iterator[Finding]:
    """AWS services take keys of their own region only, and data read across regions leaves its region."""
    for name, key in file.keys.items():
        region = region_of(key.kms_key)
        for arn in key.encrypts:
            theirs = arn.split(":")[3]
            if region is not None and theirs and theirs != region:
                yield Finding(
                    rule="key-region",
                    level=Level.ERROR,
                    path=("keys", name),
                    sentence=f"the key is in {region}, and {arn} is in {theirs}",
                    hint="a key in the region of what it encrypts",
                )
    for class_, declared in file.classes.items():
        stores = {
            file.columns[column].store
            for column in (declared.columns or ())
            if column in file.columns
        } or (set(file.stores) if len(file.stores) == 1 else set())
        for kms_key in declared.named_keys():
            for store in sorted(stores):
                there, here = file.stores[store].region, region_of(kms_key)
                if here is not None and there is not None and here != there:
                    yield Finding(
                        rule="key-region",
                        level=Level.ERROR,
                        path=("classes", class_),
                        sentence=f"{kms_key} is in {here}, and the store {store} in {there}",
                        hint="a key in the region of what it encrypts",
                    )


KEYS: tuple[Callable[[PolicyFile], Iterator[Finding]], ...] = (
    deletion_window,
    rotation_off,
    one_key_one_purpose,
    key_region,
)
