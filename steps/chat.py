"""Prompts and responses as tokens, by the checkpoint's own tokenizer and chat template.

Control tokens come from the template alone: where the text of a problem or of a response holds one, it is text
(steps/control_tokens.py).
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import cast

import jinja2
from transformers import AutoTokenizer

from infra.inference.end_tokens import end_tokens
from steps.control_tokens import ControlTokens
from steps.problem import Example, Problem, Prompt, images_of, text_of
from steps.rewards.score import END_THINK, THINK
from steps.token_example import TokenExample

Message = dict[str, str]
"""A turn as templates take it: role and content."""

_QUESTION = "\ufdd2"
"""Stands for a question, to see what the template writes around it."""


class Chat:
    """The chat format of one checkpoint."""

    def __init__(self, model: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=False)
        self.end_tokens = end_tokens(model, self.tokenizer.eos_token_id)
        """All that can end a response that was sampled."""
        self._rows = embedding_rows(model)
        self._own_tokens: dict[tuple[str, ...], list[int]] = {}
        self._before, _, self._after = self._rendered([_user(_QUESTION)]).partition(_QUESTION)
        opened = re.search(rf"{THINK}\s*$", self._after)
        self.opened = opened[0] if opened else ""
        """How a template that opens the thinking itself ends each prompt; empty for any other."""
        self.skip_thinking = f"{END_THINK}\n\n" if opened else ""
        """What a response begins with that does not think."""
        around = f"{self._before}{self._after}"
        self.control = ControlTokens(self.tokenizer, self.end_tokens, around, (THINK, END_THINK))

    def prompt(self, problem: Problem | str) -> list[int]:
        """The tokens after which the model's response begins.

        Raises ValueError for a prompt with an image (this build reads text alone), for one with a control token that
        cannot be distinguished from the template's, and for one with a token that the model has no embedding for.
        """
        name = "a prompt"
        system = ""
        if isinstance(problem, Problem):
            system = problem.system
            name = f"problem {problem.id}"
            problem = _text(problem.prompt, name)
        return self._prompt([*_system(system), _user(problem)], name)

    def _prompt(self, messages: Sequence[Message], name: str) -> list[int]:
        """The tokens of a conversation that ends with a question, with the start of a response."""
        rendered = self._rendered(messages, name)
        tokens = self._tokens(rendered)
        *earlier, last = messages
        if self.control.of(tokens) == self._template_tokens(messages):
            return self._embedded(tokens, last["content"], f"{name}: ")
        problem = last["content"]
        before, _, after = self._rendered([*earlier, _user(_QUESTION)]).partition(_QUESTION)
        if any(text in message["content"] for text in self.control.texts.values() for message in earlier):
            raise ValueError(f"{name}: a turn before it has control tokens of the checkpoint: remove them from the row")
        if len(rendered) < len(before + after) or not (rendered.startswith(before) and rendered.endswith(after)):
            present = " and ".join(text for text in self.control.texts.values() if text in problem)
            raise ValueError(
                f"{name}: its text has control tokens of the checkpoint ({present}), and the chat template repeats or "
                "changes the text around them: remove them from the row"
            )
        question = rendered[len(before) : len(rendered) - len(after)]
        try:
            tokens = self.control.encode([(before, True), (question, False), (after, True)])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return self._embedded(tokens, problem, f"{name}: ")

    def _template_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The template's own control tokens around turns of these roles."""
        roles = tuple(message["role"] for message in messages)
        if roles not in self._own_tokens:
            plain = [{"role": role, "content": "?"} for role in roles]
            self._own_tokens[roles] = self.control.of(self._tokens(self._rendered(plain)))
        return self._own_tokens[roles]

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
        the prompt as it writes them, and only the last one is learned. Raises ValueError as `prompt` does.
        """
        messages = _system(example.system)
        tokens: list[int] = []
        learned: list[tuple[int, int]] = []
        for prompt, whole in example.exchanges:
            response = whole.strip() if self._trims else whole
            name = f"example of {example.problem_id}"
            messages = [*messages, _user(_text(prompt, name))]
            before = self._prompt(messages, name)
            if before[: len(tokens)] != tokens:
                learned = []
            elif learned and before[len(tokens)] == self.end_token:
                learned[-1] = (learned[-1][0], len(tokens) + 1)
            tokens = [*before, *self.encode_response(response)]
            learned.append((len(before), len(tokens)))
            messages = [*messages, {"role": "assistant", "content": response}]
        return TokenExample([*tokens, self.end_token], learned[0][0], tuple(_gaps(learned)))

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


def _text(prompt: Prompt, name: str) -> str:
    if images_of(prompt):
        raise ValueError(f"{name}: its prompt has an image, and the model reads text alone")
    return text_of(prompt)


def _user(question: str) -> Message:
    return {"role": "user", "content": question}


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
