"""Judged responses of the long-CoT model: what shortest rejection sampling and DPO choose from (§2.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steps.configs.responses import ResponsesConfig
from steps.problem import Problem
from steps.rewards.score import Score
from steps.token_example import TokenExample
from steps.token_prompt import TokenPrompt
from steps.workbench import Workbench


@dataclass(frozen=True)
class JudgedResponse:
    """One finished response."""

    tokens: list[int]
    right: bool
    reason: str = ""
    """Why the verifier called it right or wrong."""
    verifier: str = ""
    """Name and version of the verifier."""


@dataclass(frozen=True)
class Responses:
    """The responses to one problem."""

    problem: Problem
    prompt: TokenPrompt
    judged: list[JudgedResponse]
    images: Sequence[Path] = ()
    """Of the prompt, where they lie."""

    @property
    def shortest_right(self) -> JudgedResponse | None:
        """The right response with the fewest tokens, if there is a right one."""
        return min((r for r in self.judged if r.right), key=lambda r: len(r.tokens), default=None)

    def example(self, response: JudgedResponse) -> TokenExample:
        """One of the responses, as it is trained on."""
        return TokenExample([*self.prompt.tokens, *response.tokens], len(self.prompt), images=self.images)


def sample_responses(bench: Workbench, problems: Sequence[Problem], config: ResponsesConfig) -> list[Responses]:
    """Responses of the model in the bench's engine; those that ran out of tokens or could not be judged
    are left out."""
    chosen = bench.random("long2short problems").sample(list(problems), min(config.problems, len(problems)))
    prompts = bench.prompts(chosen)
    rows = bench.sample(prompts, config.samples, config.max_response_tokens, config.temperature, name="responses")
    finished = [[completion.tokens for completion in row if completion.ended == "stop"] for row in rows]
    pairs = [
        (problem, bench.chat.text(tokens)) for problem, row in zip(chosen, finished, strict=True) for tokens in row
    ]
    scores = iter(bench.scorer.score_many(pairs))
    return [
        Responses(
            problem,
            prompt,
            [_judged(tokens, score) for tokens, score in zip(row, scores, strict=False) if score.judged],
            bench.image_paths(prompt),
        )
        for problem, prompt, row in zip(chosen, prompts, finished, strict=True)
    ]


def _judged(tokens: list[int], score: Score) -> JudgedResponse:
    return JudgedResponse(tokens, score.right, score.reason, score.verifier)
