"""Long reasoning paths by prompting and rejection sampling (§2.2): what long-CoT SFT chooses from.

The report makes "a small yet high-quality" set of verified paths that show planning, evaluation, reflection and
exploration, by prompting. Here a teacher answers problems, each time with an instruction that brings out one of the
four; the verifiers judge; what is right, whole and short enough is a path. Which teacher, which instructions and how
the four are recognised (steps/behaviours.py) the report leaves open.

    longhaul run --only long_cot_paths --config RECIPE
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import BaseModel

from infra.files import write_text_atomically
from infra.progress.tasks import say, task
from steps.behaviours import NAMES, Behaviour, behaviours
from steps.chat import Chat
from steps.configs.long_cot_paths import LongCotPathsConfig
from steps.problem import Example, Problem
from steps.rewards.score import Score
from steps.rewards.scorer import Scorer
from steps.teacher import Query, Teacher, TeacherAnswer

DISTINCT, REPEATED, TOO_LONG, UNREADABLE = "right", "right, written before", "too long", "control tokens"
NO_VERDICT = "no verdict"
"""What becomes of a whole and right answer."""


class AnswerRow(BaseModel):
    """An answer as it is stored, with its prompt."""

    problem_id: str
    behaviour: Behaviour
    """What the instruction was to bring out."""
    prompt: str
    response: str
    outcome: str
    """`right`: it is a path. Otherwise why it is none."""
    behaviours: list[Behaviour] = []
    """What it shows."""
    reward_reason: str | None = None
    tokens: int | None = None
    """Of the response, by the tokenizer of the model that is trained; None where it cannot read it."""
    prompt_tokens: int = 0
    """By the teacher's own count."""
    completion_tokens: int = 0


@dataclass(frozen=True)
class PathsResult:
    """What came of the queries, in their order."""

    rows: list[AnswerRow]
    problems: list[Problem]
    """Of each row."""
    scores: list[Score | None]
    """Of each row; None for what was not judged."""
    paths: list[Example]

    def metrics(self) -> dict[str, object]:
        """Counts for the record: behaviours by how many paths show each."""
        right = [row for row in self.rows if row.outcome == DISTINCT]
        return {
            "answers": len(self.rows),
            "outcomes": dict(Counter(_kind(row.outcome) for row in self.rows).most_common()),
            "paths": len(self.paths),
            "problems_with_a_path": len({path.problem_id for path in self.paths}),
            "behaviours": {name: sum(name in row.behaviours for row in right) for name in NAMES},
            "instructions": {
                name: {
                    "answers": sum(row.behaviour == name for row in self.rows),
                    "paths": sum(row.behaviour == name for row in right),
                    "show_it": sum(row.behaviour == name and name in row.behaviours for row in right),
                }
                for name in NAMES
                if any(row.behaviour == name for row in self.rows)
            },
            "teacher_tokens": {
                "prompts": sum(row.prompt_tokens for row in self.rows),
                "answers": sum(row.completion_tokens for row in self.rows),
            },
        }


def _kind(outcome: str) -> str:
    """An outcome without what a server adds to it."""
    return outcome if outcome == REPEATED else outcome.partition(": ")[0]


def make_queries(problems: Sequence[Problem], config: LongCotPathsConfig, seed: int) -> list[Query]:
    """The queries: instructions in turn, so that each is used as often however few answers a problem gets.

    Problems with an image are left out. Raises ValueError where no other one is there.
    """
    text_alone = [problem for problem in problems if not problem.images]
    if not text_alone:
        raise ValueError(
            f"long_cot_paths: none of {len(problems)} problems can be put to a teacher, which is asked in text alone: "
            "add problems without images to data.sources.train"
        )
    rng = Random(f"{seed} long-CoT questions")
    chosen = rng.sample(text_alone, min(config.problems, len(text_alone)))
    instructions = list(config.instructions.items())
    queries = []
    for place, problem in enumerate(chosen):
        for number in range(config.samples):
            behaviour, instruction = instructions[(place + number) % len(instructions)]
            prompt = f"{problem.text}\n\n{instruction}" if instruction.strip() else problem.text
            queries.append(Query(problem, behaviour, prompt, rng.getrandbits(31)))
    return queries


def _place(path: Path) -> tuple[str, int]:
    """Of an answer's file: its query, and how many answers came before."""
    name, _, number = path.stem.partition("-")
    return name, int(number)


