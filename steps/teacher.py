"""Who writes long reasoning paths: a model in an engine here, or one on an OpenAI-compatible server.

A teacher hands over each answer as soon as it is there, so that no finished one is lost with the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from infra.inference.chat_answer import ChatAnswer, ChatRequest
from infra.inference.chat_endpoint import ChatEndpoint
from steps.behaviours import Behaviour
from steps.configs.long_cot_paths import LongCotPathsConfig
from steps.problem import Problem
from steps.rewards.score import END_THINK, THINK
from steps.sampling_bench import SamplingBench


@dataclass(frozen=True)
class Query:
    """A problem as it is put to the teacher."""

    problem: Problem
    behaviour: Behaviour
    """What the instruction brings out."""
    prompt: str
    """The problem's text, with the instruction."""
    seed: int


class TeacherAnswer(BaseModel):
    """What a teacher answered."""

    model_config = ConfigDict(frozen=True)

    response: str = ""
    ended: Literal["stop", "length", "failed"]
    reason: str = ""
    """Why there is none, where it failed."""
    prompt_tokens: int = 0
    """By the teacher's own count."""
    completion_tokens: int = 0
    lost: tuple[int, int] = (0, 0)
    """Tokens of attempts that may have been billed and gave nothing."""
    passing: bool = False
    """Whether it failed for what may be over another time: it is then asked again."""


Answered = Callable[[Query, TeacherAnswer], None]


class Teacher(Protocol):
    """Writes answers."""

    @property
    def name(self) -> str:
        """For the records."""

    def answer(self, queries: Sequence[Query], answered: Answered) -> None:
        """Call `answered` for each query as soon as it has its answer."""


class EngineTeacher:
    """The model of a bench."""

    def __init__(self, bench: SamplingBench, name: str, config: LongCotPathsConfig) -> None:
        self.name = name
        self._bench = bench
        self._config = config

    def answer(self, queries: Sequence[Query], answered: Answered) -> None:
        """Sample all at once. Raises PromptTooLong."""
        bench, config = self._bench, self._config
        prompts = bench.prompts([one.problem.model_copy(update={"prompt": one.prompt}) for one in queries])
        requests = [
            bench.request(prompt, config.max_response_tokens, query.seed, config.temperature)
            for prompt, query in zip(prompts, queries, strict=True)
        ]
        for completion in bench.engine.generate(requests) if requests else ():
            answer = TeacherAnswer(
                response=bench.chat.text(completion.tokens),
                ended="stop" if completion.ended == "stop" else "length",
                prompt_tokens=len(prompts[completion.index]),
                completion_tokens=len(completion.tokens),
            )
            answered(queries[completion.index], answer)


class EndpointTeacher:
    """A model on a server."""

    def __init__(self, endpoint: ChatEndpoint, config: LongCotPathsConfig, usable: int = 0) -> None:
        """`usable`: answers that the server gave before."""
        self._endpoint = endpoint
        self._config = config
        self._usable = usable

    @property
    def name(self) -> str:
        """The model and its server."""
        return f"{self._endpoint.config.model} at {self._endpoint.config.url}"

    def answer(self, queries: Sequence[Query], answered: Answered) -> None:
        """Ask for all. Raises EndpointFailed."""
        config = self._config
        requests = [
            ChatRequest(
                query.prompt,
                config.max_response_tokens,
                config.temperature,
                query.seed,
                query.problem.system,
            )
            for query in queries
        ]
        if requests:
            self._endpoint.ask(
                requests, lambda place, answer: answered(queries[place], _from_chat(answer)), self._usable
            )


def _from_chat(answer: ChatAnswer) -> TeacherAnswer:
    """The answer as a response: reasoning that the server gives apart goes before it, as models write it themselves."""
    return TeacherAnswer(
        response=f"{THINK}{answer.thinking}{END_THINK}\n\n{answer.text}" if answer.thinking else answer.text,
        ended=answer.ended,
        reason=answer.reason,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        lost=answer.lost,
        passing=answer.passing,
    )
