"""The nano base that sees: of text it says exactly what the text base says, and it is small."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from infra.vision.processor import ImageReader
from steps.nano_world.drawn_text import draw_text
from steps.nano_world.pictures import SCENES
from steps.nano_world.pretrain_vision import Words, evaluate, patches
from steps.nano_world.vision_base import IMAGE, TEXT_BASE, vision_model, vision_tokenizer, write_base
from steps.nano_world.world import DOMAINS, make_task

TEXTS = ["Start with 37. Add 5. What is the result?\n37 + 5 =", "7 mod 3 = 1, yes.", "def f(x): # ünlikely"]


SHIPPED = TEXT_BASE.with_name("vision_checkpoint")


@pytest.fixture(scope="module", params=["shipped", "untrained"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "shipped":
        return SHIPPED
    folder = tmp_path_factory.mktemp("vision base")
    tokenizer = vision_tokenizer()
    write_base(folder, vision_model(tokenizer), tokenizer)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_an_image_it_is_the_text_base_to_the_bit(base: Path, dtype: torch.dtype) -> None:
    text = AutoModelForCausalLM.from_pretrained(TEXT_BASE, dtype=dtype)
    sees = AutoModelForImageTextToText.from_pretrained(base, dtype=dtype)
    old, new = AutoTokenizer.from_pretrained(TEXT_BASE), AutoTokenizer.from_pretrained(base)
    for words in TEXTS:
        tokens = torch.tensor([new(words)["input_ids"]])
        assert tokens.tolist() == [old(words)["input_ids"]]
        logits: Tensor = sees(input_ids=tokens).logits
        assert torch.equal(text(input_ids=tokens).logits, logits[..., : text.config.vocab_size])
        rest = logits.log_softmax(-1)[..., text.config.vocab_size :]
        assert (rest < -5).all(), "rows that the text base lacks are not sampled"


def test_its_turns_are_those_of_the_text_base_and_have_one_token_for_an_image(base: Path) -> None:
    old, new = AutoTokenizer.from_pretrained(TEXT_BASE), AutoTokenizer.from_pretrained(base)
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    written = [one.apply_chat_template(turns, tokenize=False) for one in (old, new)]
    assert written[0] == written[1]
    parts: Any = [{"type": "image"}, {"type": "text", "text": "How many?"}]
    assert str(new.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)).count(IMAGE) == 1


def test_the_shipped_one_reads_texts_that_it_was_not_trained_on() -> None:
    model = AutoModelForImageTextToText.from_pretrained(SHIPPED, dtype=torch.float32)
    table = model.get_parameter("model.language_model.embed_tokens.weight").detach()
    words = Words(AutoTokenizer.from_pretrained(SHIPPED), table)
    rng = Random(9)
    texts = [draw_text(make_task(rng, rng.choice(DOMAINS), True).problem.text) for _ in range(8)]
    assert evaluate(model.model.visual, words, texts) > 0.9


def test_the_tower_was_trained_on_what_the_processor_makes_of_a_picture() -> None:
    reader = ImageReader(SHIPPED)
    pictures = [make(Random(place), 3).picture for place, make in enumerate(SCENES.values())]
    for picture in [*pictures, draw_text(make_task(Random(9), DOMAINS[0], True).problem.text)]:
        pixels, grid = patches(picture)
        read = reader.process(picture.image, "a picture").pixels
        torch.testing.assert_close(read["pixel_values"], pixels, atol=1e-6, rtol=0)
        assert read["image_grid_thw"].tolist() == [list(grid)]


def test_it_is_small(base: Path) -> None:
    assert (base / "model.safetensors").stat().st_size <= 4_000_000
