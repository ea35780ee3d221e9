"""Prompts that contain a text, and all answers to one prompt: of the samples of stages, and of evaluations."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func, select

from infra.images import stored_address
from infra.lineage.index import LineageIndex
from infra.lineage.prompt_digest import prompt_digest, prompt_digests
from infra.lineage.prompts import PromptUse
from infra.lineage.row_values import execution_id, plain
from infra.lineage.sample_row import KIND
from infra.lineage.samples import SamplesError, closed_connection, rows_of_prompt, samples_within
from infra.lineage.tables import items, reading
from infra.store.evaluation import EvaluatedResponse
from infra.store.store import Ref, Store, StoreError

MAX_ARTIFACTS = 12
"""Newest artifacts of samples that a text is searched in."""

SEARCH_SECONDS = 4.0
"""After so long no further artifact is searched."""

MAX_PROMPTS = 50
MAX_ANSWERS = 20
"""Of one artifact to one prompt."""

_SEARCH = f"""
    SELECT prompt_digest, arg_min(problem_id, number), arg_min(prompt, number), count(*), avg(reward)
    FROM samples WHERE contains(lower(concat_ws(chr(10), problem_id, prompt)), lower(?)) OR list_contains(images, ?)
    GROUP BY prompt_digest ORDER BY 2, 1 LIMIT {MAX_PROMPTS}
"""

_ANSWER_COLUMNS = (
    *("number", "iteration", "response", "reward", "tokens", "stop", "reward_reason"),
    *("prompt", "source", "images"),
)


@dataclass(frozen=True)
class PromptMatch:
    """A prompt that contains a text."""

    digest: str
    problem_id: str
    prompt: str
    responses: int
    """In the artifacts that were searched."""
    mean_reward: float | None
    """In the newest of them."""
    stages: tuple[str, ...]
    """Of the artifacts, each as `stage of run`."""


@dataclass(frozen=True)
class PromptMatches:
    """The prompts that contain a text."""

    matches: Sequence[PromptMatch]
    searched: int
    """Artifacts of samples that were searched, newest first."""
    of: int
    """Artifacts of samples that there are."""
    problems: Sequence[str]
    """Why others could not be read."""


def search_prompts(index: LineageIndex, store: Store, text: str) -> PromptMatches:
    """Prompts with a text in them or in their problem's id (case does not count), or with an image of this digest, in
    the newest samples."""
    began = time.monotonic()
    with reading(index.engine) as database:
        where = (items.c.kind == KIND, ~items.c.source)
        count = database.execute(select(func.count()).select_from(items).where(*where)).scalar_one()
        newest = select(items).where(*where).order_by(items.c.started.desc().nulls_last(), items.c.node.desc())
        rows = database.execute(newest.limit(MAX_ARTIFACTS)).all()
    matches: dict[str, PromptMatch] = {}
    problems: list[str] = []
    searched = 0
    with closed_connection() as connection:
        for row in rows:
            if searched and time.monotonic() - began > SEARCH_SECONDS:
                break
            searched += 1
            ref = Ref(kind=KIND, digest=row.digest, address=row.address, files=row.files, size=row.size)
            try:
                with samples_within(connection, store, ref):
                    hits = connection.execute(_SEARCH, [text, text]).fetchall()
            except (StoreError, SamplesError) as error:
                problems.append(plain(str(error)))
                continue
            stage = f"{row.stage} of {row.run}"
            for digest, problem_id, prompt, responses, reward in hits:
                match = matches.get(digest) or PromptMatch(digest, problem_id, prompt, 0, reward, ())
                matches[digest] = replace(match, responses=match.responses + responses, stages=(*match.stages, stage))
    return PromptMatches(list(matches.values())[:MAX_PROMPTS], searched, count, problems)


@dataclass(frozen=True)
class Answer:
    """A response to a prompt. Texts are of models: hostile to a page."""

    response: str
    reward: float | None
    tokens: int | None
    note: str
    """Iteration, how it stopped and the verifier's reason, as far as they are known."""


@dataclass(frozen=True)
class AnswerSet:
    """The answers that one execution left to a prompt."""

    key: str
    """Names it within a page: the execution's node, or the samples' digest."""
    stage: str
    run: str
    node: str
    """The execution's node."""
    samples: str | None
    """Digest of the samples that hold the answers; None for an evaluation, which holds some of its own."""
    answers: Sequence[Answer]
    total: int
    prompt: str
    source: str | None
    """Where the problem comes from, as the samples name it."""
    images: Sequence[str] = ()
    """Digests of the prompt's images."""

    @property
    def mean_reward(self) -> float | None:
        """Of the answers that are listed."""
        rewards = [answer.reward for answer in self.answers if answer.reward is not None]
        return sum(rewards) / len(rewards) if rewards else None


def answers_in_samples(store: Store, uses: Sequence[PromptUse], digest: str) -> Iterator[AnswerSet]:
    """The answers in the samples that contain a prompt, newest artifact first. Samples that cannot be read are left
    out."""
    for use in list(reversed(uses))[:MAX_ARTIFACTS]:
        makers = [node for node in use.executions if node.facts.get("run")]
        if not makers:
            continue
        maker = makers[-1]
        try:
            ref = Ref(kind=KIND, digest=use.samples, address="", files=1, size=0)
            rows = rows_of_prompt(store, ref, digest, _ANSWER_COLUMNS)
        except (StoreError, SamplesError):
            continue
        rows.sort(key=lambda row: (row["iteration"] is None, -(row["iteration"] or 0), row["number"]))
        answers = [
            Answer(
                row["response"],
                row["reward"],
                row["tokens"],
                _note(row["iteration"], row["stop"], row["reward_reason"]),
            )
            for row in rows[:MAX_ANSWERS]
        ]
        if rows:
            first = rows[0]
            yield AnswerSet(
                use.samples,
                str(maker.facts.get("stage")),
                str(maker.facts["run"]),
                maker.id,
                use.samples,
                answers,
                len(rows),
                first["prompt"],
                first["source"],
                first["images"] or (),
            )


def _note(iteration: int | None, stop: str | None, reason: str | None) -> str:
    words = (None if iteration is None else f"iteration {iteration}", f"stopped by {stop}" if stop else None, reason)
    return ", ".join(word for word in words if word)


def answers_in_evaluations(index: LineageIndex, digest: str, limit: int) -> Iterator[AnswerSet]:
    """The answers that the newest evaluations have kept to be read, if any is to a prompt of this digest."""
    for record in index.newest_evaluations(limit):
        if record.evaluation is None:
            continue
        examples = [each for each in record.evaluation.examples if digest in _digests(each)]
        if examples:
            answers = [Answer(each.response, each.reward, each.tokens, each.reason) for each in examples]
            node = execution_id(record.run, record.stage)
            first = examples[0]
            stage, run = record.stage, record.run
            yield AnswerSet(node, stage, run, node, None, answers, len(answers), first.prompt, None, first.images)


def _digests(example: EvaluatedResponse) -> tuple[str, ...]:
    if not example.images:
        return prompt_digests(example.prompt)
    return (prompt_digest(example.prompt, [stored_address(each) for each in example.images]),)
