"""Texts that share a run of words with a collection: the n-gram overlap by which contamination is usually measured.

GPT-3 (Brown et al., arXiv:2005.14165, appendix C) compares 13 words in a row, without case and punctuation, and ignores
those that more than ten texts have: they are phrases, such as what a format writes into each of its prompts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from infra.gates.near_duplicates import words

PHRASE = 10
"""Texts of a collection that a run may be in; one that is in more belongs to none of them."""

QUOTED = 8
"""Words of a run that a message quotes."""


class SharedRuns:
    """The runs of words of a collection. A text with fewer words than a run has none."""

    def __init__(self, texts: Iterable[tuple[str, str]], size: int) -> None:
        """Take a collection of names and texts. Raises ValueError for a size below 1."""
        if size < 1:
            raise ValueError(f"size is {size}; a run has at least one word")
        self._size = size
        names: dict[tuple[str, ...], str] = {}
        counts: Counter[tuple[str, ...]] = Counter()
        for name, text in texts:
            for run in set(self._runs(text)):
                counts[run] += 1
                names.setdefault(run, name)
        self._names = {run: name for run, name in names.items() if counts[run] <= PHRASE}

    def _runs(self, text: str) -> Iterable[tuple[str, ...]]:
        all_words = words(text)
        return (tuple(all_words[start : start + self._size]) for start in range(len(all_words) - self._size + 1))

    def find(self, texts: Sequence[str]) -> list[tuple[str, str] | None]:
        """For each text, the name of a text of the collection that shares a run with it, and the run's beginning."""
        matches: list[tuple[str, str] | None] = []
        for text in texts:
            run = next((run for run in self._runs(text) if run in self._names), None)
            matches.append(None if run is None else (self._names[run], " ".join(run[:QUOTED])))
        return matches
