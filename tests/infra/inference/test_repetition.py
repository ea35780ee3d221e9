"""Which responses are ended for repeating themselves: loops of words, and never digits, white space or rules."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from infra.inference.repetition import INTERVAL, Repetition, repeats
from steps.configs.rl import RepetitionConfig
from steps.rl.rollout import repetition_rule

RULE = repetition_rule(RepetitionConfig())
"""What RL stops at by default."""

Split = Callable[[str], tuple[list[int], Callable[[Sequence[int]], str]]]


def characters(text: str) -> tuple[list[int], Callable[[Sequence[int]], str]]:
    """A token for each character."""
    return [ord(character) for character in text], lambda tokens: "".join(map(chr, tokens))


def bytes_of(text: str) -> tuple[list[int], Callable[[Sequence[int]], str]]:
    """A token for each byte: characters may be cut in two."""
    return list(text.encode()), lambda tokens: bytes(tokens).decode(errors="replace")


def pieces(text: str) -> tuple[list[int], Callable[[Sequence[int]], str]]:
    """The nano checkpoint's tokens."""
    import steps.nano_world

    tokenizer = AutoTokenizer.from_pretrained(Path(steps.nano_world.__file__).parent / "checkpoint")
    return tokenizer(text, add_special_tokens=False)["input_ids"], lambda tokens: str(tokenizer.decode(list(tokens)))


def stops(text: str, split: Split, rule: Repetition = RULE) -> int | None:
    """After how many tokens a response would be ended, looked at as the engine does."""
    tokens, text_of = split(text)
    for length in [*range(1, len(tokens), INTERVAL), len(tokens)]:
        if repeats(tokens[max(0, length - rule.longest) : length], rule, text_of):
            return length
    return None


CONTINUE = {
    "a million": "There are 1000000 of them: \\boxed{1000000}.",
    "a small number": "0.0000001",
    "nines": "It is 999999.",
    "a factorial": "100! = 93326215443944152681" + "0" * 400,
    "a third": "1/3 = 0." + "3" * 500,
    "equals signs": "Summary\n" + "=" * 300 + "\nDone.",
    "hashes": "#" * 300,
    "dashes": "Total\n" + "-" * 400 + "\n12",
    "a Markdown table's rule": "| a | b |\n|" + "---|" * 80 + "\n| 1 | 2 |",
    "an aligned table's rule": "|" + " :---: |" * 80,
    "box drawing": "┌" + "─" * 300 + "┐",
    "deep indentation": "def f():\n" + " " * 300 + "return 1",
    "tabs": "\t" * 200 + "x",
    "empty lines": "a" + "\n" * 300 + "b",
    "zeros in a list": "[" + "0, " * 200 + "0]",
    "a matrix of zeros": "\\begin{pmatrix}" + (" & ".join("0" * 8) + " \\\\\n") * 20 + "\\end{pmatrix}",
    "a table of zeros": "| 0 | 0 | 0 |\n" * 40,
    "leader dots": "Chapter 1 " + "." * 200 + " 7",
    "closing brackets": "(" * 150 + "1" + ")" * 150,
    "powers of ten": "10^{10^{10}} and 10, 10, 10, 10, 10, 10, 10, 10, 10",
    "laughter": "ha" * 12,
    "a doubled word": "It is very very very very very very very very much so.",
    "bytes in C": "{" + "0x00, " * 12 + "0x00}",
    "parameters in C": "void f(" + "int, " * 9 + "int);",
    "a chorus": "We go home. " * 4 + "The end.",
    "steps that differ": "".join(f"{x} mod 7 = {x % 7}, no.\n" for x in range(3, 200, 5)),
    "a loop that ended by itself": "a, b, " * 14 + "and so on: the answer is 4.",
}

STOP = {
    "a sentence": "I do not know the answer. " * 60,
    "a sentence with a number": "So x is 3, and x mod 7 = 3, no.\n" * 60,
    "a longer sentence": "Wait, let me check this again from the start. " * 60,
    "a word": "again " * 300,
    "a syllable": "la" * 400,
    "a letter": "a" * 300,
    "exclamation marks": "!" * 300,
    "an answer": "\\boxed{5} " * 100,
    "a line of code": "    x = x + 1\n" * 100,
    "words of another script": "答案是五。" * 100,
}


@pytest.mark.parametrize("split", [characters, bytes_of, pieces], ids=["characters", "bytes", "pieces"])
def test_numbers_rules_tables_and_indentation_do_not_end_a_response(split: Split) -> None:
    assert {name: length for name, text in CONTINUE.items() if (length := stops(text, split)) is not None} == {}


@pytest.mark.parametrize("split", [characters, bytes_of, pieces], ids=["characters", "bytes", "pieces"])
def test_a_sentence_or_word_over_and_over_ends_it(split: Split) -> None:
    assert [name for name, text in STOP.items() if stops("Let me see. " + text, split) is None] == []


def test_a_sentence_ends_it_at_a_far_lower_count_than_a_token() -> None:
    sentence = "I do not know this at all. "
    length, letters = stops(sentence * 60, characters), stops("a" * 400, characters)
    assert length is not None and letters is not None
    assert length / len(sentence) < 8 and letters >= 100


@given(st.text("0123456789 \n\t-=_*#~.|+:,", min_size=1, max_size=30), st.integers(1, 60))
def test_digits_white_space_and_rules_never_end_it(pattern: str, count: int) -> None:
    assert stops(pattern * count, characters) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(1, 12), st.integers(0, 30))
def test_it_ends_where_the_last_tokens_are_one_pattern_often_enough(pattern: list[int], count: int, cut: int) -> None:
    rule = Repetition(max_pattern=5, min_count=3, min_tokens=8)
    tokens = [9, *pattern * count][: max(1, 30 - cut)]
    expected = any(
        len(tokens) >= (span := max(3 * size, 8)) and tokens[-span + size :] == tokens[-span : len(tokens) - size]
        for size in range(1, 6)
    )
    assert repeats(tokens, rule, lambda _: "word") is expected
