"""The nano base's tokenizer, trained from scratch."""

import pytest
from transformers import PreTrainedTokenizerFast

from steps.nano_world.pretrain import VOCABULARY, tokenizer_texts
from steps.nano_world.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def nano_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(tokenizer_texts(), VOCABULARY)
