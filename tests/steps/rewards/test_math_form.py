r"""Problems that ask for a form, and answers that are a piece of their question."""

import pytest

from tests.steps.rewards.judge import Judge


@pytest.mark.parametrize(
    ("form", "reference", "right", "wrong"),
    [
        (
            "factored",
            "(x-2)(x-3)",
            ["(x-3)(x-2)", r"(x-2)\cdot(x-3)", "(2-x)(3-x)", "-(2-x)(x-3)", "(-2+x)(x-3)"],
            ["x^2-5x+6", "x(x-5)+6", "(x-2)x-3(x-2)", r"\frac{(x-2)(x-3)(x-4)}{x-4}", "2(x-2)(x-3)/2"],
        ),
        ("factored", "2(x-1)(x+1)", ["2(x+1)(x-1)", "-2(1-x)(x+1)"], ["(2x-2)(x+1)", "2(x^2-1)", "2x^2-2"]),
        ("factored", "(x+1)^2", ["(x+1)(x+1)", "(1+x)^2", "(-x-1)^2"], ["x^2+2x+1", "x(x+2)+1"]),
        ("factored", "x(x+2)", ["(x+2)x", "x(2+x)"], ["x^2+2x"]),
        (
            "factored",
            r"2^3 \cdot 3",
            [r"3 \cdot 2^3", r"2\cdot2\cdot2\cdot3", r"2^2 \cdot 2 \cdot 3"],
            ["24", r"8 \cdot 3", r"4\cdot 6"],
        ),
        (
            "simplified",
            r"2\sqrt{3}",
            [r"2\sqrt3", r"\sqrt{3}\cdot 2", "2√3"],
            [
                r"\sqrt{12}",
                r"\sqrt{4}\sqrt{3}",
                r"\frac{6}{\sqrt{3}}",
                r"\sqrt{3}+\sqrt{3}",
                r"\frac{4\sqrt{3}}{2}",
                r"\frac12\sqrt{48}",
            ],
        ),
        ("simplified", "1/2", [r"\frac12", "0.5"], ["2/4", r"\frac{3}{6}", r"\frac{50}{100}"]),
        ("simplified", "3", ["3.0", "x=3"], ["6/2", r"\frac{3}{1}"]),
        ("simplified", "x+1", ["1+x"], [r"\frac{x^2-1}{x-1}", "x+2-1", "2x+1-x", r"\frac{2x+2}{2}"]),
        ("simplified", "5x", [r"5\cdot x", "x5"], ["2x+3x", r"\frac{10x}{2}", "5x^1", "5x+0"]),
        ("simplified", r"\frac{x}{2}", [r"\frac12 x", "x/2", "0.5x"], [r"\frac{2x}{4}", r"\frac{x^2}{2x}"]),
        (
            "simplified",
            r"\frac{\sqrt{2}}{2}",
            [r"\sqrt2/2"],
            [r"\frac{1}{\sqrt{2}}", r"\sqrt{\frac12}", r"\frac{2}{2\sqrt{2}}"],
        ),
        ("simplified", "x^5", ["x^{5}"], [r"x^2 \cdot x^3", "x^{2+3}", r"\frac{x^6}{x}"]),
        ("expanded", "x^2-5x+6", ["6-5x+x^2", "x^2+6-5x"], ["(x-2)(x-3)", "x(x-5)+6", "x^2-2x-3x+6"]),
        ("expanded", "2x+6", ["6+2x"], ["2(x+3)", "x+x+6"]),
        ("exact", r"\pi", [r"\pi", "π"], ["3.14159", "3.141592653589793"]),
        ("exact", r"\frac{1}{3}", [r"\frac13", "2/6"], ["0.333"]),
        ("exact", r"\frac12\sqrt{2}", [r"\frac{\sqrt2}{2}"], [r"0.5\sqrt{2}", "0.7071"]),
        ("exact", "0.25", ["0.25", "1/4"], ["0.3"]),
    ],
)
def test_an_answer_is_written_as_requested(
    judge: Judge, form: str, reference: str, right: list[str], wrong: list[str]
) -> None:
    for answer in right:
        assert judge(reference, answer, form=form).right, answer
    for answer in wrong:
        assert not judge(reference, answer, form=form).right, answer


