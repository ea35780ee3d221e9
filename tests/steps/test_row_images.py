"""Images of rows in the forms that people have: each stands where its row says, or the row is refused."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from infra.images import pixel_digest, stored_address
from infra.store.source import Source
from steps.configs.data_source import Role, SourceConfig
from steps.problem import Example, MalformedRow, Prompt
from steps.row_images import RowImages
from steps.source_rows import Read, read_source

PICTURES = {name: Image.new("RGB", (20, 10), colour) for name, colour in (("a", "red"), ("b", "blue"))}
A, B = (stored_address(pixel_digest(picture)) for picture in PICTURES.values())
TRUTH = {"reward_model": {"ground_truth": "2"}}


def encoded(name: str, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    PICTURES[name].save(file, format)
    return file.getvalue()


URI = "data:image/png;base64," + base64.b64encode(encoded("a")).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name in PICTURES:
        (tmp_path / "pictures" / f"{name}.png").write_bytes(encoded(name))
    (tmp_path / "pictures" / "a.bmp").write_bytes(encoded("a", "BMP"))
    (tmp_path / "pictures" / "broken.png").write_bytes(encoded("a")[:40])
    Image.new("RGB", (500, 2)).save(tmp_path / "pictures" / "narrow.png")
    return tmp_path


def read(folder: Path, row: Any, form: str, role: Role = "train", files: bool = True, **config: Any) -> Any:
    """The one row of a file; Parquet if it has bytes."""
    path = folder / "set.jsonl"
    try:
        path.write_text(json.dumps(row) + "\n")
    except TypeError:
        path = folder / "set.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    source = SourceConfig.model_validate({"path": str(path), "format": form, **config})
    source.check(role)
    pictures = folder / "pictures" if files else None
    ((_, result),) = read_source(Source(path, str(path)), source, role, RowImages(folder / "out"), pictures)
    return result


def plain(prompt: Prompt) -> list[str]:
    """A prompt's texts and images in order."""
    return [prompt] if isinstance(prompt, str) else [part.text or part.image or "" for part in prompt]


def parts(*images: Any) -> list[Any]:
    return [{"role": "user", "content": [*images, {"type": "text", "text": "See?"}]}]


ANSWER = [{"role": "assistant", "content": "Yes."}]
PROBLEM = {"answer": "2", "verifier": "math"}


@pytest.mark.parametrize(
    ("form", "row", "expected"),
    [
        ("easyr1", {"problem": "<image>Or<image>?", "images": ["a.png", "b.png"], "answer": "2"}, [A, "Or", B, "?"]),
        (
            "easyr1",
            {"problem": "<image>Find x.", "images": [{"bytes": encoded("a"), "path": "x"}], "answer": "2"},
            None,
        ),
        ("verl", {"prompt": [{"role": "user", "content": "<image>\nSee?"}], "images": ["a.png"], **TRUTH}, [A, "See?"]),
        ("trl", {"prompt": "See?", "image": "a.png", "answer": "2"}, [A, "See?"]),
        ("trl", {"prompt": parts({"type": "image"}), "images": ["a.bmp"], "answer": "2"}, [A, "See?"]),
        ("longhaul", {"prompt": [{"type": "image", "image": URI}, {"type": "text", "text": "?"}], **PROBLEM}, [A, "?"]),
        ("longhaul", {"prompt": [{"type": "image_url", "image_url": {"url": URI}}], **PROBLEM}, [A]),
        ("longhaul", {"prompt": "<image>?", "images": [URI], **PROBLEM}, [A, "?"]),
        ("chartqa", {"image": {"bytes": encoded("a"), "path": None}, "query": "How high?", "label": ["2"]}, None),
        ("chartqa", {"image": URI, "question": "How high?", "answer": "2", "type": "human"}, [A, "How high?"]),
        ("clevr", {"image_filename": "a.png", "question": "How many?", "answer": "2"}, [A, "How many?"]),
        ("clevr", {"image": URI, "problem": "How many?", "solution": "<answer> 2 </answer>"}, [A, "How many?"]),
    ],
)
def test_problems_have_their_images_where_the_row_has_them(folder: Path, form: str, row: Any, expected: Any) -> None:
    problem = read(folder, row, form)
    assert not isinstance(problem, MalformedRow), problem
    assert problem.answer == "2"
    if expected is None:
        assert problem.images == [A]
    else:
        assert plain(problem.prompt) == expected
    assert all((folder / "out" / image).is_file() for image in problem.images)


