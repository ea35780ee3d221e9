"""How a prompt is recognised wherever it turns up: in data files, in curation, in what models were trained on."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence


def prompt_digest(text: str, images: Sequence[str] = ()) -> str:
    """SHA-256 of a prompt's normalised text and of its images' addresses.

    Two prompts that differ in case or white space share it; the same question about two images does not.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    read = [re.sub(r"\s+", " ", folded).strip(), *images]
    return hashlib.sha256("\n".join(read).encode()).hexdigest()
