"""How a prompt is recognised wherever it turns up: in data files, in curation, in what models were trained on.

Texts share a digest only where they differ in what carries no meaning: the case of a sentence's first letter, white
space between words, and ways to encode the same character. A superscript is not a digit (3² is not 32), Mb is not MB,
and in code indentation counts. A prompt that was altered in other ways is for the gates' search for near duplicates.
"""

import hashlib
import json
import re
import textwrap
import unicodedata
from collections.abc import Sequence

VERSION = b"longhaul prompt 2\n"
"""Stands before what is hashed, so that a digest of one version is never taken for one of another."""

_SAME_GLYPH = re.compile("[\u00a0\u2000-\u200a\u202f\u3000\ufb00-\ufb06\uff01-\uff5e]")
"""Spaces, ligatures and full-width ASCII: the compatibility characters whose plain form means the same."""

_CODE = re.compile(r"^\s*(?:```|~~~)|\n[ \t]+\S", re.MULTILINE)
"""A fence, or a line that is indented deeper than the whole text."""

_SENTENCE = re.compile(
    r"(?:^|(?<=[.!?] )|(?<=\n))(?:[A-Z][a-z]{2,}|An|As|At|By|Do|He|If|In|Is|It|My|On|So|To|We)(?=[ ,:']|$)"
)
"""A sentence's first word where its case is that of any first word: not a unit, a symbol or a name in code."""

_FUNCTION_WORD = re.compile(
    r"\b(?:what|how|which|who|when|where|why|the|many|much|does|has|have|are|was|were|that|this|with|from|find|compute"
    r"|calculate|evaluate|solve|determine|suppose)\b",
    re.IGNORECASE,
)
"""Words that are no symbol, unit or name in any case."""

_PROSE_BREAK = re.compile(r"(?<=[.!?,:;])\n|(?<=[^\W\d_]{2})\n(?=[^\W\d_]{2,}(?:[\s.!?,:;]|$))")
"""A line break between words or sentences. One between numbers may be a matrix's, or a minus may follow it."""

_QUOTED = re.compile(r"(`[^`\n]*`|\"[^\"\n]*\"|(?<!\w)'[^'\n]*'(?!\w))")


def prompt_digest(text: str, images: Sequence[str] = ()) -> str:
    """SHA-256 of a prompt's normalised text and of its images' addresses, in hex."""
    return hashlib.sha256(VERSION + json.dumps([normalise(text), *images]).encode()).hexdigest()


def prompt_digests(text: str) -> tuple[str, ...]:
    """A text's digest, and then those under which earlier versions have recorded it."""
    return prompt_digest(text), _digest_1(text)


def normalise(text: str) -> str:
    """A prompt's text without what carries no meaning. Code (a fence, or indented lines) stays as it is."""
    text = unicodedata.normalize("NFC", text)
    text = _SAME_GLYPH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    lines = re.sub(r"\r\n?", "\n", text).split("\n")
    text = textwrap.dedent("\n".join(line.rstrip() for line in lines).strip("\n"))
    if _CODE.search(text):
        return text
    pieces = _QUOTED.split(text)
    text = "".join(re.sub(r"[^\S\n]+", " ", piece) if place % 2 == 0 else piece for place, piece in enumerate(pieces))
    text = _PROSE_BREAK.sub(" ", re.sub(r" ?\n[ \n]*", "\n", text)).strip()
    if text.isupper() and re.search(r"[A-Z]{3,} [A-Z]{2,}", text):
        return text.lower()
    for words in (_SENTENCE, _FUNCTION_WORD):
        text = words.sub(lambda match: match[0].lower(), text)
    return text


def _digest_1(text: str) -> str:
    """The digest of the first version, which took 3² for 32 and any case and indentation for the same."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return hashlib.sha256(re.sub(r"\s+", " ", folded).strip().encode()).hexdigest()
