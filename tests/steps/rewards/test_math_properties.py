r"""What holds for every number, word and text, not only for those of the tables."""

import re
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steps.rewards.math.evaluate import exact, plain_number
from steps.rewards.math.forms import Expr, Number, Operation, Symbol, Unreadable, Value
from steps.rewards.math.parse import read
from steps.rewards.math.units import read_unit
from steps.rewards.math.wire import decode, encode
from steps.rewards.score import boxed_answer
from tests.steps.rewards.judge import Judge

judged = settings(deadline=None)
"""A comparison may wait for a process to start."""


def value(text: str) -> Fraction | None:
    form = read(text)
    assert isinstance(form, Value), form
    return plain_number(form.expr)


def notations(number: int) -> list[str]:
    sign, digits = "-" if number < 0 else "", str(abs(number))
    grouped = f"{abs(number):,}"
    return [
        f"{number}",
        f"${number}$",
        f"\\({number}\\)",
        f"{sign}{grouped}",
        *(sign + grouped.replace(",", mark) for mark in ("{,}", r"\,", r"\;", r",\!", " ", r"\ ", "~", "\u202f")),
        f"{sign}00{digits}",
        f"{number}.",
        f"{number}.000",
        f"{'−' if sign else ''}{digits}",
        f"{'–' if sign else ''}{digits}",
        f"({number})",
        f"\\left({number}\\right)",
        f"\\frac{{{number}}}{{1}}",
        f"\\frac{{{-2 * number}}}{{-2}}",
        f"{number * 3}/3",
        f"{number} \\cdot 10^0",
        f"{number * 100}e-2",
        f"\\boxed{{{number}}}",
        f"\\text{{{number}}}",
        f"{number}\\text{{ cm}}",
        f"{number} apples",
    ]


@given(st.integers(-(10**30), 10**30))
def test_every_way_of_writing_an_integer_reads_as_itself(number: int) -> None:
    for text in notations(number):
        assert value(text) == number, text


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9), st.integers(1, 50))
def test_every_way_of_writing_a_fraction_reads_as_itself(top: int, bottom: int, factor: int) -> None:
    number = Fraction(top, bottom)
    for command in ("frac", "dfrac", "tfrac", "cfrac"):
        assert value(f"\\{command}{{{top}}}{{{bottom}}}") == number
        assert value(f"\\{command}{{{-top}}}{{{-bottom}}}") == number
        assert value(f"-\\{command}{{{-top * factor}}}{{{bottom * factor}}}") == number
    assert value(f"{top}/{bottom}") == value(f"({top}/{bottom})") == number


@given(st.integers(1, 999), st.integers(1, 500), st.integers(2, 999))
def test_mixed_numbers_are_sums(whole: int, top: int, bottom: int) -> None:
    assume(top < bottom)
    for text in (
        f"{whole}\\frac{{{top}}}{{{bottom}}}",
        f"{whole} {top}/{bottom}",
        f"{whole} \\dfrac{{{top}}}{{{bottom}}}",
    ):
        assert value(text) == whole + Fraction(top, bottom)


@given(st.integers(0, 99), st.text("0123456789", max_size=4), st.text("0123456789", min_size=1, max_size=5))
def test_digits_that_repeat_are_a_fraction(whole: int, fixed: str, repeated: str) -> None:
    decimal = Fraction(f"{whole}.{fixed}{repeated * 8}")
    exact_value = value(f"{whole}.{fixed}\\overline{{{repeated}}}")
    assert exact_value is not None and 0 <= exact_value - decimal <= Fraction(1, 10 ** (len(fixed) + 8 * len(repeated)))


@given(st.integers(-(10**20), 10**20), st.integers(-(10**20), 10**20), st.integers(0, 200))
def test_two_numbers_are_equal_only_if_they_are(left: int, right: int, power: int) -> None:
    texts = [f"\\frac{{{one}}}{{2^{{{power}}}}}" for one in (left, right)]
    values = [exact(form.expr) for form in map(read, texts) if isinstance(form, Value)]
    assert (values[0] == values[1]) == (left == right)


@given(st.integers(2, 10**6), st.integers(1, 60))
@judged
def test_a_number_that_is_perturbed_is_wrong(judge: Judge, number: int, power: int) -> None:
    root = f"\\sqrt{{{number}}}"
    assert judge(f"x+{root}", f"{root}+x").right
    for perturbed in (f"{root}+10^{{-{power}}}", f"{root}+\\frac{{1}}{{{power}!}}", f"(1+2^{{-{power}}}){root}"):
        assert not judge(root, perturbed).right


LETTERS = "abcdefghijklmnopqrstuvwxyz"


@given(st.text(LETTERS + "  ", min_size=1, max_size=20).map(str.strip).filter(bool))
@judged
def test_a_word_that_is_not_an_unit_is_refused(judge: Judge, word: str) -> None:
    assume(read_unit(word) is None)
    assert not judge("12", rf"12 \text{{ {word}}}").right
    assert not judge("12", rf"12 \mathrm{{{word}}}").right


