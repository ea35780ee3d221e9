"""The nano base's tokenizer: bytes, and numbers up to 199 and phrases of the nano world as added tokens.

Nano text repeats its phrases, so tokens that reach across words make prompts and reasoning several times shorter;
bytes remain, so that any text can be encoded. The phrases are what byte-pair encoding finds. They stand as added
tokens because `AutoTokenizer` gives every Qwen2 checkpoint Qwen2's own splitting into words, which a merge across
words would not survive.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
SPECIAL = [END_OF_TEXT, "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PIECES = Regex(r"\d|[^\d\n]*\n|[^\d\n]+")


def _frequent_phrases(texts: Iterable[str], count: int) -> list[str]:
    """Phrases within a line and without digits, by byte-pair encoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=count + 256, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = (tokenizer.decode([token]) for token in range(256, tokenizer.get_vocab_size()))
    return [phrase for phrase in learned if not any(special in phrase for special in SPECIAL)]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train on `texts`; the result has at most `vocabulary` tokens: special ones, bytes, numbers, phrases."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    numbers = [str(number) for number in range(10, 200)]
    phrases = _frequent_phrases(texts, vocabulary - len(ids) - len(numbers))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in [*numbers, *phrases]])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
