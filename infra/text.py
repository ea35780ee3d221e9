"""Text of others, made safe to display: what models write is hostile.

Escaping is the template's business; this module sees to what escaping leaves: characters that hide, reorder or recolour
what stands beside them, surrogates that no file can hold, and texts too long for a page.
"""

import re
import unicodedata
from typing import Any

DISPLAYED_CHARACTERS = 20_000
"""Longest text displayed; what comes after is counted and left out."""

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of controls, formats (all bidi controls are among them), surrogates and separators."""

_UNUSUAL = re.compile(r"[^\x20-\x7e\n\t]")


def _name(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # ␛ for escape, and so on
    return f"⟨U+{code:04X}⟩"


def visible(text: str) -> str:
    """The text with every control, format and bidi character named in its place; line feeds and tabs stay."""
    return _UNUSUAL.sub(_name, text)


def for_display(text: str) -> str:
    """The visible text, cut after DISPLAYED_CHARACTERS with a note of how much is left out."""
    if len(text) <= DISPLAYED_CHARACTERS:
        return visible(text)
    return (
        f"{visible(text[:DISPLAYED_CHARACTERS])}\n[… {len(text) - DISPLAYED_CHARACTERS:,} more characters are left out]"
    )


def for_display_deep(value: Any) -> Any:
    """Plain data with every text in it made safe to display."""
    if isinstance(value, str):
        return for_display(value)
    if isinstance(value, dict):
        return {for_display(str(name)): for_display_deep(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [for_display_deep(each) for each in value]
    return value
