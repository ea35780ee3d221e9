"""The tables of problems and supervised examples, as gates check them. Which columns and parameters there are stands in
steps/configs/gates.py; what is made here is that and no more.

Tables of what a single stage makes (preference pairs, a ledger) stand beside it, as plain columns.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from infra.lineage.prompt_digest import prompt_digest
from steps.chat import Chat
from steps.problem import Example, Problem, Prompt, digest_of, images_of, text_of

Columns = Mapping[str, Sequence[Any]]
"""A table: the values of each column, in the same order of rows."""


def problem_frame(problems: Sequence[Problem]) -> pd.DataFrame:
    """Problems; `answer` is there where the rules of mathematics judge by it, `tests` where programs are run."""
    return pd.DataFrame(
        {
            "id": [problem.id for problem in problems],
            "text": [_words(problem.prompt) for problem in problems],
            "verifier": [problem.verifier for problem in problems],
            "difficulty": [problem.difficulty for problem in problems],
            "domain": [problem.domain for problem in problems],
            "discipline": [problem.discipline for problem in problems],
            "source": [problem.source for problem in problems],
            "licence": [problem.licence for problem in problems],
            "digest": [problem.digest for problem in problems],
            "answer": _objects(problem.answer if problem.verifier == "math" else None for problem in problems),
            "tests": _objects((p.tests, p.function, p.checker) if p.verifier == "code" else None for p in problems),
            "images": _objects(tuple(problem.images) or None for problem in problems),
        }
    )


def example_frame(examples: Sequence[Example], chat: Chat) -> pd.DataFrame:
    """Supervised examples, named by their place, from 1, and problem; `tokens` counts all turns together.

    A conversation has a row for each of its prompts: what is held out may stand in any of them.
    """
    rows = [
        {
            "id": f"{place}:{example.problem_id}",
            "prompt": _words(prompt),
            "response": response,
            "kind": example.kind,
            "source": example.source,
            "licence": example.licence,
            "digest": digest_of(prompt),
            "tokens": tokens,
            "images": tuple(images_of(prompt)) or None,
        }
        for place, example in enumerate(examples, 1)
        for tokens in [len(chat.conversation(example).tokens)]
        for prompt, response in example.exchanges
    ]
    names = ["id", "prompt", "response", "kind", "source", "licence", "digest", "tokens"]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names}
    return pd.DataFrame(columns | {"images": _objects(row["images"] for row in rows)})


@dataclass(frozen=True)
class TrainingRow:
    """A row that models learn from, as it is compared with benchmarks."""

    id: str
    """Its file, its place from 1, and its problem."""
    prompt: str
    text: str
    """All of its text, prompt and response or solution; once for each prompt."""
    digest: str
    source: str
    licence: str


def training_rows(file: str, place: int, row: Problem | Example) -> Iterator[TrainingRow]:
    """A problem or an example of a file of the data stage, by each prompt that is asked in it.

    Where a prompt has several paragraphs, all but the last have a row of their own: recipes add an instruction there
    (data.instructions), which the same problem of a benchmark does not have.
    """
    if isinstance(row, Problem):
        name, turns = row.id, [(row.prompt, row.solution or "")]
    else:
        name, turns = row.problem_id, row.exchanges
    for prompt, response in turns:
        named, text = f"{file}:{place}:{name}", text_of(prompt)
        yield TrainingRow(named, text, f"{text}\n{response}", digest_of(prompt), row.source, row.licence)
        question = text.rpartition("\n\n")[0]
        if question.strip():
            digest = prompt_digest(question, images_of(prompt))
            yield TrainingRow(named, question, "", digest, row.source, row.licence)


def training_frame(rows: Sequence[TrainingRow]) -> pd.DataFrame:
    """Rows that models learn from."""
    return pd.DataFrame([vars(row) for row in rows], columns=list(TrainingRow.__dataclass_fields__))


def benchmark_parameters(benchmarks: Mapping[str, Sequence[Problem]]) -> dict[str, Any]:
    """What rules need to know of the problems of benchmarks: each is named by benchmark and id."""
    problems = [(f"{name}/{problem.id}", problem) for name, each in benchmarks.items() for problem in each]
    return {
        "held_out_digests": frozenset(problem.digest for _, problem in problems),
        "held_out_texts": [(name, problem.text) for name, problem in problems if not problem.images],
    }


def held_out_parameters(problems: Sequence[Problem]) -> dict[str, Any]:
    """What rules need to know of the problems that are held out.

    A question about an image is a different one with another image, so that its words alone say nothing about near
    repetition.
    """
    return {
        "held_out_digests": frozenset(problem.digest for problem in problems),
        "held_out_texts": [(problem.id, problem.text) for problem in problems if not problem.images],
        "held_out_images": [(problem.id, image) for problem in problems for image in problem.images],
    }


def _words(prompt: Prompt) -> str:
    """A prompt's text. One of images alone is not blank."""
    text = text_of(prompt)
    return text if text.strip() or not images_of(prompt) else "(images alone)"


def frame_of(columns: Columns) -> pd.DataFrame:
    """A table of plain columns. Numbers stay numbers, and all else what it is: None does not become NaN, nor True 1."""
    numbers = {name: all(type(value) in (int, float) for value in values) for name, values in columns.items()}
    return pd.DataFrame(
        {name: pd.Series(list(values), dtype=None if numbers[name] else object) for name, values in columns.items()}
    )


def _objects(values: Iterable[Any]) -> pd.Series:
    """A column that keeps values as they are: None does not become NaN, nor True a number."""
    return pd.Series(list(values), dtype=object)
