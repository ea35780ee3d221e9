"""Runs of words that texts share with a collection."""

import pytest

from infra.gates.shared_runs import PHRASE, SharedRuns

PROMPT = "Write a function for task {}: {}. Give the whole program in Python. It must pass these tests: assert {}"
TASKS = [f"{chr(97 + place)} alpha {chr(98 + place)} beta {chr(99 + place)}" for place in range(PHRASE + 2)]


def test_what_a_format_writes_into_each_prompt_does_not_count() -> None:
    held_out = [(str(place), PROMPT.format(place, task, place)) for place, task in enumerate(TASKS)]
    other = PROMPT.format(100, "to reverse a list of words", 100)
    repeated = ("3", "write a function for task 3 d alpha")
    assert SharedRuns(held_out, 11).find([other, held_out[3][1]]) == [None, repeated]
    assert SharedRuns(held_out[:PHRASE], 11).find([other]) != [None], "few texts may well have one problem twice"


def test_a_text_shorter_than_a_run_has_none_and_case_and_punctuation_do_not_count() -> None:
    runs = SharedRuns([("a", "One, two three."), ("short", "one")], 3)
    assert runs.find(["one two", "So: ONE two three four!"]) == [None, ("a", "one two three")]
    with pytest.raises(ValueError, match="size is 0"):
        SharedRuns([], 0)
