"""Problems that have no test cases yet: a statement, a generator of inputs perhaps, and submissions that are right.

Test cases compare text, so they judge a problem only where each input has one right output: `needs_special_judge`
finds the others (§2.3.5).
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from steps.problem import MalformedRow, Problem, read_rows


class Submission(BaseModel):
    """A program that reads an input and prints the output; in a row, a Python program may be its text alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: str = Field(min_length=1)
    language: str = Field("python", min_length=1, description="The sandbox's image that runs it.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, row: Any) -> Any:
        return {"program": row} if isinstance(row, str) else row


class CaseProblem(BaseModel):
    """One row of what test cases are made for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1, description="The statement, with the forms of input and output.")
    special_judge: bool | None = Field(
        None, description="Whether an input may have several right outputs; null: the statement's wording decides."
    )
    generator: str | None = Field(
        None, description="A program that reads a case number and a seed, and prints an input; null: the model's."
    )
    submissions: tuple[Submission, ...] = Field((), description="Programs that are known, or said, to be right.")
    wrong: tuple[Submission, ...] = Field((), description="Programs known to be wrong, to see how many are caught.")
    sample: tuple[str, str] | None = Field(None, description="The statement's own input and output, to compare with.")
    domain: str = "code"
    discipline: str = "unknown"
    difficulty: int = Field(0, ge=0, le=5, description="1 (easy) to 5 (hard); 0 where unknown.")
    source: str = "unknown"
    licence: str = "unknown"

    def with_tests(self, tests: tuple[tuple[str, str], ...]) -> Problem:
        """The problem as a row that the code verifier judges. Raises ValueError for no tests."""
        return Problem(
            id=self.id,
            prompt=self.prompt,
            verifier="code",
            tests=tests,
            domain=self.domain,
            discipline=self.discipline,
            difficulty=self.difficulty,
            source=self.source,
            licence=self.licence,
        )


def load_case_problems(path: Path) -> list[CaseProblem]:
    """Problems of a JSONL file, or of a folder with one problem in each *.yaml, in the order of the names.

    Raises MalformedRow naming the file, the line and the reason, also for an id that occurs twice.
    """
    rows = _folder_rows(path) if path.is_dir() else [(f"{path}:{number}", row) for number, row in read_rows(path)]
    problems: dict[str, CaseProblem] = {}
    for place, row in rows:
        try:
            problem = CaseProblem.model_validate(row)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, e['loc'])) or 'row'}: {e['msg']}" for e in error.errors()]
            raise MalformedRow(f"{place}: {'; '.join(faults)}") from error
        if problem.id in problems:
            raise MalformedRow(f"{place}: id {problem.id!r} occurs twice")
        problems[problem.id] = problem
    return list(problems.values())


def _folder_rows(folder: Path) -> list[tuple[str, Any]]:
    rows = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            rows.append((str(file), yaml.safe_load(file.read_text(encoding="utf-8"))))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise MalformedRow(f"{file}: not YAML ({error})") from error
    if not rows:
        raise MalformedRow(f"{folder} holds no *.yaml file: one for each problem is expected")
    return rows


# Within a sentence: a full stop ends one unless a digit or letter follows, as in 0.5.
_REST = r"(?:[^.;]|\.(?=\w))"
_SEVERAL = rf"\b(?:multiple|several|more than one|many)\b{_REST}{{0,60}}\b(?:answer|solution|way|output|option)s?\b"

_SPECIAL_JUDGE = {
    "any answer": re.compile(
        # "Do not print any spaces" and "print any number of" something else than answers are no such thing.
        r"(?<!not )(?<!n't )(?<!never )\b(?:print|output|write|return|give|find|report|show)"
        r"(?:\s+(?:out|me|us))?\s+any\b(?!\s+(?:extra|other|additional|spaces?|text|further|more|message|prompt))"
        rf"|\bany\b{_REST}{{0,60}}\b(?:is|are|will be|would be)\s+(?:also\s+)?(?:accepted|acceptable|correct|fine)\b"
        rf"|{_SEVERAL}{_REST}{{0,40}}[,:;.]\s+(?:you\s+(?:may|can)\s+)?"
        r"(?:choose|use|pick|take|give|print|output)\s+(?:any|one of)\b",
        re.IGNORECASE,
    ),
    "any order": re.compile(
        rf"\b(?:print|output|write|return|list|give|report)\b{_REST}{{0,120}}\bin\s+(?:any|an arbitrary)\s+order\b",
        re.IGNORECASE,
    ),
    "tolerance": re.compile(
        rf"\b(?:absolute|relative)\b{_REST}{{0,40}}\berror\b"
        rf"|\b(?:error|precision|tolerance|accura\w+|differ\w*|within|up to)\b{_REST}{{0,60}}"
        r"\b(?:10\s*(?:\^|\*\*)\s*[{(]?\s*[-−]|1e-)",
        re.IGNORECASE,
    ),
    "interactive": re.compile(
        rf"\binteractive\s+(?:problem|task)\b|\bflush\b{_REST}{{0,40}}\b(?:output|stdout|buffer)\b", re.IGNORECASE
    ),
}
"""How statements read that accept several outputs for an input."""


def needs_special_judge(problem: CaseProblem) -> str | None:
    """Why comparing text cannot judge a problem, or None where it can.

    What the data set says counts before the statement's wording. Wording that is not known here passes; submissions
    that then print different right answers do not agree, and the problem drops out later.
    """
    if problem.special_judge is not None:
        return "the data set says so" if problem.special_judge else None
    text = re.sub(r"\s+", " ", problem.prompt)
    return next((kind for kind, pattern in _SPECIAL_JUDGE.items() if pattern.search(text)), None)
