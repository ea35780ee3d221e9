"""The tokens that end a response, by all that a checkpoint says of them.

Public checkpoints often disagree with themselves: config.json names `<|endoftext|>`, and the chat template ends turns
with `<|im_end|>`. A token that ends generation by one file and is an ordinary token by another one would be booked as
repetition, or be left in the response's text.
"""

import json
from pathlib import Path
from typing import Any

FILES = ("config.json", "generation_config.json")


def end_tokens(folder: Path, tokenizer_eos: int | None) -> frozenset[int]:
    """Ids of the tokens that end a response: the tokenizer's, and `eos_token_id` of config.json and
    generation_config.json.

    The files are read as they are: transformers would fill in an architecture's default, which is an ordinary token in
    other vocabularies.

    Raises ValueError naming the file where a value is not a token's id, and where no file has one.
    """
    tokens = set() if tokenizer_eos is None else {tokenizer_eos}
    for name in FILES:
        if (folder / name).is_file():
            content: dict[str, Any] = json.loads((folder / name).read_bytes())
            for part in (content, content.get("text_config") or {}):
                tokens |= _ids(name, part.get("eos_token_id"))
    if not tokens:
        raise ValueError(
            f"{folder}: neither the tokenizer nor {' or '.join(FILES)} has an end token, so responses would never end: "
            "set eos_token_id in config.json"
        )
    return frozenset(tokens)


def _ids(name: str, value: Any) -> set[int]:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token in ids:
        if type(token) is not int or token < 0:
            raise ValueError(f"{name}: eos_token_id is {value!r}, expected a token's id or a list of ids; correct it")
    return set(ids)