@pytest.mark.parametrize(("reference", "answer"), [("(x-2)(x-3)", "x^2-5x+6"), (r"2\sqrt{3}", r"\sqrt{12}")])
def test_without_a_form_any_equal_answer_is_right(judge: Judge, reference: str, answer: str) -> None:
    assert judge(reference, answer).right


@pytest.mark.parametrize(
    ("prompt", "reference", "copied"),
    [
        ("Factor $x^2-5x+6$.", "(x-2)(x-3)", "x^2-5x+6"),
        ("Factor $x^2-5x+6$.", "(x-2)(x-3)", r"x^{2} - 5x + 6"),
        (r"Simplify $\sqrt{12}$.", r"2\sqrt{3}", r"\sqrt{12}"),
        (r"Simplify $\sqrt{50}+\sqrt{8}$.", r"7\sqrt{2}", r"\sqrt{50}+\sqrt{8}"),
        (r"Simplify \(\dfrac{x^2-1}{x-1}\).", "x+1", r"\frac{x^2-1}{x-1}"),
        ("Expand $(x+1)^3$.", "x^3+3x^2+3x+1", "(x+1)^3"),
        (r"What is $\sin^2 x+\cos^2 x-\cos^2 x$?", r"\sin^2 x", r"\sin^2 x+\cos^2 x-\cos^2 x"),
        ("Write 2x+3x+1 more simply.", "5x+1", "2x+3x+1"),
        ("Solve for y: $2x-y+1=0$.", "y=2x+1", "2x-y+1=0"),
        (r"Rationalise $\frac{1}{\sqrt{2}}$.", r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
        (r"Evaluate $e^{i\pi/3}$ as $a+bi$.", r"\frac12+\frac{\sqrt3}{2}i", r"e^{i\pi/3}"),
        ("Simplify √12.", r"2\sqrt{3}", "√12"),
    ],
)
def test_a_piece_of_the_question_is_not_an_answer(judge: Judge, prompt: str, reference: str, copied: str) -> None:
    assert judge(reference, copied).right
    assert not judge(reference, copied, prompt=prompt).right
    assert judge(reference, reference, prompt=prompt).right


@pytest.mark.parametrize(
    ("prompt", "reference", "answer"),
    [
        ("Is $x+1$ or $x-1$ larger?", "x+1", "x+1"),
        ("Is $x+1$ or $x-1$ larger?", "x+1", "1+x"),
        ("Is $x+1$ or $x-1$ larger?", "1+x", "x+1"),
        ("Which is larger, 0.5 or 1/3?", r"\frac12", "0.5"),
        ("Is it (3,4) or (4,3)?", "(3, 4)", r"\left(3,4\right)"),
        ("Was it Monday or Tuesday?", "Monday", r"\text{Monday}"),
        ("A ship sails 12 km.", "12", "12 km"),
        (r"Is $x=5$ a root?", "5", "x=5"),
        (r"Which is greater: $\dfrac{\sqrt{3}}{2}$ or $1$?", r"\frac{\sqrt{3}}{2}", r"\dfrac{\sqrt{3}}{2}"),
    ],
)
def test_the_reference_itself_is_right_also_where_the_question_has_it(
    judge: Judge, prompt: str, reference: str, answer: str
) -> None:
    assert judge(reference, answer, prompt=prompt).right


@pytest.mark.parametrize(
    ("prompt", "reference", "right", "wrong"),
    [
        ("What percent of 40 is 20?", "50", ["50", r"50\%", "50 percent"], ["0.5", r"0.5\%", r"5000\%"]),
        ("By what percentage did it fall?", "0.5", ["0.5", r"0.5\%"], [r"50\%"]),
        ("A coin is fair. What is the probability of heads?", "0.5", ["0.5", r"50\%", "1/2"], [r"0.5\%", "50"]),
    ],
)
def test_a_percent_sign_is_read_as_the_question_asks(
    judge: Judge, prompt: str, reference: str, right: list[str], wrong: list[str]
) -> None:
    assert [judge(reference, answer, prompt=prompt).right for answer in right] == [True] * len(right)
    assert [judge(reference, answer, prompt=prompt).right for answer in wrong] == [False] * len(wrong)
