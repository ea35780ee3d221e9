"""Texts that nearly repeat one another, by MinHash and locality-sensitive hashing.

Two texts are compared as sets of shingles, runs of `words` words each; how alike they are is the Jaccard similarity of
the sets (Broder 1997). Hashing only proposes pairs: each is then compared exactly, so that a reported twin always is as
alike as is said, whatever the hashes do. A pair as alike as the threshold, or more, is missed with a probability below
one in a hundred.

A number is one word, whole: "Add 12." and "Add 13." differ in a word. Case, white space and the punctuation of
sentences do not count; signs of mathematics do. Characters of scripts without spaces are a word each.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SEED = 1
PERMUTATIONS = 128
MISSED = 0.01
"""Largest probability that hashing misses a pair as alike as the threshold; more alike ones it misses less often."""

Shingle = tuple[str, ...]

_NUMBER = r"\d+(?:[.,]\d+)*"
_WORD = re.compile(
    # Kana, Han and Hangul: scripts that write a sentence without spaces, or nearly.
    rf"{_NUMBER}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W\d_]+|[^\w\s.,;:!?'\"“”‘’…。，、！？；：]|_"
)


@dataclass(frozen=True)
class Twin:
    """The text of a collection that another one is most like."""

    name: str
    similarity: float


def words(text: str) -> list[str]:
    """The words of a text, as they are compared."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(text_words: Sequence[str], size: int) -> frozenset[Shingle]:
    """All runs of `size` words; of a shorter text the one that is all of it."""
    return frozenset(tuple(text_words[start : start + size]) for start in range(max(1, len(text_words) - size + 1)))


def numbers(text_words: Sequence[str]) -> tuple[str, ...]:
    """The numbers among words, sorted."""
    return tuple(sorted(word for word in text_words if word[0].isdecimal()))


def bands(threshold: float) -> tuple[int, int]:
    """Number of bands, and hashes in each, for pairs as alike as `threshold` to be missed with a probability of MISSED
    at most, and as few others as possible to be proposed."""
    most = PERMUTATIONS // 2  # datasketch wants two bands at least
    fitting = (rows for rows in range(most, 1, -1) if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED)
    rows = next(fitting, 1)
    return PERMUTATIONS // rows, rows


class NearDuplicates:
    """Finds in a collection of texts the one that another text nearly repeats."""

    def __init__(
        self, texts: Sequence[tuple[str, str]], threshold: float, size: int = 3, same_numbers: bool = False
    ) -> None:
        """Take a collection of names and texts.

        Args:
            threshold: the least similarity, above 0, at most 1.
            size: words of a shingle.
            same_numbers: a text with other numbers is a different text, however alike their words are.
        """
        from datasketch import MinHashLSH

        self._threshold, self._size, self._same_numbers = threshold, size, same_numbers
        if size < 1:
            raise ValueError(f"size is {size}; a shingle has at least one word")
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold is {threshold}; give a similarity above 0, at most 1")
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
        self._hashes: dict[Shingle, int] = {}
        self._known: list[tuple[str, frozenset[Shingle], tuple[str, ...]]] = []
        read = [words(text) for _, text in texts]
        sets = [shingles(text_words, size) for text_words in read]
        with self._index.insertion_session() as session:
            for place, sketch in enumerate(self._sketches(sets)):
                session.insert(place, sketch)
        for (name, _), text_words, held in zip(texts, read, sets, strict=True):
            self._known.append((name, held, numbers(text_words)))

    def __len__(self) -> int:
        return len(self._known)

    def _sketches(self, sets: Sequence[frozenset[Shingle]]) -> Iterator[Any]:
        from datasketch import MinHash

        return MinHash.generator(sets, num_perm=PERMUTATIONS, seed=SEED, hashfunc=self._hash)

    def _hash(self, shingle: Shingle) -> int:
        """SHA-1, as datasketch's own; most shingles of a collection are seen many times."""
        from datasketch import sha1_hash32

        known = self._hashes.get(shingle)
        if known is None:
            known = self._hashes[shingle] = sha1_hash32("\x1f".join(shingle).encode("utf-8", "surrogatepass"))
        return known

    def find(self, texts: Sequence[str]) -> list[Twin | None]:
        """For each text, the one of the collection that it is most like, where that reaches the threshold."""
        # Several examples may have one prompt.
        distinct = list(dict.fromkeys(texts))
        read = [words(text) for text in distinct]
        sets = [shingles(text_words, self._size) for text_words in read]
        closest = {
            # A text without a word is like every other such text, and that says nothing.
            text: self._closest(text_words, held, self._index.query(sketch)) if text_words else None
            for text, text_words, held, sketch in zip(distinct, read, sets, self._sketches(sets), strict=True)
        }
        return [closest[text] for text in texts]

    def _closest(self, text_words: Sequence[str], held: frozenset[Shingle], places: Sequence[int]) -> Twin | None:
        best: Twin | None = None
        own = numbers(text_words)
        for place in sorted(places):
            name, other, others = self._known[place]
            if self._same_numbers and own != others:
                continue
            similarity = len(held & other) / len(held | other)
            if similarity >= self._threshold and (best is None or similarity > best.similarity):
                best = Twin(name, similarity)
        return best