def test_a_mapping_names_the_field_with_images(folder: Path) -> None:
    row = {"q": {"text": "Or<image>?"}, "shots": ["b.png"], "a": "2"}
    mapping = {"prompt": "q.text", "images": "shots", "answer": "a"}
    problem = read(folder, row, "longhaul", mapping=mapping, values={"verifier": "math"})
    assert plain(problem.prompt) == ["Or", B, "?"]


def test_a_conversation_has_its_images_in_the_users_turns_in_order(folder: Path) -> None:
    turns = [{"from": "human", "value": "<image>One?"}, {"from": "gpt", "value": "An <image>."}]
    turns += [{"from": "human", "value": "And<image>"}, {"from": "gpt", "value": "Two."}]
    example = read(folder, {"conversations": turns, "images": ["b.png", "a.png"]}, "chat", "sft")
    assert isinstance(example, Example) and example.images == [B, A]
    assert [(plain(prompt), response) for prompt, response in example.exchanges] == [
        ([B, "One?"], "An <image>."),
        (["And", A], "Two."),
    ]
    openai = {"messages": [*parts({"type": "image_url", "image_url": {"url": URI}}), *ANSWER]}
    assert plain(read(folder, openai, "chat", "sft").prompt) == [A, "See?"]


@pytest.mark.parametrize("form", ["easyr1", "longhaul"])
def test_a_mark_in_a_row_without_images_is_text(folder: Path, form: str) -> None:
    text = "What does <image> mean in HTML?"
    field = "problem" if form == "easyr1" else "prompt"
    problem = read(folder, {field: text, **PROBLEM} if form == "longhaul" else {field: text, "answer": "2"}, form)
    assert problem.prompt == text


@pytest.mark.parametrize(
    ("images", "text", "reason"),
    [
        (["a.png", "b.png"], "<image>?", "there are 2 images and 1 places for them"),
        (["a.png"], "?", "there are 1 images and 0 places for them"),
        (["a.png"], "<image><image>?", "more places for images .* of which the row has 1"),
        (["c.png"], "<image>?", r"image 1 \(c.png\): cannot be read: No such file"),
        (["../set.jsonl"], "<image>?", "a file outside the data's folder"),
        (["broken.png"], "<image>?", "cannot be decoded|no image of the kinds"),
        (["narrow.png"], "<image>?", "less than 200 times"),
        (["https://example.org/a.png"], "<image>?", "an address elsewhere"),
        (["a.png", 7], "<image><image>?", "field 'images' is a number, and an image is expected"),
    ],
)
def test_a_row_whose_images_cannot_be_used_is_refused_with_its_line(
    folder: Path, images: list[Any], text: str, reason: str
) -> None:
    refused = read(folder, {"problem": text, "images": images, "answer": "2"}, "easyr1")
    assert isinstance(refused, MalformedRow)
    assert str(refused).startswith(f"{folder / 'set.jsonl'}:1: ")
    with pytest.raises(MalformedRow, match=reason):
        raise refused


def test_image_files_need_a_folder_that_the_recipe_names(folder: Path) -> None:
    row = {"problem": "<image>?", "images": ["a.png"], "answer": "2"}
    with pytest.raises(MalformedRow, match="there is no folder to read images from"):
        raise read(folder, row, "easyr1", files=False)
    with pytest.raises(ValueError, match="images is for files beside `path`"):
        SourceConfig.model_validate({"hub": "owner/name", "images": "pictures"})


def test_the_same_pixels_are_the_same_problem_whatever_the_file_is(folder: Path) -> None:
    def digest(image: str) -> str:
        read_row: Read = read(folder, {"problem": "<image>?", "images": [image], "answer": "2"}, "easyr1")
        assert not isinstance(read_row, Example)
        return read_row.digest

    assert digest("a.png") == digest("a.bmp") == digest(URI) != digest("b.png")
