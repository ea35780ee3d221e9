"""Control tokens: what ends turns and responses, and marks who speaks. In the text of data they are text.

A question with `<|im_end|>` in it would otherwise close its own turn, and a response would be trained to end in its
middle. Such text is tokenised by a copy of the tokenizer in which control tokens have other names: there `<|im_end|>`
consists of characters, as `<|im_emd|>` does, and only the places where a control token is meant hold its name.
"""

import json
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Around the names in the copy: code points that no text has, and that no normalisation changes."""

_MARKUP = re.compile(r"[<\[].*[>\]]|.*\|.*")
"""How control tokens are written that a tokenizer does not call special. A number can be an added token, too."""


class ControlTokens:
    """The control tokens of one tokenizer.

    They are the tokens that it calls special, those that end a response, and those of the template, but not the one
    that stands for unknown characters: ordinary text can have that.

    Args:
        tokenizer: a tokenizer of transformers.
        ends: ids that end a response.
        template: what the chat template writes around a question.
        thinking: what marks the thinking in a response.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int], template: str, thinking: Collection[str]) -> None:
        self._tokenizer = tokenizer
        used = set(tokenizer(template, add_special_tokens=False)["input_ids"])
        unknown = set(tokenizer(f"{_OPEN} {_CLOSE}", add_special_tokens=False)["input_ids"]) - set(ends)
        self.texts: dict[int, str] = {}
        """Control tokens' texts by id."""
        for token_id, token in tokenizer.added_tokens_decoder.items():
            text = str(token)
            if token_id in unknown:
                continue
            if token.special or token_id in ends or text in thinking or (token_id in used and _MARKUP.fullmatch(text)):
                self.texts[token_id] = text
        self._thinking = {token_id for token_id, text in self.texts.items() if text in thinking}

    def of(self, tokens: Sequence[int]) -> list[int]:
        """Those among tokens that are control tokens."""
        return [token for token in tokens if token in self.texts]

    def encode_response(self, text: str) -> list[int]:
        """Tokens of a response's text, of whose control tokens only those that mark the thinking are meant.

        Raises ValueError as `encode` does.
        """
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._thinking.issuperset(self.of(tokens)):
            return tokens
        marks = "|".join(re.escape(self.texts[token]) for token in self._thinking)
        parts = re.split(f"({marks})", text) if marks else [text]
        return self.encode([(part, place % 2 == 1) for place, part in enumerate(parts)])

    def encode(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Tokens of a text in parts; control tokens are meant in the parts with True, and text in the others.

        Raises ValueError naming a control token that cannot be tokenised as text.
        """
        written = "".join(part for part, _ in parts)
        if self._copy is None or _OPEN in written:
            texts = [text for text in self.texts.values() if any(text in part for part, meant in parts if not meant)]
            raise ValueError(
                f"the text has the control token {(texts or [_OPEN])[0]!r}, which this tokenizer cannot read as text: "
                "remove it from the row"
            )
        meant = [match for part, own in parts if own for match in self._pattern.findall(part)]
        tokens: list[int] = self._copy.encode(
            "".join(
                self._pattern.sub(lambda match: self._names[match[0]], part) if own else part for part, own in parts
            ),
            add_special_tokens=False,
        ).ids
        if [self.texts[token] for token in self.of(tokens)] != meant:
            raise ValueError(f"a control token, one of {', '.join(self.texts.values())}, cannot be read as text here")
        return tokens

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self.texts.values(), key=len, reverse=True))) or "(?!)")

    @cached_property
    def _names(self) -> dict[str, str]:
        """The names of control tokens in the copy, by their texts."""
        return {text: f"{_OPEN}{token}{_CLOSE}" for token, text in self.texts.items()}

    @cached_property
    def _copy(self) -> Tokenizer | None:
        """The tokenizer with other names for control tokens; None for one that is not of the library tokenizers."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        content = json.loads(backend.to_str())
        for token in content["added_tokens"]:
            token["content"] = self._names.get(token["content"], token["content"])
        model = content["model"]
        vocabulary = model.get("vocab")
        # Ids are places in the vocabulary, so that a token that also stands there has to be renamed there, too.
        if isinstance(vocabulary, dict):
            model["vocab"] = {self._names.get(text, text): token for text, token in vocabulary.items()}
        elif isinstance(vocabulary, list):
            model["vocab"] = [[self._names.get(text, text), score] for text, score in vocabulary]
        if model.get("unk_token") in self._names:
            model["unk_token"] = self._names[model["unk_token"]]
        content["post_processor"] = None  # it adds tokens around a text, by names that are not there any more
        return Tokenizer.from_str(json.dumps(content))
