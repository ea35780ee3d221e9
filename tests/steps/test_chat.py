"""The chat format of templates that open the thinking themselves, and of those that do not."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken

from steps.chat import Chat
from steps.rewards.score import boxed_answer

SOLVED = "<think>\n2 + 3 = 5\n</think>\n\\boxed{5}"


@pytest.fixture
def opening(base: Path, tmp_path: Path) -> Chat:
    """The nano checkpoint's chat with a template that ends each prompt with an open think block."""
    folder = tmp_path / "opening"
    shutil.copytree(base, folder)
    chat = Chat(folder)
    template = chat.tokenizer.chat_template + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
    chat.tokenizer.chat_template = template
    chat.tokenizer.save_pretrained(folder)
    return Chat(folder)


def test_a_box_inside_thinking_that_the_template_opened_is_not_an_answer(opening: Chat) -> None:
    text = opening.text(opening.encode("maybe \\boxed{5}, but let me see"))
    assert text.startswith("<think>") and boxed_answer(text) is None


def test_an_answer_after_thinking_that_the_template_opened_counts(opening: Chat) -> None:
    text = opening.text(opening.encode("maybe \\boxed{4}\n</think>\n\\boxed{5}"))
    assert boxed_answer(text) == "5"


def test_training_text_opens_the_thinking_once(opening: Chat) -> None:
    example = opening.example("2 + 3?", SOLVED)
    whole = opening.tokenizer.decode(list(example.tokens))
    assert whole.count("<think>") == 1 and whole.count("</think>") == 1
    assert opening.text(example.tokens[example.prompt_length :]) == SOLVED


def test_a_response_without_thinking_closes_what_the_template_opened(opening: Chat) -> None:
    example = opening.example("2 + 3?", "\\boxed{5}")
    text = opening.text(example.tokens[example.prompt_length :])
    assert text.count("<think>") == text.count("</think>") == 1 and boxed_answer(text) == "5"


def test_a_template_that_opens_nothing_changes_nothing(base: Path) -> None:
    chat = Chat(base)
    for response in (SOLVED, "\\boxed{5}", "a<think>b"):
        example = chat.example("2 + 3?", response)
        assert chat.text(example.tokens[example.prompt_length :]) == response
    assert chat.opened == chat.skip_thinking == ""


def test_every_end_token_of_the_checkpoint_is_left_out_of_the_text(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "other end")
    other = Chat(folder).encode("e")[-1]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": other}))
    chat = Chat(folder)
    assert chat.end_tokens == {chat.end_token, other}
    body = chat.encode("x = 5\n")
    for end in chat.end_tokens:
        assert chat.text([*body, end]) == "x = 5\n"


def one_token_more(base: Path, folder: Path, special: bool) -> Chat:
    """The nano checkpoint with a token that its embedding has no row for."""
    shutil.copytree(base, folder)
    tokenizer = Chat(folder).tokenizer
    tokenizer.add_tokens([AddedToken("<image_soft_token>", normalized=False, special=special)])
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    rows = tokenizer.convert_tokens_to_ids("<image_soft_token>")
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))
    return Chat(folder)


def test_a_token_without_an_embedding_is_named_where_it_stands(base: Path, tmp_path: Path) -> None:
    chat = one_token_more(base, tmp_path / "more", special=False)
    assert chat.prompt("2 + 3?") == Chat(base).prompt("2 + 3?")
    for use in (chat.prompt, chat.encode, lambda text: chat.example("2 + 3?", text)):
        with pytest.raises(ValueError, match=r"'<image_soft_token>' stands in 'see <image.*id \d+ is outside"):
            use("see <image_soft_token> here")


def test_a_control_token_without_an_embedding_is_text_in_data(base: Path, tmp_path: Path) -> None:
    chat = one_token_more(base, tmp_path / "more", special=True)
    example = chat.example("see <image_soft_token>", "<image_soft_token>")
    assert chat.tokenizer.decode([*example.tokens]).count("<image_soft_token>") == 2