class AnswerFolder:
    """Answers on disk as they come, one file each, for interrupted work to resume from. No file ever changes."""

    def __init__(self, folder: Path, teacher: str) -> None:
        self._folder = folder
        self._teacher = teacher
        self._answers: dict[str, list[TeacherAnswer]] = {}
        for path in sorted(folder.glob("*.json"), key=_place):
            self._answers.setdefault(path.stem.partition("-")[0], []).append(
                TeacherAnswer.model_validate_json(path.read_bytes())
            )

    def _name(self, query: Query) -> str:
        parts = [self._teacher, query.problem.id, query.prompt, query.seed]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def get(self, query: Query) -> TeacherAnswer | None:
        """The answer to a query, unless it has none or failed for what may be over by now."""
        return next((one for one in self._answers.get(self._name(query), ()) if not one.passing), None)

    def final(self, query: Query) -> TeacherAnswer:
        """The answer to a query that was asked, or how it failed last."""
        return self.get(query) or self._answers[self._name(query)][-1]

    def add(self, query: Query, answer: TeacherAnswer) -> None:
        """Keep an answer."""
        name = self._name(query)
        before = self._answers.setdefault(name, [])
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(
            self._folder / f"{name}-{len(before)}.json", answer.model_dump_json(exclude_defaults=True)
        )
        before.append(answer)

    @property
    def usable(self) -> int:
        """Answers that did not fail."""
        return sum(one.ended != "failed" for row in self._answers.values() for one in row)

    @property
    def tokens(self) -> tuple[int, int]:
        """Of prompts and of answers, in all; what may have been billed and gave nothing is among them."""
        every = [one for row in self._answers.values() for one in row]
        return (
            sum(one.prompt_tokens + one.lost[0] for one in every),
            sum(one.completion_tokens + one.lost[1] for one in every),
        )


def collect_answers(teacher: Teacher, queries: Sequence[Query], answers: AnswerFolder) -> list[TeacherAnswer]:
    """The answers to all queries, in their order; only what is not in the folder is asked for."""
    missing = [query for query in queries if answers.get(query) is None]
    if len(missing) < len(queries):
        say(f"continues after {len(queries) - len(missing)} of {len(queries)} answers")
    with task("teacher", total=len(queries), unit="answers") as progress:
        progress.advance(len(queries) - len(missing))

        def answered(query: Query, answer: TeacherAnswer) -> None:
            answers.add(query, answer)
            progress.advance(1)

        teacher.answer(missing, answered)
    return [answers.final(query) for query in queries]


def choose_paths(
    queries: Sequence[Query],
    answers: Sequence[TeacherAnswer],
    scorer: Scorer,
    chat: Chat,
    config: LongCotPathsConfig,
    teacher: str,
) -> PathsResult:
    """Judge the answers. `chat` is of the model that is to be trained on the paths.

    Raises ValueError where no answer is right, whole and short enough, with the counts of why.
    """
    rows, scores, paths = list[AnswerRow](), list[Score | None](), list[Example]()
    judged = _judged(queries, answers, scorer)
    written: dict[str, set[str]] = {}
    for place, (query, answer) in enumerate(zip(queries, answers, strict=True)):
        problem, score = query.problem, judged.get(place)
        outcome, tokens = _outcome(answer, score, chat, config)
        if outcome == DISTINCT and answer.response in written.setdefault(problem.id, set()):
            outcome = REPEATED
        if outcome == DISTINCT:
            written[problem.id].add(answer.response)
            paths.append(
                Example(
                    problem_id=problem.id,
                    system=problem.system,
                    prompt=problem.text,
                    response=answer.response,
                    kind="reasoning",
                    source=f"{teacher} on {problem.source}",
                    licence=problem.licence,
                )
            )
        scores.append(score)
        rows.append(
            AnswerRow(
                problem_id=problem.id,
                behaviour=query.behaviour,
                prompt=query.prompt,
                response=answer.response,
                outcome=outcome,
                behaviours=[name for name in NAMES if name in behaviours(answer.response)],
                reward_reason=score.reason if score else None,
                tokens=tokens,
                prompt_tokens=answer.prompt_tokens,
                completion_tokens=answer.completion_tokens,
            )
        )
    if not paths:
        counts = ", ".join(f"{count} × {kind}" for kind, count in Counter(_kind(r.outcome) for r in rows).most_common())
        raise ValueError(
            f"long_cot_paths: none of {len(rows)} answers of {teacher} is a path ({counts}): use another teacher, "
            "raise problems, samples or max_response_tokens, or say in data.instructions how the answer is to be given"
        )
    return PathsResult(rows, [query.problem for query in queries], scores, paths)


def _judged(queries: Sequence[Query], answers: Sequence[TeacherAnswer], scorer: Scorer) -> Mapping[int, Score]:
    """Scores of the whole answers, by place."""
    whole = [place for place, answer in enumerate(answers) if answer.ended == "stop"]
    pairs = [(queries[place].problem, answers[place].response) for place in whole]
    return dict(zip(whole, scorer.score_many(pairs), strict=True))


def _outcome(
    answer: TeacherAnswer, score: Score | None, chat: Chat, config: LongCotPathsConfig
) -> tuple[str, int | None]:
    """What becomes of an answer, and its tokens."""
    try:
        tokens = len(chat.encode_response(answer.response))
    except ValueError:  # a control token of the checkpoint, or one that it has no embedding for
        return (UNREADABLE if answer.ended != "failed" else answer.reason), None
    if answer.ended == "failed":
        return answer.reason, None
    if answer.ended == "length":
        return "cut at the length limit", tokens
    assert score is not None
    if not score.judged:
        return NO_VERDICT, tokens
    if not score.right:
        return "wrong", tokens
    return (TOO_LONG if tokens > config.max_response_tokens else DISTINCT), tokens
