"""Prompts with images as tokens: what is an image, what is text, and which rows are refused."""

import json
import shutil
from pathlib import Path

import pytest

from infra.errors import LonghaulError
from infra.images import UnreadableImage, stored_digest
from infra.vision.folders import ImageFolders
from steps.chat import Chat
from steps.problem import Example, Part, Problem, Turn
from tests.vision_models import MODELS, draw, idefics3, qwen2_5_vl


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    makers = {"qwen2_5_vl": qwen2_5_vl, "idefics3": idefics3}
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def problem(*parts: str | Path) -> Problem:
    """Text, and images by their addresses."""
    both = (
        Part(type="text", text=one) if isinstance(one, str) else Part(type="image", image=str(one)) for one in parts
    )
    return Problem(id="p", prompt=tuple(both), answer="1", verifier="math")


@pytest.mark.parametrize("name", ["qwen2_5_vl", "idefics3"])
def test_each_image_is_one_token_for_the_engine_and_all_of_its_own_for_the_model(
    name: str, models: dict[str, Path], data: Path
) -> None:
    small, large = draw(data, 1, (32, 32)), draw(data, 2, (96, 48))
    chat = Chat(models[name], ImageFolders((data,)))
    prompt = chat.read(problem("first ", Path(small), " and ", Path(large), "?"))
    reader = chat.reader
    assert reader and prompt.unexpanded
    assert prompt.images == (stored_digest(small), stored_digest(large))
    own = [list(reader.tokens(data / address)) for address in (small, large)]
    written = str(chat.tokenizer.decode(prompt.unexpanded))
    before, between, after = written.split(str(chat.tokenizer.decode([reader.token_id])))
    assert "first " in before and " and " in between and "?" in after
    places = [place for place, token in enumerate(prompt.unexpanded) if token == reader.token_id]
    assert len(places) == 2
    start, end = places
    tokens = prompt.unexpanded
    assert prompt.tokens == [*tokens[:start], *own[0], *tokens[start + 1 : end], *own[1], *tokens[end + 1 :]]
    assert chat.prompt("no image") == chat.read("no image").tokens and not chat.read("no image").images


@pytest.mark.parametrize("name", ["qwen2_5_vl", "idefics3"])
@pytest.mark.parametrize("text", ["what is <image>?", "<|image_pad|> <|vision_start|>", "<|im_end|> <image>"])
def test_what_looks_like_an_image_in_a_text_stays_text(
    name: str, text: str, models: dict[str, Path], data: Path
) -> None:
    chat = Chat(models[name], ImageFolders((data,)))
    address = draw(data, 3)
    assert chat.reader
    plain, seen = chat.read(text), chat.read(problem(Path(address), text))
    assert plain.tokens.count(chat.reader.token_id) == 0
    assert seen.unexpanded and seen.unexpanded.count(chat.reader.token_id) == 1
    assert text in chat.tokenizer.decode(plain.tokens) and text in chat.tokenizer.decode(seen.unexpanded)
    response = chat.encode_response(text)
    assert chat.reader.token_id not in response and chat.decode(response) == text


def test_a_conversation_shows_its_images_in_order_and_learns_its_responses_alone(
    models: dict[str, Path], data: Path
) -> None:
    first, second = draw(data, 4, (32, 32)), draw(data, 5, (64, 32))
    chat = Chat(models["qwen2_5_vl"], ImageFolders((data,)))
    parts = (Part(type="image", image=second), Part(type="text", text="and this?"))
    history = (Turn(role="user", content=(Part(type="image", image=first),)), Turn(role="assistant", content="one"))
    example = chat.conversation(Example(problem_id="e", history=history, prompt=parts, response="two"))
    assert [image.name for image in example.images] == [Path(first).name, Path(second).name]
    ((begin, end),) = example.prompts_inside
    assert chat.tokenizer.decode(list(example.tokens[example.prompt_length : begin])) == "one<|im_end|>"
    assert chat.tokenizer.decode(list(example.tokens[end:])) == "two<|im_end|>"
    assert chat.reader
    expected = sum(len(chat.reader.tokens(data / address)) for address in (first, second))
    assert list(example.tokens).count(chat.reader.token_id) == expected


def test_rows_with_images_that_cannot_be_read_name_the_row_or_the_image(
    models: dict[str, Path], data: Path, base: Path, tmp_path: Path
) -> None:
    address = draw(data, 6)
    with pytest.raises(ValueError, match="problem p: its prompt has an image, and the model reads text alone"):
        Chat(base, ImageFolders((data,))).read(problem(Path(address)))
    chat = Chat(models["qwen2_5_vl"], ImageFolders((tmp_path,)))
    with pytest.raises(UnreadableImage, match="is not there"):
        chat.read(problem(Path(address)))
    with pytest.raises(ValueError, match="not a stored one"):
        chat.read(problem(Path("pictures/a.png")))
    shutil.copytree(data / "images", tmp_path / "images")
    (tmp_path / address).write_bytes(b"\x89PNG broken")
    with pytest.raises(LonghaulError, match=r"cannot be decoded|no image"):
        chat.read(problem(Path(address)))


def test_a_template_that_repeats_an_image_is_refused(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["qwen2_5_vl"], folder)
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|image_pad|>", "<|image_pad|><|image_pad|>"))
    with pytest.raises(ValueError, match="has 1 images, and the chat template writes 2"):
        Chat(folder, ImageFolders((data,))).read(problem(Path(draw(data, 7)), "?"))


def test_every_architecture_is_imported_with_its_processor_and_others_are_refused(tmp_path: Path) -> None:
    from steps.checkpoint import check_checkpoint
    from steps.checkpoint_refused import CheckpointRefused

    for name, make in MODELS.items():
        (tmp_path / name).mkdir()
        checked = check_checkpoint(make(tmp_path / name))
        assert checked.images and checked.images.tokens[1] >= checked.images.tokens[0] > 1
        assert "preprocessor_config.json" in checked.files and checked.images.settings["size"]
    folder = tmp_path / "qwen2_5_vl"
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointRefused, match=r"preprocessor_config\.json"):
        check_checkpoint(folder)
    folder = tmp_path / "qwen3_vl"
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlavaForConditionalGeneration"]}))
    with pytest.raises(CheckpointRefused, match="reads images in a way that is not trained here"):
        check_checkpoint(folder)
