"""The problems of a benchmark, as its source has them, and as models are asked."""

import hashlib
import json
from collections.abc import Sequence
from itertools import islice

from infra.store.source import Source
from steps.configs.benchmarks import BenchmarkConfig
from steps.problem import MalformedRow, Part, Problem
from steps.source_rows import read_source


def source_key(name: str) -> str:
    """The recipe's key of a benchmark's rows."""
    return f"evaluation.benchmarks.{name}"


def load_benchmark(source: Source, config: BenchmarkConfig) -> list[Problem]:
    """All problems. Raises MalformedRow naming file, line and reason, also for a file without rows."""
    rows = config.source.model_copy(update={"name": config.name})
    problems: dict[str, Problem] = {}
    for place, row in read_source(source, rows, "test"):
        if isinstance(row, MalformedRow):
            raise MalformedRow(f"{source_key(config.name)}: {row}")
        assert isinstance(row, Problem)
        if row.id in problems:
            raise MalformedRow(f"{source_key(config.name)}: {place}: id {row.id!r} occurs twice")
        problems[row.id] = row
    if not problems:
        raise MalformedRow(f"{source_key(config.name)}: {source.address} has no rows: give a file that has some")
    return list(problems.values())


def chosen(problems: Sequence[Problem], config: BenchmarkConfig) -> list[Problem]:
    """Those that models are asked, with examples before the question and the instruction after it."""
    return [_posed(problem, config) for problem in islice(problems, config.limit)]


def _posed(problem: Problem, config: BenchmarkConfig) -> Problem:
    before = [f"Question: {shot.question}\nAnswer: {shot.answer}" for shot in config.shots]
    after = [config.instruction] if config.instruction else []
    if isinstance(problem.prompt, str):
        question = f"Question: {problem.prompt}" if before else problem.prompt
        return problem.model_copy(update={"prompt": "\n\n".join([*before, question, *after])})
    parts = (*map(_text, before), *problem.prompt, *map(_text, after))
    return problem.model_copy(update={"prompt": parts})


def _text(text: str) -> Part:
    return Part(type="text", text=text)


def rows_digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of prompts, answers and tests, whatever the order of rows and the kind of file."""
    fields = {"prompt", "answer", "tests", "function"}
    lines = (json.dumps(p.model_dump(mode="json", include=fields), sort_keys=True) for p in problems)
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()


def as_published(problems: Sequence[Problem], config: BenchmarkConfig) -> bool | None:
    """Whether the rows are those that the definition knows; None where it knows nothing of them."""
    if config.rows_digest is not None:
        return rows_digest(problems) == config.rows_digest
    return None if config.problems is None else len(problems) == config.problems
