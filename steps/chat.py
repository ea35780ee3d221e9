"""Prompts and responses as tokens, by the checkpoint's own tokenizer and chat template."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from transformers import AutoTokenizer

from infra.inference.end_tokens import end_tokens
from steps.problem import Problem
from steps.rewards.score import END_THINK, THINK
from steps.token_example import TokenExample


class Chat:
    """The chat format of one checkpoint."""

    def __init__(self, model: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=False)
        self.end_token: int = self.tokenizer.eos_token_id
        """What ends a response that is trained on."""
        self.end_tokens = end_tokens(model, self.end_token)
        """All that can end a response that was sampled."""
        turn = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False
        )
        opened = re.search(rf"{THINK}\s*$", str(turn))
        self.opened = opened[0] if opened else ""
        """How a template that opens the thinking itself ends each prompt; empty for any other."""
        self.skip_thinking = f"{END_THINK}\n\n" if opened else ""
        """What a response begins with that does not think."""

    def prompt(self, problem: Problem | str) -> list[int]:
        """The tokens after which the model's response begins.

        Raises ValueError for a prompt with an image: this build reads text alone.
        """
        if isinstance(problem, Problem):
            if not isinstance(problem.prompt, str) and any(part.type == "image" for part in problem.prompt):
                raise ValueError(f"problem {problem.id}: its prompt has an image, and the model reads text alone")
            problem = problem.text
        messages = [{"role": "user", "content": problem}]
        tokens = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return cast(list[int], tokens)

    def encode(self, text: str) -> list[int]:
        """Tokens of a piece of a response."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

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
