"""The nano tokenizer: nothing is lost, and what is trained is what ships."""

from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from steps.configs.data import NanoWorldConfig
from steps.nano_world.pretrain import VOCABULARY
from steps.nano_world.tokenizer import SPECIAL
from steps.nano_world.world import generate, tasks

SMALL = NanoWorldConfig(train_problems=60, test_problems=20, sft_examples=60, long_cot_paths=60)


@given(text=st.text())
def test_any_text_is_read_and_given_back(nano_tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert nano_tokenizer.decode(nano_tokenizer(text)["input_ids"]) == text


def test_nano_text_is_given_back_and_short(nano_tokenizer: PreTrainedTokenizerFast) -> None:
    world = generate(SMALL, 5)
    for text in [example.response for example in world.sft + world.long_cot] + [p.text for p in world.train]:
        tokens = nano_tokenizer(text)["input_ids"]
        assert nano_tokenizer.decode(tokens) == text
        assert len(tokens) < len(text)


def test_numbers_to_199_and_special_tokens_are_one_token_each(nano_tokenizer: PreTrainedTokenizerFast) -> None:
    for text in [*map(str, range(200)), *SPECIAL]:
        assert len(nano_tokenizer(text)["input_ids"]) == 1, text
    assert len(nano_tokenizer) <= VOCABULARY and nano_tokenizer.eos_token == "<|im_end|>"


def test_training_the_tokenizer_again_gives_the_one_that_ships(
    nano_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    import steps.nano_world

    shipped = AutoTokenizer.from_pretrained(Path(steps.nano_world.__file__).parent / "checkpoint")
    nano_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    messages = [
        {"role": "user", "content": "Start with 12."},
        {"role": "assistant", "content": "<think>\n12\n</think>"},
    ]
    fresh = tasks(Random(2), set())
    for text in [
        loaded.apply_chat_template(messages, tokenize=False),
        *(next(fresh).long(Random(1)) for _ in range(50)),
    ]:
        ids = nano_tokenizer(text)["input_ids"]
        assert ids == loaded(text)["input_ids"] == shipped(text)["input_ids"]
        assert loaded.decode(ids) == text
