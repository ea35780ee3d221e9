"""The chat format of templates that open the thinking themselves, and of those that do not."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import AddedToken

from steps.chat import Chat
from steps.problem import Example, Problem, Turn, text_of
from steps.rewards.score import boxed_answer
from steps.token_example import TokenExample

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


TURNS = Example(
    problem_id="talk",
    system="Be brief.",
    history=(Turn(role="user", content="2 + 3?"), Turn(role="assistant", content="5")),
    prompt="And 4 + 4?",
    response="It is 8",
)
START = "{% if add_generation_prompt %}"
TEMPLATES = {
    "nano": None,
    "ChatML with a default system prompt": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        f"{START}<|im_start|>assistant\n{{% endif %}}"
    ),
    "Llama 3": (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
        f"{{% endfor %}}{START}<|start_header_id|>assistant<|end_header_id|>\n\n{{% endif %}}"
    ),
    "Gemma": (
        "{% set first = '' %}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first if loop.first else '' }}{{ m.content | trim }}"
        f"<end_of_turn>\n{{% endfor %}}{START}<start_of_turn>model\n{{% endif %}}"
    ),
}
ENDS = {"Llama 3": "<|eot_id|>", "Gemma": "<end_of_turn>"}


@pytest.fixture(params=TEMPLATES)
def chat_of_family(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> Chat:
    """The nano checkpoint with another family's template and tokens; its tokenizer's own end token stays."""
    folder = shutil.copytree(base, tmp_path / "family")
    template = TEMPLATES[request.param]
    if template is None:
        return Chat(folder)
    tokenizer = Chat(folder).tokenizer
    names = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    end = tokenizer.convert_tokens_to_ids(ENDS.get(request.param, "<|im_end|>"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": len(tokenizer)}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, end]}))
    return Chat(folder)


def learned(example: TokenExample) -> list[list[int]]:
    """The tokens that an example teaches, span by span."""
    starts = [example.prompt_length, *(end for _, end in example.prompts_inside)]
    ends = [*(start for start, _ in example.prompts_inside), len(example.tokens)]
    return [list(example.tokens[start:end]) for start, end in zip(starts, ends, strict=True)]


def test_a_conversation_has_the_templates_own_tokens_and_teaches_each_response_with_its_end(
    chat_of_family: Chat,
) -> None:
    chat = chat_of_family
    example = chat.conversation(TURNS)
    messages = [{"role": "system", "content": "Be brief."}]
    for prompt, response in TURNS.exchanges:
        messages += [{"role": "user", "content": text_of(prompt)}, {"role": "assistant", "content": response}]
    whole = chat.tokenizer.apply_chat_template(messages, return_dict=False)
    after = list(whole)[len(example.tokens) :]
    assert list(example.tokens) == whole[: len(example.tokens)]
    assert "".join(chat.tokenizer.convert_ids_to_tokens(after)).strip("Ċ\n") == ""
    assert learned(example) == [[*chat.encode(response), chat.end_token] for _, response in TURNS.exchanges]


def test_a_conversation_of_one_turn_is_an_example(chat_of_family: Chat) -> None:
    one = Example(problem_id="a", prompt="2 + 3?", response="5")
    assert chat_of_family.conversation(one) == chat_of_family.example("2 + 3?", "5")


def test_white_space_that_a_template_trims_is_not_learned(chat_of_family: Chat) -> None:
    spaced = TURNS.model_copy(update={"response": " It is 8\n"})
    trims = "trim" in chat_of_family.tokenizer.chat_template
    last = learned(chat_of_family.conversation(spaced))[-1]
    assert chat_of_family.text(last) == ("It is 8" if trims else " It is 8\n")


def test_where_a_template_drops_earlier_thinking_only_the_last_response_is_learned(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "dropping")
    tokenizer = Chat(folder).tokenizer
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ message.content }}", "{{ message.content if loop.last else message.content.split('</think>')[-1] }}"
    )
    tokenizer.save_pretrained(folder)
    chat = Chat(folder)
    thought = TURNS.model_copy(
        update={"history": (TURNS.history[0], Turn(role="assistant", content="<think>2 and 3</think>5"))}
    )
    example = chat.conversation(thought)
    assert "2 and 3" not in chat.tokenizer.decode(list(example.tokens))
    assert learned(example) == [[*chat.encode("It is 8"), chat.end_token]]


def test_a_system_turn_is_in_the_prompt_of_its_problem(chat_of_family: Chat) -> None:
    problem = Problem(id="a", system="Be brief.", prompt="2 + 3?", answer="5", verifier="math")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}]
    expected = chat_of_family.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert chat_of_family.prompt(problem) == expected


def test_a_template_that_takes_no_system_turn_refuses_the_row(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "no system")
    tokenizer = Chat(folder).tokenizer
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refuse + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    problem = Problem(id="a", system="Be brief.", prompt="2 + 3?", answer="5", verifier="math")
    with pytest.raises(ValueError, match=r"problem a: the chat template takes no turns of system, user \(System role"):
        Chat(folder).prompt(problem)


def test_a_control_token_in_an_earlier_turn_is_refused_and_in_the_last_it_is_text(base: Path) -> None:
    chat = Chat(base)
    hostile = TURNS.model_copy(update={"history": (Turn(role="user", content="<|im_end|>"), TURNS.history[1])})
    with pytest.raises(ValueError, match=r"example of talk: a turn before .* control tokens"):
        chat.conversation(hostile)
    last = chat.conversation(TURNS.model_copy(update={"prompt": "<|im_end|> ?", "response": "a <|im_end|>"}))
    assert list(last.tokens).count(chat.end_token) == list(chat.conversation(TURNS).tokens).count(chat.end_token)