@given(st.sampled_from(LETTERS), st.integers(2, 99))
@judged
def test_a_letter_behind_a_number_is_not_an_unit_without_a_space(judge: Judge, letter: str, number: int) -> None:
    assert not judge(str(number), f"{number}{letter}").right


@given(st.permutations("Monday"))
@judged
def test_a_word_with_its_letters_in_another_order_is_a_different_word(judge: Judge, letters: list[str]) -> None:
    word = "".join(letters)
    assert judge("Monday", word).right == (word.casefold() == "monday")


@given(st.permutations("ABCD"))
@judged
def test_a_name_with_its_letters_in_another_order_is_a_different_name(judge: Judge, letters: list[str]) -> None:
    assert judge("ABCD", "".join(letters)).right == (letters == list("ABCD"))


@given(st.integers(2, 36), st.integers(2, 36), st.text("01", min_size=2, max_size=8))
@judged
def test_digits_in_another_base_are_a_different_number(judge: Judge, base: int, other: int, digits: str) -> None:
    assume(digits[0] == "1")
    assert judge(f"{digits}_{{{base}}}", f"({digits})_{{{other}}}").right == (base == other)
    assert judge(f"{digits}_{{{base}}}", digits).right == (base == 10)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=5), st.data())
@judged
def test_a_list_is_right_in_any_order_and_with_the_same_members_only(
    judge: Judge, numbers: list[int], data: st.DataObject
) -> None:
    reference = ", ".join(map(str, numbers))
    shuffled = data.draw(st.permutations(numbers))
    separator = data.draw(st.sampled_from((", ", "; ", r" \text{ and } ", r" \text{ or } ")))
    assert judge(reference, separator.join(map(str, shuffled))).right
    changed = [shuffled[0] + 1, *shuffled[1:]]
    assert not judge(reference, separator.join(map(str, changed))).right
    assert not judge(reference, separator.join(map(str, [*shuffled, shuffled[0]]))).right


@given(st.integers(-9, 9), st.integers(-9, 9), st.booleans(), st.booleans())
@judged
def test_an_interval_is_its_inequality(judge: Judge, low: int, width: int, low_open: bool, high_open: bool) -> None:
    assume(width > 0)
    high = low + width
    interval = f"{'(' if low_open else '['}{low}, {high}{')' if high_open else ']'}"
    signs = ("<" if low_open else r"\le", "<" if high_open else r"\le")
    assert judge(interval, f"{low} {signs[0]} x {signs[1]} {high}").right
    assert not judge(interval, f"{low} {signs[0]} x {signs[1]} {high + 1}").right
    other = "<" if signs[0] == r"\le" else r"\le"
    assert not judge(interval, f"{low} {other} x {signs[1]} {high}").right


@given(st.integers(1, 9), st.integers(-9, 9), st.integers(1, 9))
@judged
def test_an_equation_is_right_multiplied_by_a_number_and_wrong_changed(
    judge: Judge, slope: int, offset: int, factor: int
) -> None:
    reference = f"y={slope}x+{offset}"
    assert judge(reference, f"{factor}y={factor * slope}x+{factor * offset}").right
    assert judge(reference, f"{slope}x-y+{offset}=0").right
    assert not judge(reference, f"{factor}y={factor * slope}x+{factor * offset + 1}").right


def expressions() -> st.SearchStrategy[Expr]:
    leaves = st.one_of(
        st.fractions(max_denominator=99).map(Number), st.sampled_from(["x", "y", "π", "e", "i", "AB"]).map(Symbol)
    )
    return st.recursive(
        leaves,
        lambda inner: st.builds(
            lambda head, args: Operation(head, tuple(args)),
            st.sampled_from(["+", "*", "-", "sin", "abs"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=10,
    )


@given(expressions())
def test_an_expression_reaches_the_process_as_it_is(expr: Expr) -> None:
    assert decode(encode(expr)) == expr


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_raise_anything_else(text: str) -> None:
    try:
        read(text)
    except Unreadable as error:
        assert re.fullmatch(
            r"[a-zA-Z0-9 ',./-]+", str(error)
        )  # the words are counted, so they hold nothing of the text


PIECES = st.sampled_from(
    re.findall(
        r"\S+",
        r"""\frac \sqrt \pm ^ _ { } ( ) [ ] \{ \} , ; = < \le \in \cup | x y AB 1 2 12 0.5 \text{and} \text{cm} & \\
        \begin{pmatrix} \end{pmatrix} \% $ \$ \infty \pi \sin \log \overline{3} ' R or - + / \left( \right] \mid
        : ! % \pmod""",
    )
)


@given(st.lists(PIECES, max_size=14).map("".join))
def test_no_formula_makes_the_reader_raise_anything_else(text: str) -> None:
    with suppress(Unreadable):
        read(text)


@given(st.text(max_size=200))
def test_no_response_makes_the_extraction_raise(text: str) -> None:
    boxed_answer(text)
    boxed_answer("\\boxed" + text)


@pytest.mark.parametrize("text", ["x" * 5000, "(" * 3000, "{" * 3000, "\\frac" * 500, "-" * 3000, "x^" * 2000])
def test_a_text_without_end_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text)
