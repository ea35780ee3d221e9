"""Which prompts are taken for the same one."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.lineage.prompt_digest import normalise, prompt_digest, prompt_digests

LOOP = "What does this print?\nfor i in range(3):\n    x += i\nprint(x)"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3² + 1", "32 + 1"),
        ("2⁵", "25"),
        ("10⁶", "106"),
        ("10⁻³", "10-3"),
        ("4½", "41⁄2"),
        ("4½", "41/2"),
        ("5¾", "53⁄4"),
        ("x₁ + 2", "x1 + 2"),
        ("H₂O", "H2O"),
        ("① 2", "1 2"),
        ("⒈5", "1.5"),
        ("5 m²", "5 m2"),
        ("5 ㎡", "5 m2"),
        ("ℝ", "R"),
        ("𝐱 + x", "x + x"),
        ("xª", "xa"),
        ("How many Mb are 3 Gb?", "How many MB are 3 GB?"),
        ("Mb", "MB"),
        ("Mb", "mb"),
        ("5 mW", "5 MW"),
        ("AB = 3. Find BC.", "ab = 3. Find bc."),
        ("ABC = 6", "abc = 6"),
        ("ABCD + AB", "abcd + ab"),
        ("Find X if x = 2.", "Find x if x = 2."),
        ("A + 1", "a + 1"),
        ("Foo(1) is called.", "foo(1) is called."),
        ("What does print(True) print?", "What does print(true) print?"),
        (LOOP, LOOP.replace("\nprint", "\n    print")),
        (LOOP, LOOP.replace("    x", "\tx")),
        (LOOP, " ".join(LOOP.split())),
        ("```\nprint(1)\n```", "```\nPrint(1)\n```"),
        ("```\nx = 'a  b'\n```", "```\nx = 'a b'\n```"),
        ("How long is 'a  b'?", "How long is 'a b'?"),
        ("Add all:\n12 3\n4", "Add all:\n1 23\n4"),
        ("Add all:\n12\n34", "Add all:\n12 34"),
        ("x = 5\n-1", "x = 5 -1"),
    ],
)
def test_prompts_that_ask_for_different_things_stay_apart(one: str, other: str) -> None:
    assert prompt_digest(one) != prompt_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 1 + 1?", "what is  1 + 1?\n"),
        ("What is 1 + 1?", "\tWhat is 1 +\u00a01?"),
        ("WHAT is 2 + 2?", "What is 2 + 2?"),
        ("WHAT IS THE SUM?", "What is the sum?"),
        ("He has 7. If he adds 5, what is it?", "he has 7.\nif he adds 5, what is it?"),
        ("Two trains leave\nthe same town.", "Two trains leave the same town."),
        ("One.\r\n\r\nTwo.", "One.\nTwo."),
        ("caf\u00e9", "cafe\u0301"),
        ("\ufb01nd x", "find x"),
        ("１ + ２", "1 + 2"),
        (LOOP, LOOP.replace("\n", "\r\n")),
        (LOOP, LOOP.replace("\n", " \n") + "\n"),
        (LOOP, "  " + LOOP.replace("\n", "\n  ")),
    ],
)
def test_what_carries_no_meaning_makes_no_new_prompt(one: str, other: str) -> None:
    assert prompt_digest(one) == prompt_digest(other)


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"]))
def test_digits_in_another_position_are_other_digits(base: int, index: int, digits: str) -> None:
    raised = "".join(digits[int(digit)] for digit in str(index))
    assert prompt_digest(f"Find {base}{raised}.") != prompt_digest(f"Find {base}{index}.")


@given(st.lists(st.sampled_from(["for i in x:", "i += 1", "if i:", "pass"]), min_size=2), st.data())
def test_code_that_differs_by_indentation_stays_apart(lines: list[str], data: st.DataObject) -> None:
    depths = st.lists(st.integers(0, 3), min_size=len(lines), max_size=len(lines))
    one, other = ([0, *data.draw(depths)[1:]] for _ in range(2))
    code = ["\n".join("    " * depth + line for depth, line in zip(each, lines, strict=True)) for each in (one, other)]
    assert (prompt_digest(code[0]) == prompt_digest(code[1])) == (one == other)


def test_images_are_part_of_a_prompt() -> None:
    assert len({prompt_digest("?"), prompt_digest("?", ["a"]), prompt_digest("?", ["b"]), prompt_digest("?\na")}) == 4


def test_an_earlier_versions_digest_is_looked_up_and_never_equals_one_of_this() -> None:
    earlier = hashlib.sha256(b"how many mb?").hexdigest()
    assert prompt_digests("How many Mb?") == (prompt_digest("How many Mb?"), earlier)
    assert earlier not in {prompt_digest("how many mb?"), prompt_digest("How many MB?")}
