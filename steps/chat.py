"""Prompts and responses as tokens, by the checkpoint's own tokenizer and chat template.

Control tokens come from the template alone: where the text of a problem or of a response holds one, it is text
(steps/control_tokens.py), and so is a `<image>` or `<|image_pad|>` that stands in it. An image is one token where the
template writes it, which is then expanded into those that the checkpoint's processor makes of it
(infra/vision/processor.py).
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import jinja2
from transformers import AutoTokenizer

from infra.images import stored_digest
from infra.inference.end_tokens import end_tokens
from infra.vision.architectures import folder_reads_images
from infra.vision.folders import ImageFolders
from infra.vision.processor import ImageReader
from steps.control_tokens import ControlTokens
from steps.problem import Example, Problem, Prompt, images_of, text_of
from steps.rewards.score import END_THINK, THINK
from steps.token_example import TokenExample
from steps.token_prompt import TokenPrompt

Message = dict[str, Any]
"""A turn as templates take it: role and content, which is text, or a list of parts where there are images."""

_QUESTION = "\ufdd2"
"""Stands for a question, to see what the template writes around it."""
_MARK = re.compile(f"{_QUESTION}(\\d+);")
"""Stands for one of several texts."""


class Chat:
    """The chat format of one checkpoint."""

    def __init__(self, model: Path, images: ImageFolders | None = None) -> None:
        """`images` is where the images of prompts lie."""
        self.images = images or ImageFolders()
        self._model = model
        self.tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=False)
        self.end_tokens = end_tokens(model, self.tokenizer.eos_token_id)
        """All that can end a response that was sampled."""
        self._rows = embedding_rows(model)
        self._own_tokens: dict[tuple[Any, ...], list[int]] = {}
        self._before, _, self._after = self._rendered([_user(_QUESTION)]).partition(_QUESTION)
        opened = re.search(rf"{THINK}\s*$", self._after)
        self.opened = opened[0] if opened else ""
        """How a template that opens the thinking itself ends each prompt; empty for any other."""
        self.skip_thinking = f"{END_THINK}\n\n" if opened else ""
        """What a response begins with that does not think."""
        around = f"{self._before}{self._after}"
        self.control = ControlTokens(self.tokenizer, self.end_tokens, around, (THINK, END_THINK))

    @cached_property
    def reader(self) -> ImageReader | None:
        """What reads images for the model; None where it reads text alone."""
        return ImageReader(self._model) if folder_reads_images(self._model) else None

    def prompt(self, problem: Problem | str) -> list[int]:
        """The tokens after which the model's response begins, as the model reads them. Raises as `read` does."""
        return self.read(problem).tokens

    def read(self, problem: Problem | str) -> TokenPrompt:
        """The prompt after which the model's response begins.

        Raises ValueError for a prompt with an image where the model reads text alone, for one with a control token that
        cannot be distinguished from the template's, and for one with a token that the model has no embedding for;
        UnreadableImage and ImageNotRead for an image that is missing or cannot be read.
        """
        if isinstance(problem, str):
            return TokenPrompt(self._prompt([_user(problem)], "a prompt"))
        name = f"problem {problem.id}"
        messages = [*_system(problem.system), _user(self._content(problem.prompt, name))]
        tokens, digests = self._prompt(messages, name), _digests(images_of(problem.prompt), name)
        if not digests:
            return TokenPrompt(tokens)
        return TokenPrompt(self._expanded(tokens, digests, name)[0], digests, tokens)

    def paths(self, prompt: TokenPrompt) -> tuple[Path, ...]:
        """Where the images of a prompt lie, in order. Raises UnreadableImage for one that is missing."""
        return tuple(self.images.path(digest) for digest in prompt.images)

    def _content(self, prompt: Prompt, name: str) -> str | list[dict[str, str]]:
        """A prompt as templates take it."""
        if isinstance(prompt, str) or not images_of(prompt):
            return text_of(prompt)
        if self.reader is None:
            raise ValueError(f"{name}: its prompt has an image, and the model reads text alone")
        return [{"type": "text", "text": part.text} if part.text is not None else {"type": "image"} for part in prompt]

    def _expanded(self, tokens: Sequence[int], digests: Sequence[str], name: str) -> tuple[list[int], list[int]]:
        """Tokens with each image's own in place of its one token; and where each token, and the end, came to stand."""
        assert self.reader is not None
        places = [place for place, token in enumerate(tokens) if token == self.reader.token_id]
        if len(places) != len(digests):
            raise ValueError(
                f"{name}: it has {len(digests)} images, and the chat template writes {len(places)} image tokens: give "
                "a template that writes one for each (import_checkpoint.chat_template)"
            )
        images = dict(zip(places, digests, strict=True))
        expanded: list[int] = []
        moved = []
        for place, token in enumerate(tokens):
            moved.append(len(expanded))
            expanded += self.reader.tokens(self.images.path(images[place])) if place in images else (token,)
        return expanded, [*moved, len(expanded)]

    def _prompt(self, messages: Sequence[Message], name: str) -> list[int]:
        """The tokens of a conversation that ends with a question, with the start of a response. An image is one."""
        rendered = self._rendered(messages, name)
        tokens = self._tokens(rendered)
        texts = [text for message in messages for text in _texts(message)]
        if self.control.of(tokens) == self._template_tokens(messages):
            return self._embedded(tokens, " ".join(texts), f"{name}: ")
        if any(
            text in message for text in self.control.texts.values() for one in messages[:-1] for message in _texts(one)
        ):
            raise ValueError(f"{name}: a turn before it has control tokens of the checkpoint: remove them from the row")
        pieces = self._around(messages, rendered)
        if pieces is None:
            present = " and ".join(text for text in self.control.texts.values() if any(text in one for one in texts))
            raise ValueError(
                f"{name}: its text has control tokens of the checkpoint ({present}), and the chat template repeats or "
                "changes the text around them: remove them from the row"
            )
        try:
            tokens = self.control.encode(pieces)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return self._embedded(tokens, " ".join(texts), f"{name}: ")

    def _around(self, messages: Sequence[Message], rendered: str) -> list[tuple[str, bool]] | None:
        """What the template wrote of the messages, in pieces: its own are those with True, the others are texts of the
        last message. None where the texts do not stand in it once each, as they are or without white space around.

        A single text may have been changed by the template."""
        *earlier, last = messages
        marked = [f"{_QUESTION}{number};" for number in range(len(_texts(last)))]
        own = _MARK.split(self._rendered([*earlier, _with_texts(last, marked)]))
        if [int(number) for number in own[1::2]] != list(range(len(marked))):
            return None
        before, after = own[0], own[-1]
        if len(marked) == 1 and len(own) == 3:
            if len(rendered) < len(before + after) or not (rendered.startswith(before) and rendered.endswith(after)):
                return None
            return [(before, True), (rendered[len(before) : len(rendered) - len(after)], False), (after, True)]
        for texts in (_texts(last), [text.strip() for text in _texts(last)]):
            pieces = [(own[0], True)]
            for text, after in zip(texts, own[2::2], strict=True):
                pieces += [(text, False), (after, True)]
            if "".join(piece for piece, _ in pieces) == rendered:
                return pieces
        return None

    def _template_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The template's own control tokens around turns of these roles, with images in these places."""
        shape = tuple((message["role"], *_kinds(message)) for message in messages)
        if shape not in self._own_tokens:
            plain = [_with_texts(message, ["?"] * len(_texts(message))) for message in messages]
            self._own_tokens[shape] = self.control.of(self._tokens(self._rendered(plain)))
        return self._own_tokens[shape]

    def _rendered(self, messages: Sequence[Message], name: str = "a prompt", response: bool = True) -> str:
        """The template's text, with the start of a response at its end where it is to have that.

        Raises ValueError, with the name, where the template does not take such turns.
        """
        try:
            text = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=response, tokenize=False)
        except jinja2.TemplateError as error:
            roles = ", ".join(message["role"] for message in messages)
            raise ValueError(
                f"{name}: the chat template takes no turns of {roles} ({error}): leave such rows out"
            ) from error
        return str(text)

    def _tokens(self, rendered: str) -> list[int]:
        return cast(list[int], self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def encode(self, text: str) -> list[int]:
        """Tokens of a piece of a response. Raises ValueError for a control token that cannot be tokenised as text, and
        for a token that the model has no embedding for."""
        return self._embedded(self.control.encode_response(text), text)

    def _embedded(self, tokens: list[int], text: str, where: str = "") -> list[int]:
        if self._rows is not None and max(tokens, default=0) >= self._rows:
            token = max(tokens)
            raise ValueError(
                f"{where}the token {self.tokenizer.convert_ids_to_tokens(token)!r} stands in {_start(text)!r}, and its "
                f"id {token} is outside of the model's vocabulary of {self._rows}: remove it from the row"
            )
        return tokens

    def encode_response(self, response: str) -> list[int]:
        """Tokens of a whole response after its prompt, without the end token.

        Thinking that the prompt has opened is not opened again; a response that has none closes it.
        """
        if self.opened and response.startswith(THINK):
            return self.encode(response.removeprefix(self.opened).removeprefix(THINK))
        if self.opened and END_THINK not in response:
            return self.encode(self.skip_thinking + response)
        return self.encode(response)

    def example(self, prompt: str, response: str) -> TokenExample:
        """A supervised example: the prompt, the response and the end token."""
        before = self.prompt(prompt)
        return TokenExample([*before, *self.encode_response(response), self.end_token], len(before))

    def conversation(self, example: Example) -> TokenExample:
        """A supervised example with all its turns, of which the model's are learned, each with the end token.

        Where a template writes earlier responses otherwise than they were given (without their thinking), they stand in
        the prompt as it writes them, and only the last one is learned. Raises as `read` does.
        """
        name = f"example of {example.problem_id}"
        messages = _system(example.system)
        tokens: list[int] = []
        learned: list[tuple[int, int]] = []
        for prompt, whole in example.exchanges:
            response = whole.strip() if self._trims else whole
            messages = [*messages, _user(self._content(prompt, name))]
            before = self._prompt(messages, name)
            if before[: len(tokens)] != tokens:
                learned = []
            elif learned and before[len(tokens)] == self.end_token:
                learned[-1] = (learned[-1][0], len(tokens) + 1)
            tokens = [*before, *self.encode_response(response)]
            learned.append((len(before), len(tokens)))
            messages = [*messages, {"role": "assistant", "content": response}]
        digests = _digests(example.images, name)
        if digests:
            tokens, moved = self._expanded(tokens, digests, name)
            learned = [(moved[first], moved[last]) for first, last in learned]
        images = tuple(self.images.path(digest) for digest in digests)
        return TokenExample([*tokens, self.end_token], learned[0][0], tuple(_gaps(learned)), images)

    @cached_property
    def end_token(self) -> int:
        """What ends a response that is trained on: what the template writes after one, where generation ends with it;
        otherwise the tokenizer's own end token."""
        own: int = self.tokenizer.eos_token_id
        after = self._answered.partition(_QUESTION)[2]
        return next((token for token in self._tokens(after) if token in self.end_tokens), own)

    @cached_property
    def _trims(self) -> bool:
        """Whether the template takes away white space around a response."""
        return f" {_QUESTION}" not in self._answered and _QUESTION in self._answered

    @cached_property
    def _answered(self) -> str:
        """The template's text for a question with a response."""
        turns = [_user("?"), {"role": "assistant", "content": f" {_QUESTION} "}]
        return self._rendered(turns, response=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens as they are, without the end token, whichever it is."""
        if tokens and tokens[-1] in self.end_tokens:
            tokens = tokens[:-1]
        return str(self.tokenizer.decode(list(tokens)))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a response, without the end token.

        Where the prompt has opened the thinking, so does the text: a reader of the response alone must see that it was
        not closed.
        """
        return self.opened + self.decode(tokens)


def _user(question: str | list[dict[str, str]]) -> Message:
    return {"role": "user", "content": question}


def _kinds(message: Message) -> list[str]:
    """What a message's content consists of."""
    content = message["content"]
    return ["text"] if isinstance(content, str) else ["parts", *(part["type"] for part in content)]


def _texts(message: Message) -> list[str]:
    """The texts in a message's content."""
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _with_texts(message: Message, texts: Sequence[str]) -> Message:
    """The message with other texts in the same places."""
    if isinstance(message["content"], str):
        return {**message, "content": texts[0]}
    left = iter(texts)
    parts = [{**part, "text": next(left)} if part["type"] == "text" else part for part in message["content"]]
    return {**message, "content": parts}


def _digests(addresses: Sequence[str], name: str) -> tuple[str, ...]:
    """The digests of stored images. Raises ValueError for an image that the data stage has not stored."""
    digests = []
    for address in addresses:
        digest = stored_digest(address)
        if digest is None:
            raise ValueError(f"{name}: its image {address[:100]!r} is not a stored one: the data stage stores images")
        digests.append(digest)
    return tuple(digests)


def _system(text: str) -> list[Message]:
    return [{"role": "system", "content": text}] if text else []


def _gaps(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What lies between spans."""
    return [(end, start) for (_, end), (start, _) in pairwise(spans)]


def embedding_rows(model: Path) -> int | None:
    """Rows of the model's embedding, `vocab_size` in config.json; None where that does not say. A tokenizer can have
    more tokens than that: Gemma 3's has one for images, which its text models lack."""
    path = model / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_bytes())
    rows = (config.get("text_config") or config).get("vocab_size")
    return None if rows is None else int(rows)


def _start(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
