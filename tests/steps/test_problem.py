"""Problems, examples, and the files that hold them."""

import gzip
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steps.problem import Example, MalformedRow, Part, Problem, images_of, load_examples, load_problems, save_rows

TEXT = st.text(min_size=1).filter(str.strip)
PARTS = st.lists(
    st.builds(lambda text: Part(type="text", text=text), TEXT)
    | st.builds(lambda image: Part(type="image", image=image), TEXT),
    min_size=1,
).map(tuple)
TESTS = st.lists(st.tuples(st.text(), st.text()), min_size=1).map(tuple)
TAGS = {"difficulty": st.integers(0, 5), "domain": st.text(), "licence": st.text(), "solution": st.none() | st.text()}
PROBLEMS = st.builds(Problem, id=TEXT, prompt=TEXT | PARTS, verifier=st.just("math"), answer=TEXT, **TAGS) | st.builds(
    Problem, id=TEXT, prompt=TEXT | PARTS, verifier=st.just("code"), tests=TESTS, **TAGS
)


def problem(**fields: Any) -> Problem:
    return Problem.model_validate({"id": "p", "prompt": "1 + 1?", "answer": "2", "verifier": "math"} | fields)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


@given(st.lists(PROBLEMS, unique_by=lambda p: p.id, max_size=5))
def test_saved_problems_come_back_equal(tmp_path_factory: pytest.TempPathFactory, problems: list[Problem]) -> None:
    path = tmp_path_factory.mktemp("rows") / "problems.jsonl"
    save_rows(path, problems)
    assert load_problems(path) == problems


@given(st.lists(st.builds(Example, problem_id=TEXT, prompt=st.text() | PARTS, response=TEXT, kind=TEXT), max_size=5))
def test_saved_examples_come_back_equal(tmp_path_factory: pytest.TempPathFactory, examples: list[Example]) -> None:
    path = tmp_path_factory.mktemp("rows") / "examples.jsonl"
    save_rows(path, examples)
    assert load_examples(path) == examples


@given(
    st.lists(st.text(string.ascii_letters + string.digits, min_size=1), min_size=1),
    st.lists(st.text(" \t\u00a0", min_size=1), min_size=20),
)
def test_digest_ignores_white_space_between_words_alone(words: list[str], gaps: list[str]) -> None:
    spaced = gaps[0] + "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    plain = " ".join(words[: len(gaps)])
    assert problem(prompt=spaced).digest == problem(prompt=plain).digest
    assert problem(prompt=plain + "x").digest != problem(prompt=plain).digest


def test_digest_sees_full_width_digits_as_digits() -> None:
    assert problem(prompt="１２ + 3?").digest == problem(prompt="12 + 3?").digest


def test_the_same_question_about_another_image_is_a_different_problem() -> None:
    def with_image(image: str) -> Problem:
        return problem(prompt=[{"type": "text", "text": "How many?"}, {"type": "image", "image": image}])

    assert with_image("a.png").digest == with_image("a.png").digest
    assert len({with_image("a.png").digest, with_image("b.png").digest, problem(prompt="How many?").digest}) == 3


def test_an_examples_images_are_those_of_all_prompts_in_the_order_in_which_the_model_reads_them() -> None:
    def pictured(*images: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": "See:"}, *({"type": "image", "image": image} for image in images)]

    first = {"role": "user", "content": pictured("c", "a")}
    turns = [first, {"role": "assistant", "content": "Seen."}]
    fields = {"problem_id": "p", "history": turns, "prompt": pictured("b", "a"), "response": "Yes."}
    example = Example.model_validate(fields)
    assert (example.images, example.text) == (["c", "a", "b", "a"], "See:")
    assert [images_of(prompt) for prompt, _ in example.exchanges] == [["c", "a"], ["b", "a"]]
    with pytest.raises(ValidationError, match="assistant's turns are text alone"):
        Example.model_validate(fields | {"history": [first, {"role": "assistant", "content": pictured("d")}]})


def test_a_prompt_that_is_one_image_is_a_prompt() -> None:
    pictured = problem(prompt=[{"type": "image", "image": "a.png"}])
    assert (pictured.text, pictured.images) == ("", ["a.png"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": []}, "prompt is empty"),
        ({"answer": " "}, "verifier 'math' needs an answer"),
        ({"verifier": "code"}, "verifier 'code' needs at least one test"),
        ({"verifier": "opinion"}, "'math', 'code', 'custom', 'classic_rm' or 'cot_rm'"),
        ({"prompt": [{"type": "image", "text": "a"}]}, "needs the field 'image'"),
        ({"difficulty": 6}, "difficulty"),
        ({"answr": "2"}, "answr"),
    ],
)
def test_a_problem_that_cannot_be_judged_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        problem(**fields)


ROW = {"id": "a", "prompt": "1 + 1?", "answer": "2", "verifier": "math"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"id": ' + "9" * 5000 + "}", "not JSON"),
        ("[1]", "expected an object, found list"),
        (ROW, "id 'a' occurs twice"),
        ({**ROW, "id": "b", "prompt": None}, "prompt"),
        ({"id": "b"}, "prompt: Field required"),
        ('{"id": "b", "prompt": "\\ud800", "answer": "2", "verifier": "math"}', "surrogates not allowed"),
    ],
)
def test_a_bad_row_is_refused_by_file_line_and_reason(tmp_path: Path, row: object, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", ROW, "", row)
    with pytest.raises(MalformedRow) as refused:
        load_problems(path)
    assert str(refused.value).startswith(f"{path}:3: ") and reason in str(refused.value)


def test_raw_bytes_of_half_a_surrogate_are_a_malformed_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"id": "a", "prompt": "\xed\xa0\x80", "answer": "2", "verifier": "math"}\n')
    with pytest.raises(MalformedRow, match=r"rows\.jsonl:1: .*surrogates not allowed"):
        load_problems(file)


def test_bytes_that_are_no_utf8_are_a_malformed_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "\xff\xfe"}\n')
    with pytest.raises(MalformedRow, match=r"rows\.jsonl:1: not JSON"):
        load_problems(path)


def test_an_example_without_a_response_is_refused_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "sft.jsonl", {"problem_id": "a", "prompt": "b", "response": ""})
    with pytest.raises(MalformedRow, match=r"sft\.jsonl:1: response"):
        load_examples(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-8] + b"\0\0\0\0" + whole[-4:],
        lambda whole: whole[:10] + b"\xff" * 8 + whole[18:],
        lambda whole: b"not gzip at all",
    ],
    ids=["cut off", "another checksum", "other bytes", "not compressed"],
)
def test_a_damaged_compressed_file_is_refused_by_its_name(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    rows = "".join(json.dumps({"problem_id": str(i), "prompt": "?", "response": f"{i}"}) + "\n" for i in range(2000))
    path = tmp_path / "sft.jsonl.gz"
    whole = gzip.compress(rows.encode())
    path.write_bytes(whole)
    assert len(load_examples(path)) == 2000
    path.write_bytes(damage(whole))
    with pytest.raises(
        MalformedRow, match=r"sft\.jsonl\.gz: cannot be decompressed after line \d+ .*; copy or download"
    ):
        load_examples(path)
