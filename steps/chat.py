"""Prompts and responses as tokens, by the checkpoint's own tokenizer and chat template."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from transformers import AutoTokenizer

from steps.packing import TokenExample
from steps.problem import Problem


class Chat:
    """The chat format of one checkpoint."""

    def __init__(self, model: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        self.end_token: int = self.tokenizer.eos_token_id

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

    def example(self, prompt: str, response: str) -> TokenExample:
        """A supervised example: the prompt, the response and the end token."""
        before = self.prompt(prompt)
        return TokenExample([*before, *self.encode(response), self.end_token], len(before))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a response, without the end token."""
        if tokens and tokens[-1] == self.end_token:
            tokens = tokens[:-1]
        return str(self.tokenizer.decode(list(tokens)))
