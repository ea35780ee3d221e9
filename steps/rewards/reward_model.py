"""What both reward models share (§2.3.5): what they read, what they remember, what they answer.

The report's models read the question, the reference answer and the response. Of the response these read the
final answer alone, in one line and without tokens of the chat format: a policy that learns from them cannot argue
with its judge.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from steps.chat import Chat
from steps.problem import Problem
from steps.rewards.score import NoVerdict, Verdict, boxed_answer

REMEMBERED = 100_000
"""Verdicts kept: the responses to one problem often end in the same answer."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Reader:
    """Lays out what a reward model reads."""

    chat: Chat
    max_answer_tokens: int
    max_prompt_tokens: int
    """What the model's context has room for."""

    def prompt(self, problem: Problem, answer: str) -> Tokens:
        """Question, reference answer and final answer, up to where the model's own turn begins."""
        question = f"{problem.text}\nReference: {problem.answer}\nAnswer: {answer}"
        return tuple(self.chat.prompt(question))

    def read(self, problem: Problem, response: str) -> Tokens | Verdict | NoVerdict:
        """The prompt for a response's final answer; wrong, without asking the model, where that cannot be read.

        No verdict where question and reference answer are too long for the model: the response is not at fault.
        """
        answer = boxed_answer(response)
        if answer is None:
            return Verdict(False, "no answer")
        if not answer:
            return Verdict(False, "empty answer")
        if not answer.isprintable() or any(token in answer for token in self._chat_tokens):
            return Verdict(False, "unreadable answer")
        if len(self.chat.encode(answer)) > self.max_answer_tokens:
            return Verdict(False, "answer too long")
        prompt = self.prompt(problem, answer)
        if len(prompt) > self.max_prompt_tokens:
            return NoVerdict(f"problem {problem.id}: {len(prompt)} tokens to read, room for {self.max_prompt_tokens}")
        return prompt

    @property
    def _chat_tokens(self) -> list[str]:
        added = self.chat.tokenizer.added_tokens_decoder.values()
        return [token.content for token in added if token.special]


class RewardModel(ABC):
    """Judges responses in batches. Used by one thread at a time; the same answer gets the same verdict."""

    def __init__(self, reader: Reader, version: str) -> None:
        self.version = version
        """Name, version and the beginning of the model's digest: `cot_rm@1:1f2e3d4c5b6a`."""
        self._reader = reader
        self._seen: OrderedDict[Tokens, Verdict | NoVerdict] = OrderedDict()

    def judge(self, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict | NoVerdict]:
        """Verdicts on responses, in the order of the pairs; NoVerdict stands where the model came to none."""
        read = [self._reader.read(problem, response) for problem, response in pairs]
        prompts = dict.fromkeys(one for one in read if isinstance(one, tuple))
        new = [prompt for prompt in prompts if prompt not in self._seen]
        self._seen |= zip(new, self.decide(new) if new else [], strict=True)
        for prompt in prompts:
            self._seen.move_to_end(prompt)
        verdicts = [self._seen[one] if isinstance(one, tuple) else one for one in read]
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return verdicts

    @abstractmethod
    def decide(self, prompts: Sequence[Tokens]) -> list[Verdict | NoVerdict]:
        """What the model says of each prompt that the reader laid out."""

    @abstractmethod
    def close(self) -> None:
        """End the model's engine."""
