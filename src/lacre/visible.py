# SPDX-License-Identifier: Apache-2.0
"""
Text of others as it may be shown: what a reader cannot see, or what turns text around, is escaped.

Whoever may write a row could otherwise hide others from whoever looks. Does not escape for HTML or
a terminal's colours.
"""

import unicodedata

__all__ = ["shown"]

# Controls, formats (text that runs the other way), halves of characters, separators of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def shown(text: str, *, lines: bool = False) -> str:
    """Return *text* with escapes in the place of what would be obeyed unseen; *lines* may break."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSEEN and not (lines and character in "\n\t")
        else character
        for character in text
    )
